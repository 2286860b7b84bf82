//! The convolutional network itself.

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::CnnConfig;
use super::config::{FEATURES, FILTERS, KERNEL};
use crate::families::check::check_images;
use crate::layers::{BatchNorm, Conv2d, Dropout, Linear, LinearInit, batch_norm, conv2d, linear};
use crate::{Mode, Model, ModelConfig, ops};

/// The convolutional network.
#[derive(Debug, Clone)]
pub struct Cnn {
    config: CnnConfig,
    convolutions: Vec<(Conv2d, Option<BatchNorm>)>,
    fc4: Linear,
    dropout: Dropout,
    fc5: Option<Linear>,
}

impl Cnn {
    /// Builds the model with parameters `conv1.weight`, `conv1.bias`, `bn1.weight`, ..., `fc5.bias`.
    ///
    /// # Errors
    /// If the configuration makes no sense ([`crate::Error::Config`]), or a parameter of the builder has another shape.
    pub fn new(config: &CnnConfig, vb: VarBuilder) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let mut convolutions = Vec::with_capacity(FILTERS.len());
        let mut in_chans = config.in_chans;
        for (i, filters) in FILTERS.into_iter().enumerate() {
            let convolution = conv2d(in_chans, filters, KERNEL, LinearInit::Torch, vb.pp(format!("conv{}", i + 1)))?;
            let norm = config.batch_norm.then(|| batch_norm(filters, vb.pp(format!("bn{}", i + 1)))).transpose()?;
            convolutions.push((convolution, norm));
            in_chans = filters;
        }
        let fc4 = linear(config.flattened(), FEATURES, true, LinearInit::Torch, vb.pp("fc4"))?;
        let dropout = Dropout::new(config.drop_rate, "drop4");
        let classes = config.num_classes;
        let fc5 =
            (classes > 0).then(|| linear(FEATURES, classes, true, LinearInit::Torch, vb.pp("fc5"))).transpose()?;
        Ok(Self { config: config.clone(), convolutions, fc4, dropout, fc5 })
    }

    /// What the model was built from.
    pub fn config(&self) -> &CnnConfig {
        &self.config
    }
}

impl Model for Cnn {
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.head(&self.pooled(images, mode)?)
    }

    fn pooled(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        check_images(images, self.config.input_size())?;
        let mut x = images.clone();
        for (i, (convolution, norm)) in self.convolutions.iter().enumerate() {
            // The pool before the ReLU gives the same values and gradients for a quarter of the work. Only the third rounds up.
            let ceil_mode = i == 2;
            x = match norm {
                None => convolution.forward_pooled(&x, ceil_mode)?,
                Some(norm) => {
                    let x = norm.forward(&convolution.forward(&x)?, mode)?;
                    ops::relu(&ops::max_pool2d(&x, 2, 2, 0, ceil_mode)?)?
                }
            };
        }
        let x = ops::relu(&self.fc4.forward(&x.flatten_from(1)?)?)?;
        self.dropout.forward(&x, mode)
    }

    fn head(&self, pooled: &Tensor) -> Result<Tensor> {
        self.fc5.as_ref().map_or_else(|| Ok(pooled.clone()), |fc5| fc5.forward(pooled))
    }
}
