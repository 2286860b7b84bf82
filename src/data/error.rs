//! What can go wrong with data: what, where, expected, got, and what to do.

use std::path::{Path, PathBuf};

use tallow_weights::{one_line, quoted};

/// Errors of data sets and images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder that cannot be read.
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Contents that are not what they should be.
    #[error("{what}: expected {expected}, got {got}")]
    Invalid { what: String, expected: String, got: String },
    /// Contents that are not what they should be, where there is a way out.
    #[error("{what}: expected {expected}, got {got}; {remedy}")]
    Unusable { what: String, expected: String, got: String, remedy: String },
    /// Images of a part that cannot be read, all of them.
    #[error("{part}: {count} of {all} images cannot be read: {names}; the first: {first}")]
    BadImages { part: String, count: usize, all: usize, names: String, first: String },
    /// Data from the hub that cannot be had.
    #[error(transparent)]
    Weights(Box<tallow_weights::Error>),
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// This module's results.
pub type Result<T> = std::result::Result<T, Error>;

impl From<tallow_weights::Error> for Error {
    fn from(error: tallow_weights::Error) -> Self {
        Self::Weights(Box::new(error))
    }
}

impl Error {
    /// The message without what to do.
    pub(crate) fn without_remedy(&self) -> String {
        match self {
            Self::Unusable { what, expected, got, .. } => format!("{what}: expected {expected}, got {got}"),
            other => other.to_string(),
        }
    }

    pub(crate) fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_path_buf(), source }
    }

    pub(crate) fn invalid(what: impl ToString, expected: impl ToString, got: impl ToString) -> Self {
        Self::Invalid { what: one_line(&what.to_string()), expected: quoted(expected), got: quoted(got) }
    }

    pub(crate) fn unusable(
        what: impl ToString,
        expected: impl ToString,
        got: impl ToString,
        remedy: impl ToString,
    ) -> Self {
        Self::Unusable {
            what: one_line(&what.to_string()),
            expected: quoted(expected),
            got: quoted(got),
            remedy: remedy.to_string(),
        }
    }
}
