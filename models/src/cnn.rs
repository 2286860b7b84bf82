//! The convolutional network for CIFAR-10: three times 5x5 convolution, ReLU and 2x2 max-pool, then two linear layers.
//!
//! 1,190,000 weights (biases not counted) for images of 28 or 32 pixels: the third pool rounds up, so that both sizes end in
//! 64 maps of 4x4.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use crate::architecture::{check, check_images, check_parameters, check_rate, check_size};
use crate::layers::{BatchNorm, Conv2d, Dropout, Law, Linear, batch_norm, conv2d, linear};
use crate::{ImgSize, Mode, Model, ops};

/// Filters of the three convolutions.
pub(crate) const FILTERS: [usize; 3] = [32, 64, 64];
/// Height and width of their kernels.
pub(crate) const KERNEL: usize = 5;
/// Width of the hidden linear layer.
const FEATURES: usize = 1000;

/// Configuration of the CNN. The default is for CIFAR-10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CnnConfig {
    /// Height and width of the input image in pixels, at least 4 each. Default 32, a square.
    pub img_size: ImgSize,
    /// Input channels. Default 3.
    pub in_chans: usize,
    /// Classes; 0 leaves out the head. Default 10.
    pub num_classes: usize,
    /// Dropout between `fc4` and `fc5`. Default 0.
    pub drop_rate: f64,
    /// Batch normalisation after every convolution. Default false.
    pub batch_norm: bool,
}

impl CnnConfig {
    /// A constant, so that the zoo can be a table.
    pub(crate) const CIFAR10: Self =
        Self { img_size: ImgSize::square(32), in_chans: 3, num_classes: 10, drop_rate: 0., batch_norm: false };

    /// The width of what the head reads.
    pub fn num_features(&self) -> usize {
        FEATURES
    }

    /// Height and width of the maps before each of the three pools and after the last.
    pub(crate) fn map_sizes(&self) -> [[usize; 2]; 4] {
        let shrunk = |by: fn(usize) -> usize| self.img_size.sides().map(by);
        [shrunk(|side| side), shrunk(|side| side / 2), shrunk(|side| side / 4), shrunk(|side| (side / 4).div_ceil(2))]
    }

    /// Channels, height and width of one image.
    pub fn input_size(&self) -> [usize; 3] {
        [self.in_chans, self.img_size.height, self.img_size.width]
    }

    /// Values that the first linear layer reads.
    pub(crate) fn flattened(&self) -> usize {
        FILTERS[2] * self.map_sizes()[3].iter().product::<usize>()
    }

    /// Checks that the configuration makes sense and that the model is of a size that can be built.
    ///
    /// # Errors
    /// [`crate::Error::Config`] with the field, what it can be, and what it is.
    pub fn validate(&self) -> crate::Result<()> {
        let fits = self.img_size.sides().iter().all(|side| (4..=1 << 13).contains(side));
        check(fits, "img_size", || format!("4 to {}", 1 << 13), self.img_size)?;
        check_size("in_chans", self.in_chans, 1 << 16)?;
        check(self.num_classes <= 1 << 20, "num_classes", || format!("at most {}", 1 << 20), self.num_classes)?;
        check_rate("drop_rate", self.drop_rate)?;
        check_parameters((FEATURES * (self.flattened() + self.num_classes)) as u64)
    }
}

impl Default for CnnConfig {
    fn default() -> Self {
        Self::CIFAR10
    }
}

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
            let convolution = conv2d(in_chans, filters, KERNEL, Law::Torch, vb.pp(format!("conv{}", i + 1)))?;
            let norm = config.batch_norm.then(|| batch_norm(filters, vb.pp(format!("bn{}", i + 1)))).transpose()?;
            convolutions.push((convolution, norm));
            in_chans = filters;
        }
        let fc4 = linear(config.flattened(), FEATURES, true, Law::Torch, vb.pp("fc4"))?;
        let dropout = Dropout::new(config.drop_rate, "drop4");
        let classes = config.num_classes;
        let fc5 = (classes > 0).then(|| linear(FEATURES, classes, true, Law::Torch, vb.pp("fc5"))).transpose()?;
        Ok(Self { config: config.clone(), convolutions, fc4, dropout, fc5 })
    }

    /// What the model was built from.
    pub fn config(&self) -> &CnnConfig {
        &self.config
    }

    /// What the head reads, `[batch, num_features]`, to logits `[batch, num_classes]`.
    pub fn head(&self, pooled: &Tensor) -> Result<Tensor> {
        self.fc5.as_ref().map_or_else(|| Ok(pooled.clone()), |fc5| fc5.forward(pooled))
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
}
