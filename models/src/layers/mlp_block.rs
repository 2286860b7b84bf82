//! The MLP of a transformer's block: `fc2(act(fc1(x)))`.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{Dropout, Law, Linear, linear};
use crate::ops::{Inner, Middle};
use crate::{Mode, vit::Act};

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
    /// This MLP as the inside of a residual branch that runs as one op; none where dropout lies between its parts.
    pub(crate) fn inner(&self, mode: Mode) -> Option<Inner<'_>> {
        let plain = !(self.drop1.is_active(mode) || self.drop2.is_active(mode));
        let middle = Middle::Activation(self.act.op());
        plain.then(|| Inner { first: self.fc1.parameters(), middle, second: self.fc2.parameters() })
    }

    /// Every tensor that the layer computes with.
    pub(crate) fn parameters(&self) -> Vec<&Tensor> {
        let layers = [self.fc1.parameters(), self.fc2.parameters()];
        layers.into_iter().flat_map(|(weight, bias)| [Some(weight), bias]).flatten().collect()
    }

    /// `[.., dim]` to `[.., dim]`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = self.fc1.forward(x)?;
        let x = self.act.op().apply(&x)?;
        self.drop2.forward(&self.fc2.forward(&self.drop1.forward(&x, mode)?)?, mode)
    }
}
