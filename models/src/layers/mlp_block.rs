//! The MLP of a transformer's block: `fc2(act(fc1(x)))`; with a gate, `fc2(act(gate(x)) · fc1(x))`.
//!
//! Shazeer, "GLU Variants Improve Transformer", 2020; with SiLU the gated one is called SwiGLU. Parameters as timm's `Mlp`,
//! `GluMlp` (gate and values from one layer) and `SwiGLU` (from two).
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

use super::{BranchInner, Dropout, Linear, LinearInit, Norm, NormLayer, linear, norm};
use crate::Mode;
use crate::ops::{self, Gelu, Inner, Middle};

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
    /// Whether there is a gate, and from where. Default none.
    pub gate: Gate,
    /// Whether the layers have a bias. Default true.
    pub bias: bool,
    /// A norm before the second layer. Default false.
    pub norm: bool,
    /// Its kind. Default a layer norm.
    pub norm_layer: NormLayer,
    /// Its epsilon. Default 1e-6.
    pub norm_eps: f64,
    /// Dropout after the activation and after the second layer. Default 0.
    pub drop_rate: f64,
    /// What the linear layers start from. Default normal with a deviation of 0.02.
    pub init: LinearInit,
}

/// Where the gate of an MLP comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Gate {
    /// There is none.
    #[default]
    None,
    /// The first half of what the first layer gives.
    Packed,
    /// A layer of its own.
    Apart,
}

impl MlpBlockConfig {
    /// An MLP from `dim` over `hidden` to `dim` values.
    pub fn new(dim: usize, hidden: usize) -> Self {
        Self {
            dim,
            hidden,
            act: Gelu::Erf,
            gate: Gate::None,
            bias: true,
            norm: false,
            norm_layer: NormLayer::LayerNorm,
            norm_eps: 1e-6,
            drop_rate: 0.,
            init: LinearInit::Normal(0.02),
        }
    }
}

/// Two linear layers, `fc1` and `fc2`, with an activation between them and dropout after each; with a gate, `fc1` gives it and the
/// values, or `fc1_g` and `fc1_x` do; with a norm, `norm`.
#[derive(Debug, Clone)]
pub struct MlpBlock {
    first: First,
    act: Gelu,
    drop1: Dropout,
    norm: Option<Norm>,
    fc2: Linear,
    drop2: Dropout,
}

/// What comes before the activation.
#[derive(Debug, Clone)]
enum First {
    Plain(Linear),
    /// Gate and values behind one another.
    Packed(Linear),
    /// Gate, values.
    Apart([Linear; 2]),
}

/// The MLP that `config` describes.
///
/// # Errors
/// Those of the builder.
pub fn mlp_block(config: &MlpBlockConfig, vb: VarBuilder) -> Result<MlpBlock> {
    let MlpBlockConfig { dim, hidden, act, gate, bias, drop_rate, init, .. } = *config;
    let layer = |name, width| linear(dim, width, bias, init, vb.pp(name));
    let between = || norm(config.norm_layer, hidden, config.norm_eps, vb.pp("norm"));
    Ok(MlpBlock {
        first: match gate {
            Gate::None => First::Plain(layer("fc1", hidden)?),
            Gate::Packed => First::Packed(layer("fc1", 2 * hidden)?),
            Gate::Apart => First::Apart([layer("fc1_g", hidden)?, layer("fc1_x", hidden)?]),
        },
        act,
        drop1: Dropout::new(drop_rate, &vb.pp("drop1").prefix()),
        norm: config.norm.then(between).transpose()?,
        fc2: linear(hidden, dim, bias, init, vb.pp("fc2"))?,
        drop2: Dropout::new(drop_rate, &vb.pp("drop2").prefix()),
    })
}

impl MlpBlock {
    /// `[.., dim]` to `[.., dim]`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = match &self.first {
            First::Plain(fc1) => self.act.apply(&fc1.forward(x)?)?,
            First::Packed(fc1) => ops::gated(&fc1.forward(x)?, self.act)?,
            First::Apart([gate, values]) => ops::gated_apart(&gate.forward(x)?, &values.forward(x)?, self.act)?,
        };
        let x = self.drop1.forward(&x, mode)?;
        let x = match &self.norm {
            Some(norm) => norm.forward(&x)?,
            None => x,
        };
        self.drop2.forward(&self.fc2.forward(&x)?, mode)
    }
}

impl BranchInner for MlpBlock {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        MlpBlock::forward(self, x, mode)
    }

    /// None where dropout, a gate or a norm lies between its parts.
    fn fused(&self, mode: Mode) -> Option<Inner<'_>> {
        let drops = self.drop1.is_active(mode) || self.drop2.is_active(mode);
        match &self.first {
            First::Plain(fc1) if !drops && self.norm.is_none() => {
                let middle = Middle::Activation(self.act);
                Some(Inner { first: fc1.parameters(), middle, second: self.fc2.parameters() })
            }
            _ => None,
        }
    }

    fn parameters(&self) -> Vec<&Tensor> {
        let first = match &self.first {
            First::Plain(fc1) | First::Packed(fc1) => std::slice::from_ref(fc1),
            First::Apart(layers) => layers,
        };
        let layers = first.iter().chain([&self.fc2]).flat_map(|layer| [Some(layer.weight()), layer.bias()]).flatten();
        layers.chain(self.norm.iter().flat_map(Norm::parameters)).collect()
    }
}

impl ModuleT for MlpBlock {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
