//! `y = tanh(x)`.

use candle_core::{Result, Tensor};

use super::elementwise::{Scalar, map};
use super::kernel::serves;
use super::simd;

/// The hyperbolic tangent.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::activation(x, None, "tanh", composed)? {
        return Ok(y);
    }
    if serves(&[x]) { map(x, Tanh) } else { composed(x) }
}

struct Tanh;

impl Scalar for Tanh {
    const NAME: &'static str = "tanh";

    #[inline(always)]
    fn value(x: f32) -> f32 {
        simd::tanh(x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let y = simd::tanh(x);
        1. - y * y
    }
}

fn composed(x: &Tensor) -> Result<Tensor> {
    x.tanh()
}

#[cfg(test)]
mod tests {
    use super::super::check::check;
    use super::*;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        check("tanh", &[&[7, 50]], |t| tanh(&t[0]))
    }
}
