//! `tallow train`, `tallow finetune` and `tallow pretrain`: one run.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Context;

use crate::error::{Interrupted, Result};
use crate::file_name::file_name;
use crate::flags::{PretrainFlags, TrainArgs};
use crate::model::account_text;
use crate::output::{bytes, rate, seconds, thousands};
use crate::progress::Progress;
use crate::session::Session;
use crate::{interrupt, settings};
use tallow::report;
use tallow::train::config::Method;
use tallow::train::study::{knn, svm};
use tallow::train::{self, Event, Listener, Outcome, RunFolder, Setup, Summary, TrainConfig};

pub fn run(args: &TrainArgs, pretraining: Option<&PretrainFlags>, start: settings::Start, session: &Session) -> Result {
    session.device()?; // a device that is not there is said before any work is done
    let begin = if args.resume { train::Start::Resume } else { train::Start::New };
    if let Some(out) = &args.out {
        // Before anything is downloaded for the run.
        RunFolder::new(out).check_start(begin)?;
    }
    let config = settings::of_command(args, pretraining, session, start)?;
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
                "stopped after {step} steps; go on with: tallow {} --out {} --resume",
                start.command(),
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
    } else if knn::is_meant(config) {
        knn::run(config, &hub, folder, start, &mut progress, stop)?
    } else {
        let setup = Setup::of_run(config, folder, start, &hub)?;
        if let Some(account) = &setup.account {
            session.note_once(account_text(account, session.flags().verbose));
        }
        let mut sheets = Sheets { progress, folder, session };
        train::fit(setup, folder, start, &mut sheets, stop)?
    };
    if matches!(outcome, Outcome::Finished(_)) {
        report::boundary(folder)?;
        report::draw_filters(folder)?;
        report::single(folder)?;
    }
    Ok(outcome)
}

/// A run's progress, with what its model makes of test images drawn into its folder.
struct Sheets<'a> {
    progress: Progress,
    folder: &'a RunFolder,
    session: &'a Session,
}

impl Listener for Sheets<'_> {
    fn on(&mut self, event: &Event) {
        if let Event::Pictures(pictures) = event
            && let Err(error) = report::reconstructions(self.folder, pictures)
        {
            // The run is worth more than a picture of it.
            self.session.warn(error);
        }
        self.progress.on(event);
    }
}

/// Makes `runs/MODEL-DATA-N` with the first N that is free, with the method before where there is one. Whoever makes a folder has
/// it: of runs that start at once, each gets one of its own.
pub fn free_folder(config: &TrainConfig) -> Result<PathBuf> {
    let (parent, method) = (Path::new("runs"), config.pretraining.method);
    let words = [method.map(Method::name), Some(&config.model.model), Some(&config.data.data)];
    let name = words.into_iter().flatten().map(file_name).collect::<Vec<_>>().join("-");
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
    let mut lines = Vec::new();
    if summary.test_accuracy.is_finite() {
        let what = if summary.method.is_some() { "20-NN accuracy" } else { "test accuracy " };
        lines.push(format!(
            "{what} {:.2} % of {} samples",
            100. * summary.test_accuracy,
            thousands(summary.test_samples)
        ));
    }
    if summary.test_loss.is_finite() {
        lines.push(format!("test loss      {:.4}", summary.test_loss));
    }
    if summary.model != svm::NAME {
        lines.push(format!(
            "checkpoint     epoch {} of {}, {}",
            summary.best_epoch + 1,
            summary.epochs,
            if summary.chosen_by == "last" { "the last" } else { "the best on the validation part" }
        ));
    }
    lines.extend([
        match summary.trainable_parameters.checked_sub(summary.parameters) {
            Some(more @ 1..) => format!(
                "parameters     {}, trained with {} beside them",
                thousands(summary.parameters),
                thousands(more)
            ),
            _ => format!(
                "parameters     {} of {} trained",
                thousands(summary.trainable_parameters),
                thousands(summary.parameters)
            ),
        },
        format!("time           {}, {} images/s", seconds(summary.seconds), rate(summary.images_per_second)),
    ]);
    if let Some(peak) = summary.peak_memory_bytes {
        lines.push(format!("peak memory    {}", bytes(peak)));
    }
    lines.push(format!("run            {}", folder.root().display()));
    lines.push(format!("report         {}", folder.report_path().display()));
    lines.join("\n")
}
