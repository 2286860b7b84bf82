//! What a report knows of one run: the files of its folder, read and checked.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tallow_weights::Account;
pub(super) use tallow_weights::one_line as clean;

use super::error::{Error, Result};
use super::figure::Figure;
use crate::data::Exif;
use crate::train::RunFolder;
use crate::train::run_folder::{Predictions, Summary};

/// A run, finished or not. A report reads only what it shows, so that it also reads runs of other versions of Tallow.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// What the report calls it: unlike the names of the other runs of the report.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// In order of `step`.
    pub steps: Vec<Step>,
    /// In order of `epoch`.
    pub epochs: Vec<Epoch>,
    /// Not there while the run has not ended.
    pub summary: Option<Summary>,
    /// Not there while the run has not ended.
    pub predictions: Option<Predictions>,
    /// `config.toml`; empty where there is none.
    pub config: toml::Table,
    /// The account of the load in short, in lines, where weights were loaded.
    pub load: Option<String>,
    /// Pictures of its own.
    pub figures: Vec<Figure>,
}

/// A line of `metrics.jsonl` about one optimiser step. A number that was not finite is missing (JSON cannot write it).
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Step {
    pub epoch: u32,
    pub step: u32,
    pub loss: Option<f64>,
    pub lr: Option<f64>,
    pub grad_norm: Option<f64>,
}

/// A line of `metrics.jsonl` about one epoch. A number that was not finite is missing.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Epoch {
    pub epoch: u32,
    pub train_accuracy: Option<f64>,
    pub val_loss: Option<f64>,
    pub val_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub seconds: Option<f64>,
    pub images_per_second: Option<f64>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Step(Step),
    Epoch(Epoch),
}

impl Run {
    /// A run of which nothing is known but its configuration.
    #[cfg(test)]
    pub fn of_config(name: &str, config: &str) -> Self {
        Self {
            name: name.into(),
            folder: name.into(),
            steps: vec![],
            epochs: vec![],
            summary: None,
            predictions: None,
            config: config.parse().expect("a configuration"),
            load: None,
            figures: vec![],
        }
    }

    /// Reads the run in `folder`.
    ///
    /// # Errors
    /// If the folder holds no run, or a file in it that cannot be read or contradicts itself or another.
    pub fn read(folder: &RunFolder) -> Result<Self> {
        let root = folder.root();
        if !root.is_dir() {
            let got = if root.exists() { "a file" } else { "nothing there" };
            return Err(Error::NotARun { path: root.into(), got });
        }
        let (config_path, metrics_path, summary_path) =
            (folder.config_path(), folder.metrics_path(), folder.summary_path());
        if [&config_path, &metrics_path, &summary_path].iter().all(|path| !path.exists()) {
            return Err(Error::NotARun { path: root.into(), got: "a folder without any of them" });
        }
        let (steps, epochs) = match read(&metrics_path)? {
            Some(text) => metrics(&text, &metrics_path)?,
            None => (vec![], vec![]),
        };
        let mut summary: Option<Summary> = json(&summary_path, "a run's summary")?;
        if let Some(summary) = &summary {
            check_summary(summary, &summary_path)?;
        }
        let predictions_path = folder.predictions_path();
        let mut predictions: Option<Predictions> = json(&predictions_path, "a run's predictions")?;
        if let Some(predictions) = &predictions {
            check_predictions(predictions, summary.as_ref(), &predictions_path)?;
        }
        if let Some(summary) = &mut summary {
            for text in [&mut summary.model, &mut summary.data, &mut summary.device, &mut summary.chosen_by] {
                *text = clean(text);
            }
            summary.weights = summary.weights.as_deref().map(clean);
            summary.classes.iter_mut().for_each(|class| *class = clean(class));
        }
        if let Some(predictions) = &mut predictions {
            let shown = predictions.mistakes.iter_mut().chain(&mut predictions.right);
            shown.for_each(|answer| answer.name = clean(&answer.name));
        }
        let config = match read(&config_path)? {
            Some(text) => complete(text.parse().map(clean_table).map_err(|error: toml::de::Error| Error::Damaged {
                path: config_path,
                expected: "a run's configuration in TOML".into(),
                got: clean(error.message()),
            })?),
            None => toml::Table::new(),
        };
        let stated = || config.get("name").and_then(toml::Value::as_str).map(str::to_string);
        let name =
            summary.as_ref().map(|summary| summary.name.clone()).or_else(stated).unwrap_or_else(|| folder.name());
        let load: Option<Account> = json(&folder.load_path(), "the account of a load")?;
        let load = load.map(|account| account.to_string().lines().map(clean).collect::<Vec<_>>().join("\n"));
        let figures = Figure::read_all(root);
        Ok(Self { name: clean(&name), folder: root.into(), steps, epochs, summary, predictions, config, load, figures })
    }

    /// Reads every run, and tells runs of the same name apart.
    pub fn read_all(folders: &[RunFolder]) -> Result<Vec<Self>> {
        let mut runs: Vec<Self> = folders.iter().map(Self::read).collect::<Result<_>>()?;
        for i in 1..runs.len() {
            let (before, rest) = runs.split_at_mut(i);
            let name = rest[0].name.clone();
            let mut copies = 1;
            while before.iter().any(|run| run.name == rest[0].name) {
                copies += 1;
                rest[0].name = format!("{name} ({copies})");
            }
        }
        Ok(runs)
    }

    /// How many test samples the chosen checkpoint got right, and of how many; none while the run has not ended.
    pub fn correct(&self) -> Option<(usize, usize)> {
        let summary = self.summary.as_ref()?;
        Some(match &self.predictions {
            Some(predictions) => (hits(predictions), predictions.labels.len()),
            // Labels that nobody read.
            None if summary.test_accuracy.is_nan() => return None,
            None => ((summary.test_accuracy * summary.test_samples as f64).round() as usize, summary.test_samples),
        })
    }

    /// Training samples of an epoch, where the run tells.
    pub fn train_samples(&self) -> Option<usize> {
        let resolved = || self.setting("resolved")?.get("train_samples")?.as_integer();
        match &self.summary {
            Some(summary) => Some(summary.train_samples),
            None => usize::try_from(resolved()?).ok(),
        }
    }

    /// What class `label` is called.
    pub fn class(&self, label: usize) -> String {
        match self.summary.as_ref().and_then(|summary| summary.classes.get(label)) {
            Some(name) if !name.trim().is_empty() => name.clone(),
            _ => format!("class {label}"),
        }
    }

    /// A value of the configuration, by its name at the top level.
    pub fn setting(&self, key: &str) -> Option<&toml::Value> {
        self.config.get(key)
    }
}

/// Samples whose prediction is their label.
fn hits(predictions: &Predictions) -> usize {
    predictions.labels.iter().zip(&predictions.predicted).filter(|(label, predicted)| label == predicted).count()
}

/// What a report computes with must make sense.
fn check_summary(summary: &Summary, path: &Path) -> Result<()> {
    let damaged = |expected: String, got: String| Err(Error::Damaged { path: path.into(), expected, got });
    if !summary.test_accuracy.is_nan() && !(0. ..=1.).contains(&summary.test_accuracy) {
        return damaged("a test accuracy in [0, 1]".into(), summary.test_accuracy.to_string());
    }
    if summary.best_epoch > 0 && summary.best_epoch >= summary.epochs {
        return damaged(format!("a best epoch below {}", summary.epochs), summary.best_epoch.to_string());
    }
    Ok(())
}

/// Predictions must agree with themselves and with the summary that was written beside them.
fn check_predictions(predictions: &Predictions, summary: Option<&Summary>, path: &Path) -> Result<()> {
    let damaged = |expected: String, got: String| Err(Error::Damaged { path: path.into(), expected, got });
    let count = predictions.labels.len();
    if predictions.predicted.len() != count || predictions.confidence.len() != count {
        return damaged(
            format!("{count} predictions and confidences for {count} labels"),
            format!("{} and {}", predictions.predicted.len(), predictions.confidence.len()),
        );
    }
    let Some(summary) = summary else { return Ok(()) };
    if summary.test_samples != count {
        return damaged(format!("{} test samples, as summary.json says", summary.test_samples), count.to_string());
    }
    let hits = hits(predictions);
    if (summary.test_accuracy * count as f64 - hits as f64).abs() > 0.5 {
        return damaged(
            format!("a test accuracy of {}, as summary.json says", summary.test_accuracy),
            format!("{hits} of {count} right"),
        );
    }
    Ok(())
}

/// Reads the lines of `metrics.jsonl`. Lines of steps that a resumed run made again replace the earlier ones; a last
/// line without its end, which is being written or was cut off, is left out.
fn metrics(text: &str, path: &Path) -> Result<(Vec<Step>, Vec<Epoch>)> {
    let (mut steps, mut epochs): (Vec<Step>, Vec<Epoch>) = (vec![], vec![]);
    for (number, line) in text.split_inclusive('\n').enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(Line::Step(step)) => {
                steps.truncate(steps.partition_point(|earlier| earlier.step < step.step));
                steps.push(step);
            }
            Ok(Line::Epoch(epoch)) => {
                epochs.truncate(epochs.partition_point(|earlier| earlier.epoch < epoch.epoch));
                epochs.push(epoch);
            }
            Err(_) if !line.ends_with('\n') => {}
            Err(error) => {
                return Err(Error::Damaged {
                    path: path.into(),
                    expected: format!("a step or an epoch in line {}", number + 1),
                    got: clean(&error.to_string()),
                });
            }
        }
    }
    Ok((steps, epochs))
}

/// Reads a file; none where there is none.
fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read { path: path.into(), source }),
    }
}

fn json<T: DeserializeOwned>(path: &Path, expected: &str) -> Result<Option<T>> {
    let Some(text) = read(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| Error::Damaged {
        path: path.into(),
        expected: expected.into(),
        got: clean(&error.to_string()),
    })
}

/// Settings with what versions did that did not know it as a setting.
fn complete(mut config: toml::Table) -> toml::Table {
    config.entry("exif").or_insert_with(|| Exif::Ignore.name().into());
    config
}

fn clean_table(table: toml::Table) -> toml::Table {
    table.into_iter().map(|(key, value)| (clean(&key), clean_value(value))).collect()
}

fn clean_value(value: toml::Value) -> toml::Value {
    match value {
        toml::Value::String(text) => toml::Value::String(clean(&text)),
        toml::Value::Array(values) => toml::Value::Array(values.into_iter().map(clean_value).collect()),
        toml::Value::Table(table) => toml::Value::Table(clean_table(table)),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_epochs_that_a_resumed_run_made_again_replace_the_earlier_ones() {
        let step =
            |step: u32, loss: f64| format!("{{\"kind\":\"step\",\"epoch\":0,\"step\":{step},\"loss\":{loss}}}\n");
        let epoch = |loss: f64| format!("{{\"kind\":\"epoch\",\"epoch\":0,\"test_loss\":{loss}}}\n");
        let text = [step(0, 3.), step(1, 2.), step(2, 9.), epoch(9.), step(1, 2.5), step(2, 1.), epoch(1.)].concat();
        let (steps, epochs) = metrics(&text, Path::new("metrics.jsonl")).unwrap();
        assert_eq!(steps.iter().map(|step| step.loss).collect::<Vec<_>>(), [Some(3.), Some(2.5), Some(1.)]);
        assert_eq!(epochs.iter().map(|epoch| epoch.test_loss).collect::<Vec<_>>(), [Some(1.)]);
    }
}
