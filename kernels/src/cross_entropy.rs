//! `-Σ target · log softmax(logits)`, the mean over a batch, and its gradient.

use rayon::prelude::*;

use crate::memory::{filled, written};
use crate::simd::{exp, max, sum, vectorised};
use crate::tasks::rows_per_task;

/// The loss of a batch with these labels. The target of a row is `1 - smoothing` for its label plus `smoothing / classes` for every
/// class.
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    labels: Vec<u32>,
    classes: usize,
    smoothing: f32,
}

impl CrossEntropy {
    /// For one or more labels, all of them below `classes`.
    pub fn new(labels: Vec<u32>, classes: usize, smoothing: f32) -> Self {
        assert!(!labels.is_empty(), "an empty batch");
        assert!(labels.iter().all(|&label| (label as usize) < classes), "labels beyond the classes");
        Self { labels, classes, smoothing }
    }

    /// The loss of `logits [batch, classes]`.
    pub fn forward(&self, logits: &[f32]) -> f32 {
        let classes = self.classes;
        assert_eq!(logits.len(), self.labels.len() * classes, "logits that do not fit");
        let task = rows_per_task(self.labels.len(), classes);
        let losses: Vec<f64> = logits
            .par_chunks(task * classes)
            .zip(self.labels.par_chunks(task))
            .map(|(logits, labels)| {
                vectorised(
                    #[inline(always)]
                    || {
                        let rows = logits.chunks_exact(classes).zip(labels);
                        rows.map(|(row, &label)| f64::from(self.row_loss(row, label as usize))).sum()
                    },
                )
            })
            .collect();
        (losses.iter().sum::<f64>() / self.labels.len() as f64) as f32
    }

    #[inline(always)]
    fn row_loss(&self, row: &[f32], label: usize) -> f32 {
        let max = max(row);
        let log_sum = sum(row, |x| exp(x - max)).ln();
        let loss = log_sum - (row[label] - max);
        if self.smoothing == 0. {
            return loss;
        }
        let mean = log_sum - sum(row, |x| x - max) / row.len() as f32;
        (1. - self.smoothing) * loss + self.smoothing * mean
    }

    /// The gradient of the logits, `(softmax - target) / batch · dloss`.
    pub fn backward(&self, logits: &[f32], dloss: f32) -> Vec<f32> {
        let classes = self.classes;
        assert_eq!(logits.len(), self.labels.len() * classes, "logits that do not fit");
        let task = rows_per_task(self.labels.len(), classes);
        let scale = dloss / self.labels.len() as f32;
        let everywhere = self.smoothing / classes as f32;
        // SAFETY: the tasks cover the output, and every value of every row is written.
        unsafe {
            filled(logits.len(), |out| {
                let tasks = out.par_chunks_mut(task * classes).zip(logits.par_chunks(task * classes));
                tasks.zip(self.labels.par_chunks(task)).for_each(|((out, logits), labels)| {
                    vectorised(
                        #[inline(always)]
                        || {
                            let rows = out.chunks_exact_mut(classes).zip(logits.chunks_exact(classes));
                            for ((out, row), &label) in rows.zip(labels) {
                                let max = max(row);
                                for (out, &x) in out.iter_mut().zip(row) {
                                    out.write(exp(x - max));
                                }
                                let out = written(out);
                                let total = 1. / sum(out, |x| x);
                                for out in out.iter_mut() {
                                    *out = (*out * total - everywhere) * scale;
                                }
                                out[label as usize] -= (1. - self.smoothing) * scale;
                            }
                        },
                    )
                })
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn it_is_the_formula_and_its_gradient_the_slope() {
        for smoothing in [0., 0.1] {
            let (batch, classes) = (37, 10);
            let labels: Vec<u32> = (0..batch).map(|i| i * 7 % classes).collect();
            let logits = values((batch * classes) as usize, 1);
            let exact = |logits: &[f32]| {
                let row = |(row, &label): (&[f32], &u32)| {
                    let log_sum = row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
                    let log_probability = |x: f32| f64::from(x) - log_sum;
                    let mean = row.iter().map(|&x| log_probability(x)).sum::<f64>() / f64::from(classes);
                    -(1. - smoothing) * log_probability(row[label as usize]) - smoothing * mean
                };
                logits.chunks_exact(classes as usize).zip(&labels).map(row).sum::<f64>() / f64::from(batch)
            };
            let loss = CrossEntropy::new(labels.clone(), classes as usize, smoothing as f32);
            assert!((f64::from(loss.forward(&logits)) - exact(&logits)).abs() < 1e-5);
            let gradient = loss.backward(&logits, 2.);
            for at in [0, 11, 369] {
                let moved = |by: f32| {
                    let mut logits = logits.clone();
                    logits[at] += by;
                    exact(&logits)
                };
                let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!((f64::from(gradient[at]) - 2. * slope).abs() < 1e-5, "{at}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "labels beyond the classes")]
    fn labels_beyond_the_classes_are_refused() {
        CrossEntropy::new(vec![3], 3, 0.);
    }
}
