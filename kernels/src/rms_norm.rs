//! `y = x / sqrt(mean(x²) + eps) * weight` for every row, and its gradients.
//!
//! Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.

use crate::memory::written;
use crate::rows::{map_and_sum_rows, map_rows};
use crate::simd::{sum, sum2};

/// One over the root of the mean square of a row.
#[inline(always)]
fn scale_of(x: &[f32], eps: f32) -> f32 {
    1. / (sum(x, |x| x * x) / x.len() as f32 + eps).sqrt()
}

/// The norm of every row of `x`.
pub fn forward(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    // SAFETY: rows are as long as the weight, and every value is written.
    unsafe {
        map_rows(
            [x],
            weight.len(),
            #[inline(always)]
            |y, [x]| {
                let scale = scale_of(x, eps);
                for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                    y.write(x * scale * w);
                }
            },
        )
    }
}

/// The gradients of `x` and of the weight.
pub fn backward(x: &[f32], weight: &[f32], dy: &[f32], eps: f32) -> (Vec<f32>, Vec<f32>) {
    let dim = weight.len();
    // SAFETY: rows are as long as the weight, and every value is written.
    unsafe {
        map_and_sum_rows(
            [x, dy],
            dim,
            dim,
            #[inline(always)]
            |dx, [x, dy], dweight| {
                let scale = scale_of(x, eps);
                // First w · dy goes to the output, then the part along x is taken out of it.
                for ((dx, &dy), &w) in dx.iter_mut().zip(dy).zip(weight) {
                    dx.write(dy * w);
                }
                // All of it was written above.
                let dx = written(dx);
                let along = sum2(dx, x, |g, x| g * x) * scale * scale / dim as f32;
                for (dx, &x) in dx.iter_mut().zip(x) {
                    *dx = (*dx - x * along) * scale;
                }
                for ((dweight, &x), &dy) in dweight.iter_mut().zip(x).zip(dy) {
                    *dweight += dy * (x * scale);
                }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn rows_have_a_mean_square_of_one_and_the_gradient_of_the_formula() {
        for (rows, dim) in [(1, 3), (17, 40), (300, 64)] {
            let (x, weight, dy) = (values(rows * dim, 1), values(dim, 2), values(rows * dim, 4));
            let y = forward(&x, &weight, 1e-6);
            let (dx, dweight) = backward(&x, &weight, &dy, 1e-6);
            let close = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-4;
            let mut exact = vec![0f64; dim];
            for row in 0..rows {
                let of = |a: &[f32], i: usize| f64::from(a[row * dim + i]);
                let scale = 1. / ((0..dim).map(|i| of(&x, i).powi(2)).sum::<f64>() / dim as f64 + 1e-6).sqrt();
                let g = |i: usize| of(&dy, i) * f64::from(weight[i]);
                let along = (0..dim).map(|i| g(i) * of(&x, i) * scale).sum::<f64>() / dim as f64;
                for i in 0..dim {
                    assert!(close(y[row * dim + i], of(&x, i) * scale * f64::from(weight[i])));
                    assert!(close(dx[row * dim + i], (g(i) - of(&x, i) * scale * along) * scale));
                    exact[i] += of(&dy, i) * of(&x, i) * scale;
                }
            }
            assert!(dweight.iter().zip(exact).all(|(&sum, exact)| close(sum, exact)), "{rows}x{dim}");
        }
    }
}
