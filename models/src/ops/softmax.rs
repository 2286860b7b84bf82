//! `y = exp(x) / sum(exp(x))` over the last dimension.

use candle_core::{D, Result, Tensor, bail};
use tallow_kernels::softmax as kernel;

use super::wide;
use crate::autograd::Function;
use crate::slices::{CpuValues, serves, tensor};

/// Softmax over the last dimension. Rows of any magnitude stay finite.
///
/// # Errors
/// If `x` is a scalar.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if x.rank() == 0 {
        bail!("softmax: expected at least one dimension, got a scalar")
    }
    if serves([x]) { fused(x) } else { composed(x) }
}

pub(super) fn composed(x: &Tensor) -> Result<Tensor> {
    let wide_x = x.to_dtype(wide(x.dtype()))?;
    // The maximum cancels out of the result, and so out of the gradient.
    let exp = wide_x.broadcast_sub(&wide_x.detach().max_keepdim(D::Minus1)?)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?.to_dtype(x.dtype())
}

fn fused(x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let dim = x.dims().last().copied().unwrap_or(1);
    let y = kernel::forward(&CpuValues::of(&x)?, dim);
    Function::new("softmax", [&x]).output(y, x.shape()).backward(move |call| {
        let dx = kernel::backward(&CpuValues::of(call.output)?, &CpuValues::of(call.gradient)?, dim);
        Ok(vec![Some(tensor(dx, call.output.dims())?)])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::{check, values};

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for dims in [&[1, 1][..], &[3, 17], &[197, 10], &[2, 3, 33]] {
            check("softmax", &[dims], |t| softmax(&t[0]))?;
        }
        Ok(())
    }

    #[test]
    fn rows_of_huge_values_stay_finite_and_sum_to_one() -> Result<()> {
        let y = softmax(&(values(&[5, 40], 3)? * 1e30)?)?;
        for sum in y.sum(D::Minus1)?.to_vec1::<f32>()? {
            assert!((sum - 1.).abs() < 1e-6, "{sum}");
        }
        Ok(())
    }
}
