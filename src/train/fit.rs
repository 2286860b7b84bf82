//! The training loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::DType;
use tallow_models::Mode;
use tallow_models::Readback;
use tallow_models::mlp::Pass;
use tallow_models::optim::{Clip, Squares};
use tallow_weights::OpenOptions;

use super::averages::Averages;
use super::checkpoint::{self, Best, Running, State};
use super::config::TrainConfig;
use super::cost::{self, Kept};
use super::data_record::{self, DataRecord};
use super::error::{Error, Result};
use super::evaluate::{EvaluateOptions, Evaluation, evaluate_while};
use super::event::{EpochMetrics, Event, Listener, StepMetrics};
use super::features::{self, Fixed, Part};
use super::gradients::{Accumulator, sums_of_squares};
use super::metrics_log::MetricsLog;
use super::optimizer::Optimizer;
use super::predictions::predictions;
use super::run_folder::{MetricsLine, RunFolder, Summary, write_json};
use super::schedule::Schedule;
use super::setup::Setup;
use super::shared_features::Shared;
use super::targets::Targets;
use super::watch::Watch;
use super::whiten::{Whitened, whitened};
use super::{batch_size, by_hand, defaults, extension, head_first, memory, svm, warnings};
use crate::data::{Augment, LoaderOptions, Transform, epoch_order};

/// Time between two checkpoints inside an epoch, where the configuration counts no steps.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(600);

/// Whether a run begins or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Begins; the folder must be empty or not exist.
    New,
    /// Goes on from the folder's last checkpoint, or begins where it has none yet.
    Resume,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is one of them in a run")]
pub enum Outcome {
    /// All epochs were run.
    Finished(Summary),
    /// `stop` was set; the checkpoint holds everything up to `step` steps, and a resume goes on from there.
    Interrupted { step: usize },
}

/// A step that was taken, with its numbers as far as the device has come to them.
struct Taken {
    epoch: usize,
    step: usize,
    lr: f64,
    samples: usize,
    passes: Vec<Measured>,
    squares: Squares,
}

/// What one batch came to.
struct Measured {
    loss: Readback,
    correct: Readback,
    count: usize,
}

/// Trains what `config` says: [`Setup::new`], then [`fit`]; or [`svm::run`].
///
/// # Errors
/// Those of both.
pub fn run(
    config: &TrainConfig,
    folder: &RunFolder,
    start: Start,
    listener: &mut dyn Listener,
    stop: &AtomicBool,
) -> Result<Outcome> {
    folder.check_start(start)?;
    if svm::is_meant(config) {
        return svm::run(config, &OpenOptions::default(), folder, start, listener, stop);
    }
    fit(Setup::of_run(config, folder, start, &OpenOptions::default())?, folder, start, listener, stop)
}

/// Trains a model that is set up, writing the run's files into `folder` and telling `listener` what happens. Setting `stop`
/// ends the run after the current step, with a checkpoint.
///
/// # Errors
/// If the folder holds another run, a file cannot be written, a sample cannot be read, a trainable parameter received no
/// gradient, or the loss is no number any more. Where a checkpoint was written, the last one stands, whatever happens.
pub fn fit(
    setup: Setup,
    folder: &RunFolder,
    start: Start,
    listener: &mut dyn Listener,
    stop: &AtomicBool,
) -> Result<Outcome> {
    fit_keeping(setup, folder, start, listener, stop, features::LIMIT)
}

/// [`fit`], where the features of a frozen backbone may take `limit` bytes.
pub(super) fn fit_keeping(
    setup: Setup,
    folder: &RunFolder,
    start: Start,
    listener: &mut dyn Listener,
    stop: &AtomicBool,
    limit: u64,
) -> Result<Outcome> {
    let session = Instant::now();
    let mut setup = setup;
    if setup.config.batch_size == TrainConfig::AUTO_BATCH_SIZE {
        folder.check_start(start)?;
        setup.config.batch_size = match (start, folder.config_path().exists()) {
            (Start::Resume, true) => folder.config()?.batch_size,
            _ => {
                listener.on(&Event::Note("Looking for the largest batch that fits".into()));
                batch_size::largest(&setup)?
            }
        };
        listener.on(&Event::Note(format!("Batches of {}", setup.config.batch_size)));
    }
    let batch_size = setup.config.batch_size;
    fit_batches(setup, folder, start, listener, stop, limit, session)
        .map_err(|error| error.with_batch_size(batch_size).with_checkpoint(folder.last_path()))
}

/// [`fit_keeping`], where the size of the batches is known. `session` is when this process began with the run.
fn fit_batches(
    setup: Setup,
    folder: &RunFolder,
    start: Start,
    listener: &mut dyn Listener,
    stop: &AtomicBool,
    limit: u64,
    session: Instant,
) -> Result<Outcome> {
    memory::reset_peak();
    let mut setup = setup.resolve()?;
    let listener = &mut Watch::new(&setup.config, listener);
    if !data_record::digest(&mut setup.dataset, listener, stop) {
        listener.on(&Event::Interrupted { step: 0 });
        return Ok(Outcome::Interrupted { step: 0 });
    }
    if start == Start::Resume {
        extension::apply(&mut setup, folder, listener)?;
    }
    let Setup { config, checkpoint: described, params, .. } = &setup;
    let mut model = described.architecture.build(params.builder())?;
    model.set_grad_checkpointing(config.grad_checkpointing);
    if config.grad_checkpointing {
        memory::spare();
    }
    let (averages, eval_model) = match config.ema {
        None => (None, described.architecture.build(params.eval_builder())?),
        Some(decay) => {
            let (averages, model) = Averages::new(decay, &described.architecture, params)?;
            (Some(averages), model)
        }
    };
    let augment = Augment::parse_list(&config.augment)?;
    let train_transform = Transform::training(&described.preprocessing, &augment)?;
    let mut optimizer = Optimizer::new(config, &described.architecture, params)?;

    let (mut log, mut state) = begin(folder, start, &setup, &mut optimizer, averages.as_ref(), listener)?;
    setup.checkpoint.whitening = match whitened(&setup, folder, start, listener, stop)? {
        Whitened::As(whitening) => whitening,
        Whitened::Stopped => {
            listener.on(&Event::Interrupted { step: state.step });
            return Ok(Outcome::Interrupted { step: state.step });
        }
    };
    let Setup { config, checkpoint: described, params, dataset, .. } = &setup;
    let device = params.device();
    let train_transform = Arc::new(train_transform.whitened(described.whitening.clone())?);
    let eval_transform = Arc::new(Transform::of(described)?);
    let loading = LoaderOptions { batch_size: config.batch_size, seed: config.seed, ..LoaderOptions::default() };
    let default = EvaluateOptions::default();
    let measuring = EvaluateOptions { batch_size: config.eval_batch_size.unwrap_or(default.batch_size), ..default };
    let steps_per_epoch = setup.steps_per_epoch();
    let schedule = Schedule::new(config, steps_per_epoch);
    let by_hand = by_hand::perceptron(config, &described.architecture, params)?;
    let mut seconds_before = state.seconds;
    let train_samples = dataset.train.len();
    let trainable_parameters = params.trainable().iter().map(|param| param.var.elem_count()).sum();
    let fresh = state == State::default();
    let shared = Shared::of(config, described, params, folder)?;
    let head_first = fresh && head_first::is_due(config, &described.architecture, params, setup.account.as_ref());
    if fresh {
        listener.on(&Event::Note(format!("settings: {}", defaults::in_words(config, steps_per_epoch, head_first))));
    }
    let mix = config.mix();
    let fixed = Fixed::of(&described.architecture, params, &augment, &mix);
    let evaluated = dataset.test.len() + dataset.val.as_ref().map_or(0, |val| val.len());
    let kept = if fixed.train { train_samples } else { 0 } + evaluated;
    let bytes = 4 * described.architecture.num_features() as u64 * kept as u64;
    let mut keep = fixed.evaluated;
    if keep && bytes > limit {
        warn(listener, [warnings::of_features(bytes, limit)]);
        keep = false;
    }
    if fixed.evaluated && !fixed.train && !(augment.is_empty() && mix.is_none()) {
        warn(listener, warnings::of_augmented_features(config));
    }
    if fresh && by_hand.is_none() {
        let few = warnings::of_few_steps(config, &described.architecture, steps_per_epoch);
        few.into_iter().for_each(|hint| listener.on(&Event::Hint(hint)));
        // Timing a step begins the measurement of the peak anew.
        state.peak_memory_bytes = state.peak_memory_bytes.max(memory::peak());
        let kept = Kept {
            train: fixed.train && keep,
            evaluated: fixed.evaluated && keep,
            optimizer: optimizer.state_bytes(),
            head_first: if head_first { head_first::samples(&dataset.train)?.len() } else { 0 },
        };
        cost::tell(&setup, &model, &train_transform, kept, listener)?;
    }
    if head_first {
        // Where the weights are averaged, the model that evaluates is over the averages.
        let own = averages.as_ref().map(|_| described.architecture.build(params.eval_builder())).transpose()?;
        let samples = head_first::samples(&dataset.train)?;
        let mut part = Part::frozen(&samples, &eval_transform, own.as_ref().unwrap_or(&eval_model), 0);
        let evaluating = LoaderOptions { batch_size: measuring.batch_size, ..loading };
        let took = part.keep(evaluating, device, shared.as_ref(), |done| {
            listener.on(&Event::Features { done, total: samples.len() });
            !stop.load(Ordering::Relaxed)
        })?;
        let came = took.map(|took| head_first::train(&setup, &model, &part, took)).transpose()?.flatten();
        let Some((took, came)) = took.zip(came) else {
            listener.on(&Event::Interrupted { step: 0 });
            return Ok(Outcome::Interrupted { step: 0 });
        };
        seconds_before += if took.shared { took.seconds } else { 0. };
        averages.iter().try_for_each(|averages| averages.restart(params))?;
        listener.on(&Event::Note(came.to_string()));
    }

    let evaluated = |samples| match fixed.evaluated {
        // Always in the same order, and so in the same batches.
        true => Part::frozen(samples, &eval_transform, &eval_model, 0),
        false => Part::new(samples, &eval_transform, &eval_model),
    };
    let (mut val, mut test) = (dataset.val.as_ref().map(evaluated), evaluated(&dataset.test));
    let mut train = match fixed.train {
        true => Part::frozen(&dataset.train, &train_transform, &model, config.batch_size),
        false => Part::new(&dataset.train, &train_transform, &model),
    };
    // Where features are kept, the images pass through the backbone before the first epoch, whose time has that in it.
    let (mut through_backbone, mut features_rate) = (true, None);
    if keep {
        let evaluating = LoaderOptions { batch_size: measuring.batch_size, ..loading };
        let train = fixed.train.then_some((&mut train, loading, true));
        let parts = [Some((&mut test, evaluating, false)), val.as_mut().map(|val| (val, evaluating, false)), train];
        let mut before = 0;
        for (part, options, trained) in parts.into_iter().flatten() {
            let samples = part.samples().len();
            let took = part.keep(options, device, shared.as_ref(), |done| {
                listener.on(&Event::Features { done: before + done, total: kept });
                !stop.load(Ordering::Relaxed)
            })?;
            let Some(took) = took else {
                listener.on(&Event::Interrupted { step: state.step });
                return Ok(Outcome::Interrupted { step: state.step });
            };
            before += samples;
            // They are a part of what the run takes, whoever computed them.
            seconds_before += if took.shared { took.seconds } else { 0. };
            if trained {
                state.running.seconds += took.seconds;
                features_rate = Some(samples as f64 / took.seconds);
            } else {
                state.running.evaluation_seconds += took.seconds;
            }
        }
    }

    listener.on(&Event::Start {
        run: setup.name(folder),
        epochs: config.epochs,
        steps_per_epoch,
        trainable_parameters,
        resumed_at_step: state.step,
        kept_features: train.is_kept(),
    });
    warn(listener, setup.warnings());

    let mut last_evaluation = None;
    let mut last_checkpoint = Instant::now();
    for epoch in state.epoch..config.epochs {
        // The order and all that is random about a sample follow from the seed and the epoch: an interrupted epoch goes on
        // with the rest of its samples.
        let order = epoch_order(train_samples, config.seed, epoch, config.shuffle);
        let done = (state.step_in_epoch * config.accumulate * config.batch_size).min(train_samples);
        let rest = order[done..].to_vec();
        let mut batches = train.batches(rest, LoaderOptions { epoch, ..loading }, device)?;
        let evaluates = (epoch + 1).is_multiple_of(config.eval_every) || epoch + 1 == config.epochs;
        let mut learning =
            (state.step == 0 && !config.allow_missing_gradients).then(|| vec![false; params.trainable().len()]);

        // A step whose numbers are on their way from the device, which goes on with the next one meanwhile.
        let mut under_way: Option<Taken> = None;
        let mut since = Instant::now();
        while state.step_in_epoch < steps_per_epoch {
            let lr = schedule.lr(state.step);
            let first_sample = state.step_in_epoch * config.accumulate * config.batch_size;
            let samples = (train_samples - first_sample).min(config.accumulate * config.batch_size);
            let mut sum = Accumulator::default();
            let mut passes = Vec::with_capacity(config.accumulate);
            for (part, batch) in batches.by_ref().take(config.accumulate).enumerate() {
                let batch = batch?;
                let images = batch.images;
                let labels = batch.labels.to_device(device)?;
                let blend = mix.draw(config.seed, epoch, state.step_in_epoch * config.accumulate + part, &images)?;
                let images = blend.map_or(Ok(images.clone()), |blend| blend.images(&images))?;
                let seed = pass_seed(config.seed, state.step * config.accumulate + part);
                let targets = Targets::new(labels, blend)?;
                let (loss, logits, gradients) = match &by_hand {
                    Some(perceptron) => {
                        let Pass { loss, logits, gradients } = perceptron.pass(&images, targets.dominant())?;
                        (loss, logits, Some(gradients))
                    }
                    None => {
                        let logits = train.forward(&images, Mode::Train { seed })?.to_dtype(DType::F32)?;
                        (targets.loss(&logits, config.label_smoothing)?, logits, None)
                    }
                };
                let count = batch.indices.len();
                let correct = logits.detach().argmax(1)?.eq(targets.dominant())?.to_dtype(DType::U32)?.sum_all()?;
                passes.push(Measured { loss: Readback::new(&loss)?, correct: Readback::new(&correct)?, count });
                match gradients {
                    Some(gradients) => sum.put(gradients),
                    None => sum.add(params, &loss, count as f64 / samples as f64, config.allow_missing_gradients)?,
                }
            }
            let Some((gradients, missing)) = sum.take() else { break };
            if state.step == 0 {
                warn(listener, warnings::of_missing_gradients(&missing));
            }
            let squares = sums_of_squares(&gradients)?;
            let late = !squares.are_known() && by_hand.is_none();
            let taken = Taken { epoch, step: state.step, lr, samples, passes, squares };
            if !late {
                report(&taken, &mut since, &mut state.running, &mut learning, &mut log, listener)?;
            }
            match &by_hand {
                Some(perceptron) => perceptron.step(&gradients, lr)?,
                None => {
                    let clip = Clip { squares: &taken.squares, largest: config.clip_grad };
                    optimizer.step(&gradients, Some(clip), lr)?;
                }
            }
            averages.iter().try_for_each(|averages| averages.update(params, state.step))?;
            state.step += 1;
            state.step_in_epoch += 1;
            let before = if late { under_way.replace(taken) } else { None };

            let stopping = stop.load(Ordering::Relaxed);
            let due = match config.checkpoint_every {
                Some(steps) => state.step.is_multiple_of(steps),
                None => last_checkpoint.elapsed() >= CHECKPOINT_INTERVAL,
            };
            let ended = state.step_in_epoch == steps_per_epoch;
            let last = if stopping || due || ended { under_way.take() } else { None };
            for taken in before.into_iter().chain(last) {
                report(&taken, &mut since, &mut state.running, &mut learning, &mut log, listener)?;
            }
            if stopping || (due && !(ended && evaluates)) {
                state.seconds = seconds_before + session.elapsed().as_secs_f64();
                save(folder, &setup, &optimizer, averages.as_ref(), &mut state, &mut log, false, listener)?;
                last_checkpoint = Instant::now();
                since = last_checkpoint;
            }
            if stopping {
                listener.on(&Event::Interrupted { step: state.step });
                return Ok(Outcome::Interrupted { step: state.step });
            }
        }

        if let Some(learning) = learning.take() {
            let idle: Vec<String> = params
                .trainable()
                .into_iter()
                .zip(learning)
                .filter(|(_, learns)| !learns)
                .map(|(p, _)| p.name)
                .collect();
            warn(listener, warnings::of_zero_gradients(&idle));
        }
        if !evaluates {
            (state.epoch, state.step_in_epoch) = (epoch + 1, 0);
            continue;
        }

        let measure = |part: &Part, listener: &mut dyn Listener| {
            let total = part.samples().len();
            evaluate_while(part, device, &measuring, |done| {
                listener.on(&Event::Evaluation { done, total });
                !stop.load(Ordering::Relaxed)
            })
        };
        let began = Instant::now();
        let validated = match &val {
            Some(val) => measure(val, listener)?.map(Some),
            None => Some(None),
        };
        let tested = if validated.is_some() { measure(&test, listener)? } else { None };
        let (Some(validated), Some(tested)) = (validated, tested) else {
            // Stopped while evaluating: a resume finds all steps of the epoch taken, and evaluates again.
            state.seconds = seconds_before + session.elapsed().as_secs_f64();
            save(folder, &setup, &optimizer, averages.as_ref(), &mut state, &mut log, false, listener)?;
            listener.on(&Event::Interrupted { step: state.step });
            return Ok(Outcome::Interrupted { step: state.step });
        };
        let seconds = state.running.seconds + state.running.evaluation_seconds + began.elapsed().as_secs_f64();
        let mut metrics = state.running.epoch(epoch, validated.as_ref(), &tested, seconds);
        if let Some(rate) = features_rate.take() {
            metrics.images_per_second = rate;
        }
        log.add(&MetricsLine::Epoch(metrics.clone()))?;
        listener.on(&Event::Epoch(metrics.clone()));
        warn(listener, warnings::of_collapse(&tested, &dataset.classes, epoch));

        let improved = Best::of(&metrics).is_better_than(state.best.as_ref());
        if improved {
            state.best = Some(Best::of(&metrics));
        }
        last_evaluation = improved.then_some(tested);
        if std::mem::replace(&mut through_backbone, !train.is_kept()) {
            state.rates.push(metrics.images_per_second);
        }
        state.latest = Some(metrics);
        (state.epoch, state.step_in_epoch, state.running) = (epoch + 1, 0, Running::default());
        state.seconds = seconds_before + session.elapsed().as_secs_f64();
        save(folder, &setup, &optimizer, averages.as_ref(), &mut state, &mut log, improved, listener)?;
        last_checkpoint = Instant::now();
        if stop.load(Ordering::Relaxed) && state.epoch < config.epochs {
            listener.on(&Event::Interrupted { step: state.step });
            return Ok(Outcome::Interrupted { step: state.step });
        }
    }

    let (Some(best), Some(latest)) = (state.best, state.latest.clone()) else {
        return Err(Error::config("epochs", "at least 1", config.epochs));
    };
    let chosen: Evaluation = match last_evaluation {
        // The weights in memory are those that were chosen, and were just measured.
        Some(evaluation) => evaluation,
        None => {
            let chosen = averages.as_ref().map_or(params, Averages::params);
            checkpoint::read_weights(&folder.best_path(), chosen)?;
            let total = dataset.test.len();
            let progress = |done| {
                listener.on(&Event::Evaluation { done, total });
                !stop.load(Ordering::Relaxed)
            };
            match evaluate_while(&test, device, &measuring, progress)? {
                Some(evaluation) => evaluation,
                None => {
                    listener.on(&Event::Interrupted { step: state.step });
                    return Ok(Outcome::Interrupted { step: state.step });
                }
            }
        }
    };
    write_json(&folder.predictions_path(), &predictions(&chosen, &*dataset.test)?)?;
    let elapsed = seconds_before + session.elapsed().as_secs_f64();
    let summary = Summary {
        name: setup.name(folder),
        model: config.model.clone(),
        weights: config.weights.clone(),
        data: config.data.clone(),
        test_set: dataset.test_fingerprint(),
        classes: dataset.classes.clone(),
        parameters: params.count(),
        trainable_parameters,
        epochs: state.epoch,
        steps: state.step,
        train_samples,
        test_samples: dataset.test.len(),
        seconds: elapsed,
        images_per_second: median(&state.rates),
        peak_memory_bytes: state.peak_memory_bytes.max(memory::peak()),
        device: config.device.clone(),
        threads: config.threads,
        best_epoch: best.epoch,
        chosen_by: if best.val_accuracy.is_some() { "val_accuracy".into() } else { "last".into() },
        test_accuracy: chosen.accuracy,
        test_loss: chosen.loss,
        test_top5: chosen.top5,
        final_test_accuracy: latest.test_accuracy,
    };
    write_json(&folder.summary_path(), &summary)?;
    listener.on(&Event::End { elapsed: Duration::from_secs_f64(elapsed) });
    Ok(Outcome::Finished(summary))
}

/// Waits for a step's numbers and tells them, with the time `since` the step before.
fn report(
    taken: &Taken,
    since: &mut Instant,
    running: &mut Running,
    learning: &mut Option<Vec<bool>>,
    log: &mut MetricsLog,
    listener: &mut dyn Listener,
) -> Result<()> {
    let &Taken { epoch, step, lr, samples, .. } = taken;
    let mut loss = 0.;
    for pass in &taken.passes {
        let value = f64::from(pass.loss.read()?.to_scalar::<f32>()?);
        check_finite("the loss", value, step, lr)?;
        running.add(value, pass.correct.read()?.to_scalar::<u32>()? as usize, pass.count);
        loss += value * (pass.count as f64 / samples as f64);
    }
    let squares = taken.squares.read()?;
    let grad_norm = squares.iter().sum::<f64>().sqrt();
    check_finite("the norm of the gradients", grad_norm, step, lr)?;
    if let Some(learning) = learning {
        learning.iter_mut().zip(&squares).for_each(|(learns, &square)| *learns |= square > 0.);
    }
    let seconds = since.elapsed().as_secs_f64();
    *since = Instant::now();
    running.seconds += seconds;
    let metrics = StepMetrics { epoch, step, loss, lr, grad_norm, images_per_second: samples as f64 / seconds };
    log.add(&MetricsLine::Step(metrics))?;
    listener.on(&Event::Step(metrics));
    Ok(())
}

/// Makes the folder ready: of a new run, or of one that goes on, whose weights, averages, optimiser and place are taken back
/// from its last checkpoint. What `metrics.jsonl` holds beyond that checkpoint is cut off, as those steps are taken again.
fn begin(
    folder: &RunFolder,
    start: Start,
    setup: &Setup,
    optimizer: &mut Optimizer,
    averages: Option<&Averages>,
    listener: &mut dyn Listener,
) -> Result<(MetricsLog, State)> {
    let config_path = folder.config_path();
    let begun = start == Start::Resume && config_path.exists();
    folder.check_start(start)?;
    std::fs::create_dir_all(folder.root()).map_err(Error::io(folder.root()))?;
    let mut log = MetricsLog::open(folder)?;
    let mut state = State::default();
    let record = data_record::of(&setup.config, &setup.dataset)?;
    if begun {
        extension::check_same(folder, &setup.config)?;
        if let Some(then) = DataRecord::read(folder)? {
            data_record::check(folder, &then, &record)?;
        }
        extension::begin(folder, &setup.config)?;
        checkpoint::recover(folder)?;
        if let Some(saved) = checkpoint::read_state(folder)? {
            checkpoint::read_weights(&folder.last_path(), &setup.params)?;
            checkpoint::read_optimizer(folder, optimizer)?;
            averages.map_or(Ok(()), |averages| averages.read(&folder.last_path()))?;
            state = saved;
        }
    } else {
        if let Some(account) = &setup.account {
            write_json(&folder.load_path(), account)?;
        }
        warn(listener, data_record::overlap_warning(&record));
        record.write(folder)?;
        tallow_weights::save::write_text(&config_path, &setup.config.to_toml()?)?;
    }
    log.cut(state.metrics_bytes)?;
    Ok((log, state))
}

/// Writes the checkpoints: `best` first where this is the best epoch so far, so that `last` never speaks of a best one that
/// is not there.
#[allow(clippy::too_many_arguments, reason = "all that a checkpoint holds")]
fn save(
    folder: &RunFolder,
    setup: &Setup,
    optimizer: &Optimizer,
    averages: Option<&Averages>,
    state: &mut State,
    log: &mut MetricsLog,
    best: bool,
    listener: &mut dyn Listener,
) -> Result<()> {
    let averages = averages.map(Averages::params);
    state.metrics_bytes = log.sync()?;
    state.peak_memory_bytes = state.peak_memory_bytes.max(memory::peak());
    if best {
        let path = checkpoint::write_best(folder, averages.unwrap_or(&setup.params), &setup.checkpoint)?;
        listener.on(&Event::Checkpoint { path, best: true });
    }
    let same = best && averages.is_none();
    let path = checkpoint::write_last(folder, &setup.params, &setup.checkpoint, optimizer, averages, state, same)?;
    listener.on(&Event::Checkpoint { path, best: false });
    Ok(())
}

fn warn(listener: &mut dyn Listener, warnings: impl IntoIterator<Item = String>) {
    warnings.into_iter().for_each(|warning| listener.on(&Event::Warning(warning)));
}

fn check_finite(what: &'static str, value: f64, step: usize, lr: f64) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(Error::Diverged { step, what, value, lr, checkpoint: None }) }
}

/// The seed of one forward pass: all bits of the run's seed and the pass' number count (the finaliser of SplitMix64).
fn pass_seed(seed: u64, pass: usize) -> u64 {
    let mut z = seed.wrapping_add((pass as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.,
    }
}

impl Running {
    fn add(&mut self, mean_loss: f64, correct: usize, samples: usize) {
        self.loss += mean_loss * samples as f64;
        self.correct += correct;
        self.samples += samples;
    }

    /// The metrics of an epoch that took `seconds` in all.
    fn epoch(&self, epoch: usize, validated: Option<&Evaluation>, tested: &Evaluation, seconds: f64) -> EpochMetrics {
        let samples = self.samples.max(1) as f64;
        EpochMetrics {
            epoch,
            train_loss: self.loss / samples,
            train_accuracy: self.correct as f64 / samples,
            val_loss: validated.map(|v| v.loss),
            val_accuracy: validated.map(|v| v.accuracy),
            test_loss: tested.loss,
            test_accuracy: tested.accuracy,
            test_top5: tested.top5,
            seconds,
            images_per_second: if self.seconds > 0. { samples / self.seconds } else { 0. },
        }
    }
}

impl Best {
    fn of(metrics: &EpochMetrics) -> Self {
        Self { epoch: metrics.epoch, val_accuracy: metrics.val_accuracy, val_loss: metrics.val_loss }
    }

    /// By accuracy on the validation split, then by loss on it. Without such a split the later epoch: choosing by the test
    /// set would flatter the result.
    fn is_better_than(&self, other: Option<&Self>) -> bool {
        let Some(other) = other else { return true };
        match (self.val_accuracy, other.val_accuracy, self.val_loss, other.val_loss) {
            (Some(mine), Some(theirs), Some(my_loss), Some(their_loss)) => {
                mine > theirs || (mine == theirs && my_loss < their_loss)
            }
            _ => true,
        }
    }
}
