//! The exponential moving average of the weights, which is evaluated and kept as the best checkpoint in their place.
//!
//! After the t-th step, counted from 0: `average ← d average + (1 - d) weight` with `d = min(decay, (1 + t) / (10 + t))`, as
//! TensorFlow's `ExponentialMovingAverage` does with the number of updates: the first steps count for little in the end.
//! The running statistics of batch norms are copied. Polyak, Juditsky, "Acceleration of stochastic approximation by
//! averaging", 1992.

use std::path::Path;

use tallow_models::optim::{SgdStep, sgd_step};
use tallow_models::{AnyModel, Architecture, Params};

use super::checkpoint;
use super::error::Result;

/// Averages of all parameters of a store, in a store of their own.
#[derive(Debug)]
pub(super) struct Averages {
    decay: f64,
    params: Params,
}

impl Averages {
    /// Averages that start from the values of `params`, and the model that evaluates them.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn new(decay: f64, architecture: &Architecture, params: &Params) -> Result<(Self, AnyModel)> {
        let averages = Params::new(0, params.dtype(), params.device());
        for param in params.all() {
            averages.provide(param.name, param.var.as_detached_tensor().copy()?);
        }
        let model = architecture.build(averages.eval_builder())?;
        Ok((Self { decay, params: averages }, model))
    }

    /// The averages.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Takes the values of `params`, as at the beginning.
    ///
    /// # Errors
    /// If `params` is not the store that they are averages of.
    pub fn restart(&self, params: &Params) -> Result<()> {
        Ok(params.all().iter().try_for_each(|param| self.params.set(&param.name, param.var.as_tensor()))?)
    }

    /// Moves them towards the values after step `step`, counted from 0.
    ///
    /// # Errors
    /// If `params` is not the store that they are averages of.
    pub fn update(&self, params: &Params, step: usize) -> Result<()> {
        move_towards(&self.params, params, self.decay.min((1. + step as f64) / (10. + step as f64)))
    }

    /// Takes back what [`checkpoint::write_last`] wrote.
    ///
    /// # Errors
    /// If the file is missing or damaged.
    pub fn read(&self, checkpoint: &Path) -> Result<()> {
        checkpoint::read_params(&checkpoint.join(checkpoint::AVERAGES), &self.params)
    }
}

/// Moves `averages` towards the values of `params`: `average ← d average + (1 - d) weight`. Running statistics are copied.
///
/// # Errors
/// If one of them is not there.
pub(super) fn move_towards(averages: &Params, params: &Params, decay: f64) -> Result<()> {
    // average - (1 - d) (average - weight), in place.
    let towards = SgdStep { lr: 1. - decay, momentum: 0., nesterov: false, weight_decay: 0., grad_scale: 1. };
    for param in params.all() {
        if param.buffer {
            averages.set(&param.name, param.var.as_tensor())?;
        } else if !param.frozen
            && let Some(average) = averages.get(&param.name)
        {
            let average = average.var.as_detached_tensor();
            sgd_step(&average, None, &(&average - param.var.as_detached_tensor())?, &towards)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};
    use serde_json::Value;
    use tallow_models::zoo;

    use super::*;

    fn cnn() -> (Architecture, Params) {
        let mut architecture = zoo::find("cnn_cifar10").unwrap().architecture.clone();
        architecture.set("img_size", "8").unwrap();
        architecture.set("batch_norm", "true").unwrap();
        let params = Params::new(3, DType::F32, &Device::Cpu);
        params.freeze(|name| name == "conv2.bias");
        architecture.build(params.builder()).unwrap();
        (architecture, params)
    }

    fn first_three(params: &Params, name: &str) -> Vec<f64> {
        let values = params.get(name).unwrap().var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values[..3].iter().map(|&value| f64::from(value)).collect()
    }

    /// All values of a parameter: the three, over and over.
    fn set(params: &Params, name: &str, three: &[f64]) {
        let shape = params.get(name).unwrap().var.dims().to_vec();
        let count: usize = shape.iter().product();
        let values: Vec<f32> = three.iter().cycle().take(count).map(|&value| value as f32).collect();
        params.set(name, &Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap();
    }

    #[test]
    fn averages_are_timms_step_by_step_and_statistics_are_copied() {
        let reference: Value =
            serde_json::from_str(include_str!("../../tests/references/train/mix.json")).expect("the reference");
        let numbers =
            |value: &Value| -> Vec<f64> { value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
        let (architecture, params) = cnn();
        set(&params, "conv1.bias", &numbers(&reference["start"]));
        let (averages, _) = Averages::new(reference["decay"].as_f64().unwrap(), &architecture, &params).unwrap();
        let untouched = first_three(&params, "conv2.bias");
        for (step, values) in reference["values"].as_array().unwrap().iter().enumerate() {
            let values = numbers(values);
            set(&params, "conv1.bias", &values);
            set(&params, "bn1.running_mean", &values);
            averages.update(&params, step).unwrap();
            let expected = numbers(&reference["averages"][step]);
            for (got, expected) in first_three(averages.params(), "conv1.bias").into_iter().zip(expected) {
                assert!((got - expected).abs() < 1e-5, "step {step}: expected {expected}, got {got}");
            }
            assert_eq!(
                first_three(averages.params(), "bn1.running_mean"),
                values.iter().map(|&v| f64::from(v as f32)).collect::<Vec<_>>()
            );
            assert_eq!(first_three(averages.params(), "conv2.bias"), untouched, "what is frozen");
        }
        assert_ne!(first_three(&params, "conv1.bias"), first_three(averages.params(), "conv1.bias"));
    }
}
