//! The gradients of one optimiser step: of the mean loss over its samples, however many batches they come in.

use candle_core::Tensor;
use tallow_models::optim::{self, Squares};
use tallow_models::{Gradients, Params};

use super::error::Result;

/// Gradients of a step while its batches come in.
#[derive(Debug, Default)]
pub struct Accumulator {
    gradients: Option<Gradients>,
    missing: Vec<String>,
}

impl Accumulator {
    /// Adds the gradients of `loss`, the mean over a batch, times `share`: the batch's part of the step's samples. With
    /// shares that sum to 1 the result is the gradient of the mean over all samples, whatever the sizes of the batches.
    ///
    /// # Errors
    /// If a trainable parameter received no gradient and `allow_missing` is false.
    pub fn add(&mut self, params: &Params, loss: &Tensor, share: f64, allow_missing: bool) -> Result<()> {
        let scaled = if share == 1. { loss.clone() } else { (loss * share)? };
        let gradients = if allow_missing {
            let (gradients, missing) = params.backward_allowing(&scaled)?;
            self.missing = missing;
            gradients
        } else {
            params.backward(&scaled)?
        };
        match &mut self.gradients {
            Some(sum) => sum.add(gradients)?,
            None => self.gradients = Some(gradients),
        }
        Ok(())
    }

    /// Takes the gradients of the one batch of a step, which were computed by hand.
    pub fn put(&mut self, gradients: Gradients) {
        self.gradients = Some(gradients);
    }

    /// The sum, and the names of parameters that received nothing, where that was allowed. None if nothing was added.
    pub fn take(self) -> Option<(Gradients, Vec<String>)> {
        self.gradients.map(|gradients| (gradients, self.missing))
    }
}

/// The sum of squares of every gradient, in order.
///
/// # Errors
/// If memory cannot be had.
pub fn sums_of_squares(gradients: &Gradients) -> Result<Squares> {
    let gradients: Vec<_> = gradients.iter().map(|(_, gradient)| gradient).collect();
    Ok(optim::sums_of_squares(&gradients)?)
}
