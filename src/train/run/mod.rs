//! A run: all that it owns, and what the loop does with it.

mod begin;
mod prepare;
mod unlabelled;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::Device;
use tallow_models::optim::{Clip, Squares};
use tallow_models::{AnyModel, Params, Readback};

use super::averages::Averages;
use super::checkpoint::{self, Last};
use super::config::{ComputeSettings, TrainConfig};
use super::error::{Error, Result};
use super::evaluate::{EvaluateOptions, Evaluation, evaluate_while};
use super::event::{Event, Listener, StepMetrics};
use super::features::{Batches, ModelInput};
use super::gradients::{Accumulator, sums_of_squares};
use super::median::median;
use super::metrics_log::MetricsLog;
use super::objectives::{Objective, Pass, Place};
use super::optimizer::Optimizer;
use super::outcome::{Outcome, Start};
use super::predictions::predictions;
use super::run_folder::{MetricsLine, RunFolder, Summary, write_json};
use super::schedule::Schedule;
use super::setup::Setup;
use super::state::{Best, Running, State};
use super::watch::Watch;
use super::{memory, warnings};
use crate::data::{Batch, LoaderOptions, epoch_order};

/// Time between two checkpoints inside an epoch, where the configuration counts no steps.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(600);

/// What a process is asked to do: to begin the run in a folder, or to continue it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Session<'a> {
    pub folder: &'a RunFolder,
    pub start: Start,
    /// Ends the run after the step that is under way.
    pub stop: &'a AtomicBool,
    /// When the process began with it.
    pub began: Instant,
    /// Bytes that the features of a frozen backbone may take.
    pub features_limit: u64,
}

/// A run that has begun.
pub(super) struct Run<'a> {
    session: Session<'a>,
    setup: Setup,
    listener: Watch<'a>,
    log: MetricsLog,
    state: State,

    model: AnyModel,
    /// The model's parameters, without those that the objective has declared for itself.
    encoder: Params,
    /// Over the same parameters, or their averages.
    eval_model: AnyModel,
    averages: Option<Averages>,
    objective: Box<dyn Objective>,
    optimizer: Optimizer,
    schedule: Schedule,
    inputs: Inputs,

    /// Seconds of earlier sessions, and of others whose features are used.
    seconds_before: f64,
    last_checkpoint: Instant,
    /// When the numbers of the step before were told.
    last_told: Instant,
    /// A step whose numbers are on their way from the device, which goes on with the next one meanwhile.
    under_way: Option<Taken>,
    /// In the first epoch, which trainable parameters have received a gradient other than zero.
    learning: Option<Vec<bool>>,
    /// Whether the training images pass through the backbone in this epoch. Where features are kept, they did before the first one.
    through_backbone: bool,
    /// Images per second at which features were computed before the first epoch, whose time has that in it.
    features_rate: Option<f64>,
    /// The evaluation of the best epoch, where that is the one whose weights are in memory.
    best_evaluation: Option<Evaluation>,
}

/// The parts of the data set.
struct Inputs {
    train: ModelInput,
    val: Option<ModelInput>,
    test: ModelInput,
}

/// A step whose batches come in.
pub(super) struct Step {
    epoch: usize,
    /// Counts from 0 over the whole run.
    number: usize,
    lr: f64,
    /// Samples of all its batches.
    samples: usize,
    num_batches: usize,
    passes: Vec<Measured>,
    gradients: Accumulator,
}

impl Step {
    /// The batches that it is made of.
    pub fn num_batches(&self) -> usize {
        self.num_batches
    }
}

/// What one batch came to, as far as the device has come to it.
struct Measured {
    loss: Readback,
    correct: Readback,
    samples: usize,
}

/// A step that was taken, with its numbers as far as the device has come to them.
pub(super) struct Taken {
    epoch: usize,
    number: usize,
    lr: f64,
    samples: usize,
    passes: Vec<Measured>,
    squares: Squares,
}

/// What the parts that are evaluated came to.
pub(super) struct EpochEvaluation {
    validated: Option<Evaluation>,
    tested: Evaluation,
    seconds: f64,
}

impl Run<'_> {
    /// The epochs that are left.
    pub fn epochs(&self) -> Range<usize> {
        self.state.epoch..self.config().epochs()
    }

    /// The batches that are left of an epoch.
    pub fn batches(&mut self, epoch: usize) -> Result<Batches> {
        let (accumulate, batch_size) = (self.config().length.accumulate, self.config().batch_size());
        let ComputeSettings { seed, allow_missing_gradients, .. } = self.config().compute;
        let shuffle = self.config().data.shuffle;
        // The order and all that is random about a sample follow from the seed and the epoch: an interrupted epoch goes on
        // with the rest of its samples.
        let samples = self.setup.dataset.train.len();
        let order = epoch_order(samples, seed, epoch, shuffle);
        let done = (self.state.step_in_epoch * accumulate * batch_size).min(samples);
        let options = LoaderOptions { epoch, ..self.loading() };
        let batches = self.objective.batches(&self.inputs.train, order[done..].to_vec(), options, self.device())?;
        self.learning = (self.state.step == 0 && !allow_missing_gradients)
            .then(|| vec![false; self.setup.params.trainable().len()]);
        self.last_told = Instant::now();
        Ok(batches)
    }

    /// The next step of the epoch, if there is one.
    pub fn next_step(&self) -> Option<Step> {
        let (accumulate, batch_size) = (self.config().length.accumulate, self.config().batch_size());
        if self.epoch_is_through() {
            return None;
        }
        let first_sample = self.state.step_in_epoch * accumulate * batch_size;
        Some(Step {
            epoch: self.state.epoch,
            number: self.state.step,
            lr: self.schedule.lr(self.state.step),
            samples: (self.setup.dataset.train.len() - first_sample).min(accumulate * batch_size),
            num_batches: accumulate,
            passes: Vec::with_capacity(accumulate),
            gradients: Accumulator::default(),
        })
    }

    /// The loss of one of the step's batches.
    pub fn loss(&mut self, step: &Step, batch: Batch) -> Result<Pass> {
        let (number, done) = (step.passes.len(), step.num_batches);
        let place = Place {
            seed: self.config().compute.seed,
            epoch: step.epoch,
            batch: self.state.step_in_epoch * done + number,
            pass: step.number * done + number,
        };
        self.objective.loss(&self.model, &self.inputs.train, batch, place)
    }

    /// Adds a batch's gradients to the step's.
    pub fn gradients(&self, step: &mut Step, pass: Pass) -> Result<()> {
        let Pass { loss, correct, samples, gradients } = pass;
        step.passes.push(Measured { loss: Readback::new(&loss)?, correct: Readback::new(&correct)?, samples });
        match gradients {
            Some(gradients) => step.gradients.put(gradients),
            None => {
                let share = samples as f64 / step.samples as f64;
                step.gradients.add(&self.setup.params, &loss, share, self.config().compute.allow_missing_gradients)?;
            }
        }
        Ok(())
    }

    /// Takes the step along its gradients.
    pub fn step(&mut self, step: Step) -> Result<Taken> {
        let Step { epoch, number, lr, samples, passes, gradients, .. } = step;
        let Some((gradients, missing)) = gradients.take() else {
            return Err(Error::invalid("an epoch", "a batch for every step", "none"));
        };
        if number == 0 {
            self.warn(warnings::of_missing_gradients(&missing));
        }
        let squares = sums_of_squares(&gradients)?;
        let clip = Clip { squares: &squares, largest: self.config().regularization.clip_grad };
        self.objective.step(&mut self.optimizer, &gradients, clip, lr)?;
        self.averages.iter().try_for_each(|averages| averages.update(&self.setup.params, number))?;
        self.state.step += 1;
        self.state.step_in_epoch += 1;
        if self.state.step_in_epoch == 1 {
            memory::settle();
        }
        Ok(Taken { epoch, number, lr, samples, passes, squares })
    }

    /// Tells a step's numbers: this one's if they are known, else those of the step before, for which the device has had a step's time.
    pub fn tell(&mut self, taken: Taken) -> Result<()> {
        let known = if taken.squares.are_known() { Some(taken) } else { self.under_way.replace(taken) };
        known.map_or(Ok(()), |taken| self.tell_step(&taken))?;
        if !self.epoch_is_through() {
            return Ok(());
        }
        self.tell_rest()?;
        if let Some(learning) = self.learning.take() {
            let trainable = self.setup.params.trainable().into_iter().zip(learning);
            let idle: Vec<String> = trainable.filter(|(_, learns)| !learns).map(|(param, _)| param.name).collect();
            self.warn(warnings::of_zero_gradients(&idle));
        }
        Ok(())
    }

    /// Waits for the numbers that are on their way, and tells them.
    fn tell_rest(&mut self) -> Result<()> {
        self.under_way.take().map_or(Ok(()), |taken| self.tell_step(&taken))
    }

    fn tell_step(&mut self, taken: &Taken) -> Result<()> {
        let &Taken { epoch, number: step, lr, samples, .. } = taken;
        let mut loss = 0.;
        for pass in &taken.passes {
            let value = f64::from(pass.loss.read()?.to_scalar::<f32>()?);
            check_finite("the loss", value, step, lr)?;
            self.state.running.add(value, pass.correct.read()?.to_scalar::<u32>()? as usize, pass.samples);
            loss += value * (pass.samples as f64 / samples as f64);
        }
        let squares = taken.squares.read()?;
        let grad_norm = squares.iter().sum::<f64>().sqrt();
        check_finite("the norm of the gradients", grad_norm, step, lr)?;
        if let Some(learning) = &mut self.learning {
            learning.iter_mut().zip(&squares).for_each(|(learns, &square)| *learns |= square > 0.);
        }
        let seconds = self.last_told.elapsed().as_secs_f64();
        self.last_told = Instant::now();
        self.state.running.seconds += seconds;
        let metrics = StepMetrics { epoch, step, loss, lr, grad_norm, images_per_second: samples as f64 / seconds };
        self.log.add(&MetricsLine::Step(metrics))?;
        self.listener.on(&Event::Step(metrics));
        Ok(())
    }

    /// Whether an epoch ends with an evaluation.
    pub fn evaluates(&self, epoch: usize) -> bool {
        let config = self.config();
        (epoch + 1).is_multiple_of(config.eval_every()) || epoch + 1 == config.epochs()
    }

    /// Measures the model on the validation part and the test part; none if it was stopped meanwhile.
    pub fn evaluate(&mut self) -> Result<Option<EpochEvaluation>> {
        let began = Instant::now();
        if !self.config().trains_head() {
            let tested = self.measure_unlabelled()?;
            let seconds = began.elapsed().as_secs_f64();
            return Ok(tested.map(|tested| EpochEvaluation { validated: None, tested, seconds }));
        }
        let val = self.inputs.val.as_ref();
        let validated = val.map(|val| measure(&self.setup, &self.session, &mut self.listener, &self.eval_model, val));
        let validated = validated.transpose()?;
        if let Some(None) = validated {
            return Ok(None);
        }
        let tested = self.measure_test()?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(tested.map(|tested| EpochEvaluation { validated: validated.flatten(), tested, seconds }))
    }

    fn measure_test(&mut self) -> Result<Option<Evaluation>> {
        if !self.config().trains_head() {
            return self.measure_unlabelled();
        }
        measure(&self.setup, &self.session, &mut self.listener, &self.eval_model, &self.inputs.test)
    }

    /// Tells what an epoch came to, and whether it is the best one so far.
    pub fn tell_epoch(&mut self, evaluation: EpochEvaluation) -> Result<bool> {
        let EpochEvaluation { validated, tested, seconds } = evaluation;
        let (epoch, running) = (self.state.epoch, self.state.running);
        let seconds = running.seconds + running.evaluation_seconds + seconds;
        let mut metrics = running.epoch(epoch, validated.as_ref(), &tested, seconds);
        if !self.config().trains_head() {
            // Nothing is called anything.
            metrics.train_accuracy = f64::NAN;
        }
        if let Some(rate) = self.features_rate.take() {
            metrics.images_per_second = rate;
        }
        self.log.add(&MetricsLine::Epoch(metrics.clone()))?;
        self.listener.on(&Event::Epoch(metrics.clone()));
        if self.config().trains_head() {
            self.warn(warnings::of_collapse(&tested, &self.setup.dataset.classes, epoch));
        } else {
            let told = self.objective.warnings()?;
            self.warn(told);
        }

        let improved = Best::of(&metrics).is_better_than(self.state.best.as_ref());
        if improved {
            self.state.best = Some(Best::of(&metrics));
        }
        self.best_evaluation = improved.then_some(tested);
        if std::mem::replace(&mut self.through_backbone, !self.inputs.train.is_kept()) {
            self.state.rates.push(metrics.images_per_second);
        }
        self.state.latest = Some(metrics);
        self.state.running = Running::default();
        Ok(improved)
    }

    /// Goes on to the next epoch.
    pub fn next_epoch(&mut self) {
        (self.state.epoch, self.state.step_in_epoch) = (self.state.epoch + 1, 0);
    }

    /// Whether all steps of the epoch were taken.
    fn epoch_is_through(&self) -> bool {
        self.state.step_in_epoch >= self.setup.steps_per_epoch()
    }

    /// Whether all epochs were run.
    pub fn has_ended(&self) -> bool {
        self.state.epoch >= self.config().epochs()
    }

    /// Whether somebody wants the run to stop.
    pub fn is_stopped(&self) -> bool {
        self.session.stop.load(Ordering::Relaxed)
    }

    /// Whether it is time for a checkpoint. The end of an epoch brings one anyway.
    pub fn is_checkpoint_due(&self) -> bool {
        let due = match self.config().compute.checkpoint_every {
            Some(steps) => self.state.step.is_multiple_of(steps),
            None => self.last_checkpoint.elapsed() >= CHECKPOINT_INTERVAL,
        };
        due && !(self.epoch_is_through() && self.evaluates(self.state.epoch))
    }

    /// Writes the checkpoints: `best` first where this is the best epoch so far, so that `last` never speaks of a best one that
    /// is not there.
    pub fn save(&mut self, best: bool) -> Result<()> {
        self.tell_rest()?;
        self.state.seconds = self.seconds();
        self.state.metrics_bytes = self.log.sync()?;
        self.state.peak_memory_bytes = self.state.peak_memory_bytes.max(memory::peak());
        let Self { session: Session { folder, .. }, setup: Setup { checkpoint: config, .. }, encoder: params, .. } =
            self;
        let averages = self.averages.as_ref().map(Averages::params);
        let chosen = averages.or(self.objective.chosen().map(|(chosen, _)| chosen));
        let same = chosen.is_none();
        if best {
            let path = checkpoint::write_best(folder, chosen.unwrap_or(params), config)?;
            self.listener.on(&Event::Checkpoint { path, best: true });
        }
        let (optimizer, state, objective) = (&self.optimizer, &self.state, self.objective.state()?);
        let last = Last { params, config, optimizer, averages, objective, state };
        let path = checkpoint::write_last(folder, &last, best && same)?;
        self.listener.on(&Event::Checkpoint { path, best: false });
        self.last_checkpoint = Instant::now();
        self.last_told = self.last_checkpoint;
        Ok(())
    }

    /// Tells that the run was stopped.
    pub fn interrupt(&mut self) -> Outcome {
        let step = self.state.step;
        self.listener.on(&Event::Interrupted { step });
        Outcome::Interrupted { step }
    }

    /// Writes down what the chosen checkpoint comes to.
    pub fn finish(&mut self) -> Result<Outcome> {
        let (Some(best), Some(latest)) = (self.state.best, self.state.latest.clone()) else {
            return Err(Error::config("epochs", "at least 1", self.config().length.epochs));
        };
        let chosen = match self.best_evaluation.take() {
            // The weights in memory are those that were chosen, and were just measured.
            Some(evaluation) => evaluation,
            None => {
                let averages = self.averages.as_ref().map(Averages::params);
                let chosen = self.objective.chosen().map(|(chosen, _)| chosen);
                let params = averages.or(chosen).unwrap_or(&self.encoder);
                checkpoint::read_weights(&self.session.folder.best_path(), params)?;
                match self.measure_test()? {
                    Some(evaluation) => evaluation,
                    None => return Ok(self.interrupt()),
                }
            }
        };
        let Setup { config, dataset, .. } = &self.setup;
        let folder = self.session.folder;
        // Without labels nothing is said of samples.
        if chosen.labels.len() == dataset.test.len() {
            write_json(&folder.predictions_path(), &predictions(&chosen, &*dataset.test)?)?;
        }
        let summary = Summary {
            name: self.setup.name(folder),
            parameters: self.encoder.count(),
            trainable_parameters: self.trainable_parameters(),
            epochs: self.state.epoch,
            steps: self.state.step,
            seconds: self.seconds(),
            images_per_second: median(&self.state.rates).unwrap_or(0.),
            peak_memory_bytes: self.state.peak_memory_bytes.max(memory::peak()),
            best_epoch: best.epoch,
            chosen_by: if best.val_accuracy.is_some() { "val_accuracy".into() } else { "last".into() },
            final_test_accuracy: latest.test_accuracy,
            ..Summary::of(config, dataset, &chosen)
        };
        write_json(&folder.summary_path(), &summary)?;
        self.listener.on(&Event::End { elapsed: Duration::from_secs_f64(summary.seconds) });
        Ok(Outcome::Finished(summary))
    }

    fn config(&self) -> &TrainConfig {
        &self.setup.config
    }

    fn device(&self) -> &Device {
        self.setup.params.device()
    }

    /// Seconds of the run until now.
    fn seconds(&self) -> f64 {
        self.seconds_before + self.session.began.elapsed().as_secs_f64()
    }

    fn trainable_parameters(&self) -> usize {
        self.setup.params.trainable().iter().map(|param| param.var.elem_count()).sum()
    }

    /// How training batches are loaded.
    fn loading(&self) -> LoaderOptions {
        let (batch_size, seed) = (self.config().batch_size(), self.config().compute.seed);
        LoaderOptions { batch_size, seed, ..LoaderOptions::default() }
    }

    fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        warnings.into_iter().for_each(|warning| self.listener.on(&Event::Warning(warning)));
    }
}

/// How parts are evaluated.
fn measuring(config: &TrainConfig) -> EvaluateOptions {
    let default = EvaluateOptions::default();
    EvaluateOptions { batch_size: config.length.eval_batch_size.unwrap_or(default.batch_size), ..default }
}

/// Measures a model on a part of the data set, unless the session is stopped.
fn measure(
    setup: &Setup,
    session: &Session,
    listener: &mut Watch,
    model: &AnyModel,
    input: &ModelInput,
) -> Result<Option<Evaluation>> {
    let total = input.samples().len();
    evaluate_while(model, input, setup.params.device(), &measuring(&setup.config), |done| {
        listener.on(&Event::Evaluation { done, total });
        !session.stop.load(Ordering::Relaxed)
    })
}

fn check_finite(what: &'static str, value: f64, step: usize, lr: f64) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(Error::Diverged { step, what, value, lr, checkpoint: None }) }
}
