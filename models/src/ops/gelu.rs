//! `y = x Φ(x)`, exactly and in its two usual approximations.
//!
//! Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use candle_core::{Result, Tensor};

/// `x (1 + erf(x / sqrt 2)) / 2`: PyTorch's `gelu`.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    composed_erf(x)
}

/// `x (1 + tanh(sqrt(2 / π) (x + 0.044715 x³))) / 2`: PyTorch's `gelu` with `approximate='tanh'`.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    composed_tanh(x)
}

/// `x sigmoid(1.702 x)`: the form that CLIP uses.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    composed_quick(x)
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
