//! Heads that are made of the names of classes: the head that a run begins with, and the run of a model that is not trained at all.

#[cfg(feature = "text")]
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tallow_models::{AnyModel, Architecture, Params};
use tallow_weights::{Account, CheckpointConfig, OpenOptions};

use super::config::{Head, TrainConfig};
use super::data_record;
use super::error::{Error, Result};
use super::evaluate::{EvaluateOptions, Evaluation, evaluate_while};
use super::event::{Event, Listener};
use super::features::ModelInput;
use super::metrics_log::MetricsLog;
use super::outcome::{Outcome, Start};
use super::run_folder::{RunFolder, Summary, write_json};
use super::setup::Setup;
use super::study::frame::Frame;
use super::{checkpoint, kernels};
use crate::data::{Dataset, Transform};

/// The sentences that names are put into, where nothing else is said.
pub const TEMPLATES: &str = "openai-80";

/// A head that was made of the names of a data set's classes.
pub(super) struct WordHead {
    #[cfg(feature = "text")]
    head: crate::text::zero_shot::ClassHead,
    /// What a reader should know.
    pub notes: Vec<String>,
}

impl WordHead {
    /// The head that the configuration asks for, if it asks for one of words.
    ///
    /// # Errors
    /// If the weights have no text tower or no tokenizer, or words cannot tell the classes apart.
    pub fn of(config: &TrainConfig, dataset: &Dataset, options: &OpenOptions) -> Result<Option<Self>> {
        match config.model.head {
            Head::ZeroShot => Self::made(config, dataset, options).map(Some),
            _ => Ok(None),
        }
    }

    #[cfg(feature = "text")]
    fn made(config: &TrainConfig, dataset: &Dataset, options: &OpenOptions) -> Result<Self> {
        let (head, notes) = words::head(config, dataset, options)?;
        Ok(Self { head, notes })
    }

    #[cfg(not(feature = "text"))]
    fn made(_: &TrainConfig, _: &Dataset, _: &OpenOptions) -> Result<Self> {
        Err(Error::config("head", "auto, keep or new, as this build is without the feature text", "zero-shot"))
    }

    /// The vision tower that `own` describes, with such a head.
    ///
    /// # Errors
    /// If it is no ViT, or of another model.
    pub fn architecture(&self, own: &CheckpointConfig) -> Result<Architecture> {
        #[cfg(feature = "text")]
        return Ok(self.head.architecture(own)?);
        #[cfg(not(feature = "text"))]
        Ok(own.architecture.clone())
    }

    /// Provides the head, where the backbone was loaded.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn provide(self, params: &Params, account: &mut Account) -> Result<()> {
        #[cfg(feature = "text")]
        self.head.provide(params, account)?;
        #[cfg(not(feature = "text"))]
        let _ = params;
        account.notes.extend(self.notes);
        Ok(())
    }
}

/// Measures a model that classifies by the names of classes, and writes the folder of a run that trained nothing: what [`super::fit()`] begins
/// with where the settings are the same. Setting `stop` ends it.
///
/// # Errors
/// As [`Setup::of_run`]; if the folder holds something else, or a sample cannot be read.
pub fn run(
    config: &TrainConfig,
    hub: &OpenOptions,
    folder: &RunFolder,
    listener: &mut dyn Listener,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let mut frame = Frame::new(folder, Start::New, listener, stop)?;
    let config = config.clone().with(|c| {
        (c.model.head, c.length.epochs, c.length.eval_every) = (Head::ZeroShot, 1.into(), 1.into());
        c.data.augment = "none".into();
    });
    let mut setup = Setup::to_measure(&config, folder, hub)?;
    setup.dataset.notes.extend(kernels::take_up(&mut setup.config));
    let mut setup = setup.resolve()?;
    if !frame.digest(&mut setup.dataset) {
        return frame.interrupted();
    }
    let model = setup.checkpoint.architecture.build(setup.params.eval_builder())?;
    let measuring = Instant::now();
    let Some(tested) = measure(&setup, &model, &mut frame)? else { return frame.interrupted() };
    let rate = tested.labels.len() as f64 / measuring.elapsed().as_secs_f64().max(1e-9);

    let Setup { config, checkpoint: described, params, dataset, account } = &setup;
    std::fs::create_dir_all(folder.root()).map_err(Error::io(folder.root()))?;
    MetricsLog::open(folder)?.sync()?;
    data_record::of(config, dataset)?.write(folder)?;
    account.as_ref().map_or(Ok(()), |account| write_json(&folder.load_path(), account))?;
    tallow_weights::save::write_text(&folder.config_path(), &config.to_toml()?)?;
    checkpoint::write_best(folder, params, described)?;
    let summary = Summary {
        name: setup.name(folder),
        parameters: params.count(),
        train_samples: 0,
        images_per_second: rate,
        ..Summary::of(config, dataset, &tested)
    };
    frame.finish(summary, &tested, dataset)
}

/// Measures the model on the test part, as a run does; none if it was stopped.
fn measure(setup: &Setup, model: &AnyModel, frame: &mut Frame) -> Result<Option<Evaluation>> {
    let input = ModelInput::images(&setup.dataset.test, &Arc::new(Transform::of(&setup.checkpoint)?));
    let total = input.samples().len();
    let options = EvaluateOptions::default();
    let batch_size = setup.config.length.eval_batch_size.unwrap_or(options.batch_size);
    evaluate_while(model, &input, setup.params.device(), &options.with(|o| o.batch_size = batch_size), |done| {
        frame.listener.on(&Event::Evaluation { done, total });
        !frame.stop.load(Ordering::Relaxed)
    })
}
