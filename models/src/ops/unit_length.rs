//! `y = x / |x|` over the last dimension.

use candle_core::{D, Result, Tensor};

use super::wide;

/// Every row divided by its length (the 2-norm). It is a composition of Candle's operations on every device: beside the layers around it
/// its time does not count.
///
/// # Errors
/// If `x` is a scalar.
pub fn unit_length(x: &Tensor) -> Result<Tensor> {
    let wide_x = x.to_dtype(wide(x.dtype()))?;
    let squares = wide_x.sqr()?.sum_keepdim(D::Minus1)?;
    // PyTorch's `normalize` has the same bound, so that a row of zeros stays one.
    let least = Tensor::new(1e-24f32, x.device())?.to_dtype(squares.dtype())?.broadcast_as(squares.shape())?;
    wide_x.broadcast_div(&squares.maximum(&least)?.sqrt()?)?.to_dtype(x.dtype())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn rows_have_the_length_one_and_the_gradient_is_that_of_finite_differences() -> Result<()> {
        check("unit_length", &[&[3, 5]], |t| unit_length(&t[0]))?;
        let y = unit_length(&Tensor::new(&[[3f32, 4.], [0., 0.]], &Device::Cpu)?)?;
        assert_eq!(y.to_vec2::<f32>()?, [[0.6, 0.8], [0., 0.]]);
        Ok(())
    }
}
