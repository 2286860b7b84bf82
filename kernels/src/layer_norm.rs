//! `y = (x - mean) / sqrt(var + eps) * weight + bias` for every row, with the biased variance, and its gradients.
//!
//! Ba, Kiros, Hinton, "Layer Normalization", 2016.

use std::ops::Range;

use half::bf16;

use crate::column_sums::column_sums_of;
use crate::memory::{Out, written};
use crate::rows::{map_and_sum_rows, map_rows};
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

/// Rows as the backward of a norm can read them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// As they are.
    Plain(&'a [f32]),
    /// Normalised, `(x - mean) / deviation`, and what they were divided by as factors, one a row: half of the memory.
    Normal(&'a [bf16], &'a [f32]),
}

/// One of them: normalised it is `(x - mean) * factor`, and `scale` is what that was multiplied by.
struct Row<'a> {
    x: &'a [f32],
    mean: f32,
    factor: f32,
    scale: f32,
}

impl<'a> Rows<'a> {
    /// Those of this range, of `dim` values each.
    pub fn part(self, rows: &Range<usize>, dim: usize) -> Self {
        let own = rows.start * dim..rows.end * dim;
        match self {
            Self::Plain(x) => Self::Plain(&x[own]),
            Self::Normal(values, scales) => Self::Normal(&values[own], &scales[rows.clone()]),
        }
    }

    /// Values of all rows.
    pub fn len(self) -> usize {
        match self {
            Self::Plain(x) => x.len(),
            Self::Normal(values, _) => values.len(),
        }
    }

    /// Room for what [`Rows::row`] needs.
    fn room(self, dim: usize) -> Vec<f32> {
        if let Self::Normal(..) = self { vec![0.; dim] } else { vec![] }
    }

    #[inline(always)]
    fn row<'b>(&'b self, row: usize, dim: usize, eps: f32, room: &'b mut [f32]) -> Row<'b> {
        match self {
            Self::Plain(x) => Row::of(&x[row * dim..][..dim], eps),
            Self::Normal(values, scales) => {
                room.iter_mut().zip(&values[row * dim..]).for_each(|(wide, value)| *wide = value.wide());
                Row { x: room, mean: 0., factor: 1., scale: scales[row] }
            }
        }
    }
}

impl<'a> Row<'a> {
    #[inline(always)]
    fn of(x: &'a [f32], eps: f32) -> Self {
        let (mean, scale) = statistics(x, eps);
        Self { x, mean, factor: scale, scale }
    }
}

/// Writes every row of `x`, of `dim` values, as [`Rows::Normal`] has it, on this thread.
pub(crate) fn keep_normal_rows(x: &[f32], dim: usize, eps: f32, (values, scales): (&mut Out<bf16>, &mut Out)) {
    assert_rows(x, dim);
    assert!(values.len() == x.len() && scales.len() * dim == x.len(), "an output that does not fit");
    vectorised(
        #[inline(always)]
        || {
            for ((values, out), x) in values.chunks_exact_mut(dim).zip(scales).zip(x.chunks_exact(dim)) {
                let (mean, scale) = statistics(x, eps);
                out.write(scale);
                for (value, &x) in values.iter_mut().zip(x) {
                    value.write(bf16::of((x - mean) * scale));
                }
            }
        },
    );
}

fn assert_rows(x: &[f32], dim: usize) {
    assert!(dim > 0 && x.len().is_multiple_of(dim), "rows that are not as long as the weight");
}

/// The norm of every row of `x`, on this thread; gives what was written.
pub(crate) fn normalise_rows<'a, V: Value>(
    x: Rows,
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    y: &'a mut Out<V>,
) -> &'a mut [V] {
    let dim = weight.len();
    assert!(dim > 0 && x.len().is_multiple_of(dim), "rows that are not as long as the weight");
    assert!(bias.len() == dim && x.len() == y.len(), "a bias or an output that does not fit");
    let mut room = x.room(dim);
    vectorised(
        #[inline(always)]
        || {
            for (row, y) in y.chunks_exact_mut(dim).enumerate() {
                write_row(y, &x.row(row, dim, eps, &mut room), weight, bias);
            }
        },
    );
    // SAFETY: every value of every row was written.
    unsafe { written(y) }
}

#[inline(always)]
fn write_row<V: Value>(y: &mut Out<V>, row: &Row, weight: &[f32], bias: &[f32]) {
    let &Row { x, mean, factor, .. } = row;
    for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
        y.write(V::of((x - mean) * factor * w + b));
    }
}

/// `residual` and the gradient of `x` in one, for rows `(x, dy, residual)` on this thread, all of which are written; adds the
/// gradients of weight and bias to the halves of `sums`.
pub(crate) fn backward_rows(
    dx: &mut Out,
    (x, dy, residual): (Rows, &[f32], &[f32]),
    weight: &[f32],
    sums: &mut [f32],
    eps: f32,
) {
    let dim = weight.len();
    assert_rows(dy, dim);
    assert!([dx.len(), x.len(), residual.len()] == [dy.len(); 3], "gradients that do not fit");
    let (dweight, dbias) = sums.split_at_mut(dim);
    let mut room = x.room(dim);
    vectorised(
        #[inline(always)]
        || {
            let rows = dx.chunks_exact_mut(dim).zip(dy.chunks_exact(dim)).zip(residual.chunks_exact(dim));
            for (row, ((dx, dy), residual)) in rows.enumerate() {
                let row = x.row(row, dim, eps, &mut room);
                let dx = backward_row(dx, (row, dy), weight, (dweight, dbias));
                for (dx, &residual) in dx.iter_mut().zip(residual) {
                    *dx += residual;
                }
            }
        },
    )
}

/// The norm of every row of `x`.
pub fn forward(x: &[f32], weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    assert_eq!(bias.len(), weight.len(), "a bias that does not fit");
    // SAFETY: rows are as long as the weight, and every value is written.
    unsafe {
        map_rows(
            [x],
            weight.len(),
            #[inline(always)]
            |y, [x]| write_row(y, &Row::of(x, eps), weight, bias),
        )
    }
}

/// The gradient of `x`, and those of weight and bias behind one another.
pub fn backward(x: &[f32], weight: &[f32], dy: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
    let dim = weight.len();
    // SAFETY: rows are as long as the weight, and every value is written.
    unsafe {
        map_and_sum_rows(
            [x, dy],
            dim,
            2 * dim,
            #[inline(always)]
            |dx, [x, dy], sums| {
                backward_row(dx, (Row::of(x, eps), dy), weight, sums.split_at_mut(dim));
            },
        )
    }
}

/// Writes the gradient of one row, and adds to those of weight and bias; gives what was written.
#[inline(always)]
fn backward_row<'a>(
    dx: &'a mut Out,
    (row, dy): (Row, &[f32]),
    weight: &[f32],
    (dweight, dbias): (&mut [f32], &mut [f32]),
) -> &'a mut [f32] {
    let Row { x, mean, factor, scale } = row;
    let count = x.len() as f32;
    // First w · dy goes to the output, then the mean and the part along x are taken out of it.
    for ((dx, &dy), &w) in dx.iter_mut().zip(dy).zip(weight) {
        dx.write(dy * w);
    }
    // SAFETY: all of it was written above: rows are as long as the weight.
    let dx = unsafe { written(dx) };
    let mean_g = sum(dx, |g| g) / count;
    let along = sum2(dx, x, |g, x| g * (x - mean)) * factor / count;
    for (dx, &x) in dx.iter_mut().zip(x) {
        *dx = (*dx - mean_g - (x - mean) * factor * along) * scale;
    }
    for (((dweight, dbias), &x), &dy) in dweight.iter_mut().zip(dbias).zip(x).zip(dy) {
        *dweight += dy * ((x - mean) * factor);
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
    #[should_panic(expected = "values that are no rows of 3")]
    fn rows_that_do_not_fit_are_refused() {
        forward(&[0.; 7], &[1.; 3], &[0.; 3], 1e-6);
    }
}
