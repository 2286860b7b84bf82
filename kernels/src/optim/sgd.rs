//! A step of stochastic gradient descent over the values of one parameter, as PyTorch defines it.

use rayon::prelude::*;

use crate::simd::vectorised;
use crate::tasks::rows_per_task;

/// The numbers of a step of SGD.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub lr: f64,
    /// Momentum; 0 for none.
    pub momentum: f64,
    /// Nesterov's form of momentum.
    pub nesterov: bool,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
    /// What the gradient is multiplied by first (clipping, accumulation); 1 leaves it.
    pub grad_scale: f64,
}

/// Updates parameters `p` and the buffer `b` of the momentum of their gradients `g`.
pub fn sgd_with_momentum(p: &mut [f32], b: &mut [f32], g: &[f32], s: &SgdStep) {
    assert!([b.len(), g.len()] == [p.len(); 2], "a buffer and gradients that do not fit");
    let task = rows_per_task(p.len(), 1);
    let (lr, momentum, decay) = (s.lr as f32, s.momentum as f32, s.weight_decay as f32);
    let scale = s.grad_scale as f32;
    // Nesterov's direction is g + momentum · buffer, the plain one the buffer: both are a g + c buffer.
    let (of_g, of_buffer) = if s.nesterov { (1., momentum) } else { (0., 1.) };
    p.par_chunks_mut(task).zip(b.par_chunks_mut(task)).zip(g.par_chunks(task)).for_each(|((p, b), g)| {
        vectorised(
            #[inline(always)]
            || {
                for ((p, b), &g) in p.iter_mut().zip(b).zip(g) {
                    let g = g * scale + decay * *p;
                    *b = momentum * *b + g;
                    *p -= lr * (of_g * g + of_buffer * *b);
                }
            },
        )
    });
}

/// Updates parameters `p` by their gradients `g`; the step's momentum is not looked at.
pub fn sgd(p: &mut [f32], g: &[f32], s: &SgdStep) {
    assert_eq!(g.len(), p.len(), "gradients that do not fit");
    let task = rows_per_task(p.len(), 1);
    let (lr, decay, scale) = (s.lr as f32, s.weight_decay as f32, s.grad_scale as f32);
    p.par_chunks_mut(task).zip(g.par_chunks(task)).for_each(|(p, g)| {
        vectorised(
            #[inline(always)]
            || {
                for (p, &g) in p.iter_mut().zip(g) {
                    *p -= lr * (g * scale + decay * *p);
                }
            },
        )
    });
}
