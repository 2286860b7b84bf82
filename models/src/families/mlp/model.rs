//! The multi-layer perceptron itself.

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::{MlpAct, MlpConfig};
use crate::families::check::check_images;
use crate::layers::{Dropout, Linear, LinearInit, linear};
use crate::{Mode, Model, ModelConfig, ops};

/// A multi-layer perceptron.
#[derive(Debug, Clone)]
pub struct Mlp {
    config: MlpConfig,
    hidden: Vec<(Linear, Dropout)>,
    head: Option<Linear>,
}

impl Mlp {
    /// Builds the model with parameters `fc1.weight`, `fc1.bias`, `fc2.weight`, ...
    ///
    /// # Errors
    /// If the configuration makes no sense ([`crate::Error::Config`]), or a parameter of the builder has another shape.
    pub fn new(config: &MlpConfig, vb: VarBuilder) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let init = config.init_std.map_or(LinearInit::Torch, LinearInit::Normal);
        let mut layers = Vec::new();
        for (i, (input, output)) in config.layer_dims().into_iter().enumerate() {
            let layer = linear(input, output, true, init, vb.pp(format!("fc{}", i + 1)))?;
            layers.push((layer, Dropout::new(config.drop_rate, &format!("drop{}", i + 1))));
        }
        let head = if config.num_classes > 0 { layers.pop().map(|(head, _)| head) } else { None };
        Ok(Self { config: config.clone(), hidden: layers, head })
    }

    /// What the model was built from.
    pub fn config(&self) -> &MlpConfig {
        &self.config
    }
}

impl Model for Mlp {
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.head(&self.pooled(images, mode)?)
    }

    fn pooled(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        check_images(images, self.config.input_size())?;
        let mut x = images.flatten_from(1)?;
        for (layer, dropout) in &self.hidden {
            let y = layer.forward(&x)?;
            let y = match self.config.act {
                MlpAct::Tanh => ops::tanh(&y)?,
                MlpAct::Relu => ops::relu(&y)?,
                MlpAct::Gelu => ops::gelu(&y)?,
            };
            x = dropout.forward(&y, mode)?;
        }
        Ok(x)
    }

    fn head(&self, pooled: &Tensor) -> Result<Tensor> {
        self.head.as_ref().map_or_else(|| Ok(pooled.clone()), |head| head.forward(pooled))
    }
}
