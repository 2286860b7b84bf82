//! About how long runs take: by runs that have ended, else by the arithmetic of their models. Never a promise.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use tallow_models::Architecture;
use tallow_weights::OpenOptions;

use crate::flags::ArchitectureFlags;
use crate::model;
use crate::session::Session;
use tallow::data::{self, DataOptions};
use tallow::train::config::{DataSettings, LengthSettings, ModelSettings};
use tallow::train::defaults::by_data;
use tallow::train::{Estimate, RunFolder, Summary, TrainConfig, cost, median};

/// How long a matrix product is measured for a width of models.
const MEASURED: Duration = Duration::from_millis(50);

/// The share of a matrix product's rate at which a model is taken to compute, as it also adds, normalises and moves numbers
/// about. A guess, which the first run that ends takes the place of.
const SHARE: f64 = 0.5;

/// What a run has to compute.
struct Work {
    /// What runs have in common whose times follow from their samples and epochs alone.
    like: String,
    /// Multiply-adds of all its passes, with what they cost beside.
    multiply_adds: f64,
    /// Passes over the training samples.
    epochs: usize,
    /// Numbers that a layer of the model works on.
    width: usize,
}

/// Estimates times of runs.
pub struct Estimator<'a> {
    session: &'a Session,
    /// Runs that have ended, with their seconds.
    ended: Vec<(Work, f64)>,
    /// Training samples, and samples that are evaluated, by what names them; none where they are not at hand.
    sizes: HashMap<String, Option<[usize; 2]>>,
    /// Multiply-adds a second in a matrix product, by width.
    rates: HashMap<usize, f64>,
}

impl<'a> Estimator<'a> {
    /// One that knows the runs which have ended under `out`.
    pub fn new(out: &Path, session: &'a Session) -> Self {
        let mut estimator = Self { session, ended: vec![], sizes: HashMap::new(), rates: HashMap::new() };
        let folders = fs::read_dir(out).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        folders.for_each(|folder| estimator.learn(&RunFolder::new(folder)));
        estimator
    }

    /// Learns from a run, if it has ended with as many threads as there are now.
    pub fn learn(&mut self, folder: &RunFolder) {
        let Ok(summary) = folder.summary() else { return };
        let Ok(config) = folder.config() else { return };
        if summary.threads != self.session.threads() || !(summary.seconds.is_finite() && summary.seconds > 0.) {
            return;
        }
        let Summary { train_samples, test_samples, seconds, .. } = summary;
        let val_samples = config.resolved.as_ref().map_or(0, |resolved| resolved.val_samples);
        if let Some(work) = self.work(&config, [train_samples, test_samples + val_samples]) {
            self.ended.push((work, seconds));
        }
    }

    /// About how many seconds are left of a run; none where its data is not at hand.
    pub fn seconds(&mut self, config: &TrainConfig, folder: &RunFolder) -> Option<f64> {
        if folder.summary_path().exists() {
            return Some(0.);
        }
        let samples = self.samples(config)?;
        let work = self.work(config, samples)?;
        let last = folder.metrics().ok().and_then(|metrics| Some(metrics.epochs.last()?.epoch + 1));
        let left = 1. - (last.unwrap_or(0) as f64 / work.epochs as f64).min(1.);
        let pace = |ended: &(Work, f64)| ended.1 / ended.0.multiply_adds;
        let alike = self.ended.iter().filter(|ended| ended.0.like == work.like).map(pace).collect::<Vec<_>>();
        let others = self.ended.iter().map(pace).collect::<Vec<_>>();
        let pace = median(&alike).or_else(|| median(&others)).unwrap_or_else(|| 1. / (SHARE * self.rate(work.width)));
        Some(work.multiply_adds * pace * left)
    }

    /// How many samples a run trains on and evaluates. Nothing is downloaded for it.
    fn samples(&mut self, config: &TrainConfig) -> Option<[usize; 2]> {
        let &DataSettings { limit, test_limit, val_fraction, .. } = &config.data;
        let (train_split, test_split) = (config.data.train_split.clone(), config.data.test_split.clone());
        let key =
            format!("{} {limit:?} {test_limit:?} {val_fraction} {train_split:?} {test_split:?}", config.data.data);
        *self.sizes.entry(key).or_insert_with(|| {
            let options = DataOptions::default().with(|o| {
                o.limit = limit;
                o.test_limit = test_limit;
                o.val_fraction = val_fraction;
                o.train_split = train_split;
                o.test_split = test_split;
            });
            let hub = OpenOptions::default().with(|c| c.offline = true);
            let data = data::open_with(&config.data.data, &options, &hub).ok()?;
            Some([data.train.len(), data.test.len() + data.val.as_ref().map_or(0, |val| val.len())])
        })
    }

    fn work(&self, config: &TrainConfig, [train, evaluated]: [usize; 2]) -> Option<Work> {
        let options = config.checkpoint_options(self.session.open_options()).ok()?;
        let mut architecture =
            model::architecture(&config.model.model, &ArchitectureFlags::default(), &options).ok()?;
        config.model.set.iter().try_for_each(|(key, value)| architecture.set(key, value)).ok()?;
        let mut settled = config.clone();
        by_data(&mut settled, &architecture, train);
        let config = &settled;
        let epochs = config.length.epochs.number()?;
        let probe = config.model.freeze.as_deref() == Some("backbone");
        // The backward pass costs twice the forward one, or is not made.
        let passes = match (probe, config.compute.grad_checkpointing) {
            (true, _) => 1.,
            (false, false) => 3.,
            (false, true) => 4.,
        };
        // Features that do not change are computed once.
        let images = if probe && config.data.augment.trim() == "none" {
            (train + evaluated) as f64
        } else {
            let evaluations = epochs.div_ceil(config.eval_every().max(1));
            let first = if config.optimizer.head_first_steps > 0 { train } else { 0 };
            epochs as f64 * passes * train as f64 + (evaluations * evaluated + first) as f64
        };
        let ModelSettings { model, set, freeze, .. } = &config.model;
        let (data, dtype) = (&config.data.data, config.compute.dtype);
        let LengthSettings { batch_size, accumulate, .. } = config.length;
        Some(Work {
            epochs,
            like: format!("{model} {set:?} {data} {batch_size} {accumulate} {dtype:?} {freeze:?} {passes}"),
            multiply_adds: cost::multiply_adds(&architecture, images.max(1.)),
            width: width(&architecture),
        })
    }

    /// Multiply-adds a second of a matrix product as wide as the model's layers.
    fn rate(&mut self, width: usize) -> f64 {
        let device = self.session.device().map_or(Device::Cpu, |(device, _)| device);
        *self.rates.entry(width).or_insert_with(|| product_rate(width, &device).unwrap_or(1e9))
    }
}

fn width(architecture: &Architecture) -> usize {
    architecture.num_features().clamp(8, 1024)
}

/// Measures a matrix product.
fn product_rate(width: usize, device: &Device) -> candle_core::Result<f64> {
    const ROWS: usize = 1024;
    let a = Tensor::ones((ROWS, width), candle_core::DType::F32, device)?;
    let b = Tensor::ones((width, 4 * width), candle_core::DType::F32, device)?;
    drop(a.matmul(&b)?);
    device.synchronize()?;
    let (start, mut fastest) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < MEASURED {
        let product = Instant::now();
        drop(a.matmul(&b)?);
        device.synchronize()?;
        // Whatever else the machine does only makes a product slower.
        fastest = product.elapsed().as_secs_f64().min(fastest);
    }
    Ok((ROWS * width * 4 * width) as f64 / fastest)
}

/// What a run will take, in a line.
pub fn told(estimate: &Estimate) -> String {
    let Estimate { epochs, seconds_per_epoch, seconds, first_alone, memory_bytes, img_size: [height, width], .. } =
        *estimate;
    let time = match (epochs, first_alone) {
        (1, _) => about(seconds),
        (_, true) => format!("{} for the first epoch, next to nothing for the others", about(seconds_per_epoch)),
        _ => format!("{} an epoch, {} in all", about(seconds_per_epoch), rounded(seconds)),
    };
    let memory = match memory_bytes.map(|bytes| bytes as f64) {
        Some(bytes) if bytes >= 9.95e8 => format!(", {:.1} GB of memory", bytes / 1e9),
        Some(bytes) => format!(", {:.0} MB of memory", bytes / 1e6),
        None => String::new(),
    };
    format!("{time}{memory} at {height}×{width}")
}

/// A time that is not known better: `about 40 s`, `about 12 min`, `about 3.5 h`.
pub fn about(seconds: f64) -> String {
    format!("about {}", rounded(seconds))
}

fn rounded(seconds: f64) -> String {
    match seconds {
        s if s < 1.5 => "a second".into(),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5970. => format!("{:.0} min", s / 60.),
        s if s < 35_820. => format!("{:.1} h", s / 3600.),
        s => format!("{:.0} h", s / 3600.),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_said_with_the_digits_that_they_have() {
        let said = [0.2, 40.4, 130., 7000., 3.17e5].map(about);
        assert_eq!(said, ["about a second", "about 40 s", "about 2 min", "about 1.9 h", "about 88 h"]);
    }
    #[test]
    fn what_a_run_will_take_is_a_line() {
        let estimate = Estimate::default().with(|m| {
            m.epochs = 9;
            m.seconds_per_epoch = 41.2;
            m.seconds = 371.;
            m.first_alone = false;
            m.memory_bytes = Some(2_310_000_000);
            m.img_size = [224, 224];
        });
        assert_eq!(told(&estimate), "about 41 s an epoch, 6 min in all, 2.3 GB of memory at 224×224");
        let one = estimate.with(|m| {
            m.epochs = 1;
            m.seconds = 41.2;
            m.memory_bytes = None;
        });
        assert_eq!(told(&one), "about 41 s at 224×224");
        let probe = estimate.with(|m| {
            m.first_alone = true;
            m.memory_bytes = Some(812_000_000);
        });
        let expected = "about 41 s for the first epoch, next to nothing for the others, 812 MB of memory at 224×224";
        assert_eq!(told(&probe), expected);
    }
}
