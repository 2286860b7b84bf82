//! What can go wrong with a run: what, where, expected, got, and what to do.

use std::path::{Path, PathBuf};

/// Errors of configurations, run folders and training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting that makes no sense.
    #[error("{field}: expected {expected}, got {got}")]
    Config { field: String, expected: String, got: String },
    /// Something that is not what it should be: a sample, an optimiser's state.
    #[error("{what}: expected {expected}, got {got}")]
    Invalid { what: String, expected: String, got: String },
    /// A file or folder that cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// A file of a run's folder whose contents are not what they should be.
    #[error("{}: expected {expected}, got {got}", .path.display())]
    File { path: PathBuf, expected: String, got: String },
    /// A new run into a folder that already holds something.
    #[error("{}: the folder is not empty; resume its run (`resume`), or choose another folder (`out`)", .path.display())]
    NotEmpty { path: PathBuf },
    /// Another process works in the folder.
    #[error("{}: another process is writing this run; wait for it to end, or choose another folder (`out`)", .path.display())]
    Locked { path: PathBuf },
    /// A resume with settings other than the run's own.
    #[error(
        "{}: the run was started with other settings: {}; resume with the same ones, or start another run (`out`)",
        .path.display(), .differences.join(", ")
    )]
    Differs { path: PathBuf, differences: Vec<String> },
    /// A resume on data other than the run's own.
    #[error(
        "{}: its data is not what the run was begun with: {}; put it back as it was, or start another run (`out`)",
        .path.display(), .differences.join("; ")
    )]
    DataDiffers { path: PathBuf, differences: Vec<String> },
    /// Test samples that the run was trained on.
    #[error(
        "{data}: {count} of its test {} trained on ({names}): an accuracy would not be that of unseen samples; put them back where \
         they were, or measure on other data (`data`)",
        if *count == 1 { "samples was" } else { "samples were" }
    )]
    TrainedOn { data: String, count: usize, names: String },
    /// A loss or gradient that is no number any more.
    #[error(
        "step {step}: {what} is {value} at a learning rate of {lr:e}; {}. \
         Lower the learning rate (`lr`), warm it up (`warmup_steps`), or clip the gradients (`clip_grad = 1`)",
        checkpoint_in_words(.checkpoint.as_deref())
    )]
    Diverged {
        step: usize,
        what: &'static str,
        value: f64,
        lr: f64,
        /// The last checkpoint, where one had been written.
        checkpoint: Option<PathBuf>,
    },
    /// A GPU has no memory left.
    #[error(
        "the device's memory is full at a batch size of {batch_size}; take a smaller one (`batch_size = {}`, and `accumulate = 2` \
         for the same steps; `batch_size = auto` finds the largest), or `dtype = bf16` where it is not set",
        .batch_size.div_ceil(2)
    )]
    DeviceFull { batch_size: usize },
    #[error(transparent)]
    Data(Box<crate::data::Error>),
    #[error(transparent)]
    Models(#[from] tallow_models::Error),
    #[error(transparent)]
    Weights(Box<tallow_weights::Error>),
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

/// This module's results.
pub type Result<T> = std::result::Result<T, Error>;

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

impl From<crate::inference::Error> for Error {
    fn from(error: crate::inference::Error) -> Self {
        use crate::inference::Error as Door;
        match error {
            Door::Data(error) => Self::Data(error),
            Door::Weights(error) => Self::Weights(error),
            Door::Models(error) => Self::Models(error),
            Door::Candle(error) => Self::Candle(error),
            Door::Io { path, source } => Self::Io { path, source },
            Door::File { path, expected, got } => Self::File { path, expected, got },
            Door::Invalid { what, expected, got } => Self::Invalid { what, expected, got },
            Door::Head { model, fault } => Self::invalid(model, "a trained classification head", fault),
            Door::NotFinite { place, what } => Self::invalid(place, format!("finite {what}"), "others"),
        }
    }
}

impl Error {
    /// The error, with the size of the batches if it is that a GPU has no memory left.
    pub fn with_batch_size(self, batch_size: usize) -> Self {
        // Candle passes the driver's and cuBLAS' words on as text.
        let text = self.to_string();
        let full = ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"].iter().any(|code| text.contains(code));
        if full { Self::DeviceFull { batch_size } } else { self }
    }

    /// The error, with the run's last checkpoint if it says whether there is one.
    pub(super) fn with_checkpoint(mut self, path: PathBuf) -> Self {
        if let Self::Diverged { checkpoint, .. } = &mut self {
            *checkpoint = path.exists().then_some(path);
        }
        self
    }

    /// An [`Error::Config`] from anything that can be shown.
    pub(crate) fn config(field: &str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Config { field: field.into(), expected: expected.to_string(), got: got.to_string() }
    }

    /// An [`Error::Invalid`] from anything that can be shown.
    pub(crate) fn invalid(what: impl ToString, expected: impl ToString, got: impl ToString) -> Self {
        Self::Invalid { what: what.to_string(), expected: expected.to_string(), got: got.to_string() }
    }

    /// Attaches the path to an error of the system.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

fn checkpoint_in_words(checkpoint: Option<&Path>) -> String {
    match checkpoint {
        Some(path) => format!("the last checkpoint stands ({})", path.display()),
        None => "no checkpoint had been written yet".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_names_the_batch_size_and_other_errors_stay() {
        let full = candle_core::Error::Msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into());
        let message = Error::from(full).with_batch_size(256).to_string();
        assert!(message.contains("batch size of 256") && message.contains("`batch_size = 128`"), "{message}");
        let other = Error::from(candle_core::Error::Msg("shapes differ".into()));
        assert_eq!(other.with_batch_size(256).to_string(), "shapes differ");
    }
}
