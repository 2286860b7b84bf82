//! Batch normalisation: `y = (x - mean) / sqrt(var + eps) * weight + bias` per channel.
//!
//! In training, mean and variance are the batch's and the running statistics move towards them; in evaluation they are the
//! running statistics. Ioffe, Szegedy, "Batch Normalization", 2015; momentum and epsilon as PyTorch defines them.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::ModuleT;
//! use tallow_models::Params;
//! use tallow_models::layers::batch_norm;
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let norm = batch_norm(1, params.builder())?;
//! let y = norm.forward_t(&Tensor::new(&[1f32, 3.], &Device::Cpu)?.reshape((2, 1, 1, 1))?, true)?;
//! assert_eq!(y.flatten_all()?.round()?.to_vec1::<f32>()?, [-1., 1.]);
//! // A tenth of the way from 0 to the batch's mean of 2.
//! let mean = params.get("running_mean").map(|mean| mean.var.to_vec1::<f32>()).transpose()?;
//! assert_eq!(mean, Some(vec![0.2]));
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Init, ModuleT, VarBuilder};

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
///
/// # Errors
/// Those of the builder.
pub fn batch_norm(channels: usize, vb: VarBuilder) -> Result<BatchNorm> {
    let get = |name, value| vb.get_with_hints(channels, name, Init::Const(value));
    let (weight, bias) = (get("weight", 1.)?, get("bias", 0.)?);
    Ok(BatchNorm::new(weight, bias, get("running_mean", 0.)?, get("running_var", 1.)?))
}

impl BatchNorm {
    /// A norm with these parameters and running statistics, `[channels]` each.
    pub fn new(weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor) -> Self {
        Self { weight, bias, running_mean, running_var }
    }

    /// The weight, `[channels]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `[channels]`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// The running mean, `[channels]`.
    pub fn running_mean(&self) -> &Tensor {
        &self.running_mean
    }

    /// The running variance, `[channels]`.
    pub fn running_var(&self) -> &Tensor {
        &self.running_var
    }

    /// `[batch, channels, height, width]` to the same shape. A training pass updates the running statistics in the storage
    /// that every model over the same store shares.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let Self { weight, bias, running_mean, running_var } = self;
        let running = ops::Running { mean: running_mean, var: running_var, momentum: MOMENTUM };
        ops::batch_norm(x, weight, bias, running, EPS, mode.is_train())
    }
}

impl ModuleT for BatchNorm {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
