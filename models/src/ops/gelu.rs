//! `y = x Φ(x)`, exactly and in its two usual approximations.
//!
//! Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use candle_core::{Result, Tensor};

use super::elementwise::{Function, map};
use super::kernel::serves;
use super::simd;

/// `x (1 + erf(x / sqrt 2)) / 2`: PyTorch's `gelu`.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if serves(&[x]) { map(x, Erf) } else { composed_erf(x) }
}

/// `x (1 + tanh(sqrt(2 / π) (x + 0.044715 x³))) / 2`: PyTorch's `gelu` with `approximate='tanh'`.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    if serves(&[x]) { map(x, Tanh) } else { composed_tanh(x) }
}

/// `x sigmoid(1.702 x)`: the form that CLIP uses.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    if serves(&[x]) { map(x, Quick) } else { composed_quick(x) }
}

struct Erf;

impl Function for Erf {
    const NAME: &'static str = "gelu";

    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * simd::normal(x).0
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let (cumulative, density) = simd::normal(x);
        cumulative + x * density
    }
}

struct Tanh;

impl Tanh {
    // (1 + tanh(u)) / 2 = sigmoid(2 u)
    const SCALE: f32 = 2. * 0.797_884_6;
    const CUBIC: f32 = 0.044715;
}

impl Function for Tanh {
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

impl Function for Quick {
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
