//! What happens in a run, as data: the loop emits events, and a terminal, a log file or a test listens.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::data::Image;

/// Something that happened in a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The run starts.
    Start {
        run: String,
        epochs: usize,
        steps_per_epoch: usize,
        trainable_parameters: usize,
        resumed_at_step: usize,
        /// Whether the steps read kept features and no images.
        kept_features: bool,
    },
    /// One optimiser step ended.
    Step(StepMetrics),
    /// One epoch ended, evaluation included.
    Epoch(EpochMetrics),
    /// Evaluation goes on: `done` of `total` samples.
    Evaluation { done: usize, total: usize },
    /// Images pass through a frozen backbone, whose features are kept: `done` of `total`.
    Features { done: usize, total: usize },
    /// A support vector machine goes on: `done` of `total` pairs of classes can be told apart.
    Solved { done: usize, total: usize },
    /// The contents of the samples are read, to tell them apart by them: `done` of `total`.
    Hashing { done: usize, total: usize },
    /// A checkpoint was written.
    Checkpoint { path: std::path::PathBuf, best: bool },
    /// What the run will take, before its first epoch, where that is not obviously little.
    Estimate(Estimate),
    /// What a model makes of test images, where that is to be looked at.
    Pictures(Pictures),
    /// Something that takes a while begins.
    Note(String),
    /// Something is known to fail, or looks wrong.
    Warning(String),
    /// Something that is likely better otherwise, with the flag to try.
    Hint(String),
    /// The run was stopped by Ctrl-C; it can be resumed.
    Interrupted { step: usize },
    /// The run ended.
    End { elapsed: Duration },
}

/// What a model makes of test images after an epoch.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Pictures {
    /// Counts from 0.
    pub epoch: usize,
    /// A title and a picture of every image, row by row: the image, what is seen of it, what is made of it.
    pub rows: Vec<(String, Vec<Image>)>,
    /// The names of the images.
    pub names: Vec<String>,
}

/// What a run will take, from one timed step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[non_exhaustive]
pub struct Estimate {
    /// Epochs of the run.
    pub epochs: usize,
    /// Of training and evaluation, on average. Where features are kept, of the first epoch.
    pub seconds_per_epoch: f64,
    /// Of all epochs.
    pub seconds: f64,
    /// Whether the epochs after the first take next to nothing, as features are once.
    pub first_alone: bool,
    /// The peak of the process, where the run is on the CPU and the system tells.
    pub memory_bytes: Option<u64>,
    /// Height and width of the model's input.
    pub img_size: [usize; 2],
}

impl Estimate {
    /// The same after `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// The metrics of one optimiser step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Default)]
#[non_exhaustive]
pub struct StepMetrics {
    /// Counts from 0.
    pub epoch: usize,
    /// Counts from 0 over the whole run.
    pub step: usize,
    /// Mean over the step's samples.
    #[serde(deserialize_with = "number")]
    pub loss: f64,
    /// The learning rate of this step.
    pub lr: f64,
    /// Global 2-norm of the gradients before clipping.
    #[serde(deserialize_with = "number")]
    pub grad_norm: f64,
    /// Training images per second.
    #[serde(deserialize_with = "number")]
    pub images_per_second: f64,
}

impl StepMetrics {
    /// The same after `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// The metrics of one epoch, or of all since the evaluation before it where not every epoch is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[non_exhaustive]
pub struct EpochMetrics {
    /// Counts from 0.
    pub epoch: usize,
    /// Mean over the epoch's training samples.
    #[serde(deserialize_with = "number")]
    pub train_loss: f64,
    /// Share of correct training predictions, in [0, 1], measured while training; NaN where labels are not read.
    #[serde(deserialize_with = "number")]
    pub train_accuracy: f64,
    /// On the validation split, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub val_loss: Option<f64>,
    /// On the validation split, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub val_accuracy: Option<f64>,
    /// On the test set; NaN where there is no such loss.
    #[serde(deserialize_with = "number")]
    pub test_loss: f64,
    /// On the test set, in [0, 1]. Where a model without a head is trained, or none is, it is that of the nearest neighbours, and NaN
    /// where there are no labels.
    #[serde(deserialize_with = "number")]
    pub test_accuracy: f64,
    /// Share of test samples whose label is among the five largest logits.
    #[serde(deserialize_with = "number")]
    pub test_top5: f64,
    /// Seconds of training and evaluation.
    pub seconds: f64,
    /// Training images per second, evaluation apart. Where features were computed before the first epoch, it is the rate at which
    /// they were there, and later that of steps on them.
    #[serde(deserialize_with = "number")]
    pub images_per_second: f64,
}

impl EpochMetrics {
    /// The same after `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Listens to a run.
pub trait Listener {
    /// Called for every event, in order.
    fn on(&mut self, event: &Event);
}

/// Reads a number that JSON could not write, as it was not finite and so became null, as no number.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}
