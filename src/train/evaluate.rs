//! Measuring a model on samples: loss, accuracy, and what it says of each.

use std::sync::Arc;

use tallow_models::Model;

use super::error::{Error, Result};
use super::event::Listener;
use super::run_folder::RunFolder;
use crate::data::{Samples, Transform};

/// What a model says of samples, in their order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evaluation {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of samples whose label has the largest logit, in [0, 1].
    pub accuracy: f64,
    /// Share of samples whose label is among the five largest logits, in [0, 1].
    pub top5: f64,
    /// True labels.
    pub labels: Vec<u32>,
    /// The class with the largest logit.
    pub predicted: Vec<u32>,
    /// The probability given to it.
    pub confidence: Vec<f32>,
}

/// Options of an evaluation.
#[derive(Debug, Clone)]
pub struct EvaluateOptions {
    /// Samples of one forward pass. Default 64.
    pub batch_size: usize,
    /// Threads that decode and transform samples; 0 for one a core. Default 0.
    pub threads: usize,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self { batch_size: 64, threads: 0 }
    }
}

/// Measures `model` on `samples`; `progress` is told how many are done.
///
/// # Errors
/// If a sample cannot be read, its label is beyond the model's classes, or the loss is no number.
pub fn evaluate(
    _model: &dyn Model,
    _samples: &Arc<dyn Samples>,
    _transform: &Transform,
    _device: &candle_core::Device,
    _options: &EvaluateOptions,
    _progress: &mut dyn FnMut(usize),
) -> Result<Evaluation> {
    Err(Error::config("evaluate", "a later commit", "this one"))
}

/// What to measure a run's chosen checkpoint on, where it is not what the run itself was measured on.
#[derive(Debug, Clone, Default)]
pub struct RunEvaluation {
    /// Another data set. Default: the run's own.
    pub data: Option<String>,
    /// Another number of test samples. Default: the run's own, or all of another data set's.
    pub test_limit: Option<usize>,
    /// Another device. Default: the run's own.
    pub device: Option<String>,
    /// Another batch size. Default: the run's own.
    pub batch_size: Option<usize>,
}

/// Measures the chosen checkpoint of the run in `folder` on its test set, or on other data with the same classes.
///
/// # Errors
/// If the folder holds no chosen checkpoint, or the data cannot be read or has other classes.
pub fn evaluate_run(_folder: &RunFolder, _options: &RunEvaluation, _listener: &mut dyn Listener) -> Result<Evaluation> {
    Err(Error::config("evaluate", "a later commit", "this one"))
}
