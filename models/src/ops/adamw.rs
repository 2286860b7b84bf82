//! One step of AdamW over one parameter.
//!
//! Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2017; the order of operations is PyTorch's.

use candle_core::{Result, Tensor, bail};

/// The numbers of a step.
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

/// Updates `param` and its means `m` and `v`, all of one shape, in their own storage:
///
/// `param ← param (1 - lr · weight_decay)`, `m ← β₁ m + (1 - β₁) g`, `v ← β₂ v + (1 - β₂) g²`,
/// `param ← param - lr / (1 - β₁ᵗ) · m / (sqrt(v) / sqrt(1 - β₂ᵗ) + eps)`.
///
/// # Errors
/// If the shapes differ, or `step` is 0.
pub fn adamw_step(param: &Tensor, m: &Tensor, v: &Tensor, grad: &Tensor, step: &AdamWStep) -> Result<()> {
    if [m, v, grad].iter().any(|t| t.dims() != param.dims()) {
        bail!(
            "adamw_step: expected m, v and grad {:?} as the parameter is, got {:?}, {:?}, {:?}",
            param.dims(),
            m.dims(),
            v.dims(),
            grad.dims()
        )
    }
    if step.step == 0 {
        bail!("adamw_step: expected steps counted from 1, got 0")
    }
    composed(param, m, v, grad, step)
}

fn composed(param: &Tensor, m: &Tensor, v: &Tensor, grad: &Tensor, s: &AdamWStep) -> Result<()> {
    let grad = (grad.detach().to_dtype(m.dtype())? * s.grad_scale)?;
    let new_m = ((m.detach() * s.beta1)? + (&grad * (1. - s.beta1))?)?;
    let new_v = ((v.detach() * s.beta2)? + (grad.sqr()? * (1. - s.beta2))?)?;
    let root = (new_v.sqrt()? / (1. - s.beta2.powf(s.step as f64)).sqrt())?;
    let update = (new_m.div(&(root + s.eps)?)? * (s.lr / (1. - s.beta1.powf(s.step as f64))))?;
    let new = ((param.detach() * (1. - s.lr * s.weight_decay))? - update.to_dtype(param.dtype())?)?;
    for (old, new) in [(m, new_m), (v, new_v), (param, new)] {
        old.flatten_all()?.slice_set(&new.flatten_all()?, 0, 0)?;
    }
    Ok(())
}
