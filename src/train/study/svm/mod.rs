//! Support vector machines with an RBF kernel, the yardstick of the perceptron: a run's folder like any other's, so that they
//! stand in one comparison.
//!
//! The model is called `svm`. Its options stand where an architecture's do: `c` (the penalty of samples on the wrong side,
//! default 1), `gamma` (of the kernel exp(−γ‖x − x'‖²): a number; `scale`, the default, 1 / (values of a sample · their
//! variance); `auto`, 1 / values of a sample) and `img_size` (default: the images' own size where they have one in common, else
//! 32). Classes are told apart in pairs, and a sample is of the class that wins most of its duels (of equals the first), as in
//! libsvm and scikit-learn's `SVC`. There are no probabilities: the loss is no number, and the confidence of a prediction is
//! the share of its duels that the class won.

mod classifier;
#[cfg(feature = "svm")]
mod solve;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tallow_models::ImgSize;
use tallow_weights::{OpenOptions, Preprocessing};

pub use classifier::{Svm, Votes};

use super::frame::{self, Frame};
use crate::data::{Alpha, Dataset, Loader, LoaderOptions, Samples, Transform};
use crate::train::config::{Precision, TrainConfig};
use crate::train::data_record::DataRecord;
use crate::train::error::{Error, Result};
use crate::train::evaluate::Evaluation;
use crate::train::event::{EpochMetrics, Listener};
use crate::train::metrics_log::MetricsLog;
use crate::train::outcome::{Outcome, Start};
use crate::train::run_folder::{MetricsLine, RunFolder, Summary};
use crate::train::{memory, paths, setup};

/// What the model is called.
pub const NAME: &str = "svm";

/// The side of images that have no size in common, in pixels: the kernel takes time for every pixel.
const SIDE: usize = 32;

/// Settings of a run that mean something here.
const SETTINGS: [&str; 19] = [
    "name",
    "paths",
    "model",
    "data",
    "train_split",
    "test_split",
    "limit",
    "test_limit",
    "on_bad_image",
    "exif",
    "normalize",
    "interpolation",
    "crop_pct",
    "augment",
    "seed",
    "threads",
    "kernels",
    "device",
    "set",
];

/// The options of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Options {
    c: f64,
    gamma: Gamma,
    img_size: Option<ImgSize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Gamma {
    Scale,
    Auto,
    Value(f64),
}

/// Whether the configuration is that of a support vector machine.
pub fn is_meant(config: &TrainConfig) -> bool {
    config.model.model == NAME
}

/// Checks the settings of a support vector machine.
///
/// # Errors
/// [`Error::Config`] names an option or setting that makes no sense, or means nothing here.
pub fn check(config: &TrainConfig) -> Result<()> {
    let known = "only the settings of an SVM (data, limit, test_limit, on_bad_image, exif, normalize, set.c, set.gamma, set.img_size)";
    frame::check_settings(config, &SETTINGS, known)?;
    let none = ["auto", "none"].contains(&config.data.augment.trim());
    let check = |field: &str, holds: bool, expected: &str, got: &str| {
        if holds { Ok(()) } else { Err(Error::config(field, expected, got)) }
    };
    check("augment", none, "none with an SVM", &config.data.augment)?;
    check(
        "device",
        ["auto", "cpu"].contains(&config.compute.device.as_str()),
        "cpu with an SVM",
        &config.compute.device,
    )?;
    check("dtype", config.compute.dtype == Precision::F32, "f32 with an SVM", config.compute.dtype.name())?;
    Options::of(config).map(drop)
}

impl Options {
    fn of(config: &TrainConfig) -> Result<Self> {
        let mut options = Self { c: 1., gamma: Gamma::Scale, img_size: None };
        let positive = |key: &str, text: &str, expected: &str| match text.trim().parse::<f64>() {
            Ok(value) if value.is_finite() && value > 0. => Ok(value),
            _ => Err(Error::config(key, expected, format!("{text:?}"))),
        };
        for (key, text) in &config.model.set {
            match (key.as_str(), text.as_str()) {
                ("c", text) => options.c = positive("c", text, "a number above 0")?,
                ("gamma", "scale") => options.gamma = Gamma::Scale,
                ("gamma", "auto") => options.gamma = Gamma::Auto,
                ("gamma", text) => {
                    options.gamma = Gamma::Value(positive("gamma", text, "scale, auto or a number above 0")?);
                }
                ("img_size", text) => match text.parse::<ImgSize>() {
                    Ok(size) if size.sides().iter().all(|side| (1..=4096).contains(side)) => {
                        options.img_size = Some(size);
                    }
                    _ => return Err(Error::config("img_size", "1 to 4096, or HEIGHTxWIDTH", format!("{text:?}"))),
                },
                (key, _) => return Err(Error::config("set", "the options c, gamma and img_size of an SVM", key)),
            }
        }
        Ok(options)
    }
}

/// Trains a support vector machine and writes its run's files into `folder`, telling `listener` what happens. What is there
/// of a run that was interrupted is made anew. Setting `stop` ends it after the pair of classes that it is at.
///
/// # Errors
/// If a setting makes no sense, the data cannot be read, the kernel does not fit the machine's memory, the folder holds
/// something else, or this build has no support vector machines.
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
    let options = Options::of(config)?;
    let (config, mut dataset) = setup::open_for_run(config, folder, start, hub)?;
    setup::check_images(&mut dataset, Alpha::Dropped, config.data.on_bad_image, hub)?;
    if !frame.digest(&mut dataset) {
        return frame.interrupted();
    }
    let preprocessing = setup::preprocessing(&config, input_size(&dataset, &options), None, &dataset)?;
    let transform = Arc::new(Transform::evaluation(&preprocessing)?);
    let labels: Vec<u32> = (0..dataset.train.len()).map(|index| dataset.train.label(index)).collect();
    let width = preprocessing.input_size.iter().product();
    let sizes = sizes(&labels);
    let present = sizes.iter().filter(|&&size| size > 0).count();
    if present < 2 {
        return Err(Error::invalid("training samples", "some of at least two classes", present));
    }
    check_memory(&sizes, width, budget())?;
    let rows = rows(&dataset.train, &transform)?;

    let record = frame.record(&config, &dataset)?;
    let config = used(config, &preprocessing);
    let mut log = begin(&config, &record, &frame)?;
    let gamma = options.gamma.value(&rows, width);
    let fitting = Instant::now();
    let model = Svm { width, gamma, c: options.c, classes: dataset.classes.clone(), preprocessing, ..Svm::default() };
    let Some(model) = fit(model, &rows, &labels, frame.listener, stop)? else { return frame.interrupted() };
    let fitted = fitting.elapsed().as_secs_f64();
    let (Some(trained), Some(tested)) = (
        model.evaluate(&dataset.train, frame.listener, Some(stop))?,
        model.evaluate(&dataset.test, frame.listener, Some(stop))?,
    ) else {
        return frame.interrupted();
    };
    model.write(folder.root())?;
    let metrics = metrics(&trained, &tested, fitted, frame.seconds());
    log.add(&MetricsLine::Epoch(metrics.clone()))?;
    log.sync()?;
    let summary = Summary {
        name: config.name.clone().unwrap_or_else(|| folder.name()),
        parameters: model.num_parameters(),
        trainable_parameters: model.num_coefficients(),
        epochs: 1,
        images_per_second: metrics.images_per_second,
        ..Summary::of(&config, &dataset, &tested)
    };
    frame.finish(summary, &tested, &dataset)
}

/// The chosen model of the run in `folder`, where that is a support vector machine's.
///
/// # Errors
/// If its files cannot be read or are not what they should be.
pub fn of_run(folder: &RunFolder) -> Result<Option<Svm>> {
    if Svm::is_in(folder.root()) { Svm::read(folder.root()).map(Some) } else { Ok(None) }
}

/// The settings as they were used.
fn used(config: TrainConfig, preprocessing: &Preprocessing) -> TrainConfig {
    config.with(|c| {
        c.data.interpolation = Some(preprocessing.interpolation);
        c.data.crop_pct = Some(preprocessing.crop_pct);
        c.data.augment = "none".into();
        c.data.exif = Some(c.data.exif.unwrap_or_default());
        c.compute.device = "cpu".into();
        c.compute.threads = rayon::current_num_threads();
        paths::fill(c);
    })
}

/// Makes the folder ready, where nothing is there or a run with the same settings, and writes those that mean something here.
fn begin(used: &TrainConfig, record: &DataRecord, frame: &Frame) -> Result<MetricsLog> {
    let folder = frame.folder;
    if frame.start == Start::Resume && folder.config_path().exists() {
        let differences = folder.config()?.differences(used);
        if !differences.is_empty() {
            return Err(Error::Differs { path: folder.root().into(), differences });
        }
    }
    frame.begin(used.clone(), &SETTINGS, record)
}

/// `[channels, height, width]` of a sample.
fn input_size(dataset: &Dataset, options: &Options) -> [usize; 3] {
    let own = dataset.shape.unwrap_or([3, SIDE, SIDE]);
    let points = dataset.train.coordinates().is_some();
    match options.img_size {
        Some(size) if !points => [own[0], size.height, size.width],
        _ => own,
    }
}

/// All samples as the model reads them, one after the other.
fn rows(samples: &Arc<dyn Samples>, transform: &Arc<Transform>) -> Result<Vec<f32>> {
    let width: usize = transform.input_size().iter().product();
    let mut rows = Vec::with_capacity(samples.len() * width);
    let options = LoaderOptions { batch_size: 64, ..LoaderOptions::default() };
    for batch in Loader::new(samples.clone(), (0..samples.len()).collect(), transform.clone(), options)? {
        rows.extend(batch?.images.flatten_all()?.to_vec1::<f32>()?);
    }
    Ok(rows)
}

impl Gamma {
    fn value(self, rows: &[f32], width: usize) -> f64 {
        match self {
            Self::Value(value) => value,
            Self::Auto => 1. / width as f64,
            Self::Scale => {
                let count = rows.len().max(1) as f64;
                let mean = rows.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
                let variance = rows.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
                // As scikit-learn has it, where all values are the same.
                if variance > 0. { 1. / (width as f64 * variance) } else { 1. }
            }
        }
    }
}

/// Bytes of all samples, and of the kernel and the samples of the largest pair of classes.
fn need(sizes: &[usize], width: usize) -> (u128, u128) {
    let mut sizes: Vec<u128> = sizes.iter().map(|&size| size as u128).collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let (all, pair): (u128, u128) = (sizes.iter().sum(), sizes.iter().take(2).sum());
    (4 * all * width as u128, 8 * pair * (pair + width as u128))
}

/// How many samples there are of each class.
fn sizes(labels: &[u32]) -> Vec<usize> {
    let mut sizes = vec![0; labels.iter().max().map_or(0, |&label| label as usize + 1)];
    labels.iter().for_each(|&label| sizes[label as usize] += 1);
    sizes
}

/// The share of the machine's memory that a run may take.
fn budget() -> Option<u128> {
    memory::total().map(|total| u128::from(total) * 3 / 4)
}

/// Pairs of classes that may be worked at at the same time.
#[cfg(feature = "svm")]
fn at_a_time(sizes: &[usize], width: usize) -> usize {
    let (samples, pair) = need(sizes, width);
    let room = budget().map_or(u128::MAX, |budget| budget.saturating_sub(samples) / pair.max(1));
    rayon::current_num_threads().min(usize::try_from(room).unwrap_or(usize::MAX)).max(1)
}

/// Checks that the samples, and the kernel of the largest pair of classes, take at most `budget` bytes.
fn check_memory(sizes: &[usize], width: usize, budget: Option<u128>) -> Result<()> {
    let Some(budget) = budget else { return Ok(()) };
    let samples: usize = sizes.iter().sum();
    let fits = |limit: usize| {
        let share = |size: &usize| (*size as f64 * limit as f64 / samples.max(1) as f64).ceil() as usize;
        let (all, pair) = need(&sizes.iter().map(share).collect::<Vec<_>>(), width);
        all + pair <= budget
    };
    if fits(samples) {
        return Ok(());
    }
    // A number of two digits that would do, and not much below the largest.
    let mut limit = samples;
    while limit > 1 && !fits(limit) {
        limit = limit * 9 / 10;
    }
    let power = 10usize.pow(limit.max(1).ilog10().saturating_sub(1));
    let gigabytes = |bytes: u128| format!("{:.1} GB", bytes as f64 / 1e9);
    let (all, pair) = need(sizes, width);
    let expected = format!(
        "a kernel that fits three quarters of this machine's memory, {} (`limit = {}` would)",
        gigabytes(budget),
        limit / power * power
    );
    let what = format!("an SVM on {samples} samples");
    Err(Error::invalid(what, expected, format!("a need of {}", gigabytes(all + pair))))
}

fn metrics(trained: &Evaluation, tested: &Evaluation, fitted: f64, seconds: f64) -> EpochMetrics {
    EpochMetrics {
        epoch: 0,
        train_loss: trained.loss,
        train_accuracy: trained.accuracy,
        val_loss: None,
        val_accuracy: None,
        test_loss: tested.loss,
        test_accuracy: tested.accuracy,
        test_top5: tested.top5,
        seconds,
        images_per_second: trained.labels.len() as f64 / fitted.max(1e-9),
    }
}

#[cfg(feature = "svm")]
fn fit(
    model: Svm,
    rows: &[f32],
    labels: &[u32],
    listener: &mut dyn Listener,
    stop: &AtomicBool,
) -> Result<Option<Svm>> {
    let workers = at_a_time(&sizes(labels), model.width);
    solve::fit(model, rows, labels, workers, stop, |done, total| {
        listener.on(&crate::train::Event::Solved { done, total })
    })
}

#[cfg(not(feature = "svm"))]
fn fit(_: Svm, _: &[f32], _: &[u32], _: &mut dyn Listener, _: &AtomicBool) -> Result<Option<Svm>> {
    Err(Error::config("model", "one of the zoo, as this build is without the feature svm", NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_does_not_fit_is_refused_with_a_limit_that_fits() {
        let digits = [6_000; 10];
        // Two classes of 6,000: 12,000² numbers of 8 bytes are 1.15 GB.
        assert!(check_memory(&digits, 784, Some(2_000_000_000)).is_ok());
        let refused = check_memory(&digits, 784, Some(500_000_000)).expect_err("1.4 GB do not fit").to_string();
        let limit = refused.split("`limit = ").nth(1).and_then(|rest| rest.split('`').next()).expect("a limit");
        let limit: usize = limit.parse().expect("a number");
        assert!((20_000..40_000).contains(&limit), "{refused}");
        assert!(check_memory(&[limit / 10; 10], 784, Some(500_000_000)).is_ok(), "{refused}");
        assert!(
            refused.starts_with("an SVM on 60000 samples: expected ") && refused.contains("a need of 1."),
            "{refused}"
        );
        assert!(check_memory(&digits, 784, None).is_ok(), "where the system does not tell");
    }

    #[test]
    fn gamma_scale_is_one_over_the_values_times_their_variance() {
        // numpy: 1 / (2 * np.var([1, 2, 3, 6])) is 1 / 7
        assert!((Gamma::Scale.value(&[1., 2., 3., 6.], 2) - 1. / 7.).abs() < 1e-12);
        assert_eq!(Gamma::Scale.value(&[3.; 4], 2), 1.);
        assert_eq!(Gamma::Auto.value(&[1., 2.], 2), 0.5);
    }
}
