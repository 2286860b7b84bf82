//! What a step minimises: the trait [`Objective`], and a file for each of them.
//!
//! The loop ([`super::fit`]) knows none of them. It asks for the batches of an epoch, has the loss of each, takes the gradients of all
//! trainable parameters, and lets the objective step along them; [`super::run::Run`] keeps what the objective remembers in the run's
//! checkpoints. Which one a run has is decided where it begins, in `run/begin.rs`.
//!
//! An objective may have parameters of its own beside the model's: they are declared by its constructor in the run's
//! [`Params`](tallow_models::Params) under a prefix, so that gradients are checked for them and the optimiser steps over them like over
//! any others ([`Own`]). What others load, `model.safetensors` of a checkpoint, leaves them out ([`encoder`]); a resume finds them in the
//! objective's state. [`mae`] has its decoder there, [`dino`] its head; DINO's teacher is a store of its own, whose model is what is
//! evaluated and what `checkpoints/best` holds ([`Objective::chosen`]).
//!
//! Distillation needs less: a constructor that opens the teacher's checkpoint, and a `loss`. Training on several devices is no
//! objective: every device has a share of the order in [`Run::batches`](super::run::Run::batches), and the gradients are summed over the
//! devices at the beginning of [`Run::step`](super::run::Run::step).

pub(super) mod dino;
pub(super) mod mae;
mod own;
#[cfg(test)]
mod reference;
pub(super) mod supervised;
mod targets;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use tallow_models::optim::Clip;
use tallow_models::{AnyModel, Architecture, Gradients, Params, Vit};

use super::error::{Error, Result};
use super::features::{Batches, ModelInput};
use super::optimizer::Optimizer;
use crate::data::{Batch, LoaderOptions};

/// What a step minimises.
pub(super) trait Objective {
    /// The batches of the samples at `order`, as the loss needs them: one view of every sample unless it says otherwise.
    ///
    /// # Errors
    /// If they cannot be loaded.
    fn batches(
        &self,
        input: &ModelInput,
        order: Vec<usize>,
        options: LoaderOptions,
        device: &Device,
    ) -> Result<Batches> {
        input.batches(order, options, device)
    }

    /// The loss of `model` on a batch of `input`.
    ///
    /// # Errors
    /// Those of the model.
    fn loss(&mut self, model: &AnyModel, input: &ModelInput, batch: Batch, place: Place) -> Result<Pass>;

    /// Moves the parameters along `gradients` at the learning rate `lr`, and whatever the objective itself moves from step to step.
    ///
    /// # Errors
    /// Those of the optimiser.
    fn step(&mut self, optimizer: &mut Optimizer, gradients: &Gradients, clip: Clip, lr: f64) -> Result<()> {
        optimizer.step(gradients, Some(clip), lr)
    }

    /// What is evaluated and kept as the best checkpoint in place of the model that is trained; that one itself unless it says so.
    fn chosen(&self) -> Option<(&Params, &AnyModel)> {
        None
    }

    /// What is to be seen of an evaluation of `images [batch, channels, height, width]` of the test part, of which the first are samples
    /// `indices`; nothing unless it says so.
    ///
    /// # Errors
    /// Those of the model.
    fn test(&mut self, _model: &AnyModel, _images: &Tensor, _indices: &[usize]) -> Result<Tested> {
        Ok(Tested::default())
    }

    /// What looks wrong in the epoch that has ended; called once for each evaluation.
    ///
    /// # Errors
    /// If a device does not give its numbers.
    fn warnings(&mut self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// What the objective keeps from step to step and a resumed run needs, by name; nothing unless it says so.
    ///
    /// # Errors
    /// If memory cannot be had.
    fn state(&self) -> Result<Vec<(String, Tensor)>> {
        Ok(Vec::new())
    }

    /// Takes back what [`Objective::state`] gave.
    ///
    /// # Errors
    /// Names what is missing, too much, or of another shape.
    fn set_state(&mut self, state: HashMap<String, Tensor>) -> Result<()> {
        match state.keys().min() {
            Some(name) => Err(Error::invalid("the objective's state", "none", name)),
            None => Ok(()),
        }
    }
}

/// Where in a run a batch is. All that is random about its pass follows from here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The run's seed.
    pub seed: u64,
    /// Counts from 0.
    pub epoch: usize,
    /// The number of the batch in the epoch, counted from 0.
    pub batch: usize,
    /// The number of the forward pass in the run, counted from 0.
    pub pass: usize,
}

impl Place {
    /// The seed of the forward pass: all bits of the run's seed and the pass' number count (the finaliser of SplitMix64).
    pub fn pass_seed(&self) -> u64 {
        let mut z = self.seed.wrapping_add((self.pass as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What an objective without labels says of test images.
#[derive(Default)]
pub(super) struct Tested {
    /// The loss of every image.
    pub losses: Vec<f64>,
    /// Rows of pictures with a title each, as inputs `[channels, height, width]`, in columns by the images' order.
    pub pictures: Vec<(String, Vec<Tensor>)>,
}

/// The vision transformer that objectives without labels train.
fn vit(model: &AnyModel) -> Result<&Vit> {
    match model {
        AnyModel::Vit(vit) => Ok(vit),
        _ => Err(Error::invalid(
            "model",
            "a vision transformer, which cuts images into patches",
            "one of another family",
        )),
    }
}

/// The parameters of `architecture` among those of a store that holds others beside them, in a store of their own over the same memory.
///
/// # Errors
/// If one is missing.
pub(super) fn encoder(params: &Params, architecture: &Architecture) -> Result<Params> {
    let encoder = Params::new(0, params.dtype(), params.device());
    for spec in architecture.parameters()? {
        if let Some(param) = params.get(&spec.name) {
            encoder.provide(spec.name, param.var.as_tensor().clone());
        }
    }
    architecture.build(encoder.eval_builder())?;
    Ok(encoder)
}

/// What a batch came to.
pub(super) struct Pass {
    /// The mean over its samples, a scalar.
    pub loss: Tensor,
    /// How many of its samples were classified rightly, a u32.
    pub correct: Tensor,
    /// Its samples.
    pub samples: usize,
    /// The gradients of the loss, where the objective computes them itself and not by automatic differentiation.
    pub gradients: Option<Gradients>,
}
