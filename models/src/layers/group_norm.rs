//! Group normalisation: `y = (x - mean) / sqrt(var + eps) * weight + bias`, over groups of the channels of one image.
//!
//! Wu, He, "Group Normalization", 2018.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use tallow_models::Params;
//! use tallow_models::layers::group_norm;
//!
//! let norm = group_norm(2, 4, 1e-5, Params::new(0, DType::F32, &Device::Cpu).builder())?;
//! let images = Tensor::arange(0f32, 16., &Device::Cpu)?.reshape((1, 4, 2, 2))?;
//! let groups = norm.forward(&images)?.reshape((2, 8))?;
//! assert_eq!(groups.mean(1)?.round()?.to_vec1::<f32>()?, [0., 0.]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

use crate::ops;

/// A group norm with parameters `weight` and `bias`, `[channels]` each.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    groups: usize,
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

/// A norm of `groups` groups of `channels` channels.
///
/// # Errors
/// Those of the builder.
pub fn group_norm(groups: usize, channels: usize, eps: f64, vb: VarBuilder) -> Result<GroupNorm> {
    let weight = vb.get_with_hints(channels, "weight", Init::Const(1.))?;
    Ok(GroupNorm { groups, weight, bias: vb.get_with_hints(channels, "bias", Init::Const(0.))?, eps })
}

impl GroupNorm {
    /// Weight and bias.
    pub fn parameters(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }
}

impl Module for GroupNorm {
    /// `[batch, channels, height, width]` to the same shape.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::group_norm(x, self.groups, &self.weight, &self.bias, self.eps)
    }
}
