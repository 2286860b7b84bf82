//! Checkpoints: `checkpoints/{last,best}/` of a run's folder, written so that a process killed at any moment, or a full disk,
//! leaves one that loads.
//!
//! `model.safetensors` and `config.json` are in timm's layout, with `preprocessing.safetensors` beside them where the input is
//! whitened. `last` has `optimizer.safetensors`, `state.toml` and, where the weights are averaged, `ema.safetensors` beside them,
//! which a resume needs; `best` then holds the averages. A checkpoint is written into a folder of its own, synced, and put in the
//! old one's place by two renames; [`recover`] finishes what a kill between the two left undone.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use tallow_models::Params;
use tallow_weights::{CheckpointConfig, Whitening, save};

use super::error::{Error, Result};
use super::optimizer::Optimizer;
use super::run_folder::RunFolder;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.toml";
/// The moving average of the weights, where there is one.
pub(super) const AVERAGES: &str = "ema.safetensors";

/// Where a run is: `state.toml` of its last checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The epoch that is run next or was interrupted, counted from 0.
    pub epoch: usize,
    /// Optimiser steps taken in that epoch.
    pub step_in_epoch: usize,
    /// Optimiser steps taken in all.
    pub step: usize,
    /// Length of `metrics.jsonl` in bytes; what comes after is not part of this checkpoint.
    pub metrics_bytes: u64,
    /// Seconds of the run until here, over all its sessions.
    pub seconds: f64,
    /// Sums over the interrupted epoch.
    pub running: Running,
    /// Training images per second of the epochs that have ended.
    pub rates: Vec<f64>,
    /// The best epoch so far.
    pub best: Option<Best>,
    /// The metrics of the latest epoch that has ended.
    pub latest: Option<super::event::EpochMetrics>,
    /// The largest peak of memory in bytes of any session.
    pub peak_memory_bytes: Option<u64>,
}

/// Sums over the part of an epoch that was run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// Of every sample's loss.
    pub loss: f64,
    /// Samples whose label had the largest logit.
    pub correct: usize,
    /// Samples.
    pub samples: usize,
    /// Seconds of training.
    pub seconds: f64,
    /// Seconds in which features of what is evaluated were computed beforehand.
    #[serde(default)]
    pub evaluation_seconds: f64,
}

/// The best epoch so far.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Counts from 0.
    pub epoch: usize,
    /// On the validation split, where there is one.
    pub val_accuracy: Option<f64>,
    /// On the validation split, where there is one.
    pub val_loss: Option<f64>,
}

/// Writes `checkpoints/best`: the weights alone.
///
/// # Errors
/// If it cannot be written; the old one stands.
pub fn write_best(folder: &RunFolder, params: &Params, config: &CheckpointConfig) -> Result<PathBuf> {
    replace(&folder.best_path(), |dir| Ok(save::timm(dir, params, config)?))
}

/// Writes `checkpoints/last`: the weights, the optimiser's state, the weights' `averages` where there are any, and where the run
/// is. `same_as_best` tells that the weights are those just written to `checkpoints/best`, which then need no second copy.
///
/// # Errors
/// If it cannot be written; the old one stands.
pub fn write_last(
    folder: &RunFolder,
    params: &Params,
    config: &CheckpointConfig,
    optimizer: &Optimizer,
    averages: Option<&Params>,
    state: &State,
    same_as_best: bool,
) -> Result<PathBuf> {
    replace(&folder.last_path(), |dir| {
        if !(same_as_best && link_model(&folder.best_path(), dir)) {
            save::timm(dir, params, config)?;
        }
        let path = dir.join(OPTIMIZER);
        save::safetensors(&path, &optimizer.state()?.into_iter().collect::<Vec<_>>(), HashMap::new())?;
        if let Some(averages) = averages {
            let tensors = averages.all().into_iter().map(|param| (param.name, param.var.as_detached_tensor()));
            let tensors = tensors.map(|(name, tensor)| Ok((name, tensor.to_device(&Device::Cpu)?.contiguous()?)));
            save::safetensors(&dir.join(AVERAGES), &tensors.collect::<Result<Vec<_>>>()?, HashMap::new())?;
        }
        let path = dir.join(STATE);
        let text = toml::to_string(state)
            .map_err(|error| named(&path, "a state that TOML can hold", candle_core::Error::wrap(error)))?;
        fs::write(&path, text).map_err(Error::io(&path))
    })
}

/// Reads where the run in `folder` is; none where it has written no checkpoint yet.
///
/// # Errors
/// If the file cannot be read or is not what it should be.
pub fn read_state(folder: &RunFolder) -> Result<Option<State>> {
    let path = folder.last_path().join(STATE);
    if !folder.last_path().exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    // TOML and not JSON: its numbers are read back to the last bit.
    let state = toml::from_str(&text);
    state.map(Some).map_err(|error: toml::de::Error| Error::File {
        path,
        expected: "where a run is".into(),
        got: error.message().replace('\n', ", "),
    })
}

/// Puts the weights of a checkpoint into `params`, which must hold the same names and shapes.
///
/// # Errors
/// Names the file and what is missing, too much, or of another shape.
pub fn read_weights(checkpoint: &Path, params: &Params) -> Result<()> {
    read_params(&checkpoint.join(MODEL), params)
}

/// Puts the tensors of a file into `params`, which must hold the same names and shapes.
///
/// # Errors
/// As [`read_weights`].
pub(super) fn read_params(path: &Path, params: &Params) -> Result<()> {
    let mut tensors = read_tensors(path)?;
    let path = path.to_path_buf();
    for param in params.all() {
        let Some(value) = tensors.remove(&param.name) else {
            let got = "none of that name".into();
            return Err(Error::File { path, expected: format!("a tensor {}", param.name), got });
        };
        params.set(&param.name, &value)?;
    }
    match tensors.into_keys().min() {
        Some(name) => Err(Error::File { path, expected: "the model's parameters alone".into(), got: name }),
        None => Ok(()),
    }
}

/// Puts the optimiser's state of `checkpoints/last` into `optimizer`.
///
/// # Errors
/// Names the file and what is missing, too much, or of another shape.
pub fn read_optimizer(folder: &RunFolder, optimizer: &mut Optimizer) -> Result<()> {
    optimizer.set_state(read_tensors(&folder.last_path().join(OPTIMIZER))?)
}

/// Finishes or takes back what a kill while writing a checkpoint left behind.
///
/// # Errors
/// If a folder cannot be renamed or removed.
pub fn recover(folder: &RunFolder) -> Result<()> {
    for path in [folder.last_path(), folder.best_path()] {
        let names = Names::of(&path);
        if !path.exists() {
            // The new one is complete as soon as it has this name, and newer.
            for whole in [&names.new, &names.old] {
                if whole.exists() && !path.exists() {
                    rename(whole, &path)?;
                }
            }
        }
        [&names.unfinished, &names.new, &names.old].into_iter().try_for_each(|leftover| remove(leftover))?;
    }
    Ok(())
}

/// The names that a checkpoint goes through.
struct Names {
    /// Being written.
    unfinished: PathBuf,
    /// Complete, and about to take its place.
    new: PathBuf,
    /// The one before it.
    old: PathBuf,
}

impl Names {
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let named = |ending: &str| path.with_file_name(format!(".{name}.{ending}"));
        Self { unfinished: named("unfinished"), new: named("new"), old: named("old") }
    }
}

/// Writes the folder `path` as a whole: `fill` writes the files into a folder beside it, which then takes its place.
fn replace(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let names = Names::of(path);
    [&names.unfinished, &names.new, &names.old].into_iter().try_for_each(|leftover| remove(leftover))?;
    fs::create_dir_all(&names.unfinished).map_err(Error::io(&names.unfinished))?;
    if let Err(error) = fill(&names.unfinished).and_then(|()| sync_all(&names.unfinished)) {
        // What is half-written takes room on a disk that may be full. The error that matters is the first one.
        let _ = fs::remove_dir_all(&names.unfinished);
        return Err(error);
    }
    rename(&names.unfinished, &names.new)?;
    if path.exists() {
        rename(path, &names.old)?;
    }
    rename(&names.new, path)?;
    if let Some(parent) = path.parent() {
        sync_directory(parent)?;
    }
    remove(&names.old)?;
    Ok(path.to_path_buf())
}

/// Gives `dir` the weights and config of the checkpoint `from` without copying them. False where the file system cannot.
fn link_model(from: &Path, dir: &Path) -> bool {
    // Checkpoints are never written to in place, so that a shared file stays what it is.
    let link = |name: &str| fs::hard_link(from.join(name), dir.join(name)).is_ok();
    let whitening = || !from.join(Whitening::FILE).exists() || link(Whitening::FILE);
    let linked = link(MODEL) && whitening() && link("config.json");
    if !linked {
        for name in [MODEL, Whitening::FILE] {
            let _ = fs::remove_file(dir.join(name));
        }
    }
    linked
}

fn read_tensors(path: &Path) -> Result<HashMap<String, Tensor>> {
    // Opened first for the system's own words: Candle's error for a missing file does not name it.
    File::open(path).map_err(Error::io(path))?;
    candle_core::safetensors::load(path, &Device::Cpu).map_err(|error| named(path, "a safetensors file", error))
}

fn named(path: &Path, expected: &str, error: candle_core::Error) -> Error {
    let got = error.to_string().lines().next().unwrap_or_default().to_string();
    Error::File { path: path.into(), expected: expected.into(), got }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io(to))
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(dir)(error)),
        _ => Ok(()),
    }
}

/// Syncs every file of a folder, and the folder.
fn sync_all(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io(&path))?;
    }
    sync_directory(dir)
}

/// Makes the names in a folder last through a loss of power. Only Unix can open a folder for it.
fn sync_directory(dir: &Path) -> Result<()> {
    if cfg!(unix) { File::open(dir).and_then(|file| file.sync_all()).map_err(Error::io(dir)) } else { Ok(()) }
}
