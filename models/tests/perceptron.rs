//! The four ways to train a perceptron: against PyTorch (`references/perceptron.py` wrote what it computes, and says what the
//! formula is), and against each other.

mod pytorch;

use candle_core::{DType, Device, Tensor};
use pytorch::{assert_close, flat, formula, numbers};
use serde_json::Value;
use tallow_models::mlp::{Implementation, Pass, Perceptron};
use tallow_models::{Error, MlpConfig, Params};

const FOUR: [Implementation; 4] =
    [Implementation::Manual, Implementation::Autograd, Implementation::Layers, Implementation::Optimizer];

/// A case of the reference: the perceptron, its images and labels.
fn case(facts: &Value, implementation: Implementation) -> (Perceptron, Tensor, Tensor) {
    let config: MlpConfig = serde_json::from_value(facts["config"].clone()).expect("a configuration");
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let (inputs, hidden, classes) = (config.num_inputs(), config.hidden[0], config.num_classes);
    let scale = facts["scale"].as_f64().expect("a number");
    params.provide("fc1.weight", formula(&[hidden, inputs], 0, 2.));
    params.provide("fc1.bias", formula(&[hidden], 1000, 2.));
    params.provide("fc2.weight", formula(&[classes, hidden], 2000, scale));
    params.provide("fc2.bias", formula(&[classes], 3000, 2.));
    let batch = facts["batch"].as_u64().expect("a number") as usize;
    let images = formula(&[batch, config.in_chans, config.img_size.height, config.img_size.width], 5, 4.);
    let labels = (0..batch).map(|i| (i % classes) as u32).collect::<Vec<_>>();
    let labels = Tensor::new(labels, &Device::Cpu).expect("labels");
    (Perceptron::new(&config, &params, implementation).expect("a perceptron"), images, labels)
}

fn reference() -> serde_json::Map<String, Value> {
    serde_json::from_str(include_str!("references/perceptron.json")).expect("perceptron.json is an object")
}

#[test]
fn loss_logits_and_gradients_of_all_four_equal_pytorchs() {
    for (name, facts) in &reference() {
        for implementation in FOUR {
            let what = |part: &str| format!("{name}, {implementation:?}: {part}");
            let (perceptron, images, labels) = case(facts, implementation);
            let Pass { loss, logits, gradients } = perceptron.pass(&images, &labels).expect("a pass");
            assert_close(&what("loss"), &flat(&loss), &numbers(&facts["losses"][0]), 1e-6);
            assert_close(&what("logits"), &flat(&logits), &numbers(&facts["logits"]), 1e-6);
            let expected = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"];
            assert_eq!(gradients.iter().map(|(name, _)| name).collect::<Vec<_>>(), expected);
            for (parameter, gradient) in gradients.iter() {
                assert_close(&what(parameter), &flat(gradient), &numbers(&facts["gradients"][parameter]), 2e-5);
            }
        }
    }
}

#[test]
fn ten_steps_of_sgd_by_hand_follow_pytorchs() {
    for (name, facts) in &reference() {
        for implementation in FOUR {
            let (perceptron, images, labels) = case(facts, implementation);
            let lr = facts["lr"].as_f64().expect("a number");
            for (step, expected) in numbers(&facts["losses"]).into_iter().enumerate() {
                let Pass { loss, gradients, .. } = perceptron.pass(&images, &labels).expect("a pass");
                assert_close(&format!("{name}, {implementation:?}, step {step}"), &flat(&loss), &[expected], 1e-5);
                perceptron.step(&gradients, lr).expect("a step");
            }
        }
    }
}

#[test]
fn the_four_agree_on_a_batch_of_digits_size_to_rounding() {
    let config = MlpConfig::default().with(|c| {
        c.act = tallow_models::MlpAct::Tanh;
        c.init_std = Some(0.3);
    });
    let images = (formula(&[64, 1, 28, 28], 0, 1.) + 0.5).expect("pixels");
    let labels = Tensor::new((0..64u32).map(|i| i * 7 % 10).collect::<Vec<_>>(), &Device::Cpu).expect("labels");
    let passes = FOUR.map(|implementation| {
        let params = Params::new(3, DType::F32, &Device::Cpu);
        Perceptron::new(&config, &params, implementation).and_then(|p| p.pass(&images, &labels)).expect("a pass")
    });
    for pass in &passes[1..] {
        assert_close("loss", &flat(&pass.loss), &flat(&passes[0].loss), 2e-6);
        for ((name, gradient), (_, first)) in pass.gradients.iter().zip(passes[0].gradients.iter()) {
            assert_close(name, &flat(gradient), &flat(first), 5e-6);
        }
    }
}

#[test]
fn weights_start_from_a_normal_law_of_deviation_0_3_and_biases_from_0() {
    let config = MlpConfig::circles().with(|c| c.hidden = vec![20_000]);
    let params = Params::new(0, DType::F32, &Device::Cpu);
    Perceptron::new(&config, &params, Implementation::Manual).expect("a perceptron");
    for param in params.all() {
        let values = flat(param.var.as_tensor());
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        // Five standard errors of the 40,000 values of a weight.
        let (expected, bound) = if param.name.ends_with("bias") { (0., 0.) } else { (0.3, 5. * 0.3 / 200.) };
        assert!(mean.abs() <= bound && (deviation - expected).abs() <= bound, "{}: {mean}, {deviation}", param.name);
    }
}

#[test]
fn what_is_no_perceptron_is_refused_by_the_field_that_makes_it_none() {
    let circles = MlpConfig::circles;
    for (field, config) in [
        ("hidden", circles().with(|c| c.hidden = vec![5, 5])),
        ("hidden", circles().with(|c| c.hidden = vec![])),
        ("act", circles().with(|c| c.act = tallow_models::MlpAct::Relu)),
        ("drop_rate", circles().with(|c| c.drop_rate = 0.1)),
        ("num_classes", circles().with(|c| c.num_classes = 0)),
    ] {
        let params = Params::new(0, DType::F32, &Device::Cpu);
        let error = Perceptron::new(&config, &params, Implementation::Manual).expect_err(field);
        assert!(matches!(&error, Error::Config { field: f, .. } if f == field), "{field}: {error}");
    }
    let params = Params::new(0, DType::F32, &Device::Cpu);
    params.freeze(|name| name.starts_with("fc1"));
    let error = Perceptron::new(&circles(), &params, Implementation::Layers).expect_err("a frozen layer").to_string();
    assert!(error.contains("fc1.weight"), "{error}");
}

#[test]
fn labels_and_images_that_do_not_fit_are_an_error() {
    for implementation in FOUR {
        let params = Params::new(0, DType::F32, &Device::Cpu);
        let perceptron = Perceptron::new(&MlpConfig::circles(), &params, implementation).expect("a perceptron");
        let points = formula(&[2, 2, 1, 1], 0, 1.);
        let labels = |labels: [u32; 2]| Tensor::new(&labels, &Device::Cpu).expect("labels");
        assert!(perceptron.pass(&points, &labels([0, 1])).is_ok());
        assert!(perceptron.pass(&points, &labels([0, 2])).is_err(), "{implementation:?}");
        assert!(perceptron.pass(&formula(&[2, 3, 1, 1], 0, 1.), &labels([0, 1])).is_err(), "{implementation:?}");
    }
}
