//! Measuring the chosen checkpoint of a run again: on its own test set, or on other data.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use tallow_models::ops::softmax;
use tallow_models::{AnyModel, Mode, Model, Params};
use tallow_weights::{CheckpointConfig, Head, LoadOptions, OpenOptions, Source};

use super::checkpoint;
use super::config::TrainConfig;
use super::error::{Error, Result};
use super::evaluate::{EvaluateOptions, Evaluation, evaluate};
use super::event::{Event, Listener};
use super::relabel::relabelled;
use super::run_folder::RunFolder;
use super::{device, setup, svm};
use crate::data::{Dataset, Samples, Transform};

/// Where the measurement is to differ from the run's own.
#[derive(Debug, Clone, Default)]
pub struct RunEvaluation {
    /// Another data set. Default: the run's own.
    pub data: Option<String>,
    /// The parts of the data set that are for training and for testing, by name. Default: as the run chose of its own data, the
    /// usual ones of other data.
    pub train_split: Option<String>,
    /// See above.
    pub test_split: Option<String>,
    /// Its training part instead of its test part. Default false.
    pub train_part: bool,
    /// At most so many samples. Default: as the run was tested on, or all of another data set's.
    pub limit: Option<usize>,
    /// Another device. Default: the run's own.
    pub device: Option<String>,
    /// Another batch size. Default: the run's own.
    pub batch_size: Option<usize>,
    /// How a data set of the hub is downloaded, and who is told of progress. Default: as the environment says.
    pub hub: OpenOptions,
}

/// What was measured, and on what.
#[derive(Debug, Clone)]
pub struct RunMeasured {
    /// What the checkpoint says of the samples. Labels count the model's classes, which the data set may have in another order.
    pub evaluation: Evaluation,
    /// The data set.
    pub dataset: Dataset,
}

/// Measures the chosen checkpoint of the run in `folder`.
///
/// # Errors
/// If the folder holds no run, its chosen checkpoint does not load, or the data cannot be read or has a class that the model does
/// not know.
pub fn evaluate_run(folder: &RunFolder, options: &RunEvaluation, listener: &mut dyn Listener) -> Result<RunMeasured> {
    let mut config = folder.config()?;
    let svm = svm::of_run(folder)?;
    // The run's own data keeps its split, whatever it is called: all of it would contain what was trained on.
    let other = options.data.as_ref().is_some_and(|data| !is_same(data, &config.data));
    if other {
        (config.train_split, config.test_split, config.val_fraction) = (None, None, 0.);
    }
    if options.data.is_some() || options.train_split.is_some() || options.test_split.is_some() {
        config.data = options.data.clone().unwrap_or(config.data);
        (config.limit, config.test_limit) = (None, None);
        config.train_split = options.train_split.clone().or(config.train_split);
        config.test_split = options.test_split.clone().or(config.test_split);
    }
    if options.train_part {
        config.limit = options.limit.or(config.limit);
    } else {
        config.test_limit = options.limit.or(config.test_limit);
    }
    // With a test part by name nothing has to be left to train on either.
    let whole = other || options.test_split.is_some();
    let dataset =
        if whole { setup::open_whole(&config, &options.hub)? } else { setup::open_data(&config, &options.hub)? };
    let samples: &Arc<dyn Samples> = if options.train_part { &dataset.train } else { &dataset.test };
    if samples.is_empty() {
        return Err(Error::invalid(&dataset.spec, "samples in the training part", "none: it has no such part"));
    }
    if let Some(svm) = svm {
        let samples = relabelled(samples, &dataset, Some(&svm.classes), svm.classes.len(), listener)?;
        let evaluation = svm.evaluate(&samples, listener, None)?.unwrap_or_default();
        return Ok(RunMeasured { evaluation, dataset });
    }
    let Chosen { described, model, device } = Chosen::of(folder, &config, options.device.as_deref())?;
    let classes = described.architecture.num_classes();
    let samples = &relabelled(samples, &dataset, described.labels.as_deref(), classes, listener)?;
    let transform = Arc::new(Transform::of(&described)?);
    let default = EvaluateOptions::default();
    let batch_size = options.batch_size.or(config.eval_batch_size).unwrap_or(default.batch_size);
    let total = samples.len();
    let progress = |done| listener.on(&Event::Evaluation { done, total });
    let evaluation =
        evaluate(&model, samples, &transform, &device, &EvaluateOptions { batch_size, ..default }, progress)?;
    Ok(RunMeasured { evaluation, dataset })
}

/// Whether two names of data sets mean the same one.
fn is_same(one: &str, other: &str) -> bool {
    let place = |spec: &str| {
        let (kind, path) = spec.split_once(':')?;
        Some((kind.to_string(), std::fs::canonicalize(path).ok()?))
    };
    one == other || place(one).is_some_and(|one| Some(one) == place(other))
}

/// What the chosen model of a run says of points in the plane.
#[derive(Debug, Clone, PartialEq)]
pub enum Scores {
    /// The probability of every class, point by point.
    Probabilities(Vec<Vec<f32>>),
    /// The decision value of every pair of classes, point by point, as in [`svm::Svm::decisions`].
    Decisions(Vec<Vec<f64>>),
}

/// What the chosen model of the run in `folder` says of `points`, each of as many coordinates as it reads.
///
/// # Errors
/// If the folder holds no run, its model does not load, or it reads other points.
pub fn score_points(folder: &RunFolder, points: &[[f32; 2]]) -> Result<Scores> {
    if let Some(svm) = svm::of_run(folder)? {
        if svm.width != 2 {
            return Err(Error::invalid("points", format!("{} coordinates", svm.width), 2));
        }
        return Ok(Scores::Decisions(points.par_iter().map(|point| svm.decisions(point)).collect()));
    }
    let config = folder.config()?;
    let Chosen { described, model, device } = Chosen::of(folder, &config, None)?;
    let [channels, height, width] = described.architecture.input_size();
    let values: Vec<f32> = points.iter().flatten().copied().collect();
    let points =
        Tensor::from_vec(values, (points.len(), 2), &device)?.reshape((points.len(), channels, height, width))?;
    let logits = model.forward(&points, Mode::Eval)?.to_dtype(DType::F32)?;
    Ok(Scores::Probabilities(softmax(&logits)?.to_vec2()?))
}

/// The chosen checkpoint of a run, ready to be used.
struct Chosen {
    described: CheckpointConfig,
    model: AnyModel,
    device: Device,
}

impl Chosen {
    /// On another device than the run's where `on` names one.
    fn of(folder: &RunFolder, config: &TrainConfig, on: Option<&str>) -> Result<Self> {
        checkpoint::recover(folder)?;
        let loaded = tallow_weights::open(&Source::Folder(folder.best_path()), &OpenOptions::default())?;
        let described = loaded.config().cloned().ok_or_else(|| Error::File {
            path: folder.best_path().join("config.json"),
            expected: "a model's configuration".into(),
            got: "none".into(),
        })?;
        let device = device(on.unwrap_or(&config.device))?;
        if device.is_cpu() {
            super::set_precision(config.dtype, &device)?;
        }
        let params = Params::new(config.seed, DType::F32, &device);
        tallow_weights::load(
            &loaded,
            &described.architecture,
            &LoadOptions { head: Head::Keep, labels: None },
            &params,
        )?;
        described.architecture.build(params.builder())?;
        let model = described.architecture.build(params.eval_builder())?;
        Ok(Self { described, model, device })
    }
}
