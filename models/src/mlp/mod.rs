//! The multi-layer perceptron: `fc1`, activation, `fc2`, ... on the values of an image in one row.
//!
//! With one hidden layer and tanh it is `ŷ = tanh(x Whᵀ + bh) Wyᵀ + by`, the [`Perceptron`], whose training is written out
//! here in several ways.

mod autograd;
mod manual;
mod perceptron;

pub use perceptron::{Implementation, Pass, Perceptron};

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use crate::architecture::{check, check_images, check_parameters, check_rate, check_size};
use crate::layers::{Dropout, Law, Linear, linear};
use crate::{ImgSize, Mode, Model, ops};

/// Configuration of an MLP. The default is for MNIST: 784 values, one hidden layer of 256, ReLU, 10 classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Height and width of the input image in pixels. Points are images of one pixel with a channel per coordinate.
    /// Default 28, a square.
    pub img_size: ImgSize,
    /// Input channels. Default 1.
    pub in_chans: usize,
    /// Classes; 0 leaves out the head. Default 10.
    pub num_classes: usize,
    /// Widths of the hidden layers, first to last. Default `[256]`.
    pub hidden: Vec<usize>,
    /// Activation after every hidden layer. Default relu.
    pub act: MlpAct,
    /// Dropout after every hidden layer. Default 0.
    pub drop_rate: f64,
    /// Standard deviation of the normal law that weights start from, with biases at 0. Default: none, which means PyTorch's
    /// law, uniform in ±1/√fan_in.
    pub init_std: Option<f64>,
}

/// Activations of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum MlpAct {
    /// Hyperbolic tangent.
    Tanh,
    /// max(x, 0).
    #[default]
    Relu,
    /// Exact (erf) GELU.
    Gelu,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self {
            img_size: ImgSize::square(28),
            in_chans: 1,
            num_classes: 10,
            hidden: vec![256],
            act: MlpAct::default(),
            drop_rate: 0.,
            init_std: None,
        }
    }
}

impl MlpConfig {
    /// For two classes of points in the plane: 2 values, one hidden layer of 10, tanh, weights from a normal law of deviation
    /// 0.3.
    pub fn circles() -> Self {
        Self {
            img_size: ImgSize::square(1),
            in_chans: 2,
            num_classes: 2,
            hidden: vec![10],
            act: MlpAct::Tanh,
            drop_rate: 0.,
            init_std: Some(0.3),
        }
    }

    /// Channels, height and width of one image.
    pub fn input_size(&self) -> [usize; 3] {
        [self.in_chans, self.img_size.height, self.img_size.width]
    }

    /// Values of one image.
    pub fn num_inputs(&self) -> usize {
        self.input_size().iter().product()
    }

    /// The width of what the head reads.
    pub fn num_features(&self) -> usize {
        self.hidden.last().copied().unwrap_or_else(|| self.num_inputs())
    }

    /// Input and output width of every linear layer, the head included.
    pub(crate) fn layer_dims(&self) -> Vec<(usize, usize)> {
        let mut widths = vec![self.num_inputs()];
        widths.extend(&self.hidden);
        widths.extend((self.num_classes > 0).then_some(self.num_classes));
        widths.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }

    /// Checks that the configuration makes sense and that the model is of a size that can be built.
    ///
    /// # Errors
    /// [`crate::Error::Config`] with the field, what it can be, and what it is.
    pub fn validate(&self) -> crate::Result<()> {
        self.img_size.sides().iter().try_for_each(|&side| check_size("img_size", side, 1 << 12))?;
        check_size("in_chans", self.in_chans, 1 << 16)?;
        check(self.num_classes <= 1 << 24, "num_classes", || format!("at most {}", 1 << 24), self.num_classes)?;
        check(self.hidden.len() <= 1 << 10, "hidden", || "at most 1024 layers".into(), self.hidden.len())?;
        for &width in &self.hidden {
            check_size("hidden", width, 1 << 24)?;
        }
        check_rate("drop_rate", self.drop_rate)?;
        if let Some(std) = self.init_std {
            check(std.is_finite() && std >= 0., "init_std", || "a number of at least 0, or none".into(), std)?;
        }
        check_parameters(self.layer_dims().iter().map(|&(input, output)| input as u64 * output as u64).sum())
    }
}

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
        let law = config.init_std.map_or(Law::Torch, Law::Normal);
        let mut layers = Vec::new();
        for (i, (input, output)) in config.layer_dims().into_iter().enumerate() {
            let layer = linear(input, output, true, law, vb.pp(format!("fc{}", i + 1)))?;
            layers.push((layer, Dropout::new(config.drop_rate, &format!("drop{}", i + 1))));
        }
        let head = if config.num_classes > 0 { layers.pop().map(|(head, _)| head) } else { None };
        Ok(Self { config: config.clone(), hidden: layers, head })
    }

    /// What the model was built from.
    pub fn config(&self) -> &MlpConfig {
        &self.config
    }

    /// What the head reads, `[batch, num_features]`, to logits `[batch, num_classes]`.
    pub fn head(&self, pooled: &Tensor) -> Result<Tensor> {
        self.head.as_ref().map_or_else(|| Ok(pooled.clone()), |head| head.forward(pooled))
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
}
