//! The MLP of a transformer's block: `fc2(act(fc1(x)))`.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Dropout, Law, Linear, linear};
use crate::{Mode, ops, vit::Act};

/// Two linear layers, `fc1` and `fc2`, with an activation between them and dropout after each.
#[derive(Debug, Clone)]
pub struct MlpBlock {
    fc1: Linear,
    act: Act,
    drop1: Dropout,
    fc2: Linear,
    drop2: Dropout,
}

/// An MLP from `dim` over `hidden` to `dim` values; both dropouts have the rate `drop_rate`.
pub fn mlp_block(dim: usize, hidden: usize, act: Act, drop_rate: f64, law: Law, vb: VarBuilder) -> Result<MlpBlock> {
    Ok(MlpBlock {
        fc1: linear(dim, hidden, true, law, vb.pp("fc1"))?,
        act,
        drop1: Dropout::new(drop_rate, &vb.pp("drop1").prefix()),
        fc2: linear(hidden, dim, true, law, vb.pp("fc2"))?,
        drop2: Dropout::new(drop_rate, &vb.pp("drop2").prefix()),
    })
}

impl MlpBlock {
    /// `[.., dim]` to `[.., dim]`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = self.fc1.forward(x)?;
        let x = match self.act {
            Act::Gelu => ops::gelu(&x)?,
            Act::GeluTanh => ops::gelu_tanh(&x)?,
            Act::QuickGelu => ops::quick_gelu(&x)?,
        };
        self.drop2.forward(&self.fc2.forward(&self.drop1.forward(&x, mode)?)?, mode)
    }
}
