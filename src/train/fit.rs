//! The training loop.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use tallow_weights::OpenOptions;

use super::config::TrainConfig;
use super::error::Result;
use super::event::{Event, Listener};
use super::outcome::{Outcome, Start};
use super::run::{Run, Session};
use super::run_folder::RunFolder;
use super::setup::Setup;
use super::study::{knn, svm};
use super::watch::Watch;
use super::{batch_size, data_record, features, kernels, memory};

/// Trains what `config` says: [`Setup::new`], then [`fit()`]; or [`svm::run`] or [`knn::run`].
///
/// # Errors
/// Those of each.
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
    if knn::is_meant(config) {
        return knn::run(config, &OpenOptions::default(), folder, start, listener, stop);
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
    let session = Session { folder, start, stop, began: Instant::now(), features_limit: features::LIMIT };
    fit_in(session, setup, listener)
}

/// [`fit()`], in a session.
pub(super) fn fit_in(session: Session, mut setup: Setup, listener: &mut dyn Listener) -> Result<Outcome> {
    if session.start == Start::Resume && setup.config.compute.kernels.is_none() && session.folder.config_path().exists()
    {
        setup.config.compute.kernels = session.folder.config()?.compute.kernels;
    }
    setup.dataset.notes.extend(kernels::take_up(&mut setup.config));
    batch_size::settle(&mut setup, session.folder, session.start, listener)?;
    let batch_size = setup.config.batch_size();
    begin_and_train(session, setup, listener)
        .map_err(|error| error.with_batch_size(batch_size).with_checkpoint(session.folder.last_path()))
}

fn begin_and_train(session: Session, setup: Setup, listener: &mut dyn Listener) -> Result<Outcome> {
    memory::reset_peak();
    let mut setup = setup.resolve()?;
    let mut listener = Watch::new(&setup.config, listener);
    if !data_record::digest(&mut setup.dataset, &mut listener, session.stop) {
        listener.on(&Event::Interrupted { step: 0 });
        return Ok(Outcome::Interrupted { step: 0 });
    }
    match Run::begin(session, setup, listener)? {
        ControlFlow::Continue(mut run) => {
            if run.prepare()? {
                train(&mut run)
            } else {
                Ok(run.interrupt())
            }
        }
        ControlFlow::Break(outcome) => Ok(outcome),
    }
}

/// The loop. What a step minimises is the run's [`Objective`](super::objectives::Objective).
fn train(run: &mut Run) -> Result<Outcome> {
    for epoch in run.epochs() {
        let mut batches = run.batches(epoch)?;
        while let Some(mut step) = run.next_step() {
            for batch in batches.by_ref().take(step.num_batches()) {
                let pass = run.loss(&step, batch?)?;
                run.gradients(&mut step, pass)?;
            }
            let taken = run.step(step)?;
            run.tell(taken)?;

            let stopped = run.is_stopped();
            if stopped || run.is_checkpoint_due() {
                run.save(false)?;
            }
            if stopped {
                return Ok(run.interrupt());
            }
        }
        if !run.evaluates(epoch) {
            run.next_epoch();
            continue;
        }
        let Some(measured) = run.evaluate()? else {
            // Stopped while evaluating: a resume finds all steps of the epoch taken, and evaluates again.
            run.save(false)?;
            return Ok(run.interrupt());
        };
        let improved = run.tell_epoch(measured)?;
        run.next_epoch();
        run.save(improved)?;
        if run.is_stopped() && !run.has_ended() {
            return Ok(run.interrupt());
        }
    }
    run.finish()
}
