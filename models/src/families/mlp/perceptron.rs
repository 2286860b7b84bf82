//! The perceptron, an MLP with one hidden layer of tanh, trained four ways ([`Implementation`]) that give the same to rounding.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use tallow_models::mlp::{Implementation, Perceptron};
//! use tallow_models::{MlpConfig, Params};
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let perceptron = Perceptron::new(&MlpConfig::circles(), &params, Implementation::Manual)?;
//! let points = Tensor::new(&[[0.5f32, -1.], [1.5, 0.2]], &Device::Cpu)?.reshape((2, 2, 1, 1))?;
//! let pass = perceptron.pass(&points, &Tensor::new(&[0u32, 1], &Device::Cpu)?)?;
//! perceptron.step(&pass.gradients, 0.1)?;
//! # Ok::<(), tallow_models::Error>(())
//! ```

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::{Mlp, MlpAct, MlpConfig, autograd, manual};
use crate::families::check::{check, check_images};
use crate::{Error, Gradients, Mode, Model, ModelConfig, Params, Result, ops};

/// How much of a perceptron's training is written out by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Implementation {
    /// Forward, backward and SGD.
    Manual,
    /// Forward and SGD; Candle's automatic differentiation gives the gradients.
    Autograd,
    /// SGD; the model is made of layers, with this crate's operations and their gradients.
    Layers,
    /// Nothing: layers, and an optimiser. The only way for models other than a perceptron.
    #[default]
    Optimizer,
}

/// A perceptron over the parameters of a store, for training by hand.
#[derive(Debug)]
pub struct Perceptron {
    implementation: Implementation,
    params: Params,
    mlp: Mlp,
}

/// What a forward and a backward pass over a batch give.
#[derive(Debug)]
pub struct Pass {
    /// The mean cross-entropy, a scalar.
    pub loss: Tensor,
    /// `[batch, num_classes]`.
    pub logits: Tensor,
    /// The gradients of the loss.
    pub gradients: Gradients,
}

/// The two layers' weights `[out, in]` and biases `[out]`, or their gradients.
pub(super) struct Weights {
    pub wh: Tensor,
    pub bh: Tensor,
    pub wy: Tensor,
    pub by: Tensor,
}

/// Their names, in the order in which the model declares them.
const NAMES: [&str; 4] = ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"];

impl MlpConfig {
    /// Checks that the model is a perceptron: one hidden layer of tanh, a head, no dropout.
    ///
    /// # Errors
    /// [`Error::Config`] with the field, what it should be, and what it is.
    pub fn check_perceptron(&self) -> Result<()> {
        let one = || "one hidden layer for an implementation by hand".to_string();
        check(self.hidden.len() == 1, "hidden", one, format!("{:?}", self.hidden))?;
        let tanh = || "tanh for an implementation by hand".to_string();
        check(self.act == MlpAct::Tanh, "act", tanh, format!("{:?}", self.act).to_lowercase())?;
        let none = || "0 for an implementation by hand".to_string();
        check(self.drop_rate == 0., "drop_rate", none, self.drop_rate)?;
        check(self.num_classes > 0, "num_classes", || "at least 1 for an implementation by hand".into(), 0)
    }
}

impl Perceptron {
    /// Builds the model, or a view on it where it is there already, over `params`.
    ///
    /// # Errors
    /// If the configuration is not a perceptron's, or a parameter is frozen or of another shape.
    pub fn new(config: &MlpConfig, params: &Params, implementation: Implementation) -> Result<Self> {
        config.check_perceptron()?;
        let mlp = Mlp::new(config, params.builder())?;
        let frozen = params.all().into_iter().find(|param| param.frozen);
        let expected = || "nothing for an implementation by hand".to_string();
        check(frozen.is_none(), "freeze", expected, frozen.map_or(String::new(), |param| param.name))?;
        Ok(Self { implementation, params: params.clone(), mlp })
    }

    /// Loss, logits and gradients of images `[batch, channels, height, width]` and labels `[batch]` (u32).
    ///
    /// # Errors
    /// If the images do not fit the model, or a label is not below the number of classes.
    pub fn pass(&self, images: &Tensor, labels: &Tensor) -> Result<Pass> {
        let config = self.mlp.config();
        check_images(images, config.input_size())?;
        let x = images.flatten_from(1)?;
        match self.implementation {
            Implementation::Manual => {
                let y = one_hot(labels, config.num_classes, &x)?;
                let (loss, logits, gradients) = manual::pass(&x, &y, &self.weights(false)?)?;
                let Weights { wh, bh, wy, by } = gradients;
                let gradients = NAMES.map(String::from).into_iter().zip([wh, bh, wy, by]).collect();
                Ok(Pass { loss, logits, gradients })
            }
            Implementation::Autograd => {
                let y = one_hot(labels, config.num_classes, &x)?;
                let (loss, logits) = autograd::loss(&x, &y, &self.weights(true)?)?;
                Ok(Pass { gradients: self.params.backward(&loss)?, loss, logits: logits.detach() })
            }
            Implementation::Layers | Implementation::Optimizer => {
                let logits = self.mlp.forward(images, Mode::Train { seed: 0 })?;
                let loss = ops::cross_entropy(&logits, labels, 0.)?;
                Ok(Pass { gradients: self.params.backward(&loss)?, loss, logits: logits.detach() })
            }
        }
    }

    /// A step of gradient descent by hand: w ← w − lr ∇w for every parameter.
    ///
    /// # Errors
    /// If a gradient is of no parameter, or has another shape.
    pub fn step(&self, gradients: &Gradients, lr: f64) -> Result<()> {
        gradients.iter().try_for_each(|(name, gradient)| {
            let w = self.value(name, false)?;
            self.params.set(name, &(w - (gradient * lr)?)?)
        })
    }

    /// The weights as they are now, tracked for automatic differentiation or not.
    fn weights(&self, tracked: bool) -> Result<Weights> {
        let [wh, bh, wy, by] = NAMES.map(|name| self.value(name, tracked));
        Ok(Weights { wh: wh?, bh: bh?, wy: wy?, by: by? })
    }

    fn value(&self, name: &str, tracked: bool) -> Result<Tensor> {
        let param = self.params.get(name).ok_or_else(|| Error::UnknownParameter { name: name.into() })?;
        Ok(if tracked { param.var.as_tensor().clone() } else { param.var.as_detached_tensor() })
    }
}

/// Labels as rows with a 1 in their column, of the type of `like` and where it is.
fn one_hot(labels: &Tensor, classes: usize, like: &Tensor) -> Result<Tensor> {
    let values = labels.to_dtype(DType::U32)?.to_vec1::<u32>()?;
    if let Some(label) = values.iter().find(|&&label| label as usize >= classes) {
        return Err(Error::Config {
            field: "labels".into(),
            expected: format!("labels below {classes}, the number of classes"),
            got: label.to_string(),
        });
    }
    let columns = Tensor::arange(0u32, classes as u32, like.device())?.unsqueeze(0)?;
    let labels = Tensor::from_vec(values, (labels.elem_count(), 1), like.device())?;
    Ok(labels.broadcast_eq(&columns)?.to_dtype(like.dtype())?)
}
