//! Steps of AdamW.
//!
//! Loshchilov, Hutter, "Decoupled Weight Decay Regularization", 2017; the order of operations is PyTorch's.

use candle_core::{Result, Tensor, bail};
pub use tallow_kernels::optim::AdamWStep;
use tallow_kernels::optim::adamw;

use super::Clip;
#[cfg(feature = "cuda")]
use super::on_cuda;
use crate::slices::{CpuValues, change, serves};

/// A parameter and what its step of AdamW needs; see [`adamw_step`].
#[derive(Debug, Clone, Copy)]
pub struct AdamWTarget<'a> {
    /// Changed in its own storage.
    pub param: &'a Tensor,
    /// The mean of the gradients.
    pub m: &'a Tensor,
    /// The mean of their squares.
    pub v: &'a Tensor,
    /// The gradient.
    pub grad: &'a Tensor,
    /// The numbers of its step.
    pub step: AdamWStep,
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
    let in_place = [param, m, v].iter().all(|t| t.is_contiguous());
    if !(serves([param, m, v, grad]) && in_place) {
        return composed(param, m, v, grad, step);
    }
    let grad = grad.contiguous()?;
    let g = CpuValues::of(&grad)?;
    change(param, |p| change(m, |m| change(v, |v| adamw(p, m, v, &g, step))))??
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

/// A step of AdamW for every target, with its gradients clipped: none at all if their norm is not finite.
///
/// # Errors
/// Those of [`adamw_step`].
pub fn adamw_steps(targets: &[AdamWTarget], clip: Option<Clip>) -> Result<()> {
    #[cfg(feature = "cuda")]
    if on_cuda::adamw_steps(targets, clip)? {
        return Ok(());
    }
    let Some(factor) = clip.map_or(Ok(Some(1.)), |clip| clip.factor())? else { return Ok(()) };
    targets.iter().try_for_each(|t| {
        let step = AdamWStep { grad_scale: t.step.grad_scale * factor, ..t.step };
        adamw_step(t.param, t.m, t.v, t.grad, &step)
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Var};

    use super::*;
    use crate::gradcheck::{distance, values};

    const STEP: AdamWStep =
        AdamWStep { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, step: 1, grad_scale: 0.5 };

    /// Five steps with the gradient `param + 1`, in place.
    fn walk(dtype: DType) -> Result<[Tensor; 3]> {
        let param = Var::from_tensor(&values(&[37, 300], 1)?.to_dtype(dtype)?)?;
        let [m, v] = [param.zeros_like()?, param.zeros_like()?];
        for step in 1..=5 {
            adamw_step(&param, &m, &v, &(param.as_detached_tensor() + 1.)?, &AdamWStep { step, ..STEP })?;
        }
        Ok([param.as_detached_tensor(), m, v])
    }

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for (got, exact) in walk(DType::F32)?.iter().zip(&walk(DType::F64)?) {
            assert!(distance(got, exact)? < 1e-6);
        }
        Ok(())
    }

    #[test]
    fn the_first_step_is_the_learning_rate_against_the_sign_of_the_gradient() -> Result<()> {
        let param = Var::new(&[1f32, 1., 1.], &candle_core::Device::Cpu)?;
        let [m, v] = [param.zeros_like()?, param.zeros_like()?];
        let grad = Tensor::new(&[3f32, -0.5, 0.], &candle_core::Device::Cpu)?;
        adamw_step(&param, &m, &v, &grad, &AdamWStep { eps: 0.0001, ..STEP })?;
        let expected = [1. * 0.999 - 0.01, 1. * 0.999 + 0.01, 0.999];
        for (got, expected) in param.to_vec1::<f32>()?.into_iter().zip(expected) {
            assert!((got - expected).abs() < 1e-5, "{got} instead of {expected}");
        }
        Ok(())
    }

    #[test]
    fn shapes_that_differ_and_steps_from_zero_are_errors() -> Result<()> {
        let [a, b] = [values(&[2, 3], 0)?, values(&[3, 2], 0)?];
        assert!(adamw_step(&a, &a.copy()?, &a.copy()?, &b, &STEP).is_err());
        assert!(adamw_step(&a, &a.copy()?, &a.copy()?, &a.copy()?, &AdamWStep { step: 0, ..STEP }).is_err());
        Ok(())
    }
}
