//! What can go wrong with checkpoints: what, where, expected, got, and what to do.

use std::path::{Path, PathBuf};

use crate::{one_line, quoted};

/// Errors of sources, formats, configurations and loading. Each is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder that cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A file whose contents are not what its format says.
    #[error("{origin}: expected {expected}, got {got}")]
    Format { origin: String, expected: String, got: String },
    /// A field of a configuration that makes no sense.
    #[error("{origin}: {field}: expected {expected}, got {got}")]
    Config { origin: String, field: String, expected: String, got: String },
    /// Something that exists and is understood, but that this crate does not do.
    #[error("{origin}: {what} is not supported; {remedy}")]
    Unsupported { origin: String, what: String, remedy: String },
    /// Nothing is where the source says.
    #[error("{what}; {remedy}")]
    NotFound { what: String, remedy: String },
    /// No tensor of that name.
    #[error("{origin}: no tensor is called {name:?}")]
    NoTensor { origin: String, name: String },
    /// A tensor that holds NaN or infinity.
    #[error("{origin}: {name}: expected finite values, got {got}; the weights are damaged, get them again")]
    NotFinite { origin: String, name: String, got: String },
    /// A tensor that does not fit its parameter and cannot be adapted.
    #[error("{place}: expected shape {expected:?}, got {got:?}; {remedy}")]
    Shape { place: String, expected: Vec<usize>, got: Vec<usize>, remedy: String },
    /// A checkpoint in names that are not known.
    #[error("{origin}: unknown naming: {}; nearest known naming: {nearest}", few(.names))]
    Naming { origin: String, names: Vec<String>, nearest: String },
    /// Tensors that the model has no place for, or parameters that the checkpoint has no value for.
    #[error("{origin}: {}; {remedy}", unaccounted(.unused, .missing))]
    Unaccounted { origin: String, unused: Vec<String>, missing: Vec<String>, remedy: String },
    /// A head that was to be kept but cannot be.
    #[error("{origin}: head: expected {expected}, got {got}; {remedy}")]
    Head { origin: String, expected: String, got: String, remedy: String },
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

impl Error {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn format(origin: &str, expected: impl Into<String>, got: impl ToString) -> Self {
        Self::Format { origin: one_line(origin), expected: quoted(expected.into()), got: quoted(got) }
    }

    pub(crate) fn config(origin: &str, field: &str, expected: impl Into<String>, got: impl ToString) -> Self {
        Self::Config {
            origin: origin.into(),
            field: quoted(field),
            expected: quoted(expected.into()),
            got: quoted(got),
        }
    }

    pub(crate) fn unsupported(origin: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unsupported { origin: origin.into(), what: quoted(what.into()), remedy: remedy.into() }
    }
}

/// The first few names of a list, and how many more there are.
pub(crate) fn few(names: &[String]) -> String {
    const SHOWN: usize = 6;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

fn unaccounted(unused: &[String], missing: &[String]) -> String {
    let mut parts = Vec::new();
    if !missing.is_empty() {
        parts.push(format!("{} parameters have no tensor: {}", missing.len(), few(missing)));
    }
    if !unused.is_empty() {
        parts.push(format!("{} tensors have no place in the model: {}", unused.len(), few(unused)));
    }
    parts.join("; ")
}
