//! `exp(x) / Σ exp(x)` over every row, and its gradient. Rows of any magnitude stay finite.

use crate::memory::written;
use crate::rows::map_rows;
use crate::simd::{exp, max, sum, sum2};

/// The softmax of every row of `dim` values.
pub fn forward(x: &[f32], dim: usize) -> Vec<f32> {
    // SAFETY: every value of a row is written.
    unsafe {
        map_rows(
            [x],
            dim.max(1),
            #[inline(always)]
            |y, [x]| {
                let max = max(x);
                for (y, &x) in y.iter_mut().zip(x) {
                    y.write(exp(x - max));
                }
                let y = written(y);
                let scale = 1. / sum(y, |y| y);
                for y in y {
                    *y *= scale;
                }
            },
        )
    }
}

/// The gradient of the input for that of the output `y`.
pub fn backward(y: &[f32], dy: &[f32], dim: usize) -> Vec<f32> {
    // SAFETY: every value of a row is written.
    unsafe {
        map_rows(
            [y, dy],
            dim.max(1),
            #[inline(always)]
            |dx, [y, dy]| {
                let dot = sum2(y, dy, |y, dy| y * dy);
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    dx.write(y * (dy - dot));
                }
            },
        )
    }
}

/// Turns the first `keys` scores of a row into probabilities; gives the logarithm of the sum of their exponentials.
#[inline(always)]
pub(crate) fn softmax_row(row: &mut [f32], keys: usize) -> f32 {
    row[keys..].fill(f32::NEG_INFINITY);
    let max = max(row);
    for x in row.iter_mut() {
        *x = exp(*x - max);
    }
    let total = sum(row, |x| x);
    let scale = 1. / total;
    for x in row {
        *x *= scale;
    }
    max + total.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn rows_sum_to_one_and_gradients_to_zero() {
        for (rows, dim) in [(1, 1), (3, 17), (200, 40)] {
            let x: Vec<f32> = values(rows * dim, 1).into_iter().map(|x| x * 30.).collect();
            let y = forward(&x, dim);
            let dx = backward(&y, &values(rows * dim, 2), dim);
            for ((y, dx), x) in y.chunks_exact(dim).zip(dx.chunks_exact(dim)).zip(x.chunks_exact(dim)) {
                let largest = x.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
                let total: f64 = x.iter().map(|&x| f64::from(x - largest).exp()).sum();
                let exact = |x: f32| f64::from(x - largest).exp() / total;
                assert!(y.iter().zip(x).all(|(&y, &x)| (f64::from(y) - exact(x)).abs() < 1e-6), "{rows}x{dim}");
                assert!((y.iter().sum::<f32>() - 1.).abs() < 1e-5 && dx.iter().sum::<f32>().abs() < 1e-5);
            }
        }
        let huge = forward(&[1e30, -1e30, 1e30], 3);
        assert_eq!(huge, [0.5, 0., 0.5]);
    }
}
