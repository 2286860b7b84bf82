//! Linear layer: `y = x Wᵀ + b`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use tallow_models::Params;
//! use tallow_models::layers::{LinearInit, linear};
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let layer = linear(3, 5, true, LinearInit::Torch, params.builder())?;
//! let y = layer.forward(&Tensor::ones((2, 3), DType::F32, &Device::Cpu)?)?;
//! assert_eq!(y.dims(), &[2, 5]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::LinearInit;
use crate::ops;

/// A linear layer with parameters `weight` `[out, in]` and, if it has one, `bias` `[out]`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

/// A linear layer from `in_dim` to `out_dim` values.
///
/// # Errors
/// Those of the builder.
pub fn linear(in_dim: usize, out_dim: usize, bias: bool, init: LinearInit, vb: VarBuilder) -> Result<Linear> {
    let weight = vb.get_with_hints((out_dim, in_dim), "weight", init.weight(in_dim))?;
    let bias = bias.then(|| vb.get_with_hints(out_dim, "bias", init.bias(in_dim))).transpose()?;
    Ok(Linear::new(weight, bias))
}

impl Linear {
    /// A layer with this weight `[out, in]` and bias `[out]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// The weight, `[out, in]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `[out]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// Weight and bias.
    pub(crate) fn parameters(&self) -> (&Tensor, Option<&Tensor>) {
        (&self.weight, self.bias.as_ref())
    }
}

impl Module for Linear {
    /// `[.., in]` to `[.., out]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::linear(x, &self.weight, self.bias.as_ref())
    }
}
