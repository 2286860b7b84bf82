//! `tallow train` and `tallow finetune`: one run.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Context;

use crate::error::{Interrupted, Result};
use crate::file_name::file_name;
use crate::flags::TrainArgs;
use crate::model::account_text;
use crate::output::{bytes, rate, seconds, thousands};
use crate::progress::Progress;
use crate::session::Session;
use crate::{interrupt, settings};
use tallow::report;
use tallow::train::study::svm;
use tallow::train::{self, Outcome, RunFolder, Setup, Summary, TrainConfig};

pub fn run(args: &TrainArgs, start: settings::Start, session: &Session) -> Result {
    session.device()?; // a device that is not there is said before any work is done
    let begin = if args.resume { train::Start::Resume } else { train::Start::New };
    if let Some(out) = &args.out {
        // Before anything is downloaded for the run.
        RunFolder::new(out).check_start(begin)?;
    }
    let config = settings::of_command(args, session, start)?;
    let stop = interrupt::stop_flag()?;
    let folder = RunFolder::new(args.out.clone().map_or_else(|| free_folder(&config), Ok)?);
    let outcome = one(&config, &folder, begin, session, stop);
    if outcome.is_err() && args.out.is_none() {
        // Removed where nothing came of the run, and left alone where there is something in it.
        let _ = std::fs::remove_dir(folder.root());
    }
    match outcome? {
        Outcome::Finished(summary) => session.result(&summary, || text(&summary, &folder)),
        Outcome::Interrupted { step } => {
            session.note(format!(
                "stopped after {step} steps; go on with: tallow train --out {} --resume",
                folder.root().display()
            ));
            Err(Interrupted.into())
        }
        // The library may learn to end a run in other ways.
        _ => Err(Interrupted.into()),
    }
}

/// One run, with its report where it ends.
pub fn one(
    config: &TrainConfig,
    folder: &RunFolder,
    start: train::Start,
    session: &Session,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let (hub, mut progress) = (session.open_options(), Progress::new(session));
    let outcome = if svm::is_meant(config) {
        svm::run(config, &hub, folder, start, &mut progress, stop)?
    } else {
        let setup = Setup::of_run(config, folder, start, &hub)?;
        if let Some(account) = &setup.account {
            session.note_once(account_text(account, session.flags().verbose));
        }
        train::fit(setup, folder, start, &mut progress, stop)?
    };
    if matches!(outcome, Outcome::Finished(_)) {
        report::boundary(folder)?;
        report::draw_filters(folder)?;
        report::single(folder)?;
    }
    Ok(outcome)
}

/// Makes `runs/MODEL-DATA-N` with the first N that is free. Whoever makes a folder has it: of runs that start at once, each gets
/// one of its own.
pub fn free_folder(config: &TrainConfig) -> Result<PathBuf> {
    let (parent, name) =
        (Path::new("runs"), format!("{}-{}", file_name(&config.model.model), file_name(&config.data.data)));
    std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    let mut number = 1;
    loop {
        let path = parent.join(format!("{name}-{number}"));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
}

fn text(summary: &Summary, folder: &RunFolder) -> String {
    let mut lines = vec![format!(
        "test accuracy  {:.2} % of {} samples",
        100. * summary.test_accuracy,
        thousands(summary.test_samples)
    )];
    if summary.model != svm::NAME {
        lines.push(format!("test loss      {:.4}", summary.test_loss));
        lines.push(format!(
            "checkpoint     epoch {} of {}, {}",
            summary.best_epoch + 1,
            summary.epochs,
            if summary.chosen_by == "last" { "the last" } else { "the best on the validation part" }
        ));
    }
    lines.extend([
        format!(
            "parameters     {} of {} trained",
            thousands(summary.trainable_parameters),
            thousands(summary.parameters)
        ),
        format!("time           {}, {} images/s", seconds(summary.seconds), rate(summary.images_per_second)),
    ]);
    if let Some(peak) = summary.peak_memory_bytes {
        lines.push(format!("peak memory    {}", bytes(peak)));
    }
    lines.push(format!("run            {}", folder.root().display()));
    lines.push(format!("report         {}", folder.report_path().display()));
    lines.join("\n")
}
