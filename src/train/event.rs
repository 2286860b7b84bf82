//! What happens in a run, as data: the loop emits events, and a terminal, a log file or a test listens.

use std::time::Duration;

/// Something that happened in a run.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run starts.
    Start { run: String, epochs: usize, steps_per_epoch: usize, trainable_parameters: usize, resumed_at_step: usize },
    /// One optimiser step ended.
    Step(StepMetrics),
    /// One epoch ended, evaluation included.
    Epoch(EpochMetrics),
    /// Evaluation goes on: `done` of `total` samples.
    Evaluation { done: usize, total: usize },
    /// A checkpoint was written.
    Checkpoint { path: std::path::PathBuf, best: bool },
    /// Something is known to fail, or looks wrong.
    Warning(String),
    /// The run was stopped by Ctrl-C; it can be resumed.
    Interrupted { step: usize },
    /// The run ended.
    End { elapsed: Duration },
}

/// The metrics of one optimiser step.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StepMetrics {
    /// Counts from 0.
    pub epoch: usize,
    /// Counts from 0 over the whole run.
    pub step: usize,
    /// Mean over the step's samples.
    pub loss: f64,
    /// The learning rate of this step.
    pub lr: f64,
    /// Global 2-norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Training images per second.
    pub images_per_second: f64,
}

/// The metrics of one epoch.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EpochMetrics {
    /// Counts from 0.
    pub epoch: usize,
    /// Mean over the epoch's training samples.
    pub train_loss: f64,
    /// Share of correct training predictions, in [0, 1], measured while training.
    pub train_accuracy: f64,
    /// On the validation split, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub val_loss: Option<f64>,
    /// On the validation split, where there is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub val_accuracy: Option<f64>,
    /// On the test set.
    pub test_loss: f64,
    /// On the test set, in [0, 1].
    pub test_accuracy: f64,
    /// Share of test samples whose label is among the five largest logits.
    pub test_top5: f64,
    /// Seconds of training and evaluation.
    pub seconds: f64,
    /// Training images per second, evaluation apart.
    pub images_per_second: f64,
}

/// Listens to a run.
pub trait Listener {
    /// Called for every event, in order.
    fn on(&mut self, event: &Event);
}
