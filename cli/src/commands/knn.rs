//! `tallow knn`: classes by the nearest neighbours among a frozen model's features.

use serde::Serialize;
use toml::Table;

use super::train::{free_folder, one};
use crate::error::{Interrupted, Result};
use crate::flags::KnnArgs;
use crate::output::{seconds, thousands};
use crate::session::Session;
use crate::{interrupt, settings};
use tallow::train::study::knn::{AtK, Results};
use tallow::train::{Outcome, RunFolder, Start, Summary};

/// What is printed as JSON.
#[derive(Serialize)]
struct Measured<'a> {
    results: &'a [AtK],
    summary: &'a Summary,
    run: &'a std::path::Path,
}

pub fn run(args: &KnnArgs, session: &Session) -> Result {
    session.device()?; // a device that is not there is said before any work is done
    if let Some(out) = &args.out {
        // Before anything is downloaded for the run.
        RunFolder::new(out).check_start(Start::New)?;
    }
    let mut table = Table::try_from(&args.flags)?;
    table.insert("model".into(), args.model.clone().into());
    table.extend(Table::try_from(&args.checkpoint)?);
    table.extend(settings::of_architecture(&args.architecture));
    table.extend(settings::of_session(session)?);
    let mut config = settings::over_defaults(&table, settings::Start::Neighbours, session)?;
    config.length.eval_batch_size = args.batch_size;
    let stop = interrupt::stop_flag()?;
    let folder = RunFolder::new(args.out.clone().map_or_else(|| free_folder(&config), Ok)?);
    let outcome = one(&config, &folder, Start::New, session, stop);
    if outcome.is_err() && args.out.is_none() {
        // Removed where nothing came of the run, and left alone where there is something in it.
        let _ = std::fs::remove_dir(folder.root());
    }
    let Outcome::Finished(summary) = outcome? else { return Err(Interrupted.into()) };
    let Results { results, .. } = Results::read(&folder)?;
    let measured = Measured { results: &results, summary: &summary, run: folder.root() };
    session.result(&measured, || text(&results, &summary, &folder))
}

fn text(results: &[AtK], summary: &Summary, folder: &RunFolder) -> String {
    let mut lines = vec!["     k    top-1    top-5".to_string()];
    lines.extend(results.iter().map(|at| format!("{:6}  {:5.2} %  {:5.2} %", at.k, 100. * at.top1, 100. * at.top5)));
    lines.push(format!(
        "{} test samples by {} training samples in {}",
        thousands(summary.test_samples),
        thousands(summary.train_samples),
        seconds(summary.seconds)
    ));
    lines.push(format!("run            {}", folder.root().display()));
    lines.push(format!("report         {}", folder.report_path().display()));
    lines.join("\n")
}
