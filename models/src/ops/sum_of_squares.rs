//! `Σ x²`, for the global norm of gradients.

use candle_core::{DType, Result, Tensor};

/// The sum of the squares of all values, accumulated in float64. Its square root is the 2-norm.
pub fn sum_of_squares(x: &Tensor) -> Result<f64> {
    composed(x)
}

fn composed(x: &Tensor) -> Result<f64> {
    x.detach().to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar()
}
