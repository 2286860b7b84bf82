//! Dropout: in training, each value is zeroed with probability `rate` and the others are scaled by `1 / (1 - rate)`.
//!
//! Srivastava et al., "Dropout", 2014. The mask is drawn from the step's seed and the layer's place in the model, so that
//! the same seed gives the same pass, on any number of threads.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use tallow_models::Mode;
//! use tallow_models::layers::Dropout;
//!
//! let dropout = Dropout::new(0.5, "head_drop");
//! let y = dropout.forward(&Tensor::ones(100, DType::F32, &Device::Cpu)?, Mode::Train { seed: 0 })?;
//! assert!(y.to_vec1::<f32>()?.iter().all(|&value| value == 0. || value == 2.));
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::ModuleT;

use super::mask::mask;
use crate::{Mode, hash::fnv1a};

/// Dropout of single values.
#[derive(Debug, Clone)]
pub struct Dropout {
    rate: f64,
    place: u64,
}

impl Dropout {
    /// Dropout with a `rate` in [0, 1) at the place in the model that `name` says, such as `blocks.0.attn.proj_drop`.
    pub fn new(rate: f64, name: &str) -> Self {
        Self { rate, place: fnv1a(name.as_bytes()) }
    }

    /// Any shape to the same shape.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match mode {
            Mode::Train { seed } if self.rate > 0. => {
                x.mul(&mask(self.rate, seed, self.place, x.shape(), x.dtype(), x.device())?)
            }
            _ => Ok(x.clone()),
        }
    }

    /// Whether a pass in this mode changes anything.
    pub fn is_active(&self, mode: Mode) -> bool {
        self.rate > 0. && mode.is_train()
    }
}

impl ModuleT for Dropout {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
