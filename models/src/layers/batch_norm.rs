//! Batch normalisation: `y = (x - mean) / sqrt(var + eps) * weight + bias` per channel.
//!
//! In training, mean and variance are the batch's and the running statistics move towards them; in evaluation they are the
//! running statistics. Ioffe, Szegedy, "Batch Normalization", 2015; momentum and epsilon as PyTorch defines them.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::{Mode, ops};

const MOMENTUM: f64 = 0.1;
const EPS: f64 = 1e-5;

/// A batch norm with parameters `weight` and `bias` and buffers `running_mean` and `running_var`, `[channels]` each.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

/// A batch norm of `channels` channels.
pub fn batch_norm(channels: usize, vb: VarBuilder) -> Result<BatchNorm> {
    let get = |name, value| vb.get_with_hints(channels, name, Init::Const(value));
    Ok(BatchNorm {
        weight: get("weight", 1.)?,
        bias: get("bias", 0.)?,
        running_mean: get("running_mean", 0.)?,
        running_var: get("running_var", 1.)?,
    })
}

impl BatchNorm {
    /// `[batch, channels, height, width]` to the same shape. A training pass updates the running statistics in the storage
    /// that every model over the same store shares.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let Self { weight, bias, running_mean, running_var } = self;
        ops::batch_norm(x, weight, bias, running_mean, running_var, MOMENTUM, EPS, mode.is_train())
    }
}
