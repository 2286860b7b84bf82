//! The laws that weights and biases are drawn from.

use candle_nn::Init;

/// How the weight and the bias of a linear layer or a convolution start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// PyTorch's default: both uniform in ±1/√fan_in (Kaiming's uniform law with a = √5).
    Torch,
    /// Weight normal with this standard deviation, bias zero. timm's ViTs have 0.02; its truncation at ±2, a hundred
    /// deviations away, changes nothing.
    Normal(f64),
}

impl Law {
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
