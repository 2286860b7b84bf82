//! What a run will take, told before its first epoch: the arithmetic of its model says whether it is worth asking, and one timed
//! training step answers.

use std::sync::Arc;
use std::time::Instant;

use tallow_models::{AnyModel, Architecture};

use super::config::TrainConfig;
use super::error::{Error, Result};
pub use super::event::Estimate;
use super::event::{Event, Listener};
use super::features::trains_head_alone;
use super::setup::Setup;
use super::trial::{Seconds, Trial, Unlabelled, needed, undisturbed};
use super::{img_size, memory, pretraining};
use crate::data::{Input, LoaderOptions, Transform};

/// What an image costs beside the arithmetic of a model, in multiply-adds: it is read and normalised, and a model's many small
/// operations take their time however little they compute. From the times of ViTs of widths 16 to 128 on two cores.
pub const OVERHEAD: f64 = 2e6;

/// A run of fewer seconds, by its arithmetic, is over before it is worth knowing what it takes.
const SHORT: f64 = 20.;

/// Multiply-adds a second on a CPU and on a GPU, as far as telling a short run from a long one needs them.
const RATES: [f64; 2] = [5e10, 5e12];

/// The seconds that steps are tried for by what they seem to take, unless two of them take longer.
const BUDGET: f64 = 4.;

/// Images that are loaded to see how long that takes.
const LOADED: usize = 8;

/// What a run computes once and holds in memory beside the weights.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ComputedOnce {
    /// Whether the features of the training part are kept after the first epoch.
    pub train: bool,
    /// Whether those of the parts that are evaluated are.
    pub evaluated: bool,
    /// Samples that pass through the backbone once, before the first epoch, to train a new head.
    pub head_first: usize,
    /// Bytes of the optimiser's state.
    pub optimizer: u64,
}

/// What is timed.
pub(super) enum Steps<'a> {
    /// Training with labels on images that are transformed so.
    Labelled(&'a Arc<Transform>),
    /// Training without.
    Unlabelled(Unlabelled<'a>),
}

/// Tells what the run will take, and with which image size it would take less, unless it is short. Weights, buffers and whatever
/// is random about the run stay as they are.
///
/// # Errors
/// If a step needs more memory than the machine has, or fails.
pub(super) fn tell(
    setup: &Setup,
    model: &AnyModel,
    steps: Steps,
    once: ComputedOnce,
    listener: &mut dyn Listener,
) -> Result<()> {
    let guess = guess(setup, once);
    let estimate = if guess < SHORT { None } else { Some(estimate(setup, model, steps, once)?) };
    if let Some(estimate) = estimate {
        listener.on(&Event::Estimate(estimate));
    }
    let epoch = estimate.map_or(guess / setup.config.epochs() as f64, |estimate| estimate.seconds_per_epoch);
    let all = estimate.map_or(guess, |estimate| estimate.seconds);
    for hint in img_size::hints(setup, epoch, all) {
        listener.on(&Event::Hint(hint));
    }
    estimate.map_or(Ok(()), |estimate| check_memory(setup, &estimate, listener))
}

/// The multiply-adds of `images` of which each passes `passes` times through the model, the backward pass counting twice, with
/// what they cost beside.
pub fn multiply_adds(architecture: &Architecture, images: f64) -> f64 {
    images * (architecture.flops() as f64 / 2. + OVERHEAD)
}

/// How many seconds the run takes on a usual machine.
fn guess(setup: &Setup, once: ComputedOnce) -> f64 {
    let Setup { config, checkpoint, params, .. } = setup;
    let passes = match trains_head_alone(&checkpoint.architecture, params) {
        true => 1.,
        false => 3. + f64::from(u8::from(config.compute.grad_checkpointing)),
    };
    let passes = passes * pretraining::views(config, &checkpoint.architecture);
    let [trained, evaluations] = times(config, once);
    let [train, evaluated] = samples(setup);
    let images = passes * train * trained + evaluated * evaluations + once.head_first as f64;
    multiply_adds(&checkpoint.architecture, images) / RATES[usize::from(!params.device().is_cpu())]
}

/// How many times the training part, and those that are evaluated, pass through the model.
fn times(config: &TrainConfig, once: ComputedOnce) -> [f64; 2] {
    let evaluations = config.epochs().div_ceil(config.eval_every().max(1));
    [if once.train { 1 } else { config.epochs() }, if once.evaluated { 1 } else { evaluations }]
        .map(|times| times as f64)
}

/// Samples that are trained on, and samples that are evaluated.
fn samples(setup: &Setup) -> [f64; 2] {
    // Without labels neighbours are looked for among some of the training part.
    let neighbours = setup.config.pretraining.knn_limit.unwrap_or(0).min(setup.dataset.train.len());
    let evaluated = setup.dataset.test.len() + setup.dataset.val.as_ref().map_or(0, |val| val.len()) + neighbours;
    [setup.dataset.train.len() as f64, evaluated as f64]
}

fn estimate(setup: &Setup, model: &AnyModel, steps: Steps, once: ComputedOnce) -> Result<Estimate> {
    let Setup { config, checkpoint, params, dataset, .. } = setup;
    let batch_size = config.batch_size().min(dataset.train.len()).max(1);
    let loading = loading(setup, &steps);
    let unlabelled = match steps {
        Steps::Labelled(_) => None,
        Steps::Unlabelled(unlabelled) => Some(unlabelled),
    };
    let mut trial = Trial { setup, model, unlabelled };
    let Timed { size, seconds, memory } = undisturbed(params, || timed(&mut trial, batch_size))?;
    // On a CPU the model waits for those who load; on a GPU they work side by side.
    let each = |computing: f64| match params.device().is_cpu() {
        true => computing / size as f64 + loading,
        false => (computing / size as f64).max(loading),
    };
    let [train, evaluated] = samples(setup);
    let (train, evaluated) = (train * each(seconds.all), evaluated * each(seconds.forward));
    let [trained, evaluations] = times(config, once);
    let all = train * trained + evaluated * evaluations;
    let first_alone = once.train && config.epochs() > 1;
    let [_, height, width] = checkpoint.architecture.input_size();
    Ok(Estimate {
        epochs: config.epochs(),
        seconds_per_epoch: if first_alone { all } else { all / config.epochs() as f64 },
        seconds: all + once.head_first as f64 * each(seconds.forward),
        first_alone,
        memory_bytes: memory.map(|memory| memory + once.optimizer),
        img_size: [height, width],
    })
}

/// What the largest step that was tried took, and the process' memory in a step of the batch size.
struct Timed {
    size: usize,
    seconds: Seconds,
    memory: Option<u64>,
}

/// Times steps of more and more samples, as far as [`BUDGET`] and the batch go. The memory of a larger step is on the line through
/// the smallest and the largest.
fn timed(trial: &mut Trial, batch_size: usize) -> Result<Timed> {
    let on_cpu = trial.device().is_cpu();
    let before = if on_cpu && memory::reset_peak() { memory::peak() } else { None };
    let mut measured = Vec::new();
    let (mut size, mut spent) = (1, 0.);
    let seconds = loop {
        memory::reset_peak();
        let seconds = trial.step(size)?;
        spent += seconds.all;
        measured.extend(before.and_then(|before| Some((size, memory::peak()?.saturating_sub(before)))));
        let next = (4 * size).min(batch_size);
        size = match spent + seconds.all / size as f64 * next as f64 <= BUDGET {
            _ if size == batch_size => break seconds,
            true => next,
            // One step alone tells neither what the next sample takes nor what was only done the first time.
            false if size == 1 => 2.min(batch_size),
            false => break seconds,
        };
    };
    // A GPU chooses its kernels when it first meets a shape.
    let seconds = if on_cpu { seconds } else { trial.step(size)? };
    let memory = match (before, measured.first(), measured.last()) {
        (Some(before), Some(&first), Some(&last)) => Some(before + needed([first, last], batch_size)),
        _ => None,
    };
    Ok(Timed { size, seconds, memory })
}

/// The seconds it takes to load an image; 0 where it cannot be read, which the run will tell.
fn loading(setup: &Setup, steps: &Steps) -> f64 {
    let Setup { config, params, dataset, .. } = setup;
    let count = LOADED.min(dataset.train.len());
    if count == 0 {
        return 0.;
    }
    let transform = match steps {
        Steps::Labelled(transform) => transform,
        Steps::Unlabelled(unlabelled) => {
            let start = Instant::now();
            let loaded = unlabelled.batch(count, setup).is_ok();
            return if loaded { start.elapsed().as_secs_f64() / count as f64 } else { 0. };
        }
    };
    let order = (0..count).map(|i| i * dataset.train.len() / count).collect();
    let options = LoaderOptions { batch_size: count, seed: config.compute.seed, ..LoaderOptions::default() };
    let start = Instant::now();
    let loaded = Input::new(dataset.train.clone(), order, (*transform).clone(), options, params.device())
        .is_ok_and(|mut batches| batches.all(|batch| batch.is_ok()));
    if loaded { start.elapsed().as_secs_f64() / count as f64 } else { 0. }
}

/// A step for which there is not enough memory would end the process: what is free now may be more by then, what the machine
/// has will not.
fn check_memory(setup: &Setup, estimate: &Estimate, listener: &mut dyn Listener) -> Result<()> {
    let (Some(need), Some(total), Some(free)) = (estimate.memory_bytes, memory::total(), memory::available()) else {
        return Ok(());
    };
    memory::reset_peak();
    let taken = memory::peak().unwrap_or(0);
    let checkpointing =
        matches!(setup.checkpoint.architecture, Architecture::Vit(_)) && !setup.config.compute.grad_checkpointing;
    let config = &setup.config;
    match Room::of(need, taken, free, total) {
        Room::Enough => {}
        Room::TakenByOthers => listener.on(&Event::Warning(format!(
            "a step needs about {} and {} are free: the system may end the run; {}",
            gigabytes(need),
            gigabytes(taken + free),
            ways_out(config, checkpointing)
        ))),
        Room::None => {
            let expected =
                format!("a step that fits this machine's {} ({})", gigabytes(total), ways_out(config, checkpointing));
            let [height, width] = estimate.img_size;
            let got = format!("{}, for about {} at {height}×{width}", config.batch_size(), gigabytes(need));
            return Err(Error::config("batch_size", expected, got));
        }
    }
    Ok(())
}

/// Whether there is memory for a step.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Enough,
    /// The machine has enough, but others use it.
    TakenByOthers,
    None,
}

impl Room {
    /// For a process that will need `need` bytes and has `taken` of them, where `free` of `total` are free.
    fn of(need: u64, taken: u64, free: u64, total: u64) -> Self {
        match need {
            _ if need > total => Self::None,
            _ if need > taken + free => Self::TakenByOthers,
            _ => Self::Enough,
        }
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

fn ways_out(config: &TrainConfig, checkpointing: bool) -> String {
    let mut ways = Vec::new();
    if config.batch_size() > 1 {
        ways.push(format!(
            "`batch_size = {}` `accumulate = {}`",
            config.batch_size().div_ceil(2),
            2 * config.length.accumulate
        ));
    }
    if checkpointing {
        ways.push("`grad_checkpointing`".into());
    }
    ways.push("a smaller `img_size`".into());
    ways.join(", or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_has_is_told_from_what_is_free() {
        assert_eq!(Room::of(9, 2, 8, 16), Room::Enough);
        assert_eq!(Room::of(11, 2, 8, 16), Room::TakenByOthers);
        assert_eq!(Room::of(17, 2, 8, 16), Room::None);
        let config = TrainConfig::default().with(|c| c.length.batch_size = 32.into());
        let ways = ways_out(&config, true);
        assert_eq!(ways, "`batch_size = 16` `accumulate = 2`, or `grad_checkpointing`, or a smaller `img_size`");
        assert_eq!(ways_out(&config.with(|c| c.length.batch_size = 1.into()), false), "a smaller `img_size`");
    }
}
