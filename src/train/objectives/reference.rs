//! What the tests of objectives without labels have in common: the values of the reference, and steps along gradients.

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use tallow_models::optim::Clip;
use tallow_models::{Architecture, Params, VitConfig};

use super::Objective;
use crate::train::config::{Method, TrainConfig};
use crate::train::gradients::sums_of_squares;
use crate::train::optimizer::Optimizer;

/// `tests/references/train/pretraining.json`.
pub struct Reference(pub Value);

impl Reference {
    pub fn read() -> Self {
        let text = include_str!("../../../tests/references/train/pretraining.json");
        Self(serde_json::from_str(text).expect("the reference"))
    }
}

/// Settings of a method by its name, without clipping.
pub fn config(method: &str) -> TrainConfig {
    TrainConfig::default().with(|c| {
        c.pretraining.method = Some(if method == "mae" { Method::Mae } else { Method::Dino });
        c.regularization.clip_grad = 0.;
    })
}

/// The sines that the reference has for values.
pub fn wave(shape: &[usize], seed: f64, scale: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (1..=count).map(|i| (scale * (1.37 * i as f64 + 0.61 * seed).sin()) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Gives all trainable parameters the reference's values.
pub fn fill(params: &Params) {
    let mut trainable = params.trainable();
    trainable.sort_by(|a, b| a.name.cmp(&b.name));
    for (seed, param) in trainable.iter().enumerate() {
        let scale = if param.name.ends_with("bias") { 0.02 } else { 0.3 };
        let mut values = wave(param.var.dims(), seed as f64, scale);
        if param.name.contains("norm") && param.name.ends_with("weight") {
            values = (values + 1.).unwrap();
        }
        params.set(&param.name, &values).unwrap();
    }
}

/// Checks tensors against their lengths and their products with cosines, to a share of the length.
pub fn assert_told<'a>(expected: &Value, tensors: impl Iterator<Item = (&'a str, &'a Tensor)>, bound: f64) {
    let mut count = 0;
    for (name, tensor) in tensors {
        let values = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let along: f64 = values.iter().enumerate().map(|(i, value)| value * (0.9 * i as f64 + 0.3).cos()).sum();
        let [of_length, of_along] = [0, 1].map(|i| expected[name][i].as_f64().unwrap_or_else(|| panic!("{name}")));
        let scale = of_length.max(1e-3);
        assert!((length - of_length).abs() < bound * scale, "{name}: length {length} for {of_length}");
        assert!(
            (along - of_along).abs() < bound * scale * (values.len() as f64).sqrt(),
            "{name}: {along} for {of_along}"
        );
        count += 1;
    }
    assert!(count > 10, "{count} tensors");
}

/// Takes steps.
pub struct Steps {
    pub optimizer: Optimizer,
    params: Params,
    clip_grad: f64,
}

impl Steps {
    pub fn new(config: &TrainConfig, params: &Params) -> Self {
        let architecture = Architecture::from(VitConfig::default());
        let optimizer = Optimizer::new(config, &architecture, params).unwrap();
        Self { optimizer, params: params.clone(), clip_grad: config.regularization.clip_grad }
    }

    pub fn take(&mut self, objective: &mut dyn Objective, loss: &Tensor, lr: f64) {
        let gradients = self.params.backward(loss).unwrap();
        let squares = sums_of_squares(&gradients).unwrap();
        let clip = Clip { squares: &squares, largest: self.clip_grad };
        objective.step(&mut self.optimizer, &gradients, clip, lr).unwrap();
    }
}
