//! Measuring the chosen checkpoint of a run again: on its own test set, or on other data.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use rayon::prelude::*;
use tallow_models::ops::softmax;
use tallow_weights::{Head, OpenOptions, Source};

use super::checkpoint;
use super::config::{Precision, TrainConfig};
use super::data_record::DataRecord;
use super::error::{Error, Result};
use super::evaluate::{EvaluateOptions, Evaluation, evaluate};
use super::event::{Event, Listener};
use super::recorded::{self, Recollection, Search};
use super::relabel::relabelled;
use super::run_folder::RunFolder;
use super::study::svm;
use super::{data_record, device, paths, setup};
use crate::data::{Alpha, Dataset, Exif, OnBadImage, Samples};
use crate::inference::Pretrained;

/// Where the measurement is to differ from the run's own.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RunEvaluation {
    /// Another data set. Default: the run's own.
    pub data: Option<String>,
    /// The parts of the data set that are for training and for testing, by name. Default: as the run chose of its own data, the
    /// usual ones of other data.
    pub train_split: Option<String>,
    /// See above.
    pub test_split: Option<String>,
    /// The training part instead of its test part. Default false.
    pub train_part: bool,
    /// At most so many samples. Default: as the run was tested on, or all of another data set's.
    pub limit: Option<usize>,
    /// What becomes of images that cannot be read. Default: as the run has it.
    pub on_bad_image: Option<OnBadImage>,
    /// What becomes of the orientation that cameras noted. Default: as the run has it.
    pub exif: Option<Exif>,
    /// Another device. Default: the run's own.
    pub device: Option<String>,
    /// Another type of the arithmetic. Default: the run's own.
    pub dtype: Option<Precision>,
    /// Another batch size. Default: the run's own.
    pub batch_size: Option<usize>,
    /// How a data set of the hub is downloaded, and who is told of progress. Default: as the environment says.
    pub hub: OpenOptions,
}

impl RunEvaluation {
    /// The same after `change`, in one expression: `RunEvaluation::default().with(|o| o.train_part = true)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The run's chosen checkpoint, where and in which arithmetic it is to be measured.
    fn chosen(&self, folder: &RunFolder, config: &TrainConfig) -> Result<Pretrained> {
        chosen(folder, config, (self.device.as_deref(), self.dtype))
    }
}

/// What was measured, and on what.
#[derive(Debug, Clone)]
pub struct RunMeasured {
    /// What the checkpoint says of the samples. Labels count the model's classes, which the data set may have in another order.
    pub evaluation: Evaluation,
    /// The data set. Of the run's own, the part that was measured holds the samples that the run recorded of it.
    pub dataset: Dataset,
    /// What became of those; none for other data, or a run of an older version.
    pub recollection: Option<Recollection>,
    /// How many samples of other data the run was trained on; none for its own, or a run of an older version.
    pub trained_on: Option<usize>,
}

/// Measures the chosen checkpoint of the run in `folder`.
///
/// # Errors
/// If the folder holds no run, its chosen checkpoint does not load, the data cannot be read or has a class that the model does not
/// know, none of the recorded samples is there any more, or one of today's test samples was trained on.
pub fn evaluate_run(folder: &RunFolder, options: &RunEvaluation, listener: &mut dyn Listener) -> Result<RunMeasured> {
    let (config, notes) = paths::locate(&folder.config()?, folder);
    notes.into_iter().for_each(|note| listener.on(&Event::Note(note)));
    if let Some(method) = config.pretraining.method {
        let got = format!("one by the method {}, which learns none; `tallow knn` measures its features", method.name());
        return Err(Error::invalid(folder.root().display(), "a run that learned classes", got));
    }
    let svm = svm::of_run(folder)?;
    let on_bad_image = options.on_bad_image.unwrap_or(config.data.on_bad_image);
    let config = &config.with(|c| {
        c.data.on_bad_image = on_bad_image;
        c.data.exif = options.exif.or(c.data.exif);
    });
    let own = |data: &String| {
        let named = config.clone().with(|c| {
            c.data.data = data.clone();
            c.paths = Default::default();
        });
        paths::agree("data", &named, config)
    };
    let as_it_was =
        options.data.as_ref().is_none_or(own) && options.train_split.is_none() && options.test_split.is_none();
    let own = if as_it_was { own_data(folder, config, options, listener)? } else { None };
    let (dataset, recollection) = match own {
        Some((dataset, recollection)) => (dataset, Some(recollection)),
        None => (other_data(folder, config, options, as_it_was, listener)?, None),
    };
    let samples: &Arc<dyn Samples> = if options.train_part { &dataset.train } else { &dataset.test };
    if samples.is_empty() {
        return Err(Error::invalid(&dataset.spec, "samples in the training part", "none: it has no such part"));
    }
    let model = if svm.is_some() { None } else { Some(options.chosen(folder, config)?) };
    let alpha = model.as_ref().map_or(Alpha::Dropped, |model| Alpha::of(&model.config().preprocessing));
    if config.data.on_bad_image == OnBadImage::Error || alpha == Alpha::Kept {
        let name = if options.train_part { "training" } else { "test" };
        let notes = setup::check_part(&dataset, name, &**samples, alpha, &options.hub)?;
        notes.into_iter().for_each(|note| listener.on(&Event::Warning(note)));
    }
    let trained_on = match DataRecord::read(folder)? {
        Some(record) if !as_it_was => Some(warn_of_trained(&record, &dataset.spec, samples, listener)?),
        _ => None,
    };
    if let Some(svm) = svm {
        let samples = relabelled(samples, &dataset, Some(&svm.classes), svm.classes.len(), listener)?;
        let evaluation = svm.evaluate(&samples, listener, None)?.unwrap_or_default();
        return Ok(RunMeasured { evaluation, dataset, recollection, trained_on });
    }
    let model = match model {
        Some(model) => model,
        None => options.chosen(folder, config)?,
    };
    let described = model.config();
    let classes = described.architecture.num_classes();
    let samples = &relabelled(samples, &dataset, described.labels.as_deref(), classes, listener)?;
    let transform = model.transform()?;
    let default = EvaluateOptions::default();
    let batch_size = options.batch_size.or(config.length.eval_batch_size).unwrap_or(default.batch_size);
    let total = samples.len();
    let progress = |done| listener.on(&Event::Evaluation { done, total });
    let evaluation = evaluate(
        model.model(),
        samples,
        &transform,
        model.device(),
        &EvaluateOptions { batch_size, ..default },
        progress,
    )?;
    Ok(RunMeasured { evaluation, dataset, recollection, trained_on })
}

/// The run's own data: the samples that it recorded of a part, with the classes of then; none where it recorded none.
fn own_data(
    folder: &RunFolder,
    config: &TrainConfig,
    options: &RunEvaluation,
    listener: &mut dyn Listener,
) -> Result<Option<(Dataset, Recollection)>> {
    let Some(record) = DataRecord::read(folder)? else { return Ok(None) };
    let whole = config.clone().with(|c| {
        c.data.limit = None;
        c.data.test_limit = None;
        c.data.val_fraction = 0.;
    });
    let whole = setup::open_to_measure(&whole, &options.hub)?;
    // What a limit left out is not new; also of the other part, where the test part was held out of it.
    let limit = config.data.limit.or(config.data.test_limit);
    let used = limit.map(|_| setup::open_to_measure(config, &options.hub)).transpose()?;
    let train_part = options.train_part;
    let search = Search { record: &record, train_part, limit: options.limit, whole: &whole, used: used.as_ref() };
    let (found, recollection) = search.find(listener)?;
    let part = if train_part { "training" } else { "test" };
    recollection.warnings(part).into_iter().for_each(|warning| listener.on(&Event::Warning(warning)));
    let mut dataset = Dataset { classes: record.classes, ..whole };
    *(if train_part { &mut dataset.train } else { &mut dataset.test }) = found;
    Ok(Some((dataset, recollection)))
}

/// Another data set, or the run's own where it recorded none of its samples.
fn other_data(
    folder: &RunFolder,
    config: &TrainConfig,
    options: &RunEvaluation,
    as_it_was: bool,
    listener: &mut dyn Listener,
) -> Result<Dataset> {
    let limited = |config: TrainConfig| match options.train_part {
        true => config.with(|c| c.data.limit = options.limit.or(c.data.limit)),
        false => config.with(|c| c.data.test_limit = options.limit.or(c.data.test_limit)),
    };
    if !as_it_was {
        // The run's own data keeps its split, whatever it is called: all of it would contain what was trained on.
        let same = options.data.as_ref().is_none_or(|data| is_same(data, &config.data.data));
        let chosen = |own: &Option<String>| own.clone().filter(|_| same);
        let mut other = config.clone().with(|c| {
            c.data.limit = None;
            c.data.test_limit = None;
        });
        other.data.train_split = options.train_split.clone().or(chosen(&config.data.train_split));
        other.data.test_split = options.test_split.clone().or(chosen(&config.data.test_split));
        if !same {
            other.data.data = options.data.clone().unwrap_or(other.data.data);
            (other.paths, other.data.val_fraction) = (Default::default(), 0.);
        }
        // With a test part by name nothing has to be left to train on either.
        return match !same || options.test_split.is_some() {
            true => setup::open_whole(&limited(other), &options.hub),
            false => setup::open_data(&limited(other), &options.hub),
        };
    }
    let older = setup::open_older(config, folder, &options.hub)?;
    listener.on(&Event::Note(data_record::missing_note(folder)));
    if older.same_test_set == Some(false) {
        listener.on(&Event::Warning(format!(
            "{}: the names or labels of its test samples are not those that the run was tested on: some may be samples that it \
             was trained on",
            config.data.data
        )));
    }
    match options.limit {
        None => Ok(older.dataset),
        Some(_) => setup::open_split(&limited(config.clone()), older.split_by, &options.hub),
    }
}

/// Warns of samples of another data set that the run was trained on: how many there are.
fn warn_of_trained(
    record: &DataRecord,
    data: &str,
    samples: &Arc<dyn Samples>,
    listener: &mut dyn Listener,
) -> Result<usize> {
    let names = recorded::trained_on(record, &**samples, listener)?;
    if !names.is_empty() {
        let (count, total) = (data_record::counted(names.len()), samples.len());
        let first = data_record::first(&names);
        listener.on(&Event::Warning(format!(
            "{data}: the run was trained on {count} of {total} ({first}): on those it is not measured as on unseen ones"
        )));
    }
    Ok(names.len())
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
#[non_exhaustive]
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
    let chosen = chosen(folder, &config, (None, None))?;
    let [channels, height, width] = chosen.config().architecture.input_size();
    let values: Vec<f32> = points.iter().flatten().copied().collect();
    let points = Tensor::from_vec(values, (points.len(), 2), chosen.device())?.reshape((
        points.len(),
        channels,
        height,
        width,
    ))?;
    let logits = chosen.forward(&points)?.to_dtype(DType::F32)?;
    Ok(Scores::Probabilities(softmax(&logits)?.to_vec2()?))
}

/// The chosen checkpoint of a run, ready to be used; on another device than the run's where `on` names one, in another arithmetic where
/// `dtype` is one.
pub(super) fn chosen(
    folder: &RunFolder,
    config: &TrainConfig,
    (on, dtype): (Option<&str>, Option<Precision>),
) -> Result<Pretrained> {
    checkpoint::recover(folder)?;
    if !folder.best_path().exists() {
        return Err(Error::File {
            path: folder.best_path(),
            expected: "the checkpoint that a run chooses after an epoch (go on with the run: `resume`)".into(),
            got: "none yet".into(),
        });
    }
    let described = folder.best_path().join("config.json");
    if !described.exists() {
        return Err(Error::File { path: described, expected: "a model's configuration".into(), got: "none".into() });
    }
    let device = device(on.unwrap_or(&config.compute.device))?;
    if device.is_cpu() || dtype.is_some() {
        super::set_precision(dtype.unwrap_or(config.compute.dtype), &device)?;
    }
    let builder = Pretrained::from_source(Source::Folder(folder.best_path())).device(&device).seed(config.compute.seed);
    Ok(builder.head(Head::Keep).exif(config.data.exif.unwrap_or_default()).load()?)
}
