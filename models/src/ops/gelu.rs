//! `y = x Φ(x)`, exactly and in its two usual approximations.
//!
//! Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use candle_core::{Result, Tensor};

use super::elementwise::{Scalar, map};
use super::kernel::serves;
use super::simd::{self, vectorised};

/// `x (1 + erf(x / sqrt 2)) / 2`: PyTorch's `gelu`.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if serves(&[x]) { map(x, Erf) } else { on_other_devices(x, Gelu::Erf) }
}

/// `x (1 + tanh(sqrt(2 / π) (x + 0.044715 x³))) / 2`: PyTorch's `gelu` with `approximate='tanh'`.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    if serves(&[x]) { map(x, Tanh) } else { on_other_devices(x, Gelu::Tanh) }
}

/// `x sigmoid(1.702 x)`: the form that CLIP uses.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    if serves(&[x]) { map(x, Quick) } else { on_other_devices(x, Gelu::Quick) }
}

fn on_other_devices(x: &Tensor, gelu: Gelu) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::bias_gelu(x, None, gelu)? {
        return Ok(y);
    }
    gelu.composed(x)
}

/// The forms of GELU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gelu {
    /// Exact, by the error function.
    Erf,
    /// By its tanh approximation.
    Tanh,
    /// x · sigmoid(1.702 x).
    Quick,
}

impl Gelu {
    /// The function of every value of a tensor.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Erf => gelu(x),
            Self::Tanh => gelu_tanh(x),
            Self::Quick => quick_gelu(x),
        }
    }

    /// As [`Gelu::apply`], of Candle's own ops.
    pub(crate) fn composed(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Erf => composed_erf(x),
            Self::Tanh => composed_tanh(x),
            Self::Quick => composed_quick(x),
        }
    }

    /// The function of every value, on this thread.
    pub(crate) fn values(self, x: &[f32], y: &mut [f32]) {
        match self {
            Self::Erf => values::<Erf>(x, y),
            Self::Tanh => values::<Tanh>(x, y),
            Self::Quick => values::<Quick>(x, y),
        }
    }

    /// As [`Gelu::values`], in place.
    pub(crate) fn replace(self, x: &mut [f32]) {
        // The derivative goes nowhere.
        self.backward(x, &mut []);
    }

    /// Multiplies `gradient` by the derivative at every value of `x`, in whose place the function's value is put; on this
    /// thread.
    pub(crate) fn backward(self, x: &mut [f32], gradient: &mut [f32]) {
        match self {
            Self::Erf => backward::<Erf>(x, gradient),
            Self::Tanh => backward::<Tanh>(x, gradient),
            Self::Quick => backward::<Quick>(x, gradient),
        }
    }
}

fn values<F: Scalar>(x: &[f32], y: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = F::value(x);
            }
        },
    )
}

fn backward<F: Scalar>(x: &mut [f32], gradient: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            if gradient.is_empty() {
                for x in x {
                    *x = F::value(*x);
                }
                return;
            }
            for (x, gradient) in x.iter_mut().zip(gradient) {
                let at = *x;
                *gradient *= F::slope(at);
                *x = F::value(at);
            }
        },
    )
}

struct Erf;

impl Scalar for Erf {
    const NAME: &'static str = "gelu";

    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * simd::cumulative_normal(x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        simd::cumulative_normal(x) + x * simd::normal_density(x)
    }
}

struct Tanh;

impl Tanh {
    // (1 + tanh(u)) / 2 = sigmoid(2 u)
    const SCALE: f32 = 2. * 0.797_884_6;
    const CUBIC: f32 = 0.044715;
}

impl Scalar for Tanh {
    const NAME: &'static str = "gelu_tanh";

    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * simd::sigmoid(Self::SCALE * (x + Self::CUBIC * x * x * x))
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = simd::sigmoid(Self::SCALE * (x + Self::CUBIC * x * x * x));
        s + x * s * (1. - s) * Self::SCALE * (1. + 3. * Self::CUBIC * x * x)
    }
}

struct Quick;

impl Scalar for Quick {
    const NAME: &'static str = "quick_gelu";

    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * simd::sigmoid(1.702 * x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = simd::sigmoid(1.702 * x);
        s + 1.702 * x * s * (1. - s)
    }
}

fn composed_erf(x: &Tensor) -> Result<Tensor> {
    (x * ((x * FRAC_1_SQRT_2)?.erf()? + 1.)?)? * 0.5
}

fn composed_tanh(x: &Tensor) -> Result<Tensor> {
    let inner = ((x + (x.sqr()?.mul(x)? * 0.044715)?)? * FRAC_2_PI.sqrt())?;
    (x * (inner.tanh()? + 1.)?)? * 0.5
}

fn composed_quick(x: &Tensor) -> Result<Tensor> {
    x / ((x * -1.702)?.exp()? + 1.)?
}

#[cfg(test)]
mod tests {
    use super::super::check::check;
    use super::*;

    #[test]
    fn kernels_agree_with_the_compositions() -> Result<()> {
        for dims in [&[1][..], &[3, 5], &[2, 17, 40]] {
            check("gelu", &[dims], |t| gelu(&t[0]))?;
            check("gelu_tanh", &[dims], |t| gelu_tanh(&t[0]))?;
            check("quick_gelu", &[dims], |t| quick_gelu(&t[0]))?;
        }
        Ok(())
    }
}
