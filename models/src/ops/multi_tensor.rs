//! Optimiser steps and sums of squares over many tensors: on CUDA in one launch, elsewhere one after the other.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda;
use super::{AdamWStep, SgdStep, adamw_step, sgd_step, sum_of_squares};

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

/// A step of AdamW for every target.
///
/// # Errors
/// Those of [`adamw_step`].
pub fn adamw_steps(targets: &[AdamWTarget]) -> Result<()> {
    #[cfg(feature = "cuda")]
    if cuda::adamw_steps(targets)? {
        return Ok(());
    }
    targets.iter().try_for_each(|t| adamw_step(t.param, t.m, t.v, t.grad, &t.step))
}

/// A step of SGD for every target.
///
/// # Errors
/// Those of [`sgd_step`].
pub fn sgd_steps(targets: &[SgdTarget]) -> Result<()> {
    #[cfg(feature = "cuda")]
    if cuda::sgd_steps(targets)? {
        return Ok(());
    }
    targets.iter().try_for_each(|t| sgd_step(t.param, t.momentum_buffer, t.grad, &t.step))
}

/// [`sum_of_squares`] of every tensor.
///
/// # Errors
/// Those of Candle.
pub fn sums_of_squares(tensors: &[&Tensor]) -> Result<Vec<f64>> {
    #[cfg(feature = "cuda")]
    if let Some(sums) = cuda::sums_of_squares(tensors)? {
        return Ok(sums);
    }
    tensors.iter().map(|tensor| sum_of_squares(tensor)).collect()
}
