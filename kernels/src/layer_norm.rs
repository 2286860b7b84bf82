//! `y = (x - mean) / sqrt(var + eps) * weight + bias` for every row, with the biased variance, and its gradients.
//!
//! Ba, Kiros, Hinton, "Layer Normalization", 2016.

use rayon::prelude::*;

use crate::column_sums::{add_up, column_sums_of};
use crate::memory::{Out, filled, written};
use crate::simd::{sum, sum2, vectorised};
use crate::tasks::rows_per_task;

/// Mean and inverse deviation of a row.
#[inline(always)]
fn statistics(x: &[f32], eps: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let var = sum(x, |x| (x - mean) * (x - mean)) / count;
    (mean, 1. / (var + eps).sqrt())
}

fn assert_rows(x: &[f32], dim: usize) {
    assert!(dim > 0 && x.len().is_multiple_of(dim), "rows that are not as long as the weight");
}

/// The norm of every row of `x`, on this thread; gives what was written.
pub(crate) fn normalise_rows<'a>(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, y: &'a mut Out) -> &'a mut [f32] {
    let dim = weight.len();
    assert_rows(x, dim);
    assert!(bias.len() == dim && x.len() == y.len(), "a bias or an output that does not fit");
    vectorised(
        #[inline(always)]
        || {
            for (y, x) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                let (mean, scale) = statistics(x, eps);
                for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                    y.write((x - mean) * scale * w + b);
                }
            }
        },
    );
    // SAFETY: every value of every row was written.
    unsafe { written(y) }
}

/// `residual` and the gradient of `x` in one, for rows `(x, dy, residual)` on this thread, all of which are written; adds the
/// gradients of weight and bias to the halves of `sums`.
pub(crate) fn backward_rows(
    dx: &mut Out,
    (x, dy, residual): (&[f32], &[f32], &[f32]),
    weight: &[f32],
    sums: &mut [f32],
    eps: f32,
) {
    let dim = weight.len();
    assert_rows(x, dim);
    assert!([dx.len(), dy.len(), residual.len()] == [x.len(); 3], "gradients that do not fit");
    let (dweight, dbias) = sums.split_at_mut(dim);
    vectorised(
        #[inline(always)]
        || {
            let rows = dx.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(dy.chunks_exact(dim));
            for (((dx, x), dy), residual) in rows.zip(residual.chunks_exact(dim)) {
                let dx = backward_row(dx, (x, dy), weight, (dweight, dbias), eps);
                for (dx, &residual) in dx.iter_mut().zip(residual) {
                    *dx += residual;
                }
            }
        },
    )
}

/// The norm of every row of `x`.
pub fn forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let dim = weight.len();
    assert_rows(x, dim);
    let task = rows_per_task(x.len() / dim, dim) * dim;
    // SAFETY: the tasks cover the output, and every value of every row is written.
    unsafe {
        filled(x.len(), |y| {
            y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(y, x)| {
                normalise_rows(x, weight, bias, eps, y);
            })
        })
    }
}

/// The gradient of `x`, and those of weight and bias behind one another.
pub fn backward(x: &[f32], weight: &[f32], dy: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
    let dim = weight.len();
    assert_rows(x, dim);
    assert_eq!(x.len(), dy.len(), "gradients that do not fit");
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
                            backward_row(dx, (x, dy), weight, (dweight, dbias), eps);
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

/// Writes the gradient of one row, and adds to those of weight and bias; gives what was written.
#[inline(always)]
fn backward_row<'a>(
    dx: &'a mut Out,
    (x, dy): (&[f32], &[f32]),
    weight: &[f32],
    (dweight, dbias): (&mut [f32], &mut [f32]),
    eps: f32,
) -> &'a mut [f32] {
    let count = x.len() as f32;
    let (mean, scale) = statistics(x, eps);
    // First w · dy goes to the output, then the mean and the part along x are taken out of it.
    for ((dx, &dy), &w) in dx.iter_mut().zip(dy).zip(weight) {
        dx.write(dy * w);
    }
    // SAFETY: all of it was written above: rows are as long as the weight.
    let dx = unsafe { written(dx) };
    let mean_g = sum(dx, |g| g) / count;
    let along = sum2(dx, x, |g, x| g * (x - mean)) * scale / count;
    for (dx, &x) in dx.iter_mut().zip(x) {
        *dx = (*dx - mean_g - (x - mean) * scale * along) * scale;
    }
    for (((dweight, dbias), &x), &dy) in dweight.iter_mut().zip(dbias).zip(x).zip(dy) {
        *dweight += dy * ((x - mean) * scale);
        *dbias += dy;
    }
    dx
}

/// The gradients of weight and bias behind one another, where `x` needs none.
pub fn parameter_sums(x: &[f32], dy: &[f32], dim: usize, eps: f32) -> Vec<f32> {
    assert_rows(x, dim);
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
