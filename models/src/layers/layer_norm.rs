//! Layer normalisation: `y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias` over the last dimension.
//!
//! Ba, Kiros, Hinton, "Layer Normalization", 2016.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use tallow_models::Params;
//! use tallow_models::layers::layer_norm;
//!
//! let norm = layer_norm(2, 1e-6, Params::new(0, DType::F32, &Device::Cpu).builder())?;
//! let y = norm.forward(&Tensor::new(&[[1f32, 3.]], &Device::Cpu)?)?;
//! assert_eq!(y.round()?.to_vec2::<f32>()?, [[-1., 1.]]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

use crate::ops;

/// A layer norm with parameters `weight` and `bias`, `[dim]` each.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

/// A layer norm over the last dimension, `dim` values; `eps` is added to the variance.
///
/// # Errors
/// Those of the builder.
pub fn layer_norm(dim: usize, eps: f64, vb: VarBuilder) -> Result<LayerNorm> {
    let weight = vb.get_with_hints(dim, "weight", Init::Const(1.))?;
    let bias = vb.get_with_hints(dim, "bias", Init::Const(0.))?;
    Ok(LayerNorm::new(weight, bias, eps))
}

impl LayerNorm {
    /// A norm with this weight and bias, `[dim]` each; `eps` is added to the variance.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
    }

    /// The weight, `[dim]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `[dim]`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// What is added to the variance.
    pub fn eps(&self) -> f64 {
        self.eps
    }

    /// Weight and bias.
    pub(crate) fn parameters(&self) -> (&Tensor, &Tensor) {
        (&self.weight, &self.bias)
    }
}

impl Module for LayerNorm {
    /// `[.., dim]` to `[.., dim]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}
