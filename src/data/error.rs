//! What can go wrong with data: what, where, expected, got.

use std::path::PathBuf;

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
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// This module's results.
pub type Result<T> = std::result::Result<T, Error>;
