//! Configurations: options from text, and the refusal of what makes no sense.

use candle_core::{DType, Device, Tensor};
use candle_nn::ModuleT;
use tallow_models::vit::{Act, GlobalPool, PosEmbed};
use tallow_models::{Architecture, CnnConfig, Mlp, MlpConfig, Mode, Model, Params, Stage, Vit, VitConfig, zoo};

fn small() -> VitConfig {
    VitConfig::default().with(|c| {
        c.img_size = 16.into();
        c.patch_size = 8;
        c.embed_dim = 12;
        c.depth = 2;
        c.num_heads = 3;
        c.num_classes = 4;
    })
}

fn complaint(architecture: Architecture) -> String {
    let message = architecture.validate().expect_err("it makes no sense").to_string();
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let built = architecture.build(params.builder()).map(|_| ()).expect_err("so it is not built").to_string();
    assert!(built.contains(&message), "{built} is not {message}");
    assert!(params.names().is_empty(), "and nothing is allocated");
    assert_eq!(architecture.parameters().expect_err("nor listed").to_string(), message);
    message
}

#[test]
fn a_vit_that_makes_no_sense_is_refused_with_field_expectation_and_value() {
    let refused = |change: fn(&mut VitConfig)| {
        let mut config = small();
        change(&mut config);
        complaint(Architecture::Vit(config))
    };
    assert_eq!(refused(|c| c.num_heads = 5), "num_heads: expected a divisor of embed_dim 12, got 5");
    assert_eq!(
        refused(|c| c.patch_size = 7),
        "patch_size: expected a divisor of img_size 16 (or an img_size of 14 or 21), got 7"
    );
    assert_eq!(refused(|c| c.patch_size = 0), "patch_size: expected 1 to 16, got 0");
    assert_eq!(refused(|c| c.img_size = 0.into()), "img_size: expected 1 to 65536, got 0");
    assert_eq!(refused(|c| c.depth = 0), "depth: expected 1 to 4096, got 0");
    assert_eq!(refused(|c| c.drop_rate = 1.), "drop_rate: expected a rate from 0 to below 1, got 1");
    assert_eq!(refused(|c| c.drop_path_rate = f64::NAN), "drop_path_rate: expected a rate from 0 to below 1, got NaN");
    assert_eq!(refused(|c| c.norm_eps = 0.), "norm_eps: expected a positive number, got 0");
    assert_eq!(
        refused(|c| (c.spt, c.patch_size) = (true, 1)),
        "spt: expected false, or a patch_size of at least 2, as the shift is half a patch, got true"
    );
    assert_eq!(
        refused(|c| {
            (c.lsa, c.patch_size, c.class_token, c.global_pool) = (true, 16, false, GlobalPool::Avg);
        }),
        "lsa: expected false, or more than one token, as no token attends to itself, got true"
    );
    let changes: [fn(&mut VitConfig); 27] = [
        |c| c.img_size = usize::MAX.into(),
        |c| (c.img_size, c.patch_size) = ((1 << 16).into(), 1),
        |c| c.patch_size = usize::MAX,
        |c| c.in_chans = 0,
        |c| c.in_chans = usize::MAX,
        |c| c.num_classes = usize::MAX,
        |c| c.embed_dim = 0,
        |c| c.embed_dim = usize::MAX,
        |c| c.depth = usize::MAX,
        |c| c.num_heads = 0,
        |c| c.num_heads = usize::MAX,
        |c| c.mlp_ratio = 0.,
        |c| c.mlp_ratio = f64::NAN,
        |c| c.mlp_ratio = f64::INFINITY,
        |c| c.mlp_ratio = -4.,
        |c| c.reg_tokens = usize::MAX,
        |c| c.norm_eps = f64::NAN,
        |c| c.init_values = Some(f64::INFINITY),
        |c| c.pos_drop_rate = -0.1,
        |c| c.proj_drop_rate = 1.5,
        |c| c.attn_drop_rate = f64::NEG_INFINITY,
        |c| c.class_token = false,
        |c| (c.distilled, c.reg_tokens) = (true, 1),
        |c| (c.distilled, c.global_pool) = (true, GlobalPool::Avg),
        |c| (c.distilled, c.fc_norm) = (true, Some(true)),
        |c| {
            (c.img_size, c.patch_size, c.in_chans, c.embed_dim, c.num_heads) =
                ((1 << 16).into(), 1 << 16, 1 << 16, 1 << 16, 1)
        },
        // Each alone would do.
        |c| (c.embed_dim, c.num_heads, c.depth) = (1 << 16, 1, 1 << 12),
    ];
    for change in changes {
        assert!(refused(change).contains("expected"));
    }
}

#[test]
fn a_cnn_or_mlp_that_makes_no_sense_is_refused() {
    for config in [
        CnnConfig::default().with(|c| c.img_size = 3.into()),
        CnnConfig::default().with(|c| c.img_size = usize::MAX.into()),
        CnnConfig::default().with(|c| c.in_chans = 0),
        CnnConfig::default().with(|c| c.num_classes = usize::MAX),
        CnnConfig::default().with(|c| c.drop_rate = f64::NAN),
    ] {
        complaint(Architecture::Cnn(config));
    }
    for config in [
        MlpConfig::default().with(|c| c.img_size = 0.into()),
        MlpConfig::default().with(|c| {
            c.img_size = usize::MAX.into();
            c.in_chans = usize::MAX;
        }),
        MlpConfig::default().with(|c| c.hidden = vec![10, 0]),
        MlpConfig::default().with(|c| c.hidden = vec![usize::MAX]),
        MlpConfig::default().with(|c| c.hidden = vec![1 << 24, 1 << 24]),
        MlpConfig::default().with(|c| c.hidden = vec![1; 10_000]),
        MlpConfig::default().with(|c| c.drop_rate = 1.),
        MlpConfig::default().with(|c| c.init_std = Some(f64::NAN)),
    ] {
        complaint(Architecture::Mlp(config));
    }
}

#[test]
fn options_are_set_from_text() {
    let mut architecture = Architecture::Vit(VitConfig::default());
    for (key, value) in [
        ("embed_dim", "64"),
        ("mlp_ratio", "2"),
        ("qk_norm", "true"),
        ("init_values", "1e-5"),
        ("global_pool", "avg"),
        ("act", "quick_gelu"),
        ("pos_embed", "none"),
        ("fc_norm", "false"),
    ] {
        architecture.set(key, value).expect("a good value");
    }
    let expected = VitConfig::default().with(|c| {
        c.embed_dim = 64;
        c.mlp_ratio = 2.;
        c.qk_norm = true;
        c.init_values = Some(1e-5);
        c.global_pool = GlobalPool::Avg;
        c.act = Act::QuickGelu;
        c.pos_embed = PosEmbed::None;
        c.fc_norm = Some(false);
    });
    assert_eq!(architecture, Architecture::Vit(expected.clone()));
    for (key, value) in [("init_values", "none"), ("fc_norm", "none"), ("global_pool", "none")] {
        architecture.set(key, value).expect("a good value");
    }
    let expected = expected.with(|c| {
        c.init_values = None;
        c.fc_norm = None;
        c.global_pool = GlobalPool::None;
    });
    assert_eq!(architecture, Architecture::Vit(expected));

    let mut mlp = Architecture::Mlp(MlpConfig::default());
    for (text, hidden) in [("128,64", vec![128, 64]), ("[32]", vec![32]), ("7", vec![7]), ("[]", vec![])] {
        mlp.set("hidden", text).expect("a good value");
        assert_eq!(mlp, Architecture::Mlp(MlpConfig::default().with(|c| c.hidden = hidden)));
    }
}

#[test]
fn a_wrong_option_is_answered_with_what_there_is() {
    let mut architecture = Architecture::Vit(VitConfig::default());
    let mut refused = |key, value| {
        let message = architecture.set(key, value).expect_err("it is wrong").to_string();
        assert_eq!(architecture, Architecture::Vit(VitConfig::default()), "and nothing changes");
        message
    };
    assert_eq!(refused("embed_dim", "wide"), "embed_dim: expected a whole number, got wide");
    assert_eq!(refused("embed_dim", "-1"), "embed_dim: expected a whole number, got -1");
    assert_eq!(refused("embed_dim", "6.5"), "embed_dim: expected a whole number, got 6.5");
    assert_eq!(refused("embed_dim", "none"), "embed_dim: expected a whole number, got none");
    assert_eq!(refused("mlp_ratio", "x"), "mlp_ratio: expected a number, got x");
    assert_eq!(refused("qk_norm", "1"), "qk_norm: expected a boolean, got 1");
    assert!(refused("global_pool", "mean").starts_with("global_pool: expected one of `token`, `avg`, `max`"));
    for (key, value) in [("embed_dim", ""), ("init_values", "NaN"), ("depth", "99999999999999999999999")] {
        refused(key, value);
    }
    let message = refused("embed_dims", "64");
    assert!(message.starts_with("no option is called \"embed_dims\"; did you mean embed_dim"), "{message}");
    assert!(message.contains("there are: img_size, patch_size, trim, in_chans"), "{message}");
}

#[test]
fn an_architecture_can_be_written_down_and_read_again() {
    for name in zoo::names() {
        let architecture = zoo::find(name).expect("a listed name").architecture;
        let text = serde_json::to_string(&architecture).expect("plain data");
        assert_eq!(serde_json::from_str::<Architecture>(&text).expect("the same"), architecture, "{text}");
    }
    assert!(serde_json::from_str::<VitConfig>(r#"{"embed_dims": 64}"#).is_err(), "an unknown field is not passed over");
    assert!(serde_json::from_str::<Architecture>(r#"{"family": "vit", "embed_dims": 64}"#).is_err());
    let few: Architecture = serde_json::from_str(r#"{"family": "vit", "depth": 3}"#).expect("the rest has defaults");
    assert_eq!(few, Architecture::Vit(VitConfig::default().with(|c| c.depth = 3)));
}

#[test]
fn sizes_can_be_changed_in_every_family() {
    for name in ["vit_mnist", "cnn_cifar10", "mlp_mnist"] {
        let architecture = zoo::find(name).expect("it is there").architecture;
        let changed = architecture.with_img_size(14).with_in_chans(2).with_num_classes(3);
        assert_eq!((changed.input_size(), changed.num_classes()), ([2, 14, 14], 3));
        let model = changed.build(Params::new(0, DType::F32, &Device::Cpu).builder()).expect("it builds");
        let images = Tensor::zeros((1, 2, 14, 14), DType::F32, &Device::Cpu).expect("images");
        assert_eq!(model.forward(&images, Mode::Eval).expect("logits").dims(), [1, 3]);
        let headless = changed.with_num_classes(0);
        assert!(headless.parameters().expect("it is valid").iter().all(|p| headless.stage_of(&p.name) != Stage::Head));
    }
}

#[test]
fn images_of_another_shape_are_refused_with_both_shapes() {
    let vit = Vit::new(&small(), Params::new(0, DType::F32, &Device::Cpu).builder()).expect("it builds");
    let config = MlpConfig::default().with(|c| {
        c.img_size = 16.into();
        c.in_chans = 3;
    });
    let mlp = Mlp::new(&config, Params::new(0, DType::F32, &Device::Cpu).builder()).expect("it builds");
    for shape in
        [vec![2, 3, 16, 8], vec![2, 1, 16, 16], vec![3, 16, 16], vec![0, 3, 16, 16], vec![2, 3, 32, 32], vec![]]
    {
        let images = Tensor::zeros(shape.as_slice(), DType::F32, &Device::Cpu).expect("images");
        for result in
            [vit.forward(&images, Mode::Eval), mlp.forward(&images, Mode::Eval), vit.pooled(&images, Mode::Eval)]
        {
            let message = result.expect_err("they do not fit").to_string();
            let expected = format!("images: expected [batch, 3, 16, 16] with a batch of at least 1, got: {shape:?}");
            assert!(message.contains(&expected), "{message}");
        }
        assert!(vit.attention_maps(&images).is_err() && vit.forward_intermediates(&images, &[0], true).is_err());
    }
}

#[test]
fn images_of_whole_numbers_are_refused_with_what_to_do() {
    let vit = Vit::new(&small(), Params::new(0, DType::F32, &Device::Cpu).builder()).expect("it builds");
    let images = Tensor::zeros((2, 3, 16, 16), DType::U8, &Device::Cpu).expect("images");
    let message = vit.forward(&images, Mode::Eval).expect_err("bytes").to_string();
    let first = message.lines().next().unwrap_or_default();
    assert!(first.contains("images: expected floating-point values") && first.contains("got U8"), "{message}");
    assert!(first.contains("to_dtype") && first.contains("255"), "{message}");
}

#[test]
fn candles_module_trait_evaluates_and_draws_other_masks_in_every_training_pass() {
    let config = small().with(|c| c.drop_rate = 0.5);
    let vit = Vit::new(&config, Params::new(0, DType::F32, &Device::Cpu).builder()).expect("it builds");
    let pixels = (0..2 * 3 * 256).map(|i| (i as f32 * 0.37).sin()).collect();
    let images = Tensor::from_vec(pixels, (2, 3, 16, 16), &Device::Cpu).expect("images");
    let values = |logits: candle_core::Result<Tensor>| logits.and_then(|x| x.to_vec2::<f32>()).expect("logits");
    let trained = || values(images.apply_t(&vit, true));
    assert_eq!(values(images.apply_t(&vit, false)), values(vit.forward(&images, Mode::Eval)));
    assert_ne!(trained(), trained());
    let any = Architecture::from(config).build(Params::new(0, DType::F32, &Device::Cpu).builder()).expect("it builds");
    assert_eq!(values(any.forward_t(&images, false)), values(vit.forward_t(&images, false)));
}

#[test]
fn every_parameter_belongs_to_the_stage_its_name_says() {
    let stages = |name: &str| {
        let architecture = zoo::find(name).expect("it is there").architecture.with_num_classes(10);
        let parameters = architecture.parameters().expect("it is valid");
        let mut stages: Vec<Stage> = parameters.iter().map(|p| architecture.stage_of(&p.name)).collect();
        assert!(stages.is_sorted(), "{name}: from the input to the output");
        stages.dedup();
        stages
    };
    let blocks = |n| (0..n).map(Stage::Block);
    let vit: Vec<_> = [Stage::Stem].into_iter().chain(blocks(6)).chain([Stage::Neck, Stage::Head]).collect();
    assert_eq!(stages("vit_mnist"), vit);
    assert_eq!(stages("cnn_cifar10"), blocks(4).chain([Stage::Head]).collect::<Vec<_>>());
    assert_eq!(stages("mlp_mnist"), blocks(1).chain([Stage::Head]).collect::<Vec<_>>());
    stages("vit_base_patch16_siglip_224");
    stages("deit_tiny_distilled_patch16_224");

    let cnn = zoo::find("cnn_cifar10").expect("it is there").architecture;
    assert_eq!((cnn.layer_id("conv1.weight"), cnn.layer_id("bn1.weight"), cnn.layer_id("fc5.bias")), (0, 0, 4));
    assert_eq!(cnn.num_layers(), 5);
}
