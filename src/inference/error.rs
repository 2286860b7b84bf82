//! The errors of opening a model and of using it on images.

use std::fmt;
use std::path::PathBuf;

/// Errors of the front door. Each is one line, which `{:?}` gives as well: a `main` that returns one prints it so.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model that has no trained head to name classes with.
    #[error("{model}: expected a trained classification head, {fault}")]
    Head { model: String, fault: HeadFault },
    /// An image, a tensor or an option that makes no sense.
    #[error("{what}: expected {expected}, got {got}")]
    Invalid { what: String, expected: String, got: String },
    /// A model that gives NaN or infinity.
    #[error("{place}: expected finite {what}, got others; the weights are damaged, get them again")]
    NotFinite { place: String, what: &'static str },
    /// A file of a run that cannot be read.
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A file of a run whose contents are not what they should be.
    #[error("{}: expected {expected}, got {got}", .path.display())]
    File { path: PathBuf, expected: String, got: String },
    #[error(transparent)]
    Data(Box<crate::data::Error>),
    #[error(transparent)]
    Weights(Box<tallow_weights::Error>),
    #[error(transparent)]
    Models(#[from] tallow_models::Error),
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// This module's results.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model cannot name classes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadFault {
    /// The weights have no head.
    Absent,
    /// The weights have a head, and the model was asked for with 0 classes.
    LeftOut,
    /// The weights have a head of so many rows, and their config says 0 classes.
    Unclassed { rows: usize },
    /// The head projects into a space that images share with texts, as CLIP's: it knows no classes.
    Projects,
    /// The head is new, drawn at random: what it says means nothing.
    New { why: String },
}

impl fmt::Display for HeadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("the weights have none; embed images instead, or train a head"),
            Self::LeftOut => {
                f.write_str("it was left out with num_classes 0; embed images instead, or leave num_classes as it is")
            }
            Self::Unclassed { rows } => {
                write!(f, "its config says 0 classes and its head has {rows} rows; set num_classes to {rows}")
            }
            Self::Projects => f.write_str(
                "got a projection into a space shared with texts, which knows no classes; embed images instead, or train a head",
            ),
            Self::New { why } => write!(f, "got a new one: {why}"),
        }
    }
}

impl Error {
    pub(crate) fn invalid(what: impl ToString, expected: impl ToString, got: impl ToString) -> Self {
        Self::Invalid { what: what.to_string(), expected: expected.to_string(), got: got.to_string() }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// Boxed, as they are large and an error travels through every result.
impl From<crate::data::Error> for Error {
    fn from(error: crate::data::Error) -> Self {
        Self::Data(Box::new(error))
    }
}

impl From<tallow_weights::Error> for Error {
    fn from(error: tallow_weights::Error) -> Self {
        Self::Weights(Box::new(error))
    }
}
