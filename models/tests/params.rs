//! The store of parameters: initial values, freezing, shared storage, and gradients that may not be missing.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use tallow_models::{Architecture, Error, Mode, Model, Params, Vit, VitConfig, ops, zoo};

fn small() -> VitConfig {
    VitConfig::default().with(|c| {
        c.img_size = 8.into();
        c.patch_size = 4;
        c.embed_dim = 12;
        c.depth = 2;
        c.num_heads = 3;
        c.num_classes = 4;
    })
}

fn store() -> Params {
    Params::new(7, DType::F32, &Device::Cpu)
}

fn values(params: &Params, name: &str) -> Vec<f32> {
    let param = params.get(name).unwrap_or_else(|| panic!("{name} is missing"));
    param.var.flatten_all().and_then(|x| x.to_vec1()).expect("numbers")
}

fn images() -> Tensor {
    let pixels = (0..2 * 3 * 8 * 8).map(|i| (i as f32 * 0.37).sin()).collect();
    Tensor::from_vec(pixels, (2, 3, 8, 8), &Device::Cpu).expect("images")
}

fn loss(model: &impl Model) -> Tensor {
    let logits = model.forward(&images(), Mode::Train { seed: 3 }).expect("a forward pass");
    ops::cross_entropy(&logits, &Tensor::new(&[0u32, 3], &Device::Cpu).expect("labels"), 0.).expect("a loss")
}

/// Mean, standard deviation and largest magnitude.
fn moments(values: &[f32]) -> (f64, f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt(), values.iter().fold(0., |m, &v| f64::from(v.abs()).max(m)))
}

#[test]
fn a_value_depends_on_the_seed_and_the_name_and_on_nothing_else() {
    let (alone, among) = (store(), store());
    alone.builder().pp("b").get_with_hints((40, 30), "weight", Init::Randn { mean: 0., stdev: 1. }).expect("created");
    Vit::new(&small(), among.builder()).expect("it builds");
    among.builder().pp("b").get_with_hints((40, 30), "weight", Init::Randn { mean: 0., stdev: 1. }).expect("created");
    assert_eq!(values(&alone, "b.weight"), values(&among, "b.weight"));

    let other = Params::new(8, DType::F32, &Device::Cpu);
    Vit::new(&small(), other.builder()).expect("it builds");
    assert_ne!(values(&other, "head.weight"), values(&among, "head.weight"));
    assert_ne!(values(&among, "blocks.0.mlp.fc1.weight"), values(&among, "blocks.1.mlp.fc1.weight"));
}

#[test]
fn a_value_does_not_depend_on_the_number_of_threads() {
    let drawn = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let params = store();
            // Several chunks, the last one short.
            params.builder().get_with_hints(200_001, "x", Init::Randn { mean: 0., stdev: 1. }).expect("created");
            values(&params, "x")
        })
    };
    let one = drawn(1);
    assert_eq!(one, drawn(3));
    let (mean, stdev, _) = moments(&one);
    assert!(mean.abs() < 0.01 && (stdev - 1.).abs() < 0.01, "{mean} {stdev}");
    assert_ne!(one[..1000], one[65_536..66_536], "every chunk has a stream of its own");
}

#[test]
fn initial_values_follow_timms_laws() {
    let mut config = small().with(|c| {
        c.embed_dim = 192;
        c.depth = 1;
        c.img_size = 64.into();
        c.patch_size = 16;
    });
    (config.init_values, config.reg_tokens, config.global_pool) = (Some(1e-5), 4, tallow_models::vit::GlobalPool::Map);
    let params = store();
    Vit::new(&config, params.builder()).expect("it builds");
    let law = |name: &str, stdev: f64, largest: f64| {
        let (mean, s, m) = moments(&values(&params, name));
        let count = values(&params, name).len() as f64;
        assert!(mean.abs() < 4. * stdev / count.sqrt(), "{name}: mean {mean}");
        assert!((s / stdev - 1.).abs() < 4. / (2. * count).sqrt(), "{name}: deviation {s}, expected {stdev}");
        assert!(m <= largest && m > 1.5 * stdev, "{name}: largest {m}, expected {largest}");
    };
    for name in
        ["pos_embed", "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc2.weight", "head.weight", "attn_pool.q.weight"]
    {
        law(name, 0.02, f64::INFINITY);
    }
    for name in ["cls_token", "reg_token"] {
        law(name, 1e-6, f64::INFINITY);
    }
    // PyTorch's default for the convolution of the patches: uniform in ±1/√(3 · 16²).
    let bound = 1. / 768f64.sqrt();
    law("patch_embed.proj.weight", bound / 3f64.sqrt(), bound * 1.000_001);
    law("patch_embed.proj.bias", bound / 3f64.sqrt(), bound * 1.000_001);
    // Normal with deviation 1/√dim, cut off at two deviations, which leaves 0.8796 of the deviation.
    law("attn_pool.latent", 0.8796 / 192f64.sqrt(), 2. / 192f64.sqrt());
    for p in params.all() {
        let expected = match p.name.rsplit('.').next() {
            Some("gamma") => 1e-5,
            Some("weight") if p.var.rank() == 1 => 1.,
            Some("bias") if !p.name.starts_with("patch_embed") => 0.,
            _ => continue,
        };
        assert!(values(&params, &p.name).iter().all(|&v| v == expected), "{} starts at {expected}", p.name);
    }
}

#[test]
fn linear_layers_and_convolutions_of_the_cnn_follow_pytorchs_law() {
    let params = store();
    zoo::find("cnn_cifar10").expect("it is there").architecture.build(params.builder()).expect("it builds");
    for (name, fan_in) in [("conv1", 75.), ("conv2", 800.), ("conv3", 1600.), ("fc4", 1024.), ("fc5", 1000.)] {
        for part in ["weight", "bias"] {
            let (mean, stdev, largest) = moments(&values(&params, &format!("{name}.{part}")));
            let bound = 1. / f64::sqrt(fan_in);
            assert!(largest <= bound * 1.000_001, "{name}.{part}: largest {largest}, bound {bound}");
            let count = values(&params, &format!("{name}.{part}")).len() as f64;
            let expected = bound / 3f64.sqrt();
            assert!(mean.abs() < 4. * expected / count.sqrt(), "{name}.{part}: mean {mean}");
            assert!((stdev / expected - 1.).abs() < 4. / (2. * count).sqrt(), "{name}.{part}: {stdev}, {expected}");
        }
    }
}

#[test]
fn a_model_for_evaluation_sees_every_update_and_records_nothing() {
    let params = store();
    let trained = Vit::new(&small(), params.builder()).expect("it builds");
    let evaluated = Vit::new(&small(), params.eval_builder()).expect("it builds");
    let logits = |model: &Vit| model.forward(&images(), Mode::Eval).and_then(|x| x.to_vec2::<f32>()).expect("logits");
    let before = logits(&evaluated);
    assert_eq!(before, logits(&trained));
    let bias = Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu).expect("a bias");
    params.set("head.bias", &bias).expect("it fits");
    assert_ne!(logits(&evaluated), before);
    assert_eq!(logits(&evaluated), logits(&trained));
    assert!(matches!(params.backward(&loss(&evaluated)), Err(Error::NoGradient { names }) if names == params.names()));
}

#[test]
fn a_frozen_parameter_gets_no_gradient_and_the_others_keep_theirs() {
    let gradients = |frozen: fn(&str) -> bool| {
        let params = store();
        params.freeze(frozen);
        let vit = Vit::new(&small(), params.builder()).expect("it builds");
        let gradients = params.backward(&loss(&vit)).expect("all that train get one");
        let named =
            gradients.iter().map(|(name, g)| (name.to_string(), g.flatten_all().and_then(|g| g.to_vec1::<f32>())));
        named.map(|(name, g)| (name, g.expect("numbers"))).collect::<Vec<_>>()
    };
    let all = gradients(|_| false);
    for rule in [|n: &str| !n.starts_with("head"), |n: &str| n.starts_with("blocks.0."), |n: &str| n.ends_with("bias")]
    {
        let expected: Vec<_> = all.iter().filter(|(name, _)| !rule(name)).cloned().collect();
        assert!(!expected.is_empty() && gradients(rule) == expected);
    }
}

#[test]
fn a_frozen_backbone_leaves_the_features_without_history() {
    let params = store();
    params.freeze(|name| !name.starts_with("head"));
    let vit = Vit::new(&small(), params.builder()).expect("it builds");
    assert!(!vit.pooled(&images(), Mode::Train { seed: 0 }).expect("features").track_op());
    // The rule can be replaced; a model that is built after that follows the new one.
    params.freeze(|_| false);
    let vit = Vit::new(&small(), params.builder()).expect("it builds");
    assert_eq!(params.backward(&loss(&vit)).expect("gradients").iter().len(), params.names().len());
}

#[test]
fn parameters_that_the_loss_does_not_depend_on_are_named() {
    let params = store();
    let vit = Vit::new(&small(), params.builder()).expect("it builds");
    params.builder().get_with_hints(3, "idle", Init::Const(1.)).expect("created");
    let error = params.backward(&loss(&vit)).expect_err("one got no gradient");
    assert_eq!(
        error.to_string(),
        "no gradient reached 1 of the trainable parameters: idle; freeze them if that is meant"
    );
}

#[test]
fn provided_values_are_taken_and_those_that_nobody_asks_for_are_named() {
    let params = store();
    let bias = Tensor::new(&[1f32, 2., 3., 4.], &Device::Cpu).expect("a bias");
    params.provide("head.bias", bias.to_dtype(DType::F64).expect("another type"));
    params.provide("heads.bias", bias.clone());
    Vit::new(&small(), params.builder()).expect("it builds");
    assert_eq!(values(&params, "head.bias"), [1., 2., 3., 4.]);
    assert_eq!(params.left_over(), ["heads.bias"]);

    let params = store();
    params.provide("head.bias", Tensor::zeros(5, DType::F32, &Device::Cpu).expect("a bias"));
    let error = Vit::new(&small(), params.builder()).expect_err("another shape").to_string();
    assert!(error.contains("parameter head.bias: shape mismatch, expected: [4], got: [5]"), "{error}");
}

#[test]
fn provided_rows_are_taken_and_the_others_are_those_that_would_be_drawn() {
    let drawn = store();
    Vit::new(&small(), drawn.builder()).expect("it builds");
    let width = drawn.get("head.weight").expect("a head").var.dims()[1];
    let rows = Tensor::full(3f32, (2, width), &Device::Cpu).expect("rows");

    let params = store();
    params.provide_rows("head.weight", vec![3, 1], rows.clone());
    params.provide_rows("head.bias", vec![2], Tensor::new(&[5f32], &Device::Cpu).expect("a row"));
    Vit::new(&small(), params.builder()).expect("it builds");
    let (before, after) = (values(&drawn, "head.weight"), values(&params, "head.weight"));
    for (row, (before, after)) in before.chunks(width).zip(after.chunks(width)).enumerate() {
        match row {
            1 | 3 => assert!(after.iter().all(|&value| value == 3.), "{row}"),
            _ => assert_eq!(before, after, "{row}"),
        }
    }
    assert_eq!(values(&params, "head.bias"), [0., 0., 5., 0.]);
    assert_eq!(params.left_over(), [""; 0]);

    // Into a parameter that is there, the same; what it had stays in its other rows.
    drawn.set_rows("head.weight", &[3, 1], &rows).expect("rows that are there");
    assert_eq!(values(&drawn, "head.weight"), after);
    assert!(matches!(drawn.set_rows("head.weight", &[0], &rows), Err(Error::Shape { .. })), "two values for a row");
    assert!(matches!(drawn.set_rows("head.weight", &[0, 4], &rows), Err(Error::Shape { .. })), "a fifth of four rows");

    let params = store();
    params.provide_rows("head.weight", vec![0, 4], rows);
    let error = Vit::new(&small(), params.builder()).expect_err("a fifth of four rows").to_string();
    assert!(error.contains("head.weight") && error.contains("shape mismatch"), "{error}");
}

#[test]
fn setting_a_parameter_checks_name_and_shape() {
    let params = store();
    Vit::new(&small(), params.builder()).expect("it builds");
    let value = Tensor::zeros(5, DType::F32, &Device::Cpu).expect("a value");
    assert!(matches!(params.set("head.bias", &value), Err(Error::Shape { .. })));
    assert!(matches!(params.set("nothing", &value), Err(Error::UnknownParameter { .. })));
    // Its own storage is a value like any other.
    let own = params.get("head.bias").expect("it is there").var.as_tensor().clone();
    params.set("head.bias", &own).expect("it fits");
}

#[test]
fn a_second_model_over_the_store_shares_the_parameters_or_is_refused() -> Result<()> {
    let params = store();
    Vit::new(&small(), params.builder())?;
    let count = params.names().len();
    Vit::new(&small(), params.builder())?;
    assert_eq!(params.names().len(), count);
    assert!(Vit::new(&small().with(|c| c.num_classes = 5), params.builder()).is_err());
    assert!(Vit::new(&small().with(|c| c.depth = 3), params.eval_builder()).is_err());
    Ok(())
}

#[test]
fn declared_parameters_are_those_that_a_build_creates() {
    for name in ["vit_mnist", "cnn_cifar10", "mlp_mnist"] {
        let mut architecture = zoo::find(name).expect("it is there").architecture;
        if let Architecture::Cnn(config) = &mut architecture {
            config.batch_norm = true;
        }
        let params = store();
        architecture.build(params.builder()).expect("it builds");
        let created: Vec<_> = params.all().iter().map(|p| (p.name.clone(), p.var.dims().to_vec(), p.buffer)).collect();
        let declared = architecture.parameters().expect("it is valid");
        let buffers: Vec<_> = declared.iter().map(|p| (p.name.clone(), p.shape.clone(), p.is_buffer())).collect();
        assert_eq!(created, buffers);
        assert_eq!(architecture.num_parameters().ok(), Some(params.count()));
    }
}

#[test]
fn weight_decay_spares_what_timm_spares() {
    let params = store();
    let mut config = small().with(|c| {
        c.reg_tokens = 2;
        c.init_values = Some(1.);
    });
    config.global_pool = tallow_models::vit::GlobalPool::Map;
    Vit::new(&config, params.builder()).expect("it builds");
    for p in params.all() {
        let spared = p.var.rank() < 2 || ["cls_token", "reg_token", "pos_embed"].contains(&p.name.as_str());
        assert_eq!(p.decayed(), !spared, "{}", p.name);
    }
    assert!(params.get("attn_pool.latent").expect("it is there").decayed(), "as in timm");
}

#[test]
fn the_store_creates_what_was_provided_when_asked_without_a_shape() {
    let params = store();
    params.provide("x", Tensor::ones((2, 3), DType::F32, &Device::Cpu).expect("a value"));
    let vb: VarBuilder = params.builder();
    assert!(vb.contains_tensor("x") && !vb.contains_tensor("y"));
    assert_eq!(vb.get_unchecked("x").expect("provided").dims(), [2, 3]);
    assert!(vb.get_unchecked("y").is_err());
}

#[test]
fn a_builder_for_evaluation_creates_what_was_provided_and_draws_nothing_else() {
    let params = store();
    let drawn = store();
    Vit::new(&small(), drawn.builder()).expect("it builds");
    for param in drawn.all().iter().filter(|param| param.name != "head.weight") {
        params.provide(param.name.as_str(), param.var.as_detached_tensor());
    }
    let error = Vit::new(&small(), params.eval_builder()).expect_err("no head.weight").to_string();
    assert!(error.contains("no parameter is called head.weight"), "{error}");
    params.provide_drawn("head.weight");
    assert_eq!(params.left_over(), ["head.bias", "head.weight"], "the others were taken");
    let vit = Vit::new(&small(), params.eval_builder()).expect("it builds");
    params.check_taken().expect("all of it");
    let logits = vit.forward(&images(), Mode::Eval).expect("a forward pass");
    assert!(!logits.track_op());
    let expected = Vit::new(&small(), drawn.eval_builder()).and_then(|vit| vit.forward(&images(), Mode::Eval));
    assert_eq!(logits.to_vec2::<f32>().ok(), expected.and_then(|x| x.to_vec2::<f32>()).ok());
}

#[test]
fn a_value_that_waits_under_the_end_of_a_name_is_not_drawn_over() {
    let params = store();
    let scale = Tensor::ones(4, DType::F32, &Device::Cpu).expect("a value");
    params.provide("norm.weight", scale);
    let get = |name: &str, dim: usize| params.builder().get_with_hints(dim, name, Init::Const(0.));
    let error = get("encoder.vit.norm.weight", 4).expect_err("a value waits").to_string();
    assert!(error.contains("load with the prefix \"encoder.vit\""), "{error}");
    // Of another shape it is somebody else's, and once the value has found its place nothing waits.
    get("decoder.norm.weight", 5).expect("drawn");
    get("norm.weight", 4).expect("taken");
    get("encoder.vit.norm.weight", 4).expect("drawn");
}

#[test]
fn a_value_that_waits_under_a_longer_name_or_another_prefix_is_not_drawn_over() {
    for (asked, waiting) in [("scale", "vit.scale"), ("a.vit.scale", "vit.scale"), ("a.norm.weight", "b.norm.weight")] {
        let params = store();
        params.provide(waiting, Tensor::ones(4, DType::F32, &Device::Cpu).expect("a value"));
        let get = |name: &str, dim: usize| params.builder().get_with_hints(dim, name, Init::Const(0.));
        let error = get(asked, 4).expect_err("a value waits").to_string();
        assert!(error.contains(&format!("{asked}: ")) && error.contains(waiting), "{error}");
        // Other shapes and last parts alone say nothing.
        get(asked, 5).expect("drawn");
        get("mine.weight", 4).expect("drawn");
        get(waiting, 4).expect("taken");
    }
    // Layers of one stack are not prefixes of one another.
    let params = store();
    params.provide("blocks.2.attn.proj.weight", Tensor::ones(4, DType::F32, &Device::Cpu).expect("a value"));
    let get = |name: &str| params.builder().get_with_hints(4, name, Init::Const(0.));
    get("blocks.0.attn.proj.weight").expect("drawn");
    get("vit.blocks.0.attn.proj.weight").expect_err("another prefix");
}

#[test]
fn no_gradient_is_taken_while_a_provided_value_has_no_place() {
    let params = store();
    let vit = Vit::new(&small(), params.builder()).expect("it builds");
    params.backward(&loss(&vit)).expect("gradients");
    params.provide("heads.bias", Tensor::zeros(4, DType::F32, &Device::Cpu).expect("a bias"));
    let error = params.backward(&loss(&vit)).expect_err("one is left over");
    assert!(matches!(&error, Error::LeftOver { names } if *names == ["heads.bias"]), "{error}");
}
