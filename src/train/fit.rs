//! The training loop.

use std::sync::atomic::AtomicBool;

use super::config::TrainConfig;
use super::error::{Error, Result};
use super::event::Listener;
use super::run_folder::{RunFolder, Summary};
use super::setup::Setup;

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
pub enum Outcome {
    /// All epochs were run.
    Finished(Summary),
    /// `stop` was set; the checkpoint holds everything up to `step` steps, and a resume goes on from there.
    Interrupted { step: usize },
}

/// Trains what `config` says: [`Setup::new`], then [`fit`].
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
    fit(Setup::new(config)?, folder, start, listener, stop)
}

/// Trains a model that is set up, writing the run's files into `folder` and telling `listener` what happens. Setting `stop`
/// ends the run after the current step, with a checkpoint.
///
/// # Errors
/// If the folder holds another run, a file cannot be written, a sample cannot be read, a trainable parameter received no
/// gradient, or the loss is no number any more. The last checkpoint stands, whatever happens.
pub fn fit(
    _setup: Setup,
    _folder: &RunFolder,
    _start: Start,
    _listener: &mut dyn Listener,
    _stop: &AtomicBool,
) -> Result<Outcome> {
    Err(Error::config("train", "a later commit", "this one"))
}
