//! Linear layer: `y = x Wᵀ + b`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use tallow_models::Params;
//! use tallow_models::layers::{Law, linear};
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let layer = linear(3, 5, true, Law::Torch, params.builder())?;
//! let y = layer.forward(&Tensor::ones((2, 3), DType::F32, &Device::Cpu)?)?;
//! assert_eq!(y.dims(), &[2, 5]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::Law;
use crate::ops;

/// A linear layer with parameters `weight` `[out, in]` and, if it has one, `bias` `[out]`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

/// A linear layer from `in_dim` to `out_dim` values.
pub fn linear(in_dim: usize, out_dim: usize, bias: bool, law: Law, vb: VarBuilder) -> Result<Linear> {
    let weight = vb.get_with_hints((out_dim, in_dim), "weight", law.weight(in_dim))?;
    let bias = bias.then(|| vb.get_with_hints(out_dim, "bias", law.bias(in_dim))).transpose()?;
    Ok(Linear { weight, bias })
}

impl Linear {
    /// Weight and bias.
    pub(crate) fn parameters(&self) -> (&Tensor, Option<&Tensor>) {
        (&self.weight, self.bias.as_ref())
    }

    /// `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }
}
