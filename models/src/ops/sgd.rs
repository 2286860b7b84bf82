//! One step of stochastic gradient descent with momentum over one parameter, as PyTorch defines it.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::kernel::{change, read, rows_per_task, serves};
use super::simd::vectorised;

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
    let in_place = param.is_contiguous() && buffer.is_none_or(|b| serves(&[b]) && b.is_contiguous());
    if !(serves(&[param, grad]) && in_place) {
        return composed(param, buffer, grad, step);
    }
    match buffer {
        Some(buffer) => read(grad, |g| change(param, |p| change(buffer, |b| with_momentum(p, b, g, step))))??,
        None => read(grad, |g| change(param, |p| without_momentum(p, g, step)))?,
    }
}

fn with_momentum(p: &mut [f32], b: &mut [f32], g: &[f32], s: &SgdStep) {
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

fn without_momentum(p: &mut [f32], g: &[f32], s: &SgdStep) {
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::super::check::{distance, values};
    use super::*;

    const STEP: SgdStep = SgdStep { lr: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.01, grad_scale: 0.5 };

    #[test]
    fn kernels_agree_with_the_composition() -> Result<()> {
        let walk = |dtype, step: &SgdStep| -> Result<[Tensor; 2]> {
            let param = Var::from_tensor(&values(&[37, 300], 1)?.to_dtype(dtype)?)?;
            let buffer = param.zeros_like()?;
            for _ in 0..5 {
                sgd_step(&param, Some(&buffer), &(param.as_detached_tensor() + 1.)?, step)?;
            }
            Ok([param.as_detached_tensor(), buffer])
        };
        for step in [STEP, SgdStep { nesterov: true, ..STEP }, SgdStep { momentum: 0., ..STEP }] {
            for (got, exact) in walk(DType::F32, &step)?.iter().zip(&walk(DType::F64, &step)?) {
                assert!(distance(got, exact)? < 1e-6, "{step:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn two_steps_are_the_formula() -> Result<()> {
        let param = Var::new(&[1f32], &Device::Cpu)?;
        let (buffer, grad) = (param.zeros_like()?, Tensor::new(&[2f32], &Device::Cpu)?);
        let step = SgdStep { lr: 0.1, momentum: 0.5, nesterov: false, weight_decay: 0., grad_scale: 1. };
        sgd_step(&param, Some(&buffer), &grad, &step)?;
        assert!((param.to_vec1::<f32>()?[0] - 0.8).abs() < 1e-6);
        sgd_step(&param, Some(&buffer), &grad, &step)?;
        assert!((param.to_vec1::<f32>()?[0] - 0.5).abs() < 1e-6);
        Ok(())
    }

    #[test]
    fn momentum_without_a_buffer_is_an_error() -> Result<()> {
        let a = values(&[3], 0)?;
        assert!(sgd_step(&a, None, &a.copy()?, &STEP).is_err());
        assert!(sgd_step(&a, Some(&values(&[4], 0)?), &a.copy()?, &STEP).is_err());
        Ok(())
    }
}
