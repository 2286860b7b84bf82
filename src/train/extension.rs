//! More epochs for a run that was planned with fewer, and what the learning rate is in them.
//!
//! A constant, exponential or step schedule does not know its end: it goes on, and the run is the one that it would have been
//! with so many epochs from the start. A cosine has ended: the new epochs have the constant rate that it ended at (`min_lr`).
//! Either way another schedule can be named, which begins with the first new epoch. `config.toml` then says so in an entry of
//! `extended` beside the settings that the run began with, so that it still describes the whole run: a resume goes on with it,
//! and a run from it is the same run.

use std::fs;

use tallow_weights::save;

use super::checkpoint;
use super::config::{Extension, ScheduleKind, TrainConfig};
use super::error::{Error, Result};
use super::event::{Event, Listener};
use super::run_folder::RunFolder;
use super::schedule::Schedule;
use super::setup::Setup;

/// The settings of the run in `recorded`, extended as `asked` says, or none where that has no more epochs. Where the schedule
/// does not go on by itself and `asked` names no other one, the new epochs have the constant rate at its end.
///
/// # Errors
/// [`Error::Config`] where `asked` has fewer epochs than the run.
pub(super) fn extended(recorded: &TrainConfig, asked: &TrainConfig, epochs_run: usize) -> Result<Option<TrainConfig>> {
    if asked.epochs() < recorded.epochs() {
        let expected = format!(
            "at least {}, as the run has been planned with so many ({epochs_run} are run): a resume can add epochs, not take \
             them away",
            recorded.epochs()
        );
        return Err(Error::config("epochs", expected, asked.epochs()));
    }
    if asked.epochs() == recorded.epochs() {
        return Ok(None);
    }
    let mut config = asked.clone();
    let ends = match recorded.extended.last() {
        Some(last) => (last.schedule == ScheduleKind::Cosine).then_some(last.min_lr),
        None => (recorded.schedule.schedule == ScheduleKind::Cosine).then_some(recorded.schedule.min_lr),
    };
    let named = asked.extended.len() > recorded.extended.len();
    if let (Some(lr), false) = (ends, named) {
        let constant = ScheduleKind::Constant;
        config.extended.push(Extension {
            from: recorded.epochs(),
            schedule: constant,
            lr,
            min_lr: 0.,
            gamma: 1.,
            step_size: 1,
        });
    }
    config.check_extended()?;
    Ok(Some(config))
}

/// Settles the schedule of a run that goes on in `folder` with more epochs than it was planned with, and tells it.
///
/// # Errors
/// As [`extended`]; if the run's files cannot be read.
pub(super) fn apply(setup: &mut Setup, folder: &RunFolder, listener: &mut dyn Listener) -> Result<()> {
    if !folder.config_path().exists() {
        return Ok(());
    }
    let recorded = folder.config()?;
    if recorded.epochs() == setup.config.epochs() {
        return Ok(());
    }
    // Where the default follows from the length of the run, it stays what it was.
    let left_open = setup.config.clone().with(|c| c.schedule.warmup_steps = None);
    let default = Schedule::new(&left_open, setup.steps_per_epoch()).warmup_steps();
    if setup.config.schedule.warmup_steps == Some(default) {
        setup.config.schedule.warmup_steps = recorded.schedule.warmup_steps;
    }
    let run = checkpoint::read_state(folder)?.map_or(0, |state| state.epoch);
    if let Some(config) = extended(&recorded, &setup.config, run)? {
        setup.config = config;
        // The run is compared with its own settings first.
        if differences(&recorded, &setup.config).is_empty() {
            listener.on(&Event::Note(told(&recorded, &setup.config, setup.steps_per_epoch())));
            warning(&setup.config).into_iter().for_each(|text| listener.on(&Event::Warning(text)));
        }
    }
    Ok(())
}

/// In what two settings differ, more epochs and what goes with them apart.
fn differences(recorded: &TrainConfig, config: &TrainConfig) -> Vec<String> {
    let mut config = config.clone();
    let mut known = recorded.clone();
    if config.epochs() > known.epochs() && config.extended.starts_with(&known.extended) {
        config.length.epochs = known.length.epochs;
        known.extended.clear();
        config.extended.clear();
    }
    known.differences(&config)
}

/// Checks that a run goes on with its own settings, or with more epochs.
///
/// # Errors
/// [`Error::Differs`].
pub(super) fn check_same(folder: &RunFolder, config: &TrainConfig) -> Result<()> {
    let differences = differences(&folder.config()?, config);
    if differences.is_empty() { Ok(()) } else { Err(Error::Differs { path: folder.root().into(), differences }) }
}

/// Writes down that the run goes on with more epochs, if it does: from here on it is one that has not ended.
///
/// # Errors
/// If a file cannot be written or removed.
pub(super) fn begin(folder: &RunFolder, config: &TrainConfig) -> Result<()> {
    let recorded = folder.config()?;
    if recorded.epochs() == config.epochs() {
        return Ok(());
    }
    save::write_text(&folder.config_path(), &config.to_toml()?)?;
    for path in [folder.summary_path(), folder.predictions_path()] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(&path)(error)),
            _ => (),
        }
    }
    Ok(())
}

/// In words: which epochs are new and what their learning rate is.
pub(super) fn told(recorded: &TrainConfig, config: &TrainConfig, steps_per_epoch: usize) -> String {
    let schedule = Schedule::new(config, steps_per_epoch);
    let (first, last) =
        (schedule.lr(recorded.epochs() * steps_per_epoch), schedule.lr(config.epochs() * steps_per_epoch - 1));
    let rates = if first == last { format!("{first:e}") } else { format!("{first:e} to {last:e}") };
    let word = |kind: ScheduleKind| format!("{kind:?}").to_lowercase();
    let own = config.extended.last().filter(|extension| extension.from == recorded.epochs());
    let how = match own {
        None => {
            let kind = config.extended.last().map_or(config.schedule.schedule, |extension| extension.schedule);
            format!("the {} schedule goes on", word(kind))
        }
        // What a constant schedule by name came to, or the end of a cosine.
        Some(extension) if extension.schedule == ScheduleKind::Constant => {
            format!(
                "the {} schedule ends with epoch {}, the rate is constant then",
                word(before(config)),
                recorded.epochs()
            )
        }
        Some(extension) => format!("a new {} schedule begins", word(extension.schedule)),
    };
    let (first, last) = (recorded.epochs() + 1, config.epochs());
    let which = if first == last {
        format!("1 more epoch, {first}")
    } else {
        format!("{} more epochs, {first} to {last}", last + 1 - first)
    };
    format!("{which}: {how}, learning rate {rates} (`schedule`, with `lr`, says otherwise)")
}

/// The schedule before the last extension.
fn before(config: &TrainConfig) -> ScheduleKind {
    let count = config.extended.len();
    count
        .checked_sub(2)
        .and_then(|at| config.extended.get(at))
        .map_or(config.schedule.schedule, |extension| extension.schedule)
}

/// What is wrong with an extension in which nothing is learned.
pub(super) fn warning(config: &TrainConfig) -> Option<String> {
    let last = config.extended.last()?;
    (last.lr == 0.).then(|| {
        format!(
            "the schedule ends at a learning rate of 0 (min_lr): the epochs from {} on change no weight; with `schedule = constant` \
             `lr = RATE`, or another schedule, they would",
            last.from + 1
        )
    })
}
