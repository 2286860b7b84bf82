//! Steps of stochastic gradient descent with momentum, as PyTorch defines it.

use candle_core::{Result, Tensor, bail};
pub use tallow_kernels::optim::SgdStep;
use tallow_kernels::optim::{sgd, sgd_with_momentum};

use super::Clip;
#[cfg(feature = "cuda")]
use super::on_cuda;
use crate::slices::{CpuValues, change, serves};

/// A parameter and what its step of SGD needs; see [`sgd_step`].
#[derive(Debug, Clone, Copy)]
pub struct SgdTarget<'a> {
    /// Changed in its own storage.
    pub param: &'a Tensor,
    /// Needed where there is momentum.
    pub momentum_buffer: Option<&'a Tensor>,
    /// The gradient.
    pub grad: &'a Tensor,
    /// The numbers of its step.
    pub step: SgdStep,
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
    let in_place = param.is_contiguous() && buffer.is_none_or(|b| serves([b]) && b.is_contiguous());
    if !(serves([param, grad]) && in_place) {
        return composed(param, buffer, grad, step);
    }
    let grad = grad.contiguous()?;
    let g = CpuValues::of(&grad)?;
    match buffer {
        Some(buffer) => change(param, |p| change(buffer, |b| sgd_with_momentum(p, b, &g, step)))?,
        None => change(param, |p| sgd(p, &g, step)),
    }
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

/// A step of SGD for every target, with its gradients clipped: none at all if their norm is not finite.
///
/// # Errors
/// Those of [`sgd_step`].
pub fn sgd_steps(targets: &[SgdTarget], clip: Option<Clip>) -> Result<()> {
    #[cfg(feature = "cuda")]
    if on_cuda::sgd_steps(targets, clip)? {
        return Ok(());
    }
    let Some(factor) = clip.map_or(Ok(Some(1.)), |clip| clip.factor())? else { return Ok(()) };
    targets.iter().try_for_each(|t| {
        let step = SgdStep { grad_scale: t.step.grad_scale * factor, ..t.step };
        sgd_step(t.param, t.momentum_buffer, t.grad, &step)
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::gradcheck::{distance, values};

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
