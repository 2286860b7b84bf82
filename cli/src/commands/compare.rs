//! `tallow compare`: runs side by side, in one report.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::flags::CompareArgs;
use crate::session::Session;
use tallow::report;
use tallow::train::RunFolder;

pub fn run(args: &CompareArgs, session: &Session) -> Result {
    let beside = || args.runs[0].parent().unwrap_or(Path::new("")).join("comparison");
    write(&args.runs, &args.out.clone().unwrap_or_else(beside), session)
}

/// Writes the report of `runs` into `out`, and prints the comparison.
pub fn write(runs: &[PathBuf], out: &Path, session: &Session) -> Result {
    let folders: Vec<RunFolder> = runs.iter().map(RunFolder::new).collect();
    let comparison = report::compare(&folders, out)?;
    session.result(&comparison, || comparison.to_string())
}
