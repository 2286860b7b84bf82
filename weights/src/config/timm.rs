//! timm's `config.json`: nested (`pretrained_cfg` inside) or flat, with Tallow's own section for what timm cannot say.

use serde_json::Value;
use tallow_models::layers::Gate;
use tallow_models::vit::{Act, AttnLayer, BlockFn, GlobalPool, GridIndexing, NormLayer, PosEmbed, RopeType};
use tallow_models::{Architecture, ImgSize, VitConfig};

use super::fields::Fields;
use super::{CheckpointConfig, IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocessing, Transparency};
use crate::{Error, Result};

pub(super) fn parse(root: &Fields) -> Result<CheckpointConfig> {
    let nested = root.object("pretrained_cfg")?;
    let cfg = nested.as_ref().unwrap_or(root);
    let full_name = root.text("architecture")?.or(cfg.text("architecture")?);
    let (name, tag_in_name) = match full_name.map(|name| name.split_once('.').unwrap_or((name, ""))) {
        Some((name, tag)) => (Some(name), Some(tag).filter(|tag| !tag.is_empty())),
        None => (None, None),
    };
    let own = root.object("tallow")?;
    // Tallow's own name where timm has none for the model.
    let own_name = own.as_ref().map(|own| own.text("name")).transpose()?;
    let head_fault = own.as_ref().map(head_fault).transpose()?.flatten();
    let projection = own.as_ref().map(|own| own.bool("projection")).transpose()?.flatten().unwrap_or(false);
    let own_images = own.as_ref().map(own_images).transpose()?.flatten();
    let architecture = match (own, name) {
        (Some(own), _) => {
            let value = own.value("architecture").ok_or_else(|| own.error("architecture", "an architecture"))?;
            serde_json::from_value(value.clone())
                .map_err(|e| Error::config(root.origin, "tallow.architecture", "an architecture", e))?
        }
        (None, Some(name)) => architecture(name, root, cfg)?,
        (None, None) => return Err(root.error("architecture", "the name of an architecture")),
    };
    let labels = root.labels("label_names")?.or(cfg.labels("label_names")?).or(root.labels("labels")?);
    Ok(CheckpointConfig {
        name: own_name.unwrap_or(name).map(str::to_owned),
        tag: cfg.text("tag")?.or(tag_in_name).filter(|tag| !tag.is_empty()).map(str::to_owned),
        preprocessing: match own_images {
            None => preprocessing(cfg, architecture.input_size())?,
            Some(own) => preprocessing(cfg, architecture.input_size())?.treating_images_as(&own),
        },
        architecture,
        whitening: None,
        projection,
        projection_bias: false,
        labels,
        head_fault,
        license: cfg.text("license")?.map(str::to_lowercase),
    })
}

/// What Tallow wrote of how images become the input where timm has no words for it.
fn own_images(own: &Fields) -> Result<Option<Preprocessing>> {
    let Some(own) = own.object("preprocessing")? else { return Ok(None) };
    let resizing = own.value("resizing").map(|value| serde_json::from_value(value.clone())).transpose();
    let resizing = resizing.map_err(|_| own.error("resizing", "pillow, torchvision or floats"))?.unwrap_or_default();
    let is = |field: &str| Ok::<_, Error>(own.bool(field)?.unwrap_or(false));
    let (crop_floor, keep_size, transparency) = (is("crop_floor")?, is("keep_size")?, transparency(&own)?);
    Ok(Some(Preprocessing::new([0; 3], Vec::new(), Vec::new()).with(|c| {
        (c.crop_floor, c.resizing, c.keep_size, c.transparency) = (crop_floor, resizing, keep_size, transparency);
    })))
}

/// What Tallow wrote of transparent images, of which timm's fields say nothing.
fn transparency(own: &Fields) -> Result<Transparency> {
    let Some(name) = own.text("transparency")? else { return Ok(Transparency::default()) };
    let known = Transparency::ALL.into_iter().find(|known| known.name() == name);
    known.ok_or_else(|| own.error("transparency", "dropped, on_white or resized"))
}

/// What Tallow wrote of a head that was never trained.
fn head_fault(own: &Fields) -> Result<Option<String>> {
    match own.text("head")? {
        None => Ok(None),
        Some("untrained") => {
            let why = own.text("head_why")?.map_or(String::new(), |why| format!(" ({why})"));
            Ok(Some(format!("its head was drawn at random and never trained{why}")))
        }
        Some(_) => Err(own.error("head", "untrained, or nothing")),
    }
}

/// The zoo's numbers for the name, overridden as timm does: by `pretrained_cfg`, then by `model_args`.
fn architecture(name: &str, root: &Fields, cfg: &Fields) -> Result<Architecture> {
    let found = super::of_timm(name, root.origin, "architecture")?;
    let mut architecture = found.architecture.clone();
    let Architecture::Vit(vit) = &mut architecture else { return Ok(architecture) };
    let eva = vit.is_eva_or_beit();
    if let Some([channels, height, width]) = cfg.input_size("input_size")? {
        vit.in_chans = channels;
        if cfg.bool("fixed_input_size")?.unwrap_or(true) {
            vit.img_size = [height, width].into();
        }
    }
    for fields in [cfg, root] {
        vit.num_classes = fields.size("num_classes")?.unwrap_or(vit.num_classes);
        if let Some(pool) = fields.text("global_pool")? {
            vit.global_pool = global_pool(pool).ok_or_else(|| fields.error("global_pool", POOLS))?;
        }
    }
    let args = root.object("model_args")?;
    if let Some(args) = &args {
        if eva { apply_to_eva(args, vit)? } else { apply(args, vit)? }
    }
    if eva {
        settle_pool(vit);
    }
    let prepared = cfg.input_size("input_size")?.map(|[_, height, width]| ImgSize::from([height, width]));
    if let Some(size) = prepared.filter(|size| *size != vit.img_size)
        && takes_any_size(name, vit, args.as_ref(), cfg)?
    {
        let [height, width] = vit.img_size.sides();
        if height != width && vit.pos_embed == PosEmbed::Learned {
            let remedy = "state the same size twice, or square images";
            return Err(
                cfg.unsupported("input_size", &format!("the model has positions for {}: {remedy}", vit.img_size))
            );
        }
        vit.img_size = size;
    }
    vit.trim = vit.stem_layers.is_none() && !vit.divides_evenly();
    Ok(architecture)
}

/// Whether timm makes images in `input_size` for the model, whichever size it was built for (`dynamic_img_size`).
fn takes_any_size(name: &str, vit: &VitConfig, args: Option<&Fields>, cfg: &Fields) -> Result<bool> {
    let stated = args.map(|args| args.bool("dynamic_img_size")).transpose()?.flatten();
    let dynamic = vit.rope_type == RopeType::DinoV3
        || matches!(name, "test_vit" | "test_vit2" | "test_vit4" | "vit_intern300m_patch14_448");
    let fixed = cfg.bool("fixed_input_size")?.unwrap_or(false);
    Ok(stated == Some(true) || stated.is_none() && dynamic && !fixed)
}

/// What is said where images are made in another size than the model was built for.
pub(super) fn other_size(root: &Fields, architecture: &Architecture) -> Result<Option<String>> {
    let Architecture::Vit(vit) = architecture else { return Ok(None) };
    let stated = root.object("model_args")?.map(|args| args.img_size("img_size")).transpose()?.flatten();
    Ok(stated.filter(|stated| *stated != vit.img_size).map(|stated| {
        format!(
            "{}: images are made in {} pixels (input_size), as timm makes them for a model of any size, though it was built for {stated} \
             (`img_size = {stated}` asks for the other)",
            root.origin, vit.img_size
        )
    }))
}

/// timm's width of the MLP that a bias by relative positions comes from, where nothing is said.
const REL_POS_DIM: usize = 128;
const POOLS: &str = "token, avg, max, avgmax, map or the empty text";

pub(super) fn global_pool(name: &str) -> Option<GlobalPool> {
    Some(match name {
        "token" => GlobalPool::Token,
        "avg" => GlobalPool::Avg,
        "max" => GlobalPool::Max,
        "avgmax" => GlobalPool::AvgMax,
        "map" => GlobalPool::Map,
        "" => GlobalPool::None,
        _ => return None,
    })
}

/// Keyword arguments of timm's classes `Eva` and `Beit`, beside those that all its ViTs have.
fn apply_to_eva(args: &Fields, vit: &mut VitConfig) -> Result<()> {
    // What is stated as None overrides what the architecture's name says, as it does in timm.
    if args.is_null("use_fc_norm") {
        vit.fc_norm = None;
    }
    if args.is_null("ref_feat_shape") {
        vit.ref_feat_shape = None;
    }
    if args.is_null("use_post_transformer_norm") {
        vit.final_norm = true;
    }
    let turned = args.bool("use_rot_pos_emb")?.unwrap_or(vit.rope_type != RopeType::None);
    let mut of_all = Vec::new();
    for field in args.iter() {
        match field {
            "qkv_fused" => set(&mut vit.qkv_fused, args.bool(field)?),
            "scale_attn_inner" => set(&mut vit.scale_attn_inner, args.bool(field)?),
            "swiglu_mlp" => {
                set(&mut vit.swiglu_mlp, args.bool(field)?);
                vit.act = if vit.swiglu_mlp { Act::Silu } else { Act::Gelu };
            }
            "swiglu_align_to" => set(&mut vit.swiglu_align_to, args.size(field)?),
            "scale_mlp" => set(&mut vit.scale_mlp, args.bool(field)?),
            "attn_type" => match args.text(field)? {
                Some("eva") => vit.k_bias = false,
                Some("rope") => vit.k_bias = true,
                _ => return Err(args.error(field, "eva or rope")),
            },
            "num_reg_tokens" => set(&mut vit.reg_tokens, args.size(field)?),
            "use_abs_pos_emb" => {
                let learned = args.bool(field)? != Some(false);
                vit.pos_embed = if learned { PosEmbed::Learned } else { PosEmbed::None };
            }
            "use_rot_pos_emb" if !turned => vit.rope_type = RopeType::None,
            "use_rot_pos_emb" if vit.rope_type == RopeType::None && !args.has("rope_type") => {
                vit.rope_type = RopeType::Cat;
            }
            "rope_type" if turned => {
                vit.rope_type = match args.text(field)? {
                    Some("cat") => RopeType::Cat,
                    Some("dinov3") => RopeType::DinoV3,
                    Some("mixed") => RopeType::Mixed,
                    _ => return Err(args.unsupported(field, "known are cat, dinov3 and mixed")),
                };
            }
            "use_rot_pos_emb" | "rope_type" => {}
            "rope_grid_offset" => set(&mut vit.rope_grid_offset, args.number(field)?),
            "rope_grid_indexing" => {
                vit.rope_grid_indexing = match args.text(field)? {
                    Some("ij") => GridIndexing::Ij,
                    Some("xy") => GridIndexing::Xy,
                    _ => return Err(args.error(field, "ij or xy")),
                };
            }
            "rope_temperature" => set(&mut vit.rope_temperature, args.number(field)?),
            "rope_rotate_half" => set(&mut vit.rope_rotate_half, args.bool(field)?),
            "ref_feat_shape" => vit.ref_feat_shape = args.img_size(field)?,
            "use_rel_pos_bias" => set(&mut vit.use_rel_pos_bias, args.bool(field)?),
            "use_shared_rel_pos_bias" => set(&mut vit.use_shared_rel_pos_bias, args.bool(field)?),
            "use_post_norm" => set(&mut vit.use_post_norm, args.bool(field)?),
            "use_pre_transformer_norm" => set(&mut vit.pre_norm, args.bool(field)?),
            "use_post_transformer_norm" => set(&mut vit.final_norm, args.bool(field)?),
            "use_fc_norm" => vit.fc_norm = args.bool(field)?,
            "attn_pool_num_heads" => vit.attn_pool_num_heads = args.size(field)?,
            "attn_pool_mlp_ratio" => vit.attn_pool_mlp_ratio = args.number(field)?,
            // How coordinates vary in training, and what a new head starts from, do not change what a trained model computes.
            "rope_shift_coords" | "rope_jitter_coords" | "rope_rescale_coords" | "head_init_scale" => {}
            _ => of_all.push(field),
        }
    }
    apply_some(args, vit, |field| of_all.contains(&field))
}

/// Keyword arguments of timm's `VisionTransformer`.
fn apply(args: &Fields, vit: &mut VitConfig) -> Result<()> {
    apply_some(args, vit, |_| true)?;
    // timm's SwiGLUPacked counts the gate in the ratio.
    if vit.gate() == Gate::Packed && args.has("mlp_ratio") {
        vit.mlp_ratio /= 2.;
    }
    if args.has("embed_norm_layer") && !is_default(args, "embed_norm_layer") {
        let stated = args.text("embed_norm_layer")?.and_then(norm_layer);
        if stated != Some((vit.norm_layer, vit.norm_eps)) {
            return Err(args.unsupported("embed_norm_layer", "choose a ViT whose norms are all of one kind"));
        }
        vit.embed_norm = true;
    }
    Ok(())
}

/// Those that are `wanted`.
fn apply_some(args: &Fields, vit: &mut VitConfig, wanted: impl Fn(&str) -> bool) -> Result<()> {
    // What is stated as None overrides what the architecture's name says, as it does in timm.
    if args.is_null("init_values") {
        vit.init_values = None;
    }
    if args.is_null("fc_norm") {
        // timm's relative ViTs take it for false.
        vit.fc_norm = vit.rel_pos_dim.map(|_| false);
    }
    if args.is_null("act_layer") && !vit.swiglu_mlp {
        vit.act = Act::Gelu;
    }
    if args.is_null("norm_layer") {
        (vit.norm_layer, vit.norm_eps) = (NormLayer::LayerNorm, VitConfig::default().norm_eps);
    }
    if args.is_null("embed_norm_layer") {
        vit.embed_norm = false;
    }
    for field in args.iter().filter(|field| wanted(field)) {
        match field {
            "img_size" => set(&mut vit.img_size, args.img_size(field)?),
            "patch_size" => set(&mut vit.patch_size, args.side(field)?),
            "in_chans" => set(&mut vit.in_chans, args.size(field)?),
            "num_classes" => set(&mut vit.num_classes, args.size(field)?),
            "embed_dim" => set(&mut vit.embed_dim, args.size(field)?),
            "depth" => set(&mut vit.depth, args.size(field)?),
            "num_heads" => set(&mut vit.num_heads, args.size(field)?),
            "mlp_ratio" => set(&mut vit.mlp_ratio, args.number(field)?),
            "qkv_bias" => set(&mut vit.qkv_bias, args.bool(field)?),
            "qk_norm" => set(&mut vit.qk_norm, args.bool(field)?),
            "proj_bias" => set(&mut vit.proj_bias, args.bool(field)?),
            "scale_attn_norm" => set(&mut vit.scale_attn_inner, args.bool(field)?),
            "scale_mlp_norm" if vit.gate() != Gate::Packed => set(&mut vit.scale_mlp, args.bool(field)?),
            "block_fn" if vit.rel_pos_dim.is_none() => {
                let stated = args.text(field)?.and_then(block_fn);
                let remedy = "known are Block, ResPostBlock, ParallelScalingBlock, DiffParallelScalingBlock and ParallelThingsBlock";
                let attn_layer;
                (vit.block_fn, attn_layer, vit.use_post_norm) =
                    stated.ok_or_else(|| args.unsupported(field, remedy))?;
                vit.attn_layer = attn_layer.unwrap_or(vit.attn_layer);
            }
            // Where attention and MLP are computed at once, the block says it.
            "attn_layer" if vit.block_fn == BlockFn::ParallelScaling => {}
            "attn_layer" if vit.rel_pos_dim.is_none() => {
                vit.attn_layer = match args.text(field)?.map(class_name).as_deref() {
                    Some("" | "attn" | "attention") => AttnLayer::Attn,
                    Some("diff" | "diffattention") => AttnLayer::Diff,
                    _ => return Err(args.unsupported(field, "known are attn and diff")),
                };
            }
            // Tallow's own, which timm refuses.
            "spt" => set(&mut vit.spt, args.bool(field)?),
            "lsa" => set(&mut vit.lsa, args.bool(field)?),
            "shared_rel_pos" if vit.rel_pos_dim.is_some() => {
                let shared = args.bool(field)?.unwrap_or(false);
                (vit.use_rel_pos_bias, vit.use_shared_rel_pos_bias) = (!shared, shared);
            }
            "rel_pos_dim" if vit.rel_pos_dim.is_some() => {
                vit.rel_pos_dim = args.size(field)?.filter(|&width| width > 0).or(Some(REL_POS_DIM));
            }
            "rel_pos_type" if vit.rel_pos_dim.is_some() && args.text(field)? == Some("mlp") => {}
            "init_values" => vit.init_values = args.number(field)?,
            "class_token" => set(&mut vit.class_token, args.bool(field)?),
            "reg_tokens" => set(&mut vit.reg_tokens, args.size(field)?),
            "no_embed_class" => set(&mut vit.no_embed_class, args.bool(field)?),
            "pool_include_prefix" => set(&mut vit.pool_include_prefix, args.bool(field)?),
            "pre_norm" => set(&mut vit.pre_norm, args.bool(field)?),
            "final_norm" => set(&mut vit.final_norm, args.bool(field)?),
            "fc_norm" => vit.fc_norm = args.bool(field)?,
            "drop_rate" => set(&mut vit.drop_rate, args.number(field)?),
            "pos_drop_rate" => set(&mut vit.pos_drop_rate, args.number(field)?),
            "proj_drop_rate" => set(&mut vit.proj_drop_rate, args.number(field)?),
            "attn_drop_rate" => set(&mut vit.attn_drop_rate, args.number(field)?),
            "drop_path_rate" => set(&mut vit.drop_path_rate, args.number(field)?),
            "global_pool" => {
                let pool = args.text(field)?.and_then(global_pool);
                vit.global_pool = pool.ok_or_else(|| args.error(field, POOLS))?;
            }
            "pos_embed" => {
                vit.pos_embed = match args.text(field)? {
                    Some("learn") => PosEmbed::Learned,
                    Some("none" | "") => PosEmbed::None,
                    _ => return Err(args.error(field, "learn or none")),
                };
            }
            // A gate and what it is made with come with the architecture's name.
            "act_layer" | "mlp_layer" if vit.swiglu_mlp => {}
            "act_layer" => {
                let act = args.text(field)?.and_then(act_layer);
                vit.act = act.ok_or_else(|| args.error(field, "gelu, gelu_tanh, quick_gelu or silu"))?;
            }
            "norm_layer" => {
                let stated = args.text(field)?.and_then(norm_layer);
                let remedy = "choose a ViT with LayerNorm or RmsNorm";
                (vit.norm_layer, vit.norm_eps) = stated.ok_or_else(|| args.unsupported(field, remedy))?;
            }
            // After the other norms, which it has to agree with.
            "embed_norm_layer" => {}
            // These change how timm treats other image sizes and initial values, not what the model computes.
            "dynamic_img_pad" if vit.stem_layers.is_some() && args.bool(field)? == Some(true) => {
                return Err(args.unsupported(field, "images whose stem's maps patches tile"));
            }
            "dynamic_img_size" | "dynamic_img_pad" | "strict_img_size" | "weight_init" | "fix_init" => {}
            // These say where the model was made, which is no part of it.
            "device" | "dtype" | "pretrained" | "checkpoint_path" | "cache_dir" | "scriptable" | "exportable"
            | "no_jit" => {}
            _ if is_default(args, field) => {}
            _ => return Err(args.unsupported(field, "choose a plain ViT")),
        }
    }
    Ok(())
}

/// Whether a keyword that has no counterpart here has the value that timm gives it where nothing is said.
fn is_default(args: &Fields, field: &str) -> bool {
    let Some(value) = args.value(field) else { return true };
    let class = value.as_str().map(class_name);
    match field {
        "scale_mlp_norm" | "scale_norm" | "features_only" | "pruned" | "distilled" | "representation_size" => {
            value.as_bool() == Some(false)
        }
        "patch_drop_rate" | "drop_block_rate" | "drop_connect_rate" => value.as_f64() == Some(0.),
        "embed_layer" => class.as_deref() == Some("patchembed"),
        "mlp_layer" => class.as_deref() == Some("mlp"),
        "num_kv_heads" | "rope_mrope_section" => false,
        "attn_only_layer_scale" => value.as_bool() == Some(false),
        "attn_layer" => matches!(class.as_deref(), Some("attention" | "")),
        "embed_norm_layer" => matches!(class.as_deref(), Some("" | "none" | "identity")),
        _ => false,
    }
}

/// What a class is called, however it was written down: `Mlp`, `timm.layers.mlp.Mlp`, `<class 'timm.layers.mlp.Mlp'>`,
/// `layer_norm`. In lower case, without underscores.
fn class_name(text: &str) -> String {
    let inner = text.trim().trim_start_matches("<class").trim_matches(['<', '>', '\'', '"', ' ']);
    let last = inner.rsplit('.').next().unwrap_or(inner);
    last.replace('_', "").to_lowercase()
}

fn act_layer(text: &str) -> Option<Act> {
    Some(match class_name(text).as_str() {
        "" | "gelu" => Act::Gelu,
        "gelutanh" => Act::GeluTanh,
        "quickgelu" => Act::QuickGelu,
        "silu" | "swish" => Act::Silu,
        _ => return None,
    })
}

/// The kind of a block and of its attention, where it says that, and whether its norms come last.
fn block_fn(text: &str) -> Option<(BlockFn, Option<AttnLayer>, bool)> {
    Some(match class_name(text).as_str() {
        "block" => (BlockFn::Block, None, false),
        "respostblock" => (BlockFn::Block, None, true),
        "parallelscalingblock" => (BlockFn::ParallelScaling, Some(AttnLayer::Attn), false),
        "diffparallelscalingblock" => (BlockFn::ParallelScaling, Some(AttnLayer::Diff), false),
        "parallelthingsblock" => (BlockFn::ParallelThings, None, false),
        _ => return None,
    })
}

/// Kind and epsilon of a layer of norms: `layernorm`, `LayerNorm`, `nn.LayerNorm`, `partial(LayerNorm, eps=1e-6)`, and what Python
/// prints for the last one, `functools.partial(<class 'torch.nn.modules.normalization.LayerNorm'>, eps=1e-06)`. None for norms of
/// another kind.
fn norm_layer(text: &str) -> Option<(NormLayer, f64)> {
    let (class, arguments) = match text.split_once("partial(") {
        Some((_, inside)) => inside.trim_end_matches(')').split_once(',').unwrap_or((inside.trim_end_matches(')'), "")),
        None => text.split_once('(').unwrap_or((text, "")),
    };
    let timm = !(class.contains("torch.") || class.trim_start().starts_with("nn."));
    let kind = match class_name(class).as_str() {
        "" | "layernorm" | "layernormfp32" => NormLayer::LayerNorm,
        "rmsnorm" | "rmsnormfp32" => NormLayer::RmsNorm,
        _ => return None,
    };
    let eps = match arguments.split_once("eps=") {
        Some((_, eps)) => {
            let end = eps
                .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+')))
                .unwrap_or(eps.len());
            eps[..end].parse().ok()?
        }
        // timm's own class and PyTorch's differ in what they take where nothing is said.
        None if timm => 1e-6,
        None if kind == NormLayer::LayerNorm => 1e-5,
        // The smallest step of the type that it computes in.
        None => return None,
    };
    Some((kind, eps))
}

/// What is assumed where `norm_layer` names PyTorch's class without an epsilon: a class made so has PyTorch's default, but whoever
/// only wrote the name down may mean timm's.
pub(super) fn assumed_epsilon(root: &Fields) -> Result<Option<String>> {
    let Some(args) = root.object("model_args")? else { return Ok(None) };
    let Some(Value::String(text)) = args.value("norm_layer") else { return Ok(None) };
    let assumed = norm_layer(text).filter(|(_, eps)| !text.contains("eps=") && *eps != VitConfig::default().norm_eps);
    Ok(assumed.map(|(_, eps)| {
        format!(
            "norm_layer {text:?} states no epsilon: PyTorch's default {eps:e} was taken, timm's ViTs have {:e}; `set norm_eps=VALUE` \
             says otherwise",
            VitConfig::default().norm_eps
        )
    }))
}

/// What to tell where the filter is drawn at random: timm's own evaluation has no answer.
pub(super) fn drawn_filter(root: &Fields) -> Result<Option<String>> {
    let nested = root.object("pretrained_cfg")?;
    let drawn = nested.as_ref().unwrap_or(root).text("interpolation")? == Some("random");
    Ok(drawn.then(|| {
        "interpolation \"random\" is for training (timm evaluates nothing by it, or draws a filter for every image): bilinear was taken"
            .into()
    }))
}

/// What timm's class `Eva` makes of a pool: the norm comes after the mean alone, and the attention pool reads all tokens.
fn settle_pool(vit: &mut VitConfig) {
    vit.pool_include_prefix = vit.global_pool == GlobalPool::Map;
    if vit.fc_norm.is_none() && matches!(vit.global_pool, GlobalPool::Max | GlobalPool::AvgMax) {
        vit.fc_norm = Some(false);
    }
    // The norm that can be left out is the one before the pool.
    vit.final_norm |= vit.uses_fc_norm();
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

fn preprocessing(cfg: &Fields, input_size: [usize; 3]) -> Result<Preprocessing> {
    let interpolation = match cfg.text("interpolation")? {
        None => Interpolation::Bicubic,
        // Told by `drawn_filter`.
        Some("random") => Interpolation::Bilinear,
        Some(name) => name.parse().map_err(|()| cfg.error("interpolation", "nearest, bilinear, bicubic or lanczos"))?,
    };
    let squash = match cfg.text("crop_mode")? {
        None | Some("center") => false,
        Some("squash") => true,
        Some(_) => return Err(cfg.error("crop_mode", "center or squash")),
    };
    let mean = cfg.numbers("mean")?.unwrap_or(IMAGENET_MEAN.into());
    let std = cfg.numbers("std")?.unwrap_or(IMAGENET_STD.into());
    let crop_pct = cfg.number("crop_pct")?.unwrap_or(0.875);
    let made = Preprocessing::new(input_size, mean, std);
    Ok(made.with(|c| (c.interpolation, c.crop_pct, c.squash) = (interpolation, crop_pct, squash)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_norm_is_known_by_its_common_names_and_keeps_its_epsilon() {
        for (text, eps) in [
            ("layernorm", 1e-6),
            ("LayerNorm", 1e-6),
            ("layer_norm", 1e-6),
            ("nn.LayerNorm", 1e-5),
            ("torch.nn.LayerNorm", 1e-5),
            ("<class 'timm.layers.norm.LayerNorm'>", 1e-6),
            ("partial(LayerNorm, eps=1e-5)", 1e-5),
            ("partial(nn.LayerNorm, eps=1e-6)", 1e-6),
            ("functools.partial(<class 'torch.nn.modules.normalization.LayerNorm'>, eps=1e-06)", 1e-6),
            ("functools.partial(<class 'timm.layers.norm.LayerNorm'>, eps=1e-05)", 1e-5),
        ] {
            assert_eq!(norm_layer(text), Some((NormLayer::LayerNorm, eps)), "{text}");
        }
        for (text, eps) in [
            ("rmsnorm", 1e-6),
            ("<class 'timm.layers.norm.RmsNorm'>", 1e-6),
            ("functools.partial(<class 'timm.layers.norm.RmsNorm'>, eps=1e-05)", 1e-5),
        ] {
            assert_eq!(norm_layer(text), Some((NormLayer::RmsNorm, eps)), "{text}");
        }
        for text in ["nn.BatchNorm2d", "nn.RMSNorm", "groupnorm1"] {
            assert_eq!(norm_layer(text), None, "{text}");
        }
    }

    #[test]
    fn an_epsilon_that_nothing_states_is_told() {
        let notes = |norm_layer: &str| {
            let text = serde_json::json!({
                "architecture": "vit_tiny_patch16_224", "num_classes": 2, "model_args": { "norm_layer": norm_layer },
            });
            CheckpointConfig::parse_noting(&text.to_string(), None, "config.json").unwrap().1
        };
        assert!(notes("nn.LayerNorm").concat().contains("PyTorch's default 1e-5 was taken, timm's ViTs have 1e-6"));
        for stated in ["layernorm", "LayerNorm", "partial(nn.LayerNorm, eps=1e-5)"] {
            assert!(notes(stated).is_empty(), "{stated}");
        }
    }

    #[test]
    fn images_for_a_model_of_any_size_are_made_in_input_size() {
        let read = |name: &str, args: &str, cfg: &str| {
            let text = format!(
                r#"{{"architecture": "{name}", "model_args": {{{args}}}, "pretrained_cfg": {{"input_size": [3, 96, 96]{cfg}}}}}"#
            );
            let (config, notes) = CheckpointConfig::parse_noting(&text, None, "config.json").unwrap();
            assert_eq!(config.preprocessing.input_size, config.architecture.input_size());
            (config.preprocessing.input_size[1], notes.len())
        };
        let (free, fixed) = (r#", "fixed_input_size": false"#, r#", "fixed_input_size": true"#);
        let (sized, dynamic) = (r#""img_size": 64"#, r#""img_size": 64, "dynamic_img_size": true"#);
        for name in ["vit_small_patch16_dinov3", "test_vit"] {
            assert_eq!(read(name, sized, free), (96, 1), "{name}");
            assert_eq!(read(name, "", free), (96, 0), "{name}");
            assert_eq!(read(name, sized, fixed), (64, 0), "{name}");
        }
        // The others read the size that they were built for.
        assert_eq!(read("vit_tiny_patch16_224", sized, free), (64, 0));
        assert_eq!(read("vit_tiny_patch16_224", dynamic, fixed), (96, 1));
    }

    #[test]
    fn activations_are_known_by_name_and_by_class() {
        for text in ["gelu", "GELU", "nn.GELU", "<class 'torch.nn.modules.activation.GELU'>"] {
            assert_eq!(act_layer(text), Some(Act::Gelu), "{text}");
        }
        assert_eq!(act_layer("<class 'timm.layers.activations.QuickGELU'>"), Some(Act::QuickGelu));
        assert_eq!((act_layer("nn.SiLU"), act_layer("relu")), (Some(Act::Silu), None));
    }
}
