//! The folder of the run that a model is from, as far as using the model depends on it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;
use tallow_weights::{Source, expanded, quoted};

use super::{Error, Result};
use crate::data::Exif;

/// The folder of the run that a model at `path` is from, which is that folder itself, one of its checkpoints, or a file there.
/// None where it is from no run.
pub fn of_model(path: impl Into<PathBuf>) -> Option<PathBuf> {
    let path = fs::canonicalize(expanded(path.into())).ok()?;
    let folder = if path.is_file() { path.parent()? } else { &path };
    let above = || folder.parent().filter(|parent| parent.ends_with("checkpoints"))?.parent();
    // A folder that is a model itself may have settings of another kind beside it.
    let is_run = |root: &&Path| root.join("config.toml").is_file() && !root.join("config.json").exists();
    let root = Some(folder).filter(is_run).or_else(|| above().filter(is_run))?;
    Some(root.into())
}

/// What the run at `root` makes of the orientation that cameras noted, whatever else its `config.toml` says. Where that says nothing
/// of it, it is from a version that turned no image.
///
/// # Errors
/// If the file is not there or says something else there.
pub fn exif(root: &Path) -> Result<Exif> {
    #[derive(Deserialize)]
    struct Stated {
        /// Every run has one: without it this is no configuration of a run.
        #[serde(rename = "model")]
        _model: IgnoredAny,
        exif: Option<Exif>,
    }
    let path = root.join("config.toml");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(Error::Io { path, source }),
    };
    let stated: Stated = toml::from_str(&text).map_err(|error| Error::File {
        path,
        expected: "a run's configuration, exif apply or ignore".into(),
        got: quoted(error.message().replace('\n', ", ")),
    })?;
    Ok(stated.exif.unwrap_or(Exif::Ignore))
}

/// What becomes of the orientation that cameras noted in images for the model at `source`: what its run was trained with, if it is a
/// run's, else it is applied.
///
/// # Errors
/// As [`exif`].
pub fn exif_of(source: &Source) -> Result<Exif> {
    let run = match source {
        Source::Folder(path) | Source::File(path) => of_model(path),
        _ => None,
    };
    Ok(run.map(|root| exif(&root)).transpose()?.unwrap_or_default())
}
