//! Images that are named on the command line: files, and folders of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::error::Result;
use crate::data::{self, Image, Samples};

/// How the names of image files end, in lower case.
const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// Image files as samples; they have no label.
pub struct ImageFiles(Vec<PathBuf>);

impl ImageFiles {
    /// The files among `paths`, and those in its folders and theirs, in the order of their names.
    ///
    /// # Errors
    /// If a path does not exist, or a folder holds no image.
    pub fn find(paths: &[PathBuf]) -> Result<Self> {
        let mut files = Vec::new();
        for path in paths {
            if !path.is_dir() {
                // A file's name is the user's choice: its contents tell what it is.
                std::fs::metadata(path).with_context(|| path.display().to_string())?;
                files.push(path.clone());
                continue;
            }
            let before = files.len();
            collect(path, &mut files)?;
            if files.len() == before {
                bail!("{}: expected images ({}), found none", path.display(), EXTENSIONS.join(", "));
            }
        }
        Ok(Self(files))
    }

    /// Only the first `limit` of them.
    pub fn limited(mut self, limit: Option<usize>) -> Self {
        self.0.truncate(limit.unwrap_or(usize::MAX));
        self
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut entries: Vec<_> = entries.collect::<std::io::Result<_>>().with_context(|| folder.display().to_string())?;
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        // A link to a folder is not followed: it could lead back here.
        if entry.file_type().with_context(|| path.display().to_string())?.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| EXTENSIONS.contains(&e.to_string_lossy().to_lowercase().as_str())) {
            files.push(path);
        }
    }
    Ok(())
}

impl Samples for ImageFiles {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn label(&self, _: usize) -> u32 {
        0
    }

    fn image(&self, index: usize) -> data::Result<Image> {
        data::open_image(&self.0[index])
    }

    fn name(&self, index: usize) -> String {
        self.0[index].display().to_string()
    }
}
