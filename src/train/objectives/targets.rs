//! What a training batch is to be called: its labels, or after mixing two for every sample.

use candle_core::Tensor;
use tallow_models::ops;

use crate::data::Blend;
use crate::train::error::Result;

/// The labels `[batch]` of a batch, u32, and the share λ of the target that they have; the second ones have the rest.
pub(super) struct Targets {
    labels: Tensor,
    second: Option<(Tensor, f64)>,
}

impl Targets {
    /// Those of a batch that was mixed as `blend` says, or not at all.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn new(labels: Tensor, blend: Option<Blend>) -> Result<Self> {
        let second = blend.map(|blend| Ok::<_, candle_core::Error>((Blend::labels(&labels)?, blend.lambda())));
        Ok(Self { second: second.transpose()?, labels })
    }

    /// The mean cross-entropy of `logits` `[batch, classes]`: `λ CE(labels) + (1 - λ) CE(second)`, which is that with the mixed
    /// target, as it is linear in the target.
    ///
    /// # Errors
    /// Those of [`ops::cross_entropy`].
    pub fn loss(&self, logits: &Tensor, label_smoothing: f64) -> Result<Tensor> {
        let loss = ops::cross_entropy(logits, &self.labels, label_smoothing)?;
        let Some((second, lambda)) = &self.second else { return Ok(loss) };
        let other = ops::cross_entropy(logits, second, label_smoothing)?;
        Ok(((loss * *lambda)? + (other * (1. - lambda))?)?)
    }

    /// The label with the larger share of every sample's target.
    pub fn dominant(&self) -> &Tensor {
        match &self.second {
            Some((second, lambda)) if *lambda < 0.5 => second,
            _ => &self.labels,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};
    use serde_json::Value;

    use super::*;

    fn numbers(value: &Value) -> Vec<f64> {
        value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    }

    fn tensor(value: &Value, shape: &[usize]) -> Tensor {
        Tensor::new(numbers(value), &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap().reshape(shape).unwrap()
    }

    fn furthest(got: &Tensor, expected: &Value) -> f64 {
        let got = got.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(got.len(), expected.as_array().unwrap().len());
        got.iter().zip(numbers(expected)).map(|(got, expected)| (f64::from(*got) - expected).abs()).fold(0., f64::max)
    }

    #[test]
    fn images_loss_and_gradient_of_a_mixed_batch_are_torchvisions_and_pytorchs() {
        let reference: Value =
            serde_json::from_str(include_str!("../../../tests/references/train/mix.json")).expect("the reference");
        let images = tensor(&reference["images"], &[3, 2, 5, 7]);
        let labels = Tensor::new(&[0u32, 3, 1], &Device::Cpu).unwrap();
        for case in reference["cases"].as_array().unwrap() {
            let lambda = case["lambda"].as_f64().unwrap();
            let blend = match case["centre"].as_array() {
                None => Blend::Mixup { lambda },
                Some(centre) => {
                    let [x, y] = [0, 1].map(|at| centre[at].as_u64().unwrap() as usize);
                    Blend::cutmix(lambda, x, y, 5, 7)
                }
            };
            let mixed = blend.images(&images).unwrap();
            assert!(furthest(&mixed, &case["images"]) < 1e-6, "images of {blend:?}");
            assert!((blend.lambda() - case["targets"][1][3].as_f64().unwrap()).abs() < 1e-6, "{blend:?}");
            let targets = Targets::new(labels.clone(), Some(blend)).unwrap();
            let logits = Var::from_tensor(&tensor(&reference["logits"], &[3, 4])).unwrap();
            let loss = targets.loss(&logits, case["smoothing"].as_f64().unwrap()).unwrap();
            let off = f64::from(loss.to_scalar::<f32>().unwrap()) - case["loss"].as_f64().unwrap();
            assert!(off.abs() < 1e-6, "loss of {blend:?}: {off}");
            let store = loss.backward().unwrap();
            assert!(furthest(store.get(&logits).unwrap(), &case["gradient"]) < 1e-6, "gradient of {blend:?}");
            let dominant = targets.dominant().to_vec1::<u32>().unwrap();
            assert_eq!(dominant, if blend.lambda() < 0.5 { [1, 0, 3] } else { [0, 3, 1] }, "{blend:?}");
        }
    }
}
