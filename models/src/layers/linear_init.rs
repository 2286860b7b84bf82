//! How the weight and the bias of a linear layer or a convolution start.
//!
//! ```
//! use candle_nn::Init;
//! use tallow_models::layers::LinearInit;
//!
//! assert!(matches!(LinearInit::Normal(0.02).bias(384), Init::Const(0.)));
//! assert!(matches!(LinearInit::Torch.weight(16), Init::Uniform { lo: -0.25, up: 0.25 }));
//! ```

use candle_nn::Init;

/// How the weight and the bias of a linear layer or a convolution start.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum LinearInit {
    /// PyTorch's default: both uniform in ±1/√fan_in (Kaiming's uniform law with a = √5).
    Torch,
    /// Weight normal with this standard deviation, bias zero. timm's ViTs have 0.02; its truncation at ±2, a hundred
    /// deviations away, changes nothing.
    Normal(f64),
}

impl LinearInit {
    /// The law of a weight of which every output reads `fan_in` values.
    pub fn weight(self, fan_in: usize) -> Init {
        match self {
            Self::Torch => torch(fan_in),
            Self::Normal(stdev) => Init::Randn { mean: 0., stdev },
        }
    }

    /// The law of the bias beside it.
    pub fn bias(self, fan_in: usize) -> Init {
        match self {
            Self::Torch => torch(fan_in),
            Self::Normal(_) => Init::Const(0.),
        }
    }
}

fn torch(fan_in: usize) -> Init {
    let bound = 1. / (fan_in.max(1) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}
