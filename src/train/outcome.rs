//! How a run starts, and how it ends.

use super::run_folder::Summary;

/// Whether a run begins or goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// Begins; the folder must be empty or not exist.
    New,
    /// Goes on from the folder's last checkpoint, or begins where it has none yet.
    Resume,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[allow(clippy::large_enum_variant, reason = "there is one of them in a run")]
pub enum Outcome {
    /// All epochs were run.
    Finished(Summary),
    /// `stop` was set; the checkpoint holds everything up to `step` steps, and a resume goes on from there.
    Interrupted {
        /// Optimiser steps that were taken.
        step: usize,
    },
}
