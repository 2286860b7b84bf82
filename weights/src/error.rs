//! What can go wrong with checkpoints: what, where, expected, got, and what to do.

use std::path::PathBuf;

/// Errors of sources, formats, configurations and loading.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder that cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A file whose contents are not what its format says.
    #[error("{origin}: expected {expected}, got {got}")]
    Format { origin: String, expected: String, got: String },
    #[error(transparent)]
    Models(#[from] tallow_models::Error),
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// The hub, or the way to it, or what is in its cache.
    #[error("{place}: {problem}; {remedy}")]
    Hub { place: String, problem: String, remedy: String },
}

/// This crate's results.
pub type Result<T> = std::result::Result<T, Error>;
