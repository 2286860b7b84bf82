//! `y = (x - mean) / sqrt(var + eps) * weight + bias` over the last dimension, with the biased variance.
//!
//! Ba, Kiros, Hinton, "Layer Normalization", 2016.

use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;

use super::column_sums::{add_up, column_sums_of};
use super::kernel::{Out, filled, rows_per_task, serves, tensor, written};
use super::simd::{sum, vectorised};
use super::wide;
use crate::autograd::{Call, Function};
use crate::slices::CpuValues;

/// Normalises the last dimension of `x [.., dim]`; `weight` and `bias` are `[dim]`.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dim = weight.dims1()?;
    if x.dims().last() != Some(&dim) || bias.dims() != [dim] || dim == 0 {
        bail!(
            "layer_norm: expected x [.., {dim}] and bias [{dim}] for weight [{dim}], got x {:?}, bias {:?}",
            x.dims(),
            bias.dims()
        )
    }
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::layer_norm(x, weight, bias, eps, composed)? {
        return Ok(y);
    }
    if serves(&[x, weight, bias]) { fused(x, weight, bias, eps as f32) } else { composed(x, weight, bias, eps) }
}

fn composed(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let wide_x = x.to_dtype(wide(x.dtype()))?;
    let centred = wide_x.broadcast_sub(&wide_x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    let [weight, bias] = [weight.to_dtype(x.dtype())?, bias.to_dtype(x.dtype())?];
    centred.broadcast_div(&deviation)?.to_dtype(x.dtype())?.broadcast_mul(&weight)?.broadcast_add(&bias)
}

fn fused(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let [x, weight, bias] = [x.contiguous()?, weight.contiguous()?, bias.contiguous()?];
    let y = forward(&CpuValues::of(&x)?, &CpuValues::of(&weight)?, &CpuValues::of(&bias)?, eps);
    Function::new("layer_norm", [&x, &weight, &bias]).output(y, x.shape()).backward(move |call| gradients(call, eps))
}

fn gradients(call: &Call, eps: f32) -> Result<Vec<Option<Tensor>>> {
    let (x, weight) = (&call.operands[0], &call.operands[1]);
    let (x_values, dy) = (CpuValues::of(x)?, CpuValues::of(call.gradient)?);
    let dim = weight.elem_count();
    let (dx, sums) = if call.wants(0) {
        let (dx, sums) = backward(&x_values, &CpuValues::of(weight)?, &dy, eps);
        (Some(tensor(dx, x.dims())?), sums)
    } else {
        (None, parameter_sums(&x_values, &dy, dim, eps))
    };
    let of = |index: usize, sums: &[f32]| call.wants(index).then(|| tensor(sums.to_vec(), &[dim])).transpose();
    Ok(vec![dx, of(1, &sums[..dim])?, of(2, &sums[dim..])?])
}

/// Mean and inverse deviation of a row.
#[inline(always)]
fn statistics(x: &[f32], eps: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let var = sum(x, |x| (x - mean) * (x - mean)) / count;
    (mean, 1. / (var + eps).sqrt())
}

/// The norm of every row of `x`, on this thread.
pub(super) fn normalise_rows(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &mut [f32]) {
    let dim = weight.len();
    vectorised(
        #[inline(always)]
        || {
            for (y, x) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                let (mean, scale) = statistics(x, eps);
                for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                    *y = (x - mean) * scale * w + b;
                }
            }
        },
    )
}

/// `residual` and the gradient of `x` in one, for rows `(x, dy, residual)` on this thread; adds the gradients of weight and
/// bias to the halves of `sums`.
pub(super) fn backward_rows(
    dx: &mut Out,
    (x, dy, residual): (&[f32], &[f32], &[f32]),
    weight: &[f32],
    sums: &mut [f32],
    eps: f32,
) {
    let dim = weight.len();
    let (dweight, dbias) = sums.split_at_mut(dim);
    vectorised(
        #[inline(always)]
        || {
            let rows = dx.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(dy.chunks_exact(dim));
            for (((dx, x), dy), residual) in rows.zip(residual.chunks_exact(dim)) {
                backward_row(dx, x, dy, weight, dweight, dbias, eps);
                // SAFETY: all of it was written just now.
                let dx = unsafe { written(dx) };
                for (dx, &residual) in dx.iter_mut().zip(residual) {
                    *dx += residual;
                }
            }
        },
    )
}

fn forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let dim = weight.len();
    let task = rows_per_task(x.len() / dim, dim) * dim;
    // SAFETY: the tasks cover the output, and every value of every row is written.
    unsafe {
        filled(x.len(), |y| {
            y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(y, x)| {
                let y = &mut *(std::ptr::from_mut(y) as *mut [f32]);
                normalise_rows(x, weight, bias, eps, y);
            })
        })
    }
}

/// The gradient of `x`, and those of weight and bias behind one another.
fn backward(x: &[f32], weight: &[f32], dy: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
    let dim = weight.len();
    let task = rows_per_task(x.len() / dim, dim) * dim;
    let mut sums = vec![];
    // SAFETY: the tasks cover the output, and every value of every row is written.
    let dx = unsafe {
        filled(x.len(), |dx| {
            let tasks = dx.par_chunks_mut(task).zip(x.par_chunks(task)).zip(dy.par_chunks(task));
            let parts = tasks.map(|((dx, x), dy)| {
                let mut sums = vec![0f32; 2 * dim];
                let (dweight, dbias) = sums.split_at_mut(dim);
                vectorised(
                    #[inline(always)]
                    || {
                        for ((dx, x), dy) in dx.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(dy.chunks_exact(dim))
                        {
                            backward_row(dx, x, dy, weight, dweight, dbias, eps);
                        }
                    },
                );
                sums
            });
            sums = add_up(parts.collect(), 2 * dim);
        })
    };
    (dx, sums)
}

#[inline(always)]
fn backward_row(dx: &mut Out, x: &[f32], dy: &[f32], weight: &[f32], dweight: &mut [f32], dbias: &mut [f32], eps: f32) {
    let count = x.len() as f32;
    let (mean, scale) = statistics(x, eps);
    // First w · dy goes to the output, then the mean and the part along x are taken out of it.
    for ((dx, &dy), &w) in dx.iter_mut().zip(dy).zip(weight) {
        dx.write(dy * w);
    }
    // SAFETY: all of it was written above.
    let dx = unsafe { written(dx) };
    let mean_g = sum(dx, |g| g) / count;
    let along = super::simd::sum2(dx, x, |g, x| g * (x - mean)) * scale / count;
    for (dx, &x) in dx.iter_mut().zip(x) {
        *dx = (*dx - mean_g - (x - mean) * scale * along) * scale;
    }
    for (((dweight, dbias), &x), &dy) in dweight.iter_mut().zip(dbias).zip(x).zip(dy) {
        *dweight += dy * ((x - mean) * scale);
        *dbias += dy;
    }
}

/// The gradients of weight and bias behind one another, where `x` needs none.
fn parameter_sums(x: &[f32], dy: &[f32], dim: usize, eps: f32) -> Vec<f32> {
    column_sums_of(
        x.len() / dim,
        2 * dim,
        rows_per_task(x.len() / dim, dim),
        #[inline(always)]
        |row, sums| {
            let (x, dy) = (&x[row * dim..][..dim], &dy[row * dim..][..dim]);
            let (mean, scale) = statistics(x, eps);
            let (dweight, dbias) = sums.split_at_mut(dim);
            for (((dweight, dbias), &x), &dy) in dweight.iter_mut().zip(dbias).zip(x).zip(dy) {
                *dweight += dy * ((x - mean) * scale);
                *dbias += dy;
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::super::check::check;
    use super::*;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for (rows, dim) in [(1, 3), (3, 17), (17, 64), (197, 40), (300, 384)] {
            check("layer_norm", &[&[rows, dim], &[dim], &[dim]], |t| layer_norm(&t[0], &t[1], &t[2], 1e-6))?;
        }
        check("layer_norm", &[&[2, 5, 24], &[24], &[24]], |t| layer_norm(&t[0], &t[1], &t[2], 1e-5))
    }

    #[test]
    fn rows_far_from_zero_keep_their_digits() -> Result<()> {
        let x = (super::super::check::values(&[4, 384], 1)? + 1000.)?;
        let ones = Tensor::ones(384, x.dtype(), x.device())?;
        let y = layer_norm(&x, &ones, &ones.zeros_like()?, 1e-6)?;
        let wide = candle_core::DType::F64;
        let exact = composed(&x.to_dtype(wide)?, &ones.to_dtype(wide)?, &ones.zeros_like()?.to_dtype(wide)?, 1e-6)?;
        assert!(super::super::check::distance(&y, &exact)? < 1e-4);
        Ok(())
    }
}
