//! Stochastic depth: in training, the residual branch of a sample is dropped with probability `rate`, and scaled by
//! `1 / (1 - rate)` where it is kept.
//!
//! Huang et al., "Deep Networks with Stochastic Depth", 2016; per sample, as timm's `DropPath`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use tallow_models::Mode;
//! use tallow_models::layers::DropPath;
//!
//! let drop_path = DropPath::new(0.5, "blocks.0.drop_path1");
//! let y = drop_path.forward(&Tensor::ones((64, 1), DType::F32, &Device::Cpu)?, Mode::Train { seed: 0 })?;
//! assert!(y.flatten_all()?.to_vec1::<f32>()?.iter().all(|&value| value == 0. || value == 2.));
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::ModuleT;

use super::mask::mask;
use crate::{Mode, hash::fnv1a};

/// Dropping of whole residual branches.
#[derive(Debug, Clone)]
pub struct DropPath {
    rate: f64,
    place: u64,
}

impl DropPath {
    /// Stochastic depth with a `rate` in [0, 1) at the place in the model that `name` says, such as `blocks.0.drop_path1`.
    pub fn new(rate: f64, name: &str) -> Self {
        Self { rate, place: fnv1a(name.as_bytes()) }
    }

    /// What each sample of a batch is multiplied by, `[batch]`: 0 or `1 / (1 - rate)`; none where this pass drops nothing.
    /// `x` `[batch, ..]` is the branch.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn keep(&self, x: &Tensor, mode: Mode) -> Result<Option<Tensor>> {
        match mode {
            Mode::Train { seed } if self.rate > 0. => {
                mask(self.rate, seed, self.place, x.dim(0)?, x.dtype(), x.device()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// `[batch, ..]` to the same shape.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let Some(keep) = self.keep(x, mode)? else { return Ok(x.clone()) };
        let mut shape = vec![1; x.rank()];
        shape[0] = x.dim(0)?;
        x.broadcast_mul(&keep.reshape(shape)?)
    }
}

impl ModuleT for DropPath {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
