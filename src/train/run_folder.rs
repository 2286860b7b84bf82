//! A run's folder: which files are in it and what they hold.
//!
//! `config.toml`, `load.json`, `metrics.jsonl`, `summary.json`, `predictions.json`, `report.html`,
//! `checkpoints/{last,best}/`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A run's folder.
#[derive(Debug, Clone)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The folder at `root`, whether it exists or not.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// `summary.json`: the result of a run that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The run's name: the folder's, unless a recipe named it.
    pub name: String,
    /// The model as the user named it.
    pub model: String,
    /// Where the weights came from; none means drawn from the seed.
    pub weights: Option<String>,
    /// The data set as the user named it.
    pub data: String,
    /// Identifies the test samples (their names and labels): runs with the same one can be compared sample by sample.
    pub test_set: String,
    /// Class names by label.
    pub classes: Vec<String>,
    /// Parameters of the model.
    pub parameters: usize,
    /// Parameters that were trained.
    pub trainable_parameters: usize,
    /// Epochs that were run.
    pub epochs: usize,
    /// Optimiser steps that were run.
    pub steps: usize,
    /// Training samples of an epoch.
    pub train_samples: usize,
    /// Test samples.
    pub test_samples: usize,
    /// Seconds of the whole run, over all sessions of a resumed one.
    pub seconds: f64,
    /// Training images per second, median over the epochs.
    pub images_per_second: f64,
    /// Peak resident memory of the process in bytes, where the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// The device, in words.
    pub device: String,
    /// Threads for compute.
    pub threads: usize,
    /// The epoch whose checkpoint is `best`, counted from 0.
    pub best_epoch: usize,
    /// What chose it: `val_accuracy`, or `last` where there is no validation split.
    pub chosen_by: String,
    /// Test accuracy of the chosen checkpoint.
    pub test_accuracy: f64,
    /// Test loss of the chosen checkpoint.
    pub test_loss: f64,
    /// Top-5 test accuracy of the chosen checkpoint.
    pub test_top5: f64,
    /// Test accuracy after the last epoch.
    pub final_test_accuracy: f64,
}

/// `predictions.json`: what the chosen checkpoint says of every test sample, in the order of the test set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predictions {
    /// True labels.
    pub labels: Vec<u32>,
    /// The class with the largest logit.
    pub predicted: Vec<u32>,
    /// The probability given to it.
    pub confidence: Vec<f32>,
    /// The most confident mistakes, worst first.
    pub mistakes: Vec<Mistake>,
}

/// A confident mistake, with its picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Index in the test set.
    pub index: usize,
    /// The sample's name.
    pub name: String,
    /// True label.
    pub label: u32,
    /// Predicted label.
    pub predicted: u32,
    /// The probability given to it.
    pub confidence: f32,
    /// A thumbnail: a PNG in base64.
    pub png: String,
}
