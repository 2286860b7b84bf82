//! `Σ x²`, for the global norm of gradients.

use candle_core::{DType, Result, Tensor};
use tallow_kernels::sum_of_squares as kernel;

use crate::slices::{CpuValues, serves};

/// The sum of the squares of all values, accumulated in float64. Its square root is the 2-norm.
///
/// # Errors
/// Those of Candle.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    if serves([x]) { Ok(kernel::sum_of_squares(&CpuValues::of(&x.contiguous()?)?)) } else { composed(x) }
}

fn composed(x: &Tensor) -> Result<f64> {
    x.detach().to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::values;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for len in [0, 1, 15, 16, 17, 100_000] {
            let x = values(&[len], 1)?;
            let (got, exact) = (sum_of_squares(&x)?, composed(&x)?);
            assert!((got - exact).abs() <= 1e-12 * exact, "{got} instead of {exact} for {len} values");
            assert_eq!(got, sum_of_squares(&x)?);
        }
        assert!(sum_of_squares(&Tensor::new(&[1f32, f32::NAN], &candle_core::Device::Cpu)?)?.is_nan());
        Ok(())
    }

    #[test]
    fn squares_beyond_the_range_of_float32_are_summed() -> Result<()> {
        let x = Tensor::new(&[3e30f32, 4e30], &candle_core::Device::Cpu)?;
        assert!((sum_of_squares(&x)?.sqrt() - 5e30).abs() < 1e24);
        Ok(())
    }
}
