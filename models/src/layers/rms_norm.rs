//! Root mean square normalisation: `y = x / sqrt(mean(x²) + eps) * weight` over the last dimension.
//!
//! Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use tallow_models::Params;
//! use tallow_models::layers::rms_norm;
//!
//! let norm = rms_norm(2, 1e-6, Params::new(0, DType::F32, &Device::Cpu).builder())?;
//! let y = norm.forward(&Tensor::new(&[[1f32, 7.]], &Device::Cpu)?)?;
//! assert_eq!((y * 10.)?.round()?.to_vec2::<f32>()?, [[2., 14.]]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

use crate::ops;

/// An RMS norm with the parameter `weight`, `[dim]`.
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

/// An RMS norm over the last dimension, `dim` values; `eps` is added to the mean square.
///
/// # Errors
/// Those of the builder.
pub fn rms_norm(dim: usize, eps: f64, vb: VarBuilder) -> Result<RmsNorm> {
    Ok(RmsNorm { weight: vb.get_with_hints(dim, "weight", Init::Const(1.))?, eps })
}

impl RmsNorm {
    /// The weight, `[dim]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

impl Module for RmsNorm {
    /// `[.., dim]` to `[.., dim]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::rms_norm(x, &self.weight, self.eps)
    }
}
