//! ViTs with other blocks than the first one's: every parameter gets a gradient, the same with gradient checkpointing; the attention
//! that is drawn is the one that is computed with; freezing and decay of the rate know every parameter.

use candle_core::{DType, Device, Result, Tensor};
use tallow_models::vit::{Act, AttnLayer, BlockFn, GlobalPool, GridIndexing, NormLayer, PosEmbed, RopeType};
use tallow_models::{Mode, Model, ModelConfig, Params, Stage, Vit, VitConfig};

fn small() -> VitConfig {
    VitConfig::default().with(|c| {
        (c.img_size, c.patch_size, c.num_classes) = ([6, 4].into(), 2, 3);
        (c.embed_dim, c.depth, c.num_heads, c.mlp_ratio) = (8, 2, 2, 2.);
    })
}

/// Relative positions through an MLP. Without a class token the bias of its second layer would be idle, and with its pool what
/// patches take in the last block.
fn relative() -> VitConfig {
    small().with(|c| {
        (c.pos_embed, c.rel_pos_dim, c.qk_norm, c.global_pool) = (PosEmbed::None, Some(5), true, GlobalPool::Avg);
    })
}

/// One of each kind.
fn kinds() -> Vec<(&'static str, VitConfig)> {
    let keyless = || small().with(|c| (c.k_bias, c.init_values) = (false, Some(0.5)));
    vec![
        (
            "dinov3",
            keyless().with(|c| {
                (c.pos_embed, c.reg_tokens) = (PosEmbed::None, 2);
                (c.rope_type, c.rope_rotate_half, c.rope_temperature) = (RopeType::DinoV3, true, 100.);
                (c.swiglu_mlp, c.swiglu_align_to, c.act) = (true, 8, Act::Silu);
            }),
        ),
        (
            "eva02",
            keyless().with(|c| {
                (c.rope_type, c.ref_feat_shape, c.qkv_fused) = (RopeType::Cat, Some(5.into()), false);
                (c.swiglu_mlp, c.act, c.scale_mlp, c.scale_attn_inner) = (true, Act::Silu, true, true);
            }),
        ),
        (
            "mixed",
            small().with(|c| {
                (c.rope_type, c.rope_temperature, c.rope_grid_indexing) = (RopeType::Mixed, 10., GridIndexing::Xy);
                c.qk_norm = true;
            }),
        ),
        (
            "beit",
            keyless().with(|c| {
                (c.use_rel_pos_bias, c.use_shared_rel_pos_bias) = (true, true);
                (c.pos_embed, c.global_pool) = (PosEmbed::None, GlobalPool::Avg);
            }),
        ),
        (
            "post-norm with a packed gate",
            small().with(|c| (c.use_post_norm, c.swiglu_mlp, c.act) = (true, true, Act::Silu)),
        ),
        ("relpos", relative().with(|c| (c.use_rel_pos_bias, c.init_values) = (true, Some(0.5)))),
        (
            "parallel scaling",
            small().with(|c| {
                (c.block_fn, c.qkv_bias, c.qk_norm) = (BlockFn::ParallelScaling, false, true);
                (c.norm_layer, c.pre_norm, c.init_values) = (NormLayer::RmsNorm, true, Some(0.5));
            }),
        ),
        ("parallel things", small().with(|c| (c.block_fn, c.init_values) = (BlockFn::ParallelThings, Some(0.5)))),
        (
            "aimv2",
            small().with(|c| {
                (c.norm_layer, c.embed_norm, c.proj_bias) = (NormLayer::RmsNorm, true, false);
                (c.swiglu_mlp, c.swiglu_align_to, c.act) = (true, 1, Act::Silu);
            }),
        ),
        ("srelpos", relative().with(|c| (c.use_shared_rel_pos_bias, c.use_post_norm) = (true, true))),
    ]
}

/// Those whose heads are differences of softmaxes, of which no map is drawn.
fn differences() -> Vec<(&'static str, VitConfig)> {
    let diff = || small().with(|c| (c.attn_layer, c.init_values) = (AttnLayer::Diff, Some(0.5)));
    let at_once = |c: &mut VitConfig| (c.block_fn, c.qkv_bias, c.qk_norm) = (BlockFn::ParallelScaling, false, true);
    vec![("diff", diff()), ("diff at once", diff().with(at_once))]
}

/// A model whose every parameter matters, and images for it.
fn built(config: &VitConfig) -> Result<(Params, Vit, Tensor)> {
    let params = Params::new(1, DType::F32, &Device::Cpu);
    Vit::new(config, params.builder())?;
    for (i, param) in params.all().into_iter().enumerate() {
        let shift: Vec<f32> = (0..param.var.elem_count()).map(|j| ((i + 3 * j) as f32).sin() * 0.3).collect();
        let shift = Tensor::from_vec(shift, param.var.shape(), &Device::Cpu)?;
        params.set(&param.name, &(param.var.as_tensor() + shift)?).expect("it is there");
    }
    let vit = Vit::new(config, params.builder())?;
    let images: Vec<f32> = (0..2 * 3 * 6 * 4).map(|i| (i as f32 * 0.7).cos()).collect();
    Ok((params, vit, Tensor::from_vec(images, (2, 3, 6, 4), &Device::Cpu)?))
}

#[test]
fn every_parameter_gets_a_gradient_and_the_same_one_with_checkpointing() -> Result<()> {
    for (name, config) in kinds().into_iter().chain(differences()) {
        let (params, mut vit, images) = built(&config)?;
        let gradients = |vit: &Vit| -> Result<Vec<Vec<f32>>> {
            let loss = vit.forward(&images, Mode::Eval)?.sqr()?.sum_all()?;
            let gradients = params.backward(&loss).unwrap_or_else(|e| panic!("{name}: {e}"));
            gradients.into_tensors().iter().map(|gradient| gradient.flatten_all()?.to_vec1()).collect()
        };
        let plain = gradients(&vit)?;
        for (param, gradient) in params.trainable().iter().zip(&plain) {
            assert!(gradient.iter().any(|g| *g != 0.), "{name}: {} has a gradient of zeros", param.name);
        }
        vit.set_grad_checkpointing(true);
        for ((param, plain), again) in params.trainable().iter().zip(&plain).zip(gradients(&vit)?) {
            let scale = plain.iter().fold(1e-3f32, |m, g| m.max(g.abs()));
            let same = plain.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-5 * scale);
            assert!(same, "{name}: {} has another gradient with checkpointing", param.name);
        }
    }
    Ok(())
}

#[test]
fn the_attention_that_is_shown_gives_what_the_block_gives_when_it_is_dropped_out_nowhere() -> Result<()> {
    for (name, config) in kinds() {
        let (params, vit, images) = built(&config)?;
        for map in vit.attention_maps(&images)? {
            for sum in map.sum(3)?.flatten_all()?.to_vec1::<f32>()? {
                assert!((sum - 1.).abs() < 1e-5, "{name}: a row sums to {sum}");
            }
        }
        // A dropout of almost nothing takes the way through the weights that are shown.
        let shown = config.clone().with(|c| c.attn_drop_rate = 1e-9);
        let mode = Mode::Train { seed: 0 };
        let through = Vit::new(&shown, params.eval_builder())?.forward_features(&images, mode)?;
        let direct = vit.forward_features(&images, mode)?;
        let distance = (through - direct)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(distance < 1e-4, "{name}: {distance}");
    }
    Ok(())
}

#[test]
fn positions_belong_to_the_stem_or_their_block_and_are_not_decayed() -> Result<()> {
    for (name, config) in kinds().into_iter().chain(differences()) {
        let (params, ..) = built(&config)?;
        for param in params.all() {
            let position = ["freqs", "relative_position_bias_table"].iter().any(|end| param.name.ends_with(end));
            assert!(!(position && param.decayed()), "{name}: {}", param.name);
            let stage = config.stage_of(&param.name);
            let expected = match param.name.split('.').nth(1).and_then(|number| number.parse().ok()) {
                Some(block) if param.name.starts_with("blocks.") => Stage::Block(block),
                _ if param.name.starts_with("head.") => Stage::Head,
                _ if param.name.contains("norm.") && !param.name.starts_with("patch_embed.") => Stage::Neck,
                _ => Stage::Stem,
            };
            assert_eq!(stage, expected, "{name}: {}", param.name);
        }
        assert_eq!(config.layer_id("rope.freqs"), config.num_layers() - 1, "as timm, which has no layer for it");
        assert_eq!(config.layer_id("shared_rel_pos.mlp.fc1.weight"), config.num_layers() - 1);
        assert_eq!(config.layer_id("rel_pos_bias.relative_position_bias_table"), 0);
    }
    Ok(())
}

#[test]
fn options_are_set_by_the_names_of_timms_arguments() {
    let mut config = small();
    for (key, value) in [
        ("rope_type", "dinov3"),
        ("rope_grid_indexing", "xy"),
        ("ref_feat_shape", "16x12"),
        ("swiglu_mlp", "true"),
        ("act", "silu"),
        ("k_bias", "false"),
        ("attn_pool_num_heads", "2"),
    ] {
        config.set(key, value).unwrap_or_else(|e| panic!("{key}: {e}"));
    }
    config.validate().expect("it makes sense");
    assert_eq!((config.rope_type, config.ref_feat_shape), (RopeType::DinoV3, Some([16, 12].into())));
    for (key, value, word) in [
        ("rope_type", "rotary", "cat"),
        ("rope_temperature", "0", "rope_temperature"),
        ("use_rel_pos_bias", "true", "use_rel_pos_bias"),
        ("rel_pos_dim", "8", "rel_pos_dim"),
    ] {
        let mut wrong = config.clone().with(|c| c.reg_tokens = 1);
        let error = wrong.set(key, value).and_then(|()| wrong.validate()).expect_err(key).to_string();
        assert!(error.contains(word) && !error.contains('\n'), "{error}");
    }
}
