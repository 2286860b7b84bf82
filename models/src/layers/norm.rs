//! The norm of a transformer: a layer norm or an RMS norm, as its configuration says.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use tallow_models::Params;
//! use tallow_models::layers::{NormLayer, norm};
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let layer = norm(NormLayer::RmsNorm, 32, 1e-6, params.builder())?;
//! assert_eq!(layer.forward(&Tensor::ones((2, 32), DType::F32, &Device::Cpu)?)?.dims(), &[2, 32]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};
use serde::{Deserialize, Serialize};

use super::{LayerNorm, RmsNorm, layer_norm, rms_norm};

/// Kinds of norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NormLayer {
    /// `(x - mean) / deviation * weight + bias`.
    #[default]
    LayerNorm,
    /// `x / sqrt(mean(x²)) * weight`.
    RmsNorm,
}

/// A norm over the last dimension.
#[derive(Debug, Clone)]
pub enum Norm {
    /// With `weight` and `bias`, `[dim]` each.
    Layer(LayerNorm),
    /// With `weight`, `[dim]`.
    Rms(RmsNorm),
}

/// A norm of this kind over the last dimension, `dim` values, with this epsilon.
///
/// # Errors
/// Those of the builder.
pub fn norm(kind: NormLayer, dim: usize, eps: f64, vb: VarBuilder) -> Result<Norm> {
    Ok(match kind {
        NormLayer::LayerNorm => Norm::Layer(layer_norm(dim, eps, vb)?),
        NormLayer::RmsNorm => Norm::Rms(rms_norm(dim, eps, vb)?),
    })
}

impl NormLayer {
    /// The name that a configuration file has for it, and timm.
    pub fn name(self) -> &'static str {
        match self {
            Self::LayerNorm => "layernorm",
            Self::RmsNorm => "rmsnorm",
        }
    }
}

impl Norm {
    /// The layer norm that it is, if it is one.
    pub fn layer(&self) -> Option<&LayerNorm> {
        match self {
            Self::Layer(norm) => Some(norm),
            Self::Rms(_) => None,
        }
    }

    /// Its parameters.
    pub fn parameters(&self) -> Vec<&Tensor> {
        match self {
            Self::Layer(norm) => vec![norm.weight(), norm.bias()],
            Self::Rms(norm) => vec![norm.weight()],
        }
    }
}

impl Module for Norm {
    /// `[.., dim]` to `[.., dim]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }
}
