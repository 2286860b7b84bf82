//! From a configuration to what the loop needs: the model over its parameters, and the data.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use candle_core::DType;
use tallow_models::{Architecture, Params, zoo};
use tallow_weights::{
    Account, Checkpoint, CheckpointConfig, LoadOptions, OpenOptions, Preprocessing, Source, Transparency,
};

use super::config::{Method, Normalize, Resolved, TrainConfig};
use super::data_record::{self, DataRecord};
use super::defaults::by_data;
use super::error::{Error, Result};
use super::evaluate::EvaluateOptions;
use super::event::{Event, Listener};
use super::features::trains_head_alone;
use super::outcome::Start;
use super::run_folder::RunFolder;
use super::schedule::Schedule;
use super::study::perceptron;
use super::zero_shot::WordHead;
use super::{device, device_name, freeze, memory, paths, pretraining, set_precision, warnings};
use crate::data::{
    self, Alpha, Augment, DataOptions, Dataset, OnBadImage, Samples, SplitBy, Statistics, check, whitening,
};

/// Everything that a run needs, in memory. [`Setup::new`] makes it from a configuration, [`Setup::of_parts`] from a model and data that
/// a program brings itself: [`super::fit()`] builds the architecture over the parameters and trains it on the data set.
#[derive(Debug)]
#[non_exhaustive]
pub struct Setup {
    /// The settings. Of those that say where the model, its weights and the data come from, only the names count here.
    pub config: TrainConfig,
    /// What the run's checkpoints say of themselves: the architecture, how images become its input, the class names.
    pub checkpoint: CheckpointConfig,
    /// The model's parameters: the values to start from are provided, the rule for freezing is set.
    pub params: Params,
    /// The data set.
    pub dataset: Dataset,
    /// The account of the load, where weights were loaded.
    pub account: Option<Account>,
}

impl Setup {
    /// Of a model and data that a program brings itself: `checkpoint` says what the model is, `params` hold the values to start from,
    /// or none of them yet.
    pub fn of_parts(config: TrainConfig, checkpoint: CheckpointConfig, params: Params, dataset: Dataset) -> Self {
        Self { config, checkpoint, params, dataset, account: None }
    }

    /// Resolves the model, opens the data and loads the weights, with the hub as the environment says.
    ///
    /// # Errors
    /// If a setting makes no sense, the model or the data cannot be found, or the weights do not fit.
    pub fn new(config: &TrainConfig) -> Result<Self> {
        Self::with(config, &OpenOptions::default())
    }

    /// As [`Setup::new`], with the hub as `options` say.
    ///
    /// # Errors
    /// As [`Setup::new`].
    pub fn with(config: &TrainConfig, options: &OpenOptions) -> Result<Self> {
        Self::begin(config)?;
        Self::of(config, open_data(config, options)?, options)
    }

    /// As [`Setup::with`], for a run that begins or goes on in `folder`: its files are found from any working directory, and its
    /// data is compared with what it was begun with.
    ///
    /// # Errors
    /// As [`Setup::with`]; [`Error::DataDiffers`].
    pub fn of_run(config: &TrainConfig, folder: &RunFolder, start: Start, options: &OpenOptions) -> Result<Self> {
        Self::begin(config)?;
        let (config, dataset) = open_for_run(config, folder, start, options)?;
        let mut setup = Self::of(&config, dataset, options)?;
        if start == Start::Resume
            && folder.config_path().exists()
            && let Some(begun) = folder.config()?.resolved
        {
            // Versions before these settings resized as Pillow does, whatever the checkpoint said.
            let own = &mut setup.checkpoint.preprocessing;
            *own = own.clone().treating_images_as(&begun.preprocessing);
        }
        Ok(setup)
    }

    /// As [`Setup::of_run`], for a run that begins in `folder` and trains nothing: data that has nothing to train on does, too.
    ///
    /// # Errors
    /// As [`Setup::with`].
    pub fn to_measure(config: &TrainConfig, folder: &RunFolder, options: &OpenOptions) -> Result<Self> {
        Self::begin(config)?;
        let (config, notes) = paths::locate(config, folder);
        let mut dataset = open_to_measure(&config, options)?;
        if dataset.test_held_out {
            dataset.notes.push(format!(
                "measured are the {} samples that a run on this data holds out, so that the two can be compared; all are measured where the \
                 classes lie in a folder `test`",
                dataset.test.len()
            ));
        }
        dataset.notes.extend(notes);
        Self::of(&config, dataset, options)
    }

    /// What is wrong with the settings alone, or the device, is said before data is read.
    fn begin(config: &TrainConfig) -> Result<()> {
        config.validate()?;
        perceptron::check_settings(config)?;
        pretraining::check_settings(config)?;
        set_precision(config.compute.dtype, &device(&config.compute.device)?)
    }

    /// On a data set that is open.
    fn of(config: &TrainConfig, mut dataset: Dataset, options: &OpenOptions) -> Result<Self> {
        let (written, config) = (config, &paths::placed(config));
        let device = device(&config.compute.device)?;
        if let Some(Ok(wanted)) = config.model.set.get("num_classes").map(|wanted| wanted.trim().parse()) {
            // Before weights are downloaded for it.
            check_classes(config, wanted, &dataset)?;
        }
        let options = &config.checkpoint_options(options.clone())?;
        let loaded = match config.model.weights.as_deref() {
            None => None,
            Some("pretrained") => Some(tallow_weights::open(&Source::parse(&config.model.model)?, options)?),
            Some(source) => Some(tallow_weights::open(&Source::parse(source)?, &of_weights(config, options))?),
        };
        let own = OwnModel::of(config, loaded.as_ref(), options)?.pooled_as(config, loaded.as_ref());
        let words = WordHead::of(config, &dataset, options)?;
        let with_head = match &words {
            None => own.architecture.clone(),
            Some(words) => words.architecture(&own.config())?,
        };
        let architecture = architecture(config, with_head, &dataset)?;
        check_points(&dataset, &architecture)?;
        check_mix(config, &dataset)?;
        check_channels(&dataset, &architecture)?;
        check_images(
            &mut dataset,
            Alpha::of_channels(architecture.input_size()[0]),
            config.data.on_bad_image,
            options,
        )?;
        perceptron::check(config, &architecture)?;
        pretraining::check(config, &architecture, &dataset)?;
        // What is said of the weights; where nothing is and they are the model's own, what was assumed for that.
        let stated = loaded.as_ref().and_then(Checkpoint::config);
        let described = match config.model.weights.as_deref() {
            Some("pretrained") if stated.is_none() || config.model.arch.is_some() => own.described.as_ref(),
            _ => stated,
        };
        let preprocessing = preprocessing(config, architecture.input_size(), described, &dataset)?;
        let mut settled = written.clone();
        by_data(&mut settled, &architecture, dataset.train.len());

        if device.is_cpu() {
            // Weights, gradients and the optimiser's two means; and the weights' average.
            let copies = if config.regularization.ema.is_some() { 5 } else { 4 };
            let numbers = copies * architecture.num_parameters()? as u128;
            memory::check(&format!("training {}", config.model.model), 4 * numbers)?;
        }
        let params = Params::new(config.compute.seed, DType::F32, &device);
        if let Some(text) = &config.model.freeze {
            params.freeze(freeze::rule(text, &architecture)?);
        }
        pretraining::prepare(config, &architecture, &params, loaded.is_some())?;
        let load = LoadOptions::default().with(|load| {
            load.head = config.model.head.of_load();
            load.labels = config.trains_head().then(|| dataset.classes.clone());
            load.ignore_unknown = config.model.ignore_unknown;
        });
        let mut account = match &loaded {
            Some(checkpoint) => Some(tallow_weights::load(checkpoint, &architecture, &load, &params)?),
            None => None,
        };
        if let (Some(words), Some(account)) = (words, &mut account) {
            words.provide(&params, account)?;
        }
        match &mut account {
            Some(account) => account.notes.extend(own.assumed),
            None => dataset.notes.extend(own.assumed),
        }
        // Another one than the checkpoint's is fitted when the run begins.
        let whitening =
            described.filter(|_| config.data.normalize == Normalize::Auto).and_then(|d| d.whitening.clone());
        if let Some(whitening) = &whitening {
            whitening.check_input(preprocessing.input_size)?;
        }
        let checkpoint = CheckpointConfig::new(architecture, preprocessing).with(|c| {
            c.name = own.name;
            c.whitening = whitening;
            c.labels = config.trains_head().then(|| dataset.classes.clone());
            c.license = described.and_then(|described| described.license.clone());
        });
        Ok(Self { config: settled, checkpoint, params, dataset, account })
    }

    /// The run's name in reports.
    pub fn name(&self, folder: &RunFolder) -> String {
        self.config.name.clone().unwrap_or_else(|| folder.name())
    }

    /// Optimiser steps of an epoch: a step for every `accumulate` batches, the last of each with what is left.
    pub fn steps_per_epoch(&self) -> usize {
        self.dataset.train.len().div_ceil(self.config.batch_size()).div_ceil(self.config.length.accumulate)
    }

    /// Every setting that was left open takes the value that is used, and what they come to is written down.
    ///
    /// # Errors
    /// If a setting makes no sense.
    pub(super) fn resolve(mut self) -> Result<Self> {
        let config = &mut self.config;
        by_data(config, &self.checkpoint.architecture, self.dataset.train.len());
        config.validate()?;
        perceptron::check_settings(config)?;
        check_classes(config, self.checkpoint.architecture.num_classes(), &self.dataset)?;
        let (labels, classes) = (&self.checkpoint.labels, self.dataset.classes.len());
        if let Some(labels) = labels.as_ref().filter(|labels| labels.len() != classes) {
            let expected = format!("a name for each of the data set's {classes} classes");
            return Err(Error::invalid("labels of the checkpoint", expected, format!("{} names", labels.len())));
        }
        pretraining::check_settings(config)?;
        pretraining::check(config, &self.checkpoint.architecture, &self.dataset)?;
        pretraining::settle(config, &self.checkpoint.architecture);
        if config.data.augment.trim() == "auto" {
            let suits = match config.pretraining.method {
                Some(Method::Dino) => pretraining::dino_changes("auto", &self.dataset.augment)?,
                _ => self.dataset.augment.clone(),
            };
            let names: Vec<String> = suits.iter().map(Augment::to_string).collect();
            config.data.augment = if names.is_empty() { "none".into() } else { names.join(",") };
        }
        let preprocessing = &self.checkpoint.preprocessing;
        paths::fill(config);
        config.data.exif = Some(config.data.exif.unwrap_or_default());
        config.data.interpolation = Some(preprocessing.interpolation);
        config.data.crop_pct = Some(preprocessing.crop_pct);
        config.compute.device = device_name(self.params.device());
        config.compute.threads = rayon::current_num_threads();
        let default = EvaluateOptions::default().batch_size;
        config.length.eval_batch_size = Some(config.length.eval_batch_size.unwrap_or(default.max(config.batch_size())));
        let steps_per_epoch = self.steps_per_epoch();
        let config = &mut self.config;
        config.schedule.warmup_steps = Some(Schedule::new(config, steps_per_epoch).warmup_steps());
        config.resolved = Some(Resolved {
            version: env!("CARGO_PKG_VERSION").into(),
            train_samples: self.dataset.train.len(),
            val_samples: self.dataset.val.as_ref().map_or(0, |val| val.len()),
            test_samples: self.dataset.test.len(),
            steps_per_epoch,
            architecture: self.checkpoint.architecture.clone(),
            preprocessing: self.checkpoint.preprocessing.clone(),
        });
        Ok(self)
    }

    /// What the settings lead one to expect, and what the data set's reader had to say.
    pub(super) fn warnings(&self) -> Vec<String> {
        let architecture = &self.checkpoint.architecture;
        let pretrained = self.account.is_some() && !trains_head_alone(architecture, &self.params);
        let settings = warnings::of_settings(&self.config, architecture, pretrained);
        let warmup = warnings::of_warmup(&self.config, self.steps_per_epoch());
        self.dataset.notes.iter().cloned().chain(settings).chain(warmup).collect()
    }
}

/// The data set of a configuration, from the hub as `hub` says.
pub(super) fn open_data(config: &TrainConfig, hub: &OpenOptions) -> Result<Dataset> {
    open_split(config, SplitBy::Content, hub)
}

/// As [`open_data`]; what is split off follows from `split_by`.
pub(super) fn open_split(config: &TrainConfig, split_by: SplitBy, hub: &OpenOptions) -> Result<Dataset> {
    open_as(config, &DataOptions { split_by, ..data_options(config) }, hub)
}

/// As [`open_data`], where nothing is trained on it: without a test part, all of it is the test part.
pub(super) fn open_whole(config: &TrainConfig, hub: &OpenOptions) -> Result<Dataset> {
    open_as(config, &DataOptions { whole: true, ..data_options(config) }, hub)
}

/// As [`open_data`]; a test part alone does, where nothing is trained.
pub(super) fn open_to_measure(config: &TrainConfig, hub: &OpenOptions) -> Result<Dataset> {
    open_data(config, hub).or_else(|error| match open_whole(config, hub) {
        Ok(whole) if whole.train.is_empty() && whole.classes.len() > 1 => Ok(whole),
        _ => Err(error),
    })
}

fn open_as(config: &TrainConfig, options: &DataOptions, hub: &OpenOptions) -> Result<Dataset> {
    let place = paths::place(config, "data").unwrap_or_else(|| config.data.data.clone());
    Ok(data::open_at(&config.data.data, &place, options, hub)?)
}

/// How a configuration opens its data set.
fn data_options(config: &TrainConfig) -> DataOptions {
    DataOptions {
        limit: config.data.limit,
        test_limit: config.data.test_limit,
        val_fraction: config.data.val_fraction,
        train_split: config.data.train_split.clone(),
        test_split: config.data.test_split.clone(),
        on_bad_image: config.data.on_bad_image,
        exif: config.data.exif.unwrap_or_default(),
        unlabelled: matches!(config.pretraining.method, Some(Method::Mae | Method::Dino)),
        ..DataOptions::default()
    }
}

/// The settings of a run that begins or goes on in `folder`, its files found, and its data, which is the same as at its beginning.
pub(super) fn open_for_run(
    config: &TrainConfig,
    folder: &RunFolder,
    start: Start,
    hub: &OpenOptions,
) -> Result<(TrainConfig, Dataset)> {
    let (mut config, mut notes) = paths::locate(config, folder);
    let goes_on = start == Start::Resume && folder.config_path().exists();
    if !goes_on {
        let mut dataset = open_data(&config, hub)?;
        dataset.notes.extend(notes);
        return Ok((config, dataset));
    }
    let run = folder.config()?;
    config.data.exif = config.data.exif.or(run.data.exif);
    let Some(record) = DataRecord::read(folder)? else {
        let older = open_older(&config, folder, hub)?;
        let mut dataset = older.dataset;
        notes.push(data_record::missing_note(folder));
        dataset.notes.extend(notes);
        return Ok((config, dataset));
    };
    let mut dataset = open_data(&config, hub)?;
    dataset.notes.extend(notes);
    let asks_for_the_same = paths::agree("data", &run, &config) && data_options(&config) == data_options(&run);
    // Other settings are told as such, when the run goes on.
    if asks_for_the_same {
        data_record::digest(&mut dataset, &mut Silent, &AtomicBool::new(false));
        data_record::check(folder, &record, &data_record::of(&config, &dataset)?)?;
    }
    Ok((config, dataset))
}

/// Checks that the data of a run that is there is what it was begun with.
///
/// # Errors
/// [`Error::DataDiffers`] if not; otherwise if the data cannot be opened.
pub fn check_data(config: &TrainConfig, folder: &RunFolder, hub: &OpenOptions) -> Result<()> {
    open_for_run(config, folder, Start::Resume, hub).map(|_| ())
}

/// Nobody who listens.
struct Silent;

impl Listener for Silent {
    fn on(&mut self, _: &Event) {}
}

/// The data set of a run that has no `data.json`.
pub(super) struct Older {
    pub dataset: Dataset,
    /// What its splits follow from.
    pub split_by: SplitBy,
    /// Whether names and labels of the test samples are those that the run was tested on; none where the run does not tell.
    pub same_test_set: Option<bool>,
}

/// Opens the data of a run that has no `data.json`, split as it was then, as far as what the run tells of its parts shows that.
pub(super) fn open_older(config: &TrainConfig, folder: &RunFolder, hub: &OpenOptions) -> Result<Older> {
    let summary = folder.summary().ok();
    let resolved = folder.config().ok().and_then(|run| run.resolved);
    let mut opened = None;
    for split_by in [SplitBy::Position, SplitBy::Content] {
        let dataset = open_split(config, split_by, hub)?;
        let same_test_set = summary.as_ref().map(|summary| summary.test_set == dataset.test_fingerprint());
        let sizes = [dataset.train.len(), dataset.val.as_ref().map_or(0, |val| val.len()), dataset.test.len()];
        let same_sizes = resolved.as_ref().map(|r| [r.train_samples, r.val_samples, r.test_samples] == sizes);
        if same_test_set.or(same_sizes) != Some(false) {
            return Ok(Older { dataset, split_by, same_test_set });
        }
        opened.get_or_insert(Older { dataset, split_by, same_test_set });
    }
    opened.ok_or_else(|| Error::invalid(&config.data.data, "a data set", "none"))
}

/// Reads what results are measured on before anything is trained for it. Bad training images are met in the first epoch; where they
/// are to be left out, they are already.
pub(super) fn check_images(dataset: &mut Dataset, alpha: Alpha, on_bad: OnBadImage, hub: &OpenOptions) -> Result<()> {
    if on_bad == OnBadImage::Skip && alpha != Alpha::Kept {
        return Ok(());
    }
    for (name, part) in [("test", Some(dataset.test.clone())), ("validation", dataset.val.clone())] {
        let Some(part) = part else { continue };
        let notes = check_part(dataset, name, &*part, alpha, hub)?;
        dataset.notes.extend(notes);
    }
    Ok(())
}

/// Reads all images of a part; gives notes on those that are odd.
pub(super) fn check_part(
    dataset: &Dataset,
    name: &str,
    part: &dyn Samples,
    alpha: Alpha,
    hub: &OpenOptions,
) -> Result<Vec<String>> {
    let say = |text: &str| hub.progress.iter().for_each(|who| who.note(text));
    let checked = check::look_through(&dataset.spec, name, part, alpha, &say);
    let named = format!("{}: {name} part", dataset.spec);
    let notes = checked.notes(&named);
    checked.into_result(&named)?;
    Ok(notes)
}

/// A zoo's name without its tag.
fn base_name(model: &str) -> &str {
    model.split_once('.').map_or(model, |(name, _)| name)
}

/// The options for weights of another source than the model itself, which are those of its architecture unless that is told.
fn of_weights(config: &TrainConfig, options: &OpenOptions) -> OpenOptions {
    let own = zoo_entry(&config.model.model).map(|entry| entry.name.to_owned());
    options.clone().with(|c| c.arch = options.arch.clone().or(own))
}

/// The zoo's entry of a name, whose tag may be one that the zoo does not know, unless that is a file's name.
fn zoo_entry(model: &str) -> Option<zoo::Entry> {
    let tagged = zoo::find(model).ok();
    tagged.or_else(|| if Path::new(model).exists() { None } else { zoo::find(base_name(model)).ok() })
}

/// What the name or the checkpoint of the model that is trained says of it.
struct OwnModel {
    /// Its name in the zoo, which is timm's.
    name: Option<String>,
    architecture: Architecture,
    /// All that its checkpoint says.
    described: Option<CheckpointConfig>,
    /// What had to be assumed.
    assumed: Vec<String>,
}

impl OwnModel {
    /// What its checkpoint says, or its name alone.
    fn config(&self) -> CheckpointConfig {
        let unsaid = || Preprocessing::new(self.architecture.input_size(), Vec::new(), Vec::new());
        self.described.clone().unwrap_or_else(|| CheckpointConfig::new(self.architecture.clone(), unsaid()))
    }

    fn of(config: &TrainConfig, loaded: Option<&Checkpoint>, options: &OpenOptions) -> Result<Self> {
        if let Some(entry) = zoo_entry(&config.model.model) {
            let (name, architecture) = (Some(entry.name.to_owned()), entry.architecture);
            return Ok(Self { name, architecture, described: None, assumed: Vec::new() });
        }
        let (described, assumed) = match (loaded, config.model.weights.as_deref()) {
            (Some(checkpoint), Some("pretrained")) => checkpoint.config_or_inferred()?,
            _ => tallow_weights::open(&Source::parse(&config.model.model)?, options)?.config_or_inferred()?,
        };
        let (name, architecture) = (described.name.clone(), described.architecture.clone());
        Ok(Self { name, architecture, described: Some(described), assumed })
    }

    /// The same, reading images as weights of another source do that were trained without labels: what a name says of the pool is less than
    /// which tokens have learned something. What the settings say goes before both.
    fn pooled_as(mut self, config: &TrainConfig, loaded: Option<&Checkpoint>) -> Self {
        let stated = loaded.and_then(Checkpoint::config).map(|stated| &stated.architecture);
        let says_nothing = !config.model.set.contains_key("global_pool") && self.described.is_none();
        if let (Architecture::Vit(own), Some(Architecture::Vit(stated))) = (&mut self.architecture, stated)
            && says_nothing
            && stated.num_classes == 0
            && stated.uses_fc_norm() != own.uses_fc_norm()
            && (stated.class_token, stated.reg_tokens) == (own.class_token, own.reg_tokens)
        {
            let of_weights = (stated.global_pool, stated.fc_norm, stated.final_norm);
            (own.global_pool, own.fc_norm, own.final_norm) = of_weights;
            let pool = stated.global_pool.name();
            self.assumed.push(format!("global_pool {pool}, as the weights were trained without labels"));
        }
        self
    }
}

/// The model that is trained: what its name or its checkpoint says, changed by `set`, with a class for every one of the data
/// set's, or without a head where no labels are learned.
fn architecture(config: &TrainConfig, own: Architecture, dataset: &Dataset) -> Result<Architecture> {
    let mut architecture = own.with_num_classes(if config.trains_head() { dataset.classes.len() } else { 0 });
    set_all(&mut architecture, &config.model.set)?;
    architecture.validate()?;
    Ok(architecture)
}

/// The head has a row for every class of the data and no other: what it said of a class without samples or a name would mean
/// nothing to whoever reads the checkpoint.
fn check_classes(config: &TrainConfig, classes: usize, dataset: &Dataset) -> Result<()> {
    if !config.trains_head() {
        let expected = "nothing: there is no head where no labels are learned";
        return if classes == 0 { Ok(()) } else { Err(Error::config("num_classes", expected, classes)) };
    }
    let of_data = dataset.classes.len();
    if classes == of_data {
        return Ok(());
    }
    let expected = format!("{of_data}, as many classes as {} has (left out, it follows from the data)", dataset.spec);
    Err(Error::config("num_classes", expected, classes))
}

/// Points need a model that reads as many values as they have coordinates.
fn check_points(dataset: &Dataset, architecture: &Architecture) -> Result<()> {
    let input = architecture.input_size();
    let Some(coordinates) = dataset.train.coordinates() else { return Ok(()) };
    if coordinates == input.iter().product::<usize>() {
        return Ok(());
    }
    let expected =
        format!("a model that reads points of {coordinates} coordinates (`in_chans = {coordinates}` `img_size = 1`)");
    Err(Error::invalid(&dataset.spec, expected, format!("one that reads {input:?}")))
}

/// Images are grey, RGB or RGBA.
fn check_channels(dataset: &Dataset, architecture: &Architecture) -> Result<()> {
    let points = dataset.train.coordinates().is_some();
    match architecture.input_size()[0] {
        1 | 3 | 4 => Ok(()),
        _ if points => Ok(()),
        channels => {
            let expected = "1 (grey), 3 (RGB) or 4 (RGB and alpha), as files have them";
            Err(Error::config("in_chans", expected, channels))
        }
    }
}

/// Only images can be mixed.
fn check_mix(config: &TrainConfig, dataset: &Dataset) -> Result<()> {
    let points = dataset.train.coordinates().is_some();
    if points && !config.mix().is_none() {
        return Err(Error::invalid(&dataset.spec, "images for `mixup` and `cutmix`; leave them out", "points"));
    }
    Ok(())
}

/// Changes an architecture by timm's names.
fn set_all(architecture: &mut Architecture, changes: &BTreeMap<String, String>) -> Result<()> {
    changes.iter().try_for_each(|(key, value)| Ok(architecture.set(key, value)?))
}

/// How images become the model's input: as the checkpoint says where there is one, unless the configuration says otherwise.
pub(super) fn preprocessing(
    config: &TrainConfig,
    input_size: [usize; 3],
    described: Option<&CheckpointConfig>,
    dataset: &Dataset,
) -> Result<Preprocessing> {
    let channels = input_size[0];
    let described = described.map(|described| described.preprocessing.clone());
    let points = dataset.train.coordinates().is_some();
    // It is the checkpoint's way, and no setting says anything of it.
    let transparency = described.as_ref().map_or(Transparency::Dropped, |described| described.transparency);
    let alpha =
        Alpha::of(&Preprocessing::new(input_size, Vec::new(), Vec::new()).with(|c| c.transparency = transparency));
    let (mean, std) = match (config.data.normalize, &described) {
        (Normalize::None, _) => (vec![0.; channels], vec![1.; channels]),
        (Normalize::Auto, Some(described)) => (described.mean.clone(), described.std.clone()),
        (Normalize::Zca, _) if points => {
            let expected = "images for `normalize = zca`; use `normalize = none`";
            return Err(Error::invalid(&dataset.spec, expected, "points"));
        }
        (Normalize::Zca, _) => {
            whitening::check_size(input_size)?;
            (Statistics::of(&*dataset.train, channels, alpha)?.mean, vec![1.; channels])
        }
        // Points are read as they are.
        (Normalize::Auto, None) if points => (vec![0.; channels], vec![1.; channels]),
        (Normalize::Auto | Normalize::Standard, _) => {
            let Statistics { mean, std, .. } = Statistics::of(&*dataset.train, channels, alpha)?.checked()?;
            (mean, std)
        }
    };
    let default = Preprocessing::new(input_size, Vec::new(), Vec::new());
    let base = described.unwrap_or(default);
    Ok(Preprocessing::new(input_size, mean, std)
        .with(|c| {
            c.interpolation = config.data.interpolation.unwrap_or(base.interpolation);
            c.crop_pct = config.data.crop_pct.unwrap_or(base.crop_pct);
            c.squash = base.squash;
            c.transparency = transparency;
        })
        .treating_images_as(&base)
        .per_channel())
}
