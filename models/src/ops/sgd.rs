//! One step of stochastic gradient descent with momentum over one parameter, as PyTorch defines it.

use candle_core::{Result, Tensor, bail};

/// The numbers of a step.
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

/// Updates `param`, and `momentum_buffer` (zeros before the first step; not needed without momentum), in their own storage:
///
/// `g ← g + weight_decay · param`, `buffer ← momentum · buffer + g`, `param ← param - lr · buffer`, and with Nesterov
/// `param ← param - lr · (g + momentum · buffer)`.
///
/// # Errors
/// If the shapes differ, or there is momentum and no buffer.
pub fn sgd_step(param: &Tensor, momentum_buffer: Option<&Tensor>, grad: &Tensor, step: &SgdStep) -> Result<()> {
    if grad.dims() != param.dims() || momentum_buffer.is_some_and(|b| b.dims() != param.dims()) {
        bail!(
            "sgd_step: expected grad and buffer {:?} as the parameter is, got {:?}, {:?}",
            param.dims(),
            grad.dims(),
            momentum_buffer.map(|b| b.dims())
        )
    }
    let buffer = if step.momentum == 0. { None } else { momentum_buffer };
    if step.momentum != 0. && buffer.is_none() {
        bail!("sgd_step: expected a momentum buffer for momentum {}, got none", step.momentum)
    }
    composed(param, buffer, grad, step)
}

fn composed(param: &Tensor, buffer: Option<&Tensor>, grad: &Tensor, s: &SgdStep) -> Result<()> {
    let grad = ((grad.detach() * s.grad_scale)? + (param.detach() * s.weight_decay)?)?;
    let direction = match buffer {
        None => grad,
        Some(buffer) => {
            let new = ((buffer.detach() * s.momentum)? + &grad)?;
            buffer.flatten_all()?.slice_set(&new.flatten_all()?, 0, 0)?;
            if s.nesterov { (grad + (new * s.momentum)?)? } else { new }
        }
    };
    let new = (param.detach() - (direction * s.lr)?)?;
    param.flatten_all()?.slice_set(&new.flatten_all()?, 0, 0)
}
