//! `y = x Φ(x)`, exactly and in its two usual approximations.
//!
//! Its gradient is `dy (Φ(x) + x φ(x))`, with the distribution function `Φ` and the density `φ` of the normal distribution; that of
//! the approximations is theirs, not the exact one. `kernels/src/activation.rs` computes both for the CPU, `cuda/activation.rs` for
//! CUDA, and elsewhere Candle derives it from the composition.
//!
//! Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use candle_core::{Result, Tensor};
use tallow_kernels::activation::Activation;

use super::elementwise::map;
use crate::slices::serves;

/// `x (1 + erf(x / sqrt 2)) / 2`: PyTorch's `gelu`.
///
/// # Errors
/// Those of Candle.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    Gelu::Erf.apply(x)
}

/// `x (1 + tanh(sqrt(2 / π) (x + 0.044715 x³))) / 2`: PyTorch's `gelu` with `approximate='tanh'`.
///
/// # Errors
/// Those of Candle.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    Gelu::Tanh.apply(x)
}

/// `x sigmoid(1.702 x)`: the form that CLIP uses.
///
/// # Errors
/// Those of Candle.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    Gelu::Quick.apply(x)
}

/// `x sigmoid(x)`, with which gates are made: PyTorch's `silu`.
///
/// # Errors
/// Those of Candle.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    Gelu::Silu.apply(x)
}

/// The forms of GELU, and SiLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// Exact, by the error function.
    Erf,
    /// By its tanh approximation.
    Tanh,
    /// x · sigmoid(1.702 x).
    Quick,
    /// x · sigmoid(x), from which Quick differs in the factor alone.
    Silu,
}

impl Gelu {
    /// The function of every value of a tensor.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Some(y) = super::cuda::activation(x, None, self.name(), |x| self.composed(x))? {
            return Ok(y);
        }
        if serves([x]) { map(x, self.name(), self.kernel()) } else { self.composed(x) }
    }

    /// As [`Gelu::apply`], of Candle's own ops.
    pub(super) fn composed(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Erf => composed_erf(x),
            Self::Tanh => composed_tanh(x),
            Self::Quick => composed_sigmoid(x, 1.702),
            Self::Silu => composed_sigmoid(x, 1.),
        }
    }

    /// What the CPU computes.
    pub(super) fn kernel(self) -> Activation {
        match self {
            Self::Erf => Activation::Gelu,
            Self::Tanh => Activation::GeluTanh,
            Self::Quick => Activation::QuickGelu,
            Self::Silu => Activation::Silu,
        }
    }

    /// The name in messages, and of CUDA's kernels.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Erf => "gelu",
            Self::Tanh => "gelu_tanh",
            Self::Quick => "quick_gelu",
            Self::Silu => "silu",
        }
    }
}

fn composed_erf(x: &Tensor) -> Result<Tensor> {
    (x * ((x * FRAC_1_SQRT_2)?.erf()? + 1.)?)? * 0.5
}

fn composed_tanh(x: &Tensor) -> Result<Tensor> {
    let inner = ((x + (x.sqr()?.mul(x)? * 0.044715)?)? * FRAC_2_PI.sqrt())?;
    (x * (inner.tanh()? + 1.)?)? * 0.5
}

fn composed_sigmoid(x: &Tensor, factor: f64) -> Result<Tensor> {
    x / ((x * -factor)?.exp()? + 1.)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernels_agree_with_the_compositions() -> Result<()> {
        for dims in [&[1][..], &[3, 5], &[2, 17, 40]] {
            check("gelu", &[dims], |t| gelu(&t[0]))?;
            check("gelu_tanh", &[dims], |t| gelu_tanh(&t[0]))?;
            check("quick_gelu", &[dims], |t| quick_gelu(&t[0]))?;
            check("silu", &[dims], |t| silu(&t[0]))?;
        }
        Ok(())
    }
}
