//! `y = max(x, 0)`.

use candle_core::{Result, Tensor};
use tallow_kernels::activation::Activation;

use super::elementwise::map;
use crate::slices::serves;

/// `max(x, 0)`, with the derivative 0 at 0 as in PyTorch (Candle's own has 1).
///
/// # Errors
/// Those of Candle.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::activation(x, None, "relu", composed)? {
        return Ok(y);
    }
    if serves([x]) { map(x, "relu", Activation::Relu) } else { composed(x) }
}

fn composed(x: &Tensor) -> Result<Tensor> {
    x.le(0.)?.where_cond(&x.zeros_like()?, x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        check("relu", &[&[3, 50]], |t| relu(&t[0]))
    }

    #[test]
    fn the_derivative_at_zero_is_zero_and_nan_goes_through() -> Result<()> {
        for dtype in [candle_core::DType::F32, candle_core::DType::F64] {
            let x = Tensor::new(&[-1f64, 0., -0., 2., f64::NAN], &candle_core::Device::Cpu)?.to_dtype(dtype)?;
            let x = candle_core::Var::from_tensor(&x)?;
            let y = relu(&x)?;
            let values = y.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?;
            assert_eq!(values[..4], [0., 0., 0., 2.]);
            assert!(values[4].is_nan());
            let store = y.sum_all()?.backward()?;
            let slopes = store.get(&x).expect("a gradient").to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?;
            assert_eq!(slopes[..4], [0., 0., 0., 1.]);
        }
        Ok(())
    }
}
