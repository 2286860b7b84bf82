//! `y = exp(x) / sum(exp(x))` over the last dimension.

use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;

use super::kernel::{filled, rows_per_task, serves, tensor, written};
use super::simd::{exp, max, sum, sum2, vectorised};
use super::wide;
use crate::autograd::Function;
use crate::slices::CpuValues;

/// Softmax over the last dimension. Rows of any magnitude stay finite.
///
/// # Errors
/// If `x` is a scalar.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if x.rank() == 0 {
        bail!("softmax: expected at least one dimension, got a scalar")
    }
    if serves(&[x]) { fused(x) } else { composed(x) }
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
    let y = forward(&CpuValues::of(&x)?, dim);
    Function::new("softmax", [&x]).output(y, x.shape()).backward(move |call| {
        let dx = backward(&CpuValues::of(call.output)?, &CpuValues::of(call.gradient)?, dim);
        Ok(vec![Some(tensor(dx, call.output.dims())?)])
    })
}

fn forward(x: &[f32], dim: usize) -> Vec<f32> {
    let dim = dim.max(1);
    let task = rows_per_task(x.len() / dim, dim) * dim;
    // SAFETY: the tasks cover the output, and every value of every row is written.
    unsafe {
        filled(x.len(), |y| {
            y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(y, x)| {
                vectorised(
                    #[inline(always)]
                    || {
                        for (y, x) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                            let max = max(x);
                            for (y, &x) in y.iter_mut().zip(x) {
                                y.write(exp(x - max));
                            }
                            let y = written(y);
                            let scale = 1. / sum(y, |y| y);
                            for y in y {
                                *y *= scale;
                            }
                        }
                    },
                )
            })
        })
    }
}

fn backward(y: &[f32], dy: &[f32], dim: usize) -> Vec<f32> {
    let dim = dim.max(1);
    let task = rows_per_task(y.len() / dim, dim) * dim;
    // SAFETY: the tasks cover the output, and every value of every row is written.
    unsafe {
        filled(y.len(), |dx| {
            dx.par_chunks_mut(task).zip(y.par_chunks(task)).zip(dy.par_chunks(task)).for_each(|((dx, y), dy)| {
                vectorised(
                    #[inline(always)]
                    || {
                        for ((dx, y), dy) in dx.chunks_exact_mut(dim).zip(y.chunks_exact(dim)).zip(dy.chunks_exact(dim))
                        {
                            let dot = sum2(y, dy, |y, dy| y * dy);
                            for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                                dx.write(y * (dy - dot));
                            }
                        }
                    },
                )
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{check, values};
    use super::*;

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
