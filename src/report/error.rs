//! What can go wrong with a report: what, where, expected, got, and what to do.

use std::path::PathBuf;

/// Errors of reading runs and writing reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing to compare.
    #[error("no runs: expected at least one run's folder, got none")]
    NoRuns,
    /// A folder that holds no run.
    #[error(
        "{}: expected a run's folder (with config.toml, metrics.jsonl, summary.json), got {got}; give the folder that \
         `out` named in training",
        .path.display()
    )]
    NotARun { path: PathBuf, got: &'static str },
    /// A file of a run that cannot be read.
    #[error("{}: cannot be read: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A file of a run whose contents are not what they should be.
    #[error("{}: expected {expected}, got {got}; resume or repeat the run, or leave it out", .path.display())]
    Damaged { path: PathBuf, expected: String, got: String },
    /// A run whose model or data cannot be used again.
    #[error(transparent)]
    Train(Box<crate::train::Error>),
    /// A report that cannot be written.
    #[error("{}: the report cannot be written: {source}; make room there, or choose another folder (`out`)", .path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

// Boxed, as it is large.
impl From<crate::train::Error> for Error {
    fn from(error: crate::train::Error) -> Self {
        Self::Train(Box::new(error))
    }
}

/// This module's results.
pub type Result<T> = std::result::Result<T, Error>;
