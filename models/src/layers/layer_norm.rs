//! Layer normalisation: `y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias` over the last dimension.
//!
//! Ba, Kiros, Hinton, "Layer Normalization", 2016.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::ops;

/// A layer norm with parameters `weight` and `bias`, `[dim]` each.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

/// A layer norm over the last dimension, `dim` values; `eps` is added to the variance.
pub fn layer_norm(dim: usize, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    let weight = vb.get_with_hints(dim, "weight", Init::Const(1.))?;
    let bias = vb.get_with_hints(dim, "bias", Init::Const(0.))?;
    Ok(LayerNorm { weight, bias, eps })
}

impl LayerNorm {
    /// Weight and bias.
    pub(crate) fn parameters(&self) -> (&Tensor, &Tensor) {
        (&self.weight, &self.bias)
    }

    /// What is added to the variance.
    pub(crate) fn eps(&self) -> f64 {
        self.eps
    }

    /// `[.., dim]` to `[.., dim]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}
