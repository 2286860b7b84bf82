//! Hybrid ViTs against timm: small ones, and one of the zoo as it is. `references/hybrids.py` wrote what timm computes.

#[path = "pytorch/mixed.rs"]
mod mixed;
mod pytorch;

use candle_core::{DType, Device, Tensor};
use mixed::mixed;
use pytorch::{assert_close, flat, formula, numbers};
use serde_json::Value;
use tallow_models::optim::{self, AdamWStep, AdamWTarget};
use tallow_models::{Architecture, Mode, Model, ModelConfig, Params, Vit, VitConfig, ops};

const FORWARD: f64 = 2e-5;

fn cases() -> Vec<(String, VitConfig, Value)> {
    let cases: serde_json::Map<String, Value> =
        serde_json::from_str(include_str!("references/hybrids.json")).expect("an object");
    let config =
        |facts: &Value| serde_json::from_value(facts["config"].clone()).expect("timm's arguments are our fields");
    cases.into_iter().map(|(name, facts)| (name, config(&facts), facts)).collect()
}

/// The model with the reference's weights, its images and their labels.
fn build(config: &VitConfig, facts: &Value, dtype: DType) -> (Params, Vit, Tensor, Tensor) {
    let params = Params::new(0, dtype, &Device::Cpu);
    for (seed, spec) in config.parameters().expect("a valid configuration").iter().enumerate() {
        let fan: usize = spec.shape[1..].iter().product();
        let centre = if spec.name.ends_with("weight") { 1. } else { 0. };
        params.provide(
            &spec.name,
            match spec.shape.len() {
                1 => (mixed(&spec.shape, seed as u64, 1.) + centre).expect("a tensor"),
                _ => mixed(&spec.shape, seed as u64, 3. / (fan as f64).sqrt()),
            },
        );
    }
    let vit = Vit::new(config, params.builder()).expect("it builds");
    let batch = facts["batch"].as_u64().expect("a number") as usize;
    let [channels, height, width] = config.input_size();
    let images = mixed(&[batch, channels, height, width], 999, 4.).to_dtype(dtype).expect("images");
    let labels: Vec<u32> = (0..batch as u32).map(|i| i % config.num_classes as u32).collect();
    (params, vit, images, Tensor::new(labels, &Device::Cpu).expect("labels"))
}

/// The first `count` of the last dimension.
fn first(x: &Tensor, count: usize) -> Vec<f64> {
    let last = x.rank() - 1;
    let count = count.min(x.dims()[last]);
    flat(&x.narrow(last, 0, count).expect("a part"))
}

/// Checks a training pass; gradients may differ by `bound`.
fn check_gradients(
    name: &str,
    vit: &Vit,
    params: &Params,
    (images, labels): (&Tensor, &Tensor),
    facts: &Value,
    bound: f64,
) {
    let logits = vit.forward(images, Mode::Train { seed: 0 }).expect("a forward pass");
    assert_close(&format!("{name} logits"), &first(&logits, 48), &numbers(&facts["logits"]), FORWARD);
    let loss = ops::cross_entropy(&logits, labels, 0.).expect("a loss");
    assert_close(&format!("{name} loss"), &flat(&loss), &numbers(&facts["loss"]), FORWARD);
    let gradients = params.backward(&loss).expect("every parameter gets a gradient");
    let expected = numbers(&facts["gradients"]);
    assert_eq!(2 * gradients.iter().len(), expected.len(), "{name}");
    for ((parameter, gradient), expected) in gradients.iter().zip(expected.chunks(2)) {
        let (gradient, along) = (flat(gradient), flat(&mixed(gradient.dims(), 998, 1.)));
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let product = gradient.iter().zip(&along).map(|(g, f)| g * f).sum::<f64>();
        let error = (norm - expected[0]).abs().max((product - expected[1]).abs()) / expected[0];
        assert!(error < bound, "{name} {parameter}: relative error {error:.1e}, allowed {bound:.1e}");
    }
}

#[test]
fn tokens_pooled_logits_and_gradients_equal_timms() {
    for (name, config, facts) in cases() {
        let (params, mut vit, images, labels) = build(&config, &facts, DType::F32);
        let close = |what: &str, got: &[f64]| {
            assert_close(&format!("{name} {what}"), got, &numbers(&facts[what]), FORWARD);
        };
        let tokens = vit.forward_features(&images, Mode::Eval).expect("a forward pass");
        assert_eq!(tokens.dims(), [images.dims()[0], config.num_tokens(), config.embed_dim]);
        let last = tokens.get(images.dims()[0] - 1).expect("an image");
        close("tokens", &first(&last, 6));
        close("pooled", &first(&vit.pooled(&images, Mode::Eval).expect("a forward pass"), 48));
        // Where an activation of a ReLU is 0 within rounding, its gradient is all or nothing, and one such moves all gradients before it: of
        // the large stems PyTorch's gradients in float32 differ from its own in float64 by up to a hundredth.
        let large = config.stem_width == 64 && config.reduction() > 4;
        for grad_checkpointing in [false, true] {
            vit.set_grad_checkpointing(grad_checkpointing);
            check_gradients(&name, &vit, &params, (&images, &labels), &facts, if large { 2e-2 } else { 2e-5 });
            // It changes nothing but memory and time: once for the large one is enough.
            if config.depth > 2 {
                break;
            }
        }
    }
}

#[test]
fn in_float64_the_gradients_of_every_parameter_equal_timms() {
    for (name, config, facts) in cases().into_iter().filter(|(_, config, _)| config.depth <= 2) {
        let (params, vit, images, labels) = build(&config, &facts, DType::F64);
        check_gradients(&name, &vit, &params, (&images, &labels), &facts, 1e-6);
    }
}

#[test]
fn other_types_agree_within_their_precision() {
    for (dtype, bound) in [(DType::F64, 1e-6), (DType::BF16, 1e-1)] {
        for (name, config, facts) in cases().into_iter().filter(|(name, ..)| name.contains("narrow")) {
            let (_, vit, images, _) = build(&config, &facts, dtype);
            let logits = vit.forward(&images, Mode::Eval).expect("a forward pass");
            assert_eq!(logits.dtype(), dtype);
            assert_close(&format!("{name} in {dtype:?}"), &flat(&logits), &numbers(&facts["logits"]), bound);
        }
    }
}

#[test]
fn twenty_steps_of_adamw_follow_pytorchs() {
    for (name, config, facts) in cases().into_iter().filter(|(.., facts)| facts.get("losses").is_some()) {
        let (params, vit, images, labels) = build(&config, &facts, DType::F32);
        let trainable: Vec<_> = params.trainable().iter().map(|param| param.var.as_detached_tensor()).collect();
        let zeros = || trainable.iter().map(Tensor::zeros_like).collect::<Result<Vec<_>, _>>().expect("zeros");
        let (m, v) = (zeros(), zeros());
        let expected = numbers(&facts["losses"]);
        assert_eq!(expected.len(), 20);
        for (step, expected) in (1..).zip(expected) {
            let logits = vit.forward(&images, Mode::Train { seed: 0 }).expect("a forward pass");
            let loss = ops::cross_entropy(&logits, &labels, 0.).expect("a loss");
            let got = flat(&loss)[0];
            assert!((got - expected).abs() < 2e-4, "{name}, step {step}: loss {got} where PyTorch has {expected}");
            let gradients = params.backward(&loss).expect("gradients");
            let numbers =
                AdamWStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.05, step, grad_scale: 1. };
            let state = trainable.iter().zip(gradients.iter()).zip(m.iter().zip(&v));
            let targets: Vec<_> =
                state.map(|((param, (_, grad)), (m, v))| AdamWTarget { param, m, v, grad, step: numbers }).collect();
            optim::adamw_steps(&targets, None).expect("a step");
        }
    }
}

#[test]
fn layers_for_learning_rate_decay_are_timms() {
    for (name, config, facts) in cases() {
        let parameters = config.parameters().expect("a valid configuration");
        let layers: Vec<f64> = parameters.iter().map(|p| config.layer_id(&p.name) as f64).collect();
        assert_eq!(layers, numbers(&facts["layers"]), "{name}");
    }
}

#[test]
fn images_of_another_size_take_resampled_positions_and_those_that_patches_do_not_tile_are_an_error() {
    let config = cases().into_iter().find(|(name, ..)| name == "narrow").expect("it is there").1;
    let vit = Vit::new(&config, Params::new(0, DType::F32, &Device::Cpu).builder()).expect("it builds");
    let images = |height, width| formula(&[2, 3, height, width], 0, 1.);
    for (height, width) in [(48, 32), (17, 40), (9, 1)] {
        let pooled = vit.pooled_at(&images(height, width), Mode::Eval).expect("a forward pass");
        assert_eq!(pooled.dims(), [2, config.embed_dim]);
    }
    let kept = Tensor::zeros((2, 3), DType::U32, &Device::Cpu).expect("indices");
    let error = vit.forward_visible(&images(48, 32), &kept, Mode::Eval).expect_err("a hybrid").to_string();
    assert!(error.contains("those of a stem's maps"), "{error}");
    assert!(vit.forward(&images(48, 33), Mode::Eval).is_err());
}

#[test]
fn stems_that_make_no_sense_are_named() {
    let small = || VitConfig::default().with(|c| (c.patch_size, c.stem_layers) = (1, vec![2, 2].try_into().ok()));
    small().validate().expect("it is valid");
    let error = |change: &dyn Fn(&mut VitConfig)| {
        let mut config = small();
        change(&mut config);
        config.validate().expect_err("it makes no sense").to_string()
    };
    assert!(error(&|c| c.stem_width = 48).contains("stem_width"));
    assert!(error(&|c| c.spt = true).contains("spt"));
    assert!(error(&|c| c.trim = true).contains("trim"));
    let message = error(&|c| c.patch_size = 3);
    assert!(message.contains("the stem's maps, 28 for img_size 224"), "{message}");
    assert!(message.contains("an img_size of 216 or 240"), "{message}");
    let mut architecture = Architecture::Vit(small());
    for (value, right) in
        [("2,2,2,2", true), ("3", true), ("[]", true), ("none", true), ("2,0", false), ("1,1,1,1,1", false)]
    {
        assert_eq!(architecture.set("stem_layers", value).is_ok(), right, "{value}");
    }
}
