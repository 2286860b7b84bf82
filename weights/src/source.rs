//! Where a checkpoint is: hub, folder, file, bundled.

use std::path::PathBuf;

use crate::{Checkpoint, Result};

/// Where a checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A repository on the hub.
    Hub { repo: String, revision: Option<String> },
    /// A folder with `config.json` and weights.
    Folder(PathBuf),
    /// A file with weights.
    File(PathBuf),
    /// Weights inside the binary, by the zoo's name.
    Bundled(String),
}

/// Opens a checkpoint.
pub fn open(_source: &Source) -> Result<Checkpoint> {
    Ok(Checkpoint {})
}
