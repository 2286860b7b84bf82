//! Nearest neighbours among a model's features, which say without any training what these are worth: what a test image is follows from
//! the votes of the k training images whose features are nearest to its own.
//!
//! The protocol is that of DINO (Caron et al. 2021, appendix F.1; Wu et al. 2018): features are what a head would read, nearness is
//! the cosine, and a neighbour of cosine s has `exp(s / T)` votes with T = 0.07. The nearest are found exactly ([`Neighbours`]).
//! [`run`] writes a run's folder like any other's, so that they stand in one comparison; its accuracy is that of one k, 20 where that is
//! asked for, and `knn.json` there has all of them.

mod vote;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use tallow_models::{Mode, Model, zoo};
use tallow_weights::OpenOptions;

pub use vote::{Answer, Neighbours};

use super::frame::{self, Frame};
use crate::data::{LoaderOptions, Samples};
use crate::train::config::{BatchSize, Count, Method, TrainConfig};
use crate::train::data_record::DataRecord;
use crate::train::device_name;
use crate::train::error::{Error, Result};
use crate::train::evaluate::Evaluation;
use crate::train::event::{EpochMetrics, Event, Listener};
use crate::train::features::ModelInput;
use crate::train::metrics_log::MetricsLog;
use crate::train::outcome::{Outcome, Start};
use crate::train::run_folder::{MetricsLine, RunFolder, Summary, read_json, write_json};
use crate::train::setup::Setup;

/// The numbers of neighbours that vote where nothing else is said.
pub const KS: [usize; 4] = [10, 20, 100, 200];

/// The number of neighbours whose answers are a run's own, where it is among those that are asked for.
const USUAL: usize = 20;

/// The temperature of votes where nothing else is said.
pub const TEMPERATURE: f64 = 0.07;

/// Settings of a run that mean something here.
const SETTINGS: [&str; 29] = [
    "name",
    "paths",
    "resolved",
    "method",
    "k",
    "temperature",
    "model",
    "weights",
    "arch",
    "checkpoint_key",
    "ignore_unknown",
    "set",
    "data",
    "train_split",
    "test_split",
    "limit",
    "test_limit",
    "on_bad_image",
    "exif",
    "normalize",
    "zca_eps",
    "interpolation",
    "crop_pct",
    "eval_batch_size",
    "seed",
    "threads",
    "kernels",
    "device",
    "dtype",
];

/// What is expected of another setting.
pub(in crate::train) const UNTRAINED: &str =
    "nothing: nearest neighbours are not trained, and have only settings of model and data, k and temperature";

/// What the nearest `k` come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AtK {
    /// The number of neighbours that vote.
    pub k: usize,
    /// The share of test samples whose label has the most votes.
    pub top1: f64,
    /// The share of test samples whose label is among the five with the most votes.
    pub top5: f64,
}

/// `knn.json` of a run's folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Results {
    /// In the order in which they were asked for.
    pub results: Vec<AtK>,
}

impl Results {
    /// `knn.json` of the run in `folder`.
    ///
    /// # Errors
    /// If it is not there, or is something else.
    pub fn read(folder: &RunFolder) -> Result<Self> {
        read_json(&path(folder), "what nearest neighbours come to")
    }
}

fn path(folder: &RunFolder) -> PathBuf {
    folder.root().join("knn.json")
}

/// Whether the configuration is that of nearest neighbours.
pub fn is_meant(config: &TrainConfig) -> bool {
    config.pretraining.method == Some(Method::Knn)
}

/// Whether a setting of a run means something to nearest neighbours.
pub fn is_setting(key: &str) -> bool {
    SETTINGS.contains(&key)
}

/// Checks the settings of nearest neighbours.
///
/// # Errors
/// [`Error::Config`] names one that makes no sense, or means nothing here.
pub fn check(config: &TrainConfig) -> Result<()> {
    frame::check_settings(config, &SETTINGS, UNTRAINED)
}

/// The numbers of neighbours that are asked for; of the usual ones those for which there are samples.
fn ks(config: &TrainConfig, samples: usize) -> Result<Vec<usize>> {
    match &config.pretraining.k {
        None => {
            let some: Vec<usize> = KS.into_iter().filter(|k| *k <= samples).collect();
            Ok(if some.is_empty() { vec![samples] } else { some })
        }
        Some(ks) => match ks.iter().find(|k| **k > samples) {
            Some(k) => Err(Error::config("k", format!("at most {samples}, the number of training samples"), k)),
            None => Ok(ks.clone()),
        },
    }
}

/// Classifies the test part by its nearest neighbours in the training part, and writes the run's files into `folder`, telling
/// `listener` what happens. What is there of a run that was interrupted is made anew. Setting `stop` ends it between two batches.
///
/// # Errors
/// If a setting makes no sense, model or data cannot be read, or the folder holds something else.
pub fn run(
    config: &TrainConfig,
    hub: &OpenOptions,
    folder: &RunFolder,
    start: Start,
    listener: &mut dyn Listener,
    stop: &AtomicBool,
) -> Result<Outcome> {
    check(config)?;
    let mut frame = Frame::new(folder, start, listener, stop)?;
    let mut setup = Setup::of_run(config, folder, start, hub)?;
    let ks = ks(&setup.config, setup.dataset.train.len())?;
    if setup.dataset.classes.len() < 2 {
        return Err(Error::invalid(&setup.dataset.spec, "at least two classes to tell apart", "one"));
    }
    if !frame.digest(&mut setup.dataset) {
        return frame.interrupted();
    }
    frame.listener.on(&Event::Note(weights_in_words(&setup.config)));
    let record = frame.record(&setup.config, &setup.dataset)?;
    let mut log = begin(&setup, &record, &frame)?;
    let measuring = Instant::now();
    let Some(answers) = answers(&setup, &ks, &mut frame)? else { return frame.interrupted() };
    let seconds = measuring.elapsed().as_secs_f64();

    let Setup { config, params, dataset, .. } = &setup;
    let labels: Vec<u32> = (0..dataset.test.len()).map(|index| dataset.test.label(index)).collect();
    let results = ks.iter().enumerate().map(|(place, &k)| {
        let evaluation = evaluation(answers.iter().map(|of| &of[place]), &labels);
        AtK { k, top1: evaluation.accuracy, top5: evaluation.top5 }
    });
    write_json(&path(folder), &Results { results: results.collect() })?;
    let own = ks.iter().position(|&k| k == USUAL).unwrap_or(0);
    let tested = evaluation(answers.iter().map(|of| &of[own]), &labels);
    let images_per_second = (dataset.train.len() + labels.len()) as f64 / seconds;
    log.add(&MetricsLine::Epoch(EpochMetrics {
        epoch: 0,
        train_loss: f64::NAN,
        train_accuracy: f64::NAN,
        val_loss: None,
        val_accuracy: None,
        test_loss: f64::NAN,
        test_accuracy: tested.accuracy,
        test_top5: tested.top5,
        seconds,
        images_per_second,
    }))?;
    log.sync()?;
    let summary = Summary {
        name: setup.name(folder),
        parameters: params.count(),
        epochs: 1,
        images_per_second,
        device: device_name(params.device()),
        threads: rayon::current_num_threads(),
        ..Summary::of(config, dataset, &tested)
    };
    frame.finish(summary, &tested, dataset)
}

/// Whose features they are: a name of the zoo may stand for weights or for none.
fn weights_in_words(config: &TrainConfig) -> String {
    let (model, seed) = (&config.model.model, config.compute.seed);
    let zoo = zoo::find(model).ok();
    let pretrained = zoo.as_ref().and_then(|entry| entry.pretrained);
    match (config.model.weights.as_deref(), pretrained) {
        (None, None) => format!("{model}: the untrained network, drawn from seed {seed}"),
        (None, Some(weights)) => {
            let tag = weights.tag;
            format!("{model}: the untrained network, drawn from seed {seed}; `weights = pretrained` takes {tag}")
        }
        (Some("pretrained"), Some(weights)) => format!("{model}: with its pretrained weights {}", weights.tag),
        (Some("pretrained"), None) => format!("{model}: with its weights"),
        (Some(source), _) => format!("{model}: with the weights of {source}"),
    }
}

/// What the neighbours say of every test sample, for every k; none if it was stopped.
fn answers(setup: &Setup, ks: &[usize], frame: &mut Frame) -> Result<Option<Vec<Vec<Answer>>>> {
    let Setup { config, checkpoint, params, dataset, .. } = setup;
    // Twice, as the second one shares the values of the first and records no history.
    drop(checkpoint.architecture.build(params.builder())?);
    let model = checkpoint.architecture.build(params.eval_builder())?;
    params.check_taken()?;
    let transform = Arc::new(crate::data::Transform::of(checkpoint)?);
    let total = dataset.train.len() + dataset.test.len();
    let mut before = 0;
    let mut features = |samples: &Arc<dyn Samples>| -> Result<Option<Tensor>> {
        let input = ModelInput::images(samples, &transform);
        let loading = LoaderOptions::default().with(|o| o.batch_size = config.length.eval_batch_size.unwrap_or(64));
        let found = features(&model, &input, loading, params.device(), |done| {
            frame.listener.on(&Event::Features { done: before + done, total });
            !frame.stop.load(Ordering::Relaxed)
        })?;
        before += samples.len();
        Ok(found)
    };
    let (Some(train), Some(test)) = (features(&dataset.train)?, features(&dataset.test)?) else { return Ok(None) };
    let labels = (0..dataset.train.len()).map(|index| dataset.train.label(index)).collect();
    let neighbours = Neighbours::new(&train, labels, dataset.classes.len())?;
    neighbours.vote(&test, ks, config.pretraining.temperature.unwrap_or(TEMPERATURE)).map(Some)
}

/// What a head would read of all samples, `[samples, num_features]`; none if `progress`, which is told how many are done, says false.
///
/// # Errors
/// If a sample cannot be read, or the model gives more than one row for an image.
pub(in crate::train) fn features(
    model: &dyn Model,
    input: &ModelInput,
    options: LoaderOptions,
    device: &Device,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<Tensor>> {
    let (mut rows, mut done) = (Vec::new(), 0);
    for batch in input.batches((0..input.samples().len()).collect(), options, device)? {
        let batch = batch?;
        let pooled = model.pooled(&batch.images, Mode::Eval)?;
        if pooled.rank() != 2 {
            return Err(Error::config("global_pool", "one that gives a row for every image", "none"));
        }
        rows.push(pooled);
        done += batch.indices.len();
        if !progress(done) {
            return Ok(None);
        }
    }
    Ok(Some(Tensor::cat(&rows, 0)?))
}

/// What answers come to, of samples with these labels. There are no probabilities, and so no loss.
pub(in crate::train) fn evaluation<'a>(answers: impl Iterator<Item = &'a Answer>, labels: &[u32]) -> Evaluation {
    let mut evaluation = Evaluation { loss: f64::NAN, ..Evaluation::default() };
    let (mut correct, mut among_five) = (0, 0);
    for (answer, &label) in answers.zip(labels) {
        correct += usize::from(answer.is(label));
        among_five += usize::from(answer.classes.contains(&label));
        evaluation.labels.push(label);
        evaluation.predicted.push(answer.classes.first().copied().unwrap_or_default());
        evaluation.confidence.push(answer.share);
    }
    let count = evaluation.labels.len().max(1) as f64;
    evaluation.accuracy = correct as f64 / count;
    evaluation.top5 = among_five as f64 / count;
    evaluation
}

/// Makes the folder ready and writes the settings that mean something here.
fn begin(setup: &Setup, record: &DataRecord, frame: &Frame) -> Result<MetricsLog> {
    let used = setup.config.clone().with(|c| {
        let preprocessing = &setup.checkpoint.preprocessing;
        c.data.interpolation = Some(preprocessing.interpolation);
        c.data.crop_pct = Some(preprocessing.crop_pct);
        c.data.exif = Some(c.data.exif.unwrap_or_default());
        c.compute.device = device_name(setup.params.device());
        c.compute.threads = rayon::current_num_threads();
        (c.length.epochs, c.length.batch_size) = (Count::Auto, BatchSize::ByData);
    });
    let log = frame.begin(used, &SETTINGS, record)?;
    if let Some(account) = &setup.account {
        write_json(&frame.folder.load_path(), account)?;
    }
    Ok(log)
}
