//! What a step minimises: the trait [`Objective`], and a file for each of them.
//!
//! The loop ([`super::fit`]) knows none of them. It asks for the batches of an epoch, has the loss of each, takes the gradients of all
//! trainable parameters, and lets the objective step along them; [`super::run::Run`] keeps what the objective remembers in the run's
//! checkpoints. Which one a run has is decided where it begins, in `run/begin.rs`.
//!
//! Where the parts of DINO (Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", 2021, arXiv 2104.14294) would
//! go, in a `dino.rs` beside [`supervised`]:
//! - **Crops**: [`Objective::batches`] loads the samples once for every crop, with a transform for the large and one for the small ones,
//!   and zips them: a variant of [`Batches`], and a field of [`Batch`] for the crops of the second size.
//! - **Projection head**: declared by the objective's constructor in the run's [`Params`](tallow_models::Params) under a prefix of its
//!   own. The optimiser is made after it and over the same store, so that gradients are checked for it and its state is kept like that
//!   of any parameter; `checkpoints/best`, which is for others to load, has to leave the prefix out. MAE's decoder would be declared
//!   likewise.
//! - **Loss**: [`Objective::loss`] passes all crops through the student, which is the model it is given, and two of them through the
//!   teacher, and has the cross-entropy between the two.
//! - **Teacher**: an [`Averages`](super::averages::Averages) of the run's parameters that the objective owns, moved at the end of its
//!   [`Objective::step`]; in the first epoch the last layer's gradients are left out of that step.
//! - **Centre**: a tensor of the objective, moved in its `step` as well.
//! - **Checkpoint**: teacher and centre are what [`Objective::state`] gives and [`Objective::set_state`] takes back.
//! - **Evaluation**: without labels there are no right answers to count; what nearest neighbours come to would be measured in
//!   [`Run::evaluate`](super::run::Run::evaluate), which the loop calls without knowing how.
//!
//! Distillation needs less: a constructor that opens the teacher's checkpoint, and a `loss`. Training on several devices is no
//! objective: every device has a share of the order in [`Run::batches`](super::run::Run::batches), and the gradients are summed over the
//! devices at the beginning of [`Run::step`](super::run::Run::step).

pub(super) mod supervised;
mod targets;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use tallow_models::optim::Clip;
use tallow_models::{Gradients, Model};

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
    fn loss(&mut self, model: &dyn Model, input: &ModelInput, batch: Batch, place: Place) -> Result<Pass>;

    /// Moves the parameters along `gradients` at the learning rate `lr`, and whatever the objective itself moves from step to step.
    ///
    /// # Errors
    /// Those of the optimiser.
    fn step(&mut self, optimizer: &mut Optimizer, gradients: &Gradients, clip: Clip, lr: f64) -> Result<()> {
        optimizer.step(gradients, Some(clip), lr)
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
