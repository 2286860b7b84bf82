//! What an MLP is made of, as plain data.

use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::{Mlp, flops};
use crate::families::check::{check, check_parameters, check_rate, check_size};
use crate::families::option::plain_fields;
use crate::families::stages::stage_of_numbered;
use crate::families::{ModelConfig, Stage};
use crate::{ImgSize, Result};

/// Configuration of an MLP. The default is for MNIST: 784 values, one hidden layer of 256, ReLU, 10 classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
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
#[non_exhaustive]
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
    /// The same after `change`, in one expression: `MlpConfig::default().with(|c| c.hidden = vec![64])`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

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

    /// Values of one image.
    pub fn num_inputs(&self) -> usize {
        self.input_size().iter().product()
    }

    /// Input and output width of every linear layer, the head included.
    pub(super) fn layer_dims(&self) -> Vec<(usize, usize)> {
        let mut widths = vec![self.num_inputs()];
        widths.extend(&self.hidden);
        widths.extend((self.num_classes > 0).then_some(self.num_classes));
        widths.windows(2).map(|pair| (pair[0], pair[1])).collect()
    }
}

impl ModelConfig for MlpConfig {
    type Model = Mlp;

    fn named() -> Vec<(&'static str, Self)> {
        vec![("mlp_circles", Self::circles()), ("mlp_mnist", Self::default())]
    }

    fn build(&self, vb: VarBuilder) -> candle_core::Result<Mlp> {
        Mlp::new(self, vb)
    }

    fn validate(&self) -> Result<()> {
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
        check_parameters(flops::multiply_adds(self))
    }

    plain_fields!();

    fn num_features(&self) -> usize {
        self.hidden.last().copied().unwrap_or_else(|| self.num_inputs())
    }

    fn flops(&self) -> u64 {
        2 * flops::multiply_adds(self)
    }

    fn stage_of(&self, name: &str) -> Stage {
        stage_of_numbered(name, self.num_blocks())
    }

    fn num_blocks(&self) -> usize {
        self.hidden.len()
    }

    fn is_random(&self) -> bool {
        self.drop_rate > 0.
    }

    fn head_reads_pooled(&self) -> bool {
        true
    }

    /// The first layer reads all values at once.
    fn filters(&self) -> Option<(&'static str, usize)> {
        None
    }
}
