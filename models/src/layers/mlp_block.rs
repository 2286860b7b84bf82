//! The MLP of a transformer's block: `fc2(act(fc1(x)))`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::ModuleT;
//! use tallow_models::Params;
//! use tallow_models::layers::{MlpBlockConfig, mlp_block};
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let layer = mlp_block(&MlpBlockConfig::new(32, 128), params.builder())?;
//! let tokens = Tensor::ones((2, 17, 32), DType::F32, &Device::Cpu)?;
//! assert_eq!(layer.forward_t(&tokens, false)?.dims(), &[2, 17, 32]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Module, ModuleT, VarBuilder};

use super::{BranchInner, Dropout, Linear, LinearInit, linear};
use crate::Mode;
use crate::ops::{Gelu, Inner, Middle};

/// What the MLP of a block is made of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MlpBlockConfig {
    /// Width of a token.
    pub dim: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// The activation. Default exact GELU.
    pub act: Gelu,
    /// Dropout after the activation and after the second layer. Default 0.
    pub drop_rate: f64,
    /// What the linear layers start from. Default normal with a deviation of 0.02.
    pub init: LinearInit,
}

impl MlpBlockConfig {
    /// An MLP from `dim` over `hidden` to `dim` values.
    pub fn new(dim: usize, hidden: usize) -> Self {
        Self { dim, hidden, act: Gelu::Erf, drop_rate: 0., init: LinearInit::Normal(0.02) }
    }
}

/// Two linear layers, `fc1` and `fc2`, with an activation between them and dropout after each.
#[derive(Debug, Clone)]
pub struct MlpBlock {
    fc1: Linear,
    act: Gelu,
    drop1: Dropout,
    fc2: Linear,
    drop2: Dropout,
}

/// The MLP that `config` describes.
///
/// # Errors
/// Those of the builder.
pub fn mlp_block(config: &MlpBlockConfig, vb: VarBuilder) -> Result<MlpBlock> {
    let MlpBlockConfig { dim, hidden, act, drop_rate, init } = *config;
    Ok(MlpBlock {
        fc1: linear(dim, hidden, true, init, vb.pp("fc1"))?,
        act,
        drop1: Dropout::new(drop_rate, &vb.pp("drop1").prefix()),
        fc2: linear(hidden, dim, true, init, vb.pp("fc2"))?,
        drop2: Dropout::new(drop_rate, &vb.pp("drop2").prefix()),
    })
}

impl MlpBlock {
    /// `[.., dim]` to `[.., dim]`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = self.act.apply(&self.fc1.forward(x)?)?;
        self.drop2.forward(&self.fc2.forward(&self.drop1.forward(&x, mode)?)?, mode)
    }
}

impl BranchInner for MlpBlock {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        MlpBlock::forward(self, x, mode)
    }

    /// None where dropout lies between its parts.
    fn fused(&self, mode: Mode) -> Option<Inner<'_>> {
        let plain = !(self.drop1.is_active(mode) || self.drop2.is_active(mode));
        let middle = Middle::Activation(self.act);
        plain.then(|| Inner { first: self.fc1.parameters(), middle, second: self.fc2.parameters() })
    }

    fn parameters(&self) -> Vec<&Tensor> {
        let layers = [self.fc1.parameters(), self.fc2.parameters()];
        layers.into_iter().flat_map(|(weight, bias)| [Some(weight), bias]).flatten().collect()
    }
}

impl ModuleT for MlpBlock {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
