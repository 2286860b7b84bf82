//! Checkpoints: `checkpoints/{last,best}/` of a run's folder, written so that a process killed at any moment, or a full disk,
//! leaves one that loads.
//!
//! `model.safetensors` and `config.json` are in timm's layout, with `preprocessing.safetensors` beside them where the input is
//! whitened. `last` has `optimizer.safetensors` and `state.toml` beside them, `ema.safetensors` where the weights are averaged, and
//! `objective.safetensors` where the objective keeps something, which a resume needs; `best` then holds the averages. A checkpoint is written into a folder of its own, synced, and put in the
//! old one's place by two renames; [`recover`] finishes what a kill between the two left undone.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use tallow_models::Params;
use tallow_weights::{CheckpointConfig, Whitening, quoted, save};

use super::error::{Error, Result};
use super::optimizer::Optimizer;
use super::run_folder::RunFolder;
use super::state::State;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.toml";
/// The moving average of the weights, where there is one.
pub(super) const AVERAGES: &str = "ema.safetensors";
/// What the objective keeps from step to step, where it keeps anything.
const OBJECTIVE: &str = "objective.safetensors";

/// Writes `checkpoints/best`: the weights alone.
///
/// # Errors
/// If it cannot be written; the old one stands.
pub fn write_best(folder: &RunFolder, params: &Params, config: &CheckpointConfig) -> Result<PathBuf> {
    replace(&folder.best_path(), |dir| Ok(save::timm(dir, params, config)?))
}

/// What `checkpoints/last` holds: all that a resume needs.
pub(super) struct Last<'a> {
    /// The weights.
    pub params: &'a Params,
    /// What they are of.
    pub config: &'a CheckpointConfig,
    /// Its state is kept.
    pub optimizer: &'a Optimizer,
    /// The weights' averages, where there are any.
    pub averages: Option<&'a Params>,
    /// What the objective keeps.
    pub objective: Vec<(String, Tensor)>,
    /// Where the run is.
    pub state: &'a State,
}

/// Writes `checkpoints/last`. `same_as_best` tells that the weights are those just written to `checkpoints/best`, which then need no
/// second copy.
///
/// # Errors
/// If it cannot be written; the old one stands.
pub(super) fn write_last(folder: &RunFolder, last: &Last, same_as_best: bool) -> Result<PathBuf> {
    let on_cpu = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_device(&Device::Cpu)?.contiguous()?));
    replace(&folder.last_path(), |dir| {
        if !(same_as_best && link_model(&folder.best_path(), dir)) {
            save::timm(dir, last.params, last.config)?;
        }
        let path = dir.join(OPTIMIZER);
        save::safetensors(&path, &last.optimizer.state()?.into_iter().collect::<Vec<_>>(), HashMap::new())?;
        if let Some(averages) = last.averages {
            let tensors = averages.all().into_iter().map(|param| (param.name, param.var.as_detached_tensor()));
            let tensors = tensors.map(on_cpu).collect::<Result<Vec<_>>>()?;
            save::safetensors(&dir.join(AVERAGES), &tensors, HashMap::new())?;
        }
        if !last.objective.is_empty() {
            let tensors = last.objective.iter().cloned().map(on_cpu).collect::<Result<Vec<_>>>()?;
            save::safetensors(&dir.join(OBJECTIVE), &tensors, HashMap::new())?;
        }
        let path = dir.join(STATE);
        let text = toml::to_string(last.state)
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
        got: quoted(error.message().replace('\n', ", ")),
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

/// What the objective kept in `checkpoints/last`; nothing where it keeps nothing.
///
/// # Errors
/// If the file is damaged.
pub(super) fn read_objective(folder: &RunFolder) -> Result<HashMap<String, Tensor>> {
    let path = folder.last_path().join(OBJECTIVE);
    if path.exists() { read_tensors(&path) } else { Ok(HashMap::new()) }
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

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::train::config::TrainConfig;
    use crate::train::setup::Setup;

    #[test]
    fn what_an_objective_keeps_is_read_back_and_no_file_is_written_where_it_keeps_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(directory.path());
        let config = TrainConfig::default().with(|c| {
            c.model.model = "mlp_mnist".into();
            c.data.data = "mnist".into();
            c.data.limit = Some(20);
            c.data.test_limit = Some(20);
            c.compute.device = "cpu".into();
        });
        let Setup { config, checkpoint, params, .. } = Setup::new(&config).unwrap();
        let optimizer = Optimizer::new(&config, &checkpoint.architecture, &params).unwrap();
        let write = |objective| {
            let (state, config) = (&State::default(), &checkpoint);
            let last = Last { params: &params, config, optimizer: &optimizer, averages: None, objective, state };
            write_last(&folder, &last, false).unwrap();
        };
        let centre = Tensor::new(&[0.25f32, -1.5, 3.], &Device::Cpu).unwrap();
        write(vec![("centre".to_string(), centre)]);
        let read = read_objective(&folder).unwrap().remove("centre").unwrap();
        assert_eq!(read.dtype(), DType::F32);
        assert_eq!(read.to_vec1::<f32>().unwrap(), [0.25, -1.5, 3.]);
        write(Vec::new());
        assert!(read_objective(&folder).unwrap().is_empty());
        assert!(!folder.last_path().join(OBJECTIVE).exists());
    }
}
