//! A step of AdamW over the values of one parameter.
//!
//! Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2017; the order of operations is PyTorch's.

use rayon::prelude::*;

use crate::simd::vectorised;
use crate::tasks::rows_per_task;

/// The numbers of a step of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean of the gradients. PyTorch's default is 0.9.
    pub beta1: f64,
    /// Decay of the mean of their squares. PyTorch's default is 0.999.
    pub beta2: f64,
    /// Added to the root of the mean square. PyTorch's default is 1e-8.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Which step it is, counted from 1: it corrects the bias of the means.
    pub step: usize,
    /// What the gradient is multiplied by first (clipping, accumulation); 1 leaves it.
    pub grad_scale: f64,
}

/// Updates parameters `p` and the means `m` of their gradients `g` and `v` of the squares.
pub fn adamw(p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], s: &AdamWStep) {
    assert!([m.len(), v.len(), g.len()] == [p.len(); 3], "means and gradients that do not fit");
    let task = rows_per_task(p.len(), 1);
    let correction = |beta: f64| 1. - beta.powf(s.step as f64);
    let decay = (1. - s.lr * s.weight_decay) as f32;
    let (beta1, beta2, eps, scale) = (s.beta1 as f32, s.beta2 as f32, s.eps as f32, s.grad_scale as f32);
    let (rest1, rest2) = ((1. - s.beta1) as f32, (1. - s.beta2) as f32);
    let lr = (s.lr / correction(s.beta1)) as f32;
    let root = correction(s.beta2).sqrt() as f32;
    let tasks = p.par_chunks_mut(task).zip(m.par_chunks_mut(task)).zip(v.par_chunks_mut(task)).zip(g.par_chunks(task));
    tasks.for_each(|(((p, m), v), g)| {
        vectorised(
            #[inline(always)]
            || {
                for (((p, m), v), &g) in p.iter_mut().zip(m).zip(v).zip(g) {
                    let g = g * scale;
                    *m = beta1 * *m + rest1 * g;
                    *v = beta2 * *v + rest2 * g * g;
                    *p = *p * decay - lr * (*m / (v.sqrt() / root + eps));
                }
            },
        )
    });
}
