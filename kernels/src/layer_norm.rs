//! `y = (x - mean) / sqrt(var + eps) * weight + bias` for every row, with the biased variance, and its gradients.
//!
//! Ba, Kiros, Hinton, "Layer Normalization", 2016.

use rayon::prelude::*;

use crate::column_sums::{add_up, column_sums_of};
use crate::memory::{Out, filled, written};
use crate::simd::{sum, sum2, vectorised};
use crate::tasks::rows_per_task;
use crate::value::Value;

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
pub(crate) fn normalise_rows<'a, V: Value>(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    y: &'a mut Out<V>,
) -> &'a mut [V] {
    let dim = weight.len();
    assert_rows(x, dim);
    assert!(bias.len() == dim && x.len() == y.len(), "a bias or an output that does not fit");
    vectorised(
        #[inline(always)]
        || {
            for (y, x) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                let (mean, scale) = statistics(x, eps);
                for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                    y.write(V::of((x - mean) * scale * w + b));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn rows_have_the_mean_of_the_bias_and_the_gradient_of_the_formula() {
        for (rows, dim) in [(1, 3), (17, 40), (300, 64)] {
            let (x, weight, bias) = (values(rows * dim, 1), values(dim, 2), values(dim, 3));
            let dy = values(rows * dim, 4);
            let y = forward(&x, &weight, &bias, 1e-6);
            let (dx, sums) = backward(&x, &weight, &dy, 1e-6);
            let close = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-4;
            let (mut dweight, mut dbias) = (vec![0f64; dim], vec![0f64; dim]);
            for row in 0..rows {
                let of = |a: &[f32], i: usize| f64::from(a[row * dim + i]);
                let mean = (0..dim).map(|i| of(&x, i)).sum::<f64>() / dim as f64;
                let var = (0..dim).map(|i| (of(&x, i) - mean).powi(2)).sum::<f64>() / dim as f64;
                let scale = 1. / (var + 1e-6).sqrt();
                let normal = |i: usize| (of(&x, i) - mean) * scale;
                let g = |i: usize| of(&dy, i) * f64::from(weight[i]);
                let mean_g = (0..dim).map(g).sum::<f64>() / dim as f64;
                let along = (0..dim).map(|i| g(i) * normal(i)).sum::<f64>() / dim as f64;
                for i in 0..dim {
                    assert!(close(y[row * dim + i], normal(i) * f64::from(weight[i]) + f64::from(bias[i])));
                    assert!(close(dx[row * dim + i], (g(i) - mean_g - normal(i) * along) * scale));
                    dweight[i] += of(&dy, i) * normal(i);
                    dbias[i] += of(&dy, i);
                }
            }
            let exact = dweight.into_iter().chain(dbias);
            assert!(sums.iter().zip(exact).all(|(&sum, exact)| close(sum, exact)), "{rows}x{dim}");
            let alone = parameter_sums(&x, &dy, dim, 1e-6);
            assert!(alone.iter().zip(&sums).all(|(a, b)| (a - b).abs() < 1e-4), "{rows}x{dim}");
        }
    }

    #[test]
    #[should_panic(expected = "rows that are not as long as the weight")]
    fn rows_that_do_not_fit_are_refused() {
        forward(&[0.; 7], &[1.; 3], &[0.; 3], 1e-6);
    }
}
