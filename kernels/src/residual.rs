//! `x + keep · gamma · y`: a residual connection with LayerScale and stochastic depth, and its gradients.

use rayon::prelude::*;

use crate::column_sums::column_sums_of;
use crate::memory::filled;
use crate::simd::vectorised;
use crate::tasks::rows_per_task;

/// A factor for every sample of a batch, or one for all.
#[derive(Debug, Clone)]
pub struct ScaleAdd {
    keep: Vec<f32>,
}

impl ScaleAdd {
    /// With a factor for every sample, or one for all.
    pub fn new(keep: Vec<f32>) -> Self {
        Self { keep }
    }

    /// Whether it changes nothing.
    pub fn keeps_all(&self) -> bool {
        self.keep == [1.]
    }

    /// The factor of row `row` of `rows`.
    #[inline(always)]
    fn factor(&self, row: usize, rows: usize) -> f32 {
        if self.keep.len() == 1 { self.keep[0] } else { self.keep[row * self.keep.len() / rows] }
    }

    /// `x + keep · gamma · y` for rows of `dim` values; without `x`, what is added to it.
    pub fn forward(&self, x: Option<&[f32]>, y: &[f32], gamma: Option<&[f32]>, dim: usize) -> Vec<f32> {
        let dim = dim.max(1);
        let rows = y.len() / dim;
        assert!(y.len().is_multiple_of(dim), "values that are no rows");
        assert!(gamma.is_none_or(|gamma| gamma.len() == dim || y.is_empty()), "a gamma that does not fit");
        let task = rows_per_task(rows, dim);
        // SAFETY: the tasks cover the output, and every value of every row is written.
        unsafe {
            filled(y.len(), |out| {
                out.par_chunks_mut(task * dim).enumerate().for_each(|(i, out)| {
                    vectorised(
                        #[inline(always)]
                        || {
                            for (row, out) in (i * task..).zip(out.chunks_exact_mut(dim)) {
                                let factor = self.factor(row, rows);
                                let y = &y[row * dim..][..dim];
                                let x = x.map(|x| &x[row * dim..][..dim]);
                                match (x, gamma) {
                                    (Some(x), Some(gamma)) => {
                                        for (((out, &x), &y), &gamma) in out.iter_mut().zip(x).zip(y).zip(gamma) {
                                            out.write(x + gamma * y * factor);
                                        }
                                    }
                                    (Some(x), None) => {
                                        for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
                                            out.write(x + y * factor);
                                        }
                                    }
                                    (None, Some(gamma)) => {
                                        for ((out, &y), &gamma) in out.iter_mut().zip(y).zip(gamma) {
                                            out.write(gamma * y * factor);
                                        }
                                    }
                                    (None, None) => {
                                        for (out, &y) in out.iter_mut().zip(y) {
                                            out.write(y * factor);
                                        }
                                    }
                                }
                            }
                        },
                    )
                })
            })
        }
    }

    /// The gradient of `gamma [dim]`.
    pub fn gradient_of_gamma(&self, grad: &[f32], y: &[f32], dim: usize) -> Vec<f32> {
        let rows = y.len() / dim.max(1);
        column_sums_of(
            rows,
            dim,
            rows_per_task(rows, dim),
            #[inline(always)]
            |row, sums| {
                let factor = self.factor(row, rows);
                let (grad, y) = (&grad[row * dim..][..dim], &y[row * dim..][..dim]);
                for ((sum, &grad), &y) in sums.iter_mut().zip(grad).zip(y) {
                    *sum += grad * y * factor;
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
    fn samples_and_columns_have_their_factors() {
        let (x, y, gamma) = (values(24, 1), values(24, 2), values(4, 3));
        let keep = ScaleAdd::new(vec![0., 1., 2.]);
        let out = keep.forward(Some(&x), &y, Some(&gamma), 4);
        let without = keep.forward(None, &y, Some(&gamma), 4);
        for i in 0..24 {
            let added = y[i] * gamma[i % 4] * (i / 8) as f32;
            assert!((out[i] - x[i] - added).abs() < 1e-6 && (without[i] - added).abs() < 1e-6);
        }
        let dgamma = keep.gradient_of_gamma(&x, &y, 4);
        for (column, dgamma) in dgamma.into_iter().enumerate() {
            let exact: f32 = (0..6).map(|row| x[row * 4 + column] * y[row * 4 + column] * (row / 2) as f32).sum();
            assert!((dgamma - exact).abs() < 1e-5);
        }
        assert!(!keep.keeps_all() && ScaleAdd::new(vec![1.]).keeps_all());
    }
}
