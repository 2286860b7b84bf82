//! A run's folder: which files are in it and what they hold.
//!
//! `config.toml`, `data.json` (the samples, see [`super::data_record`]), `load.json`, `metrics.jsonl`, `summary.json`,
//! `predictions.json`, `report.html`, `checkpoints/{last,best}/`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tallow_weights::{expanded, quoted, save};

use super::config::{Method, TrainConfig};
use super::error::{Error, Result};
use super::evaluate::Evaluation;
use super::event::{EpochMetrics, StepMetrics, number};
use super::outcome::Start;
use crate::data::{Dataset, Exif};
use crate::inference::run;

/// A run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    root: PathBuf,
}

impl RunFolder {
    /// The folder at `root`, whether it exists or not; `~` is the home folder.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: expanded(root.into()) }
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder's own name, which names the run where nothing else does.
    pub fn name(&self) -> String {
        let full = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        full.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned())
    }

    /// `config.toml`: everything that was used, enough to run it again.
    pub fn config_path(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `load.json`: the account of the load, where weights were loaded.
    pub fn load_path(&self) -> PathBuf {
        self.root.join("load.json")
    }

    /// `metrics.jsonl`: a line a step and a line an epoch.
    pub fn metrics_path(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// `summary.json`: the result, once the run has ended.
    pub fn summary_path(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// `predictions.json`: what the chosen checkpoint says of the test set, once the run has ended.
    pub fn predictions_path(&self) -> PathBuf {
        self.root.join("predictions.json")
    }

    /// `report.html`: the run by itself.
    pub fn report_path(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// `checkpoints/`.
    pub fn checkpoints_path(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// `features/` beside the run: where runs of a recipe share what they keep of their backbones, if there is such a folder.
    pub fn shared_features_path(&self) -> PathBuf {
        self.root.parent().unwrap_or(Path::new("")).join("features")
    }

    /// `checkpoints/best/`: the chosen weights in timm's layout.
    pub fn best_path(&self) -> PathBuf {
        self.checkpoints_path().join("best")
    }

    /// `checkpoints/last/`: the latest weights in timm's layout, and what a resume needs.
    pub fn last_path(&self) -> PathBuf {
        self.checkpoints_path().join("last")
    }

    /// Checks that a run may start here, before anything is downloaded or loaded for it: a new one in an empty folder or where
    /// there is none yet, a resumed one also where a run has left its files.
    ///
    /// # Errors
    /// If the folder holds something else, or cannot be read.
    pub fn check_start(&self, start: Start) -> Result<()> {
        let begun = self.config_path().exists() || self.metrics_path().exists();
        if start == Start::Resume && begun { Ok(()) } else { self.check_empty() }
    }

    /// Checks that the folder is empty or does not exist, as a new run needs it.
    ///
    /// # Errors
    /// If there is something in it, or it cannot be read.
    fn check_empty(&self) -> Result<()> {
        match fs::read_dir(&self.root) {
            Ok(mut entries) => match entries.next() {
                None => Ok(()),
                Some(_) => Err(Error::NotEmpty { path: self.root.clone() }),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Error::io(&self.root)(error)),
        }
    }

    /// The folder of the run that a model at `path` is from, which is that folder itself, one of its checkpoints, or a file there.
    /// None where it is from no run.
    pub fn of_model(path: impl Into<PathBuf>) -> Option<Self> {
        run::of_model(path).map(|root| Self { root })
    }

    /// Reads `config.toml`. Where it states no [`exif`](super::config::DataSettings::exif), it is from a version that turned no image.
    ///
    /// # Errors
    /// If the file is not there or is not a run's configuration.
    pub fn config(&self) -> Result<TrainConfig> {
        let path = self.config_path();
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let config = TrainConfig::from_toml(&text, &path)?;
        Ok(config.with(|c| c.data.exif = c.data.exif.or(Some(Exif::Ignore))))
    }

    /// What the run makes of the orientation that cameras noted, whatever else its `config.toml` says.
    ///
    /// # Errors
    /// If the file is not there or says something else there.
    pub fn exif(&self) -> Result<Exif> {
        Ok(run::exif(&self.root)?)
    }

    /// Reads `metrics.jsonl`. A last line that was cut short, by a crash or because the run is still writing it, is left out.
    ///
    /// # Errors
    /// If the file is not there or another line is not what it should be.
    pub fn metrics(&self) -> Result<Metrics> {
        let path = self.metrics_path();
        let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let mut metrics = Metrics::default();
        for (number, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| line.ends_with('\n')) {
            match serde_json::from_str(line) {
                Ok(MetricsLine::Step(step)) => metrics.steps.push(step),
                Ok(MetricsLine::Epoch(epoch)) => metrics.epochs.push(epoch),
                Err(error) => {
                    let expected = format!("a step or an epoch in line {}", number + 1);
                    return Err(Error::File { path, expected, got: quoted(error) });
                }
            }
        }
        Ok(metrics)
    }

    /// Reads `summary.json`.
    ///
    /// # Errors
    /// If the run has not ended, or the file is not a summary.
    pub fn summary(&self) -> Result<Summary> {
        read_json(&self.summary_path(), "a run's summary")
    }

    /// Reads `predictions.json`.
    ///
    /// # Errors
    /// If the run has not ended, or the file does not hold predictions.
    pub fn predictions(&self) -> Result<Predictions> {
        let path = self.predictions_path();
        let predictions: Predictions = read_json(&path, "a run's predictions")?;
        let count = predictions.labels.len();
        if predictions.predicted.len() != count || predictions.confidence.len() != count {
            let got = format!("{} and {}", predictions.predicted.len(), predictions.confidence.len());
            return Err(Error::File { path, expected: format!("{count} predictions and confidences"), got });
        }
        Ok(predictions)
    }
}

/// Writes a JSON file of a run's folder as a whole.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::File {
        path: path.into(),
        expected: "values that JSON can hold".into(),
        got: error.to_string(),
    })?;
    Ok(save::write_text(path, &text)?)
}

/// Reads a JSON file of a run's folder.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<T> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|error| Error::File {
        path: path.into(),
        expected: expected.into(),
        got: quoted(error),
    })
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum MetricsLine {
    /// One optimiser step.
    Step(StepMetrics),
    /// One epoch.
    Epoch(EpochMetrics),
}

/// `metrics.jsonl`: the curves of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics {
    /// In order.
    pub steps: Vec<StepMetrics>,
    /// In order.
    pub epochs: Vec<EpochMetrics>,
}

/// `summary.json`: the result of a run that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The run's name: the folder's, unless a recipe named it.
    pub name: String,
    /// What was done in place of training with labels; none where there was such training.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub method: Option<Method>,
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
    #[serde(deserialize_with = "number")]
    pub seconds: f64,
    /// Training images per second, median over the epochs.
    #[serde(deserialize_with = "number")]
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
    /// Test accuracy of the chosen checkpoint; without a head that of the nearest neighbours, and NaN where there are no labels.
    #[serde(deserialize_with = "number")]
    pub test_accuracy: f64,
    /// Test loss of the chosen checkpoint; NaN where it is no finite number.
    #[serde(deserialize_with = "number")]
    pub test_loss: f64,
    /// Top-5 test accuracy of the chosen checkpoint.
    #[serde(deserialize_with = "number")]
    pub test_top5: f64,
    /// Test accuracy after the last epoch.
    #[serde(deserialize_with = "number")]
    pub final_test_accuracy: f64,
}

impl Summary {
    /// What settings and data say of a run that began with them, on these threads, and came to `tested`; the rest is left open.
    pub(super) fn of(config: &TrainConfig, dataset: &Dataset, tested: &Evaluation) -> Self {
        Self {
            method: config.pretraining.method,
            model: config.model.model.clone(),
            weights: config.model.weights.clone(),
            data: config.data.data.clone(),
            test_set: dataset.test_fingerprint(),
            classes: dataset.classes.clone(),
            train_samples: dataset.train.len(),
            test_samples: dataset.test.len(),
            device: config.compute.device.clone(),
            threads: config.compute.threads,
            chosen_by: "last".into(),
            test_accuracy: tested.accuracy,
            test_loss: tested.loss,
            test_top5: tested.top5,
            final_test_accuracy: tested.accuracy,
            ..Self::default()
        }
    }

    /// The same after `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
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
    pub mistakes: Vec<Answer>,
    /// Some that are right: of every class in turn the most confident. None in runs of versions that did not keep them.
    #[serde(default)]
    pub right: Vec<Answer>,
}

impl Predictions {
    /// How often each label was called each class: `[label][predicted]`, of `classes` classes. Pairs beyond them are left out.
    pub fn confusion(&self, classes: usize) -> Vec<Vec<usize>> {
        let mut counts = vec![vec![0; classes]; classes];
        for (&label, &predicted) in self.labels.iter().zip(&self.predicted) {
            if let Some(count) = counts.get_mut(label as usize).and_then(|row| row.get_mut(predicted as usize)) {
                *count += 1;
            }
        }
        counts
    }
}

/// What was said of one test sample, with its picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
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
    /// A thumbnail in base64: a PNG of what is small, a JPEG of what is larger. Empty for points in the plane.
    #[serde(alias = "png")]
    pub picture: String,
}
