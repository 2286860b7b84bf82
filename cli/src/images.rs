//! Images that are named on the command line: files, and folders of them. And what is said of those that cannot be read.

use std::path::PathBuf;

use anyhow::{Context, bail};
use tallow_weights::expanded;

use crate::error::Result;
use crate::output::stderr_line;
use crate::session::Session;
use tallow::data::files::{ENDINGS, Listing};
use tallow::data::{self, Alpha, BadImage, Decoding, Exif, Image, Look, OnBadImage, Samples, open_image_as};

/// Image files as samples; they have no label.
pub struct ImageFiles {
    files: Vec<PathBuf>,
    exif: Exif,
}

impl ImageFiles {
    /// The files among `paths`, and those in its folders and theirs, in the order of their names. What is left out of folders is
    /// told.
    ///
    /// # Errors
    /// If a path does not exist, or a folder holds no image.
    pub fn find(paths: &[PathBuf], exif: Exif, session: &Session) -> Result<Self> {
        let mut files = Vec::new();
        for path in paths {
            let path = expanded(path);
            if !path.is_dir() {
                // A file's name is the user's choice: its contents tell what it is.
                std::fs::metadata(&path).with_context(|| path.display().to_string())?;
                files.push(path);
                continue;
            }
            let listing = Listing::of(&path)?;
            let left_out = listing.left_out();
            if listing.images.is_empty() {
                let others = left_out.map_or(String::new(), |others| format!(", but {others}"));
                bail!("{}: expected images ({}), found none{others}", path.display(), ENDINGS.join(", "));
            }
            if let Some(others) = left_out {
                session.warn(format!("{}: left out: {others}", path.display()));
            }
            files.extend(listing.images);
        }
        Ok(Self { files, exif })
    }

    /// Only the first `limit` of them.
    pub fn limited(mut self, limit: Option<usize>) -> Self {
        self.files.truncate(limit.unwrap_or(usize::MAX));
        self
    }
}

impl Samples for ImageFiles {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn label(&self, _: usize) -> u32 {
        0
    }

    fn image(&self, index: usize) -> data::Result<Image> {
        open_image_as(&self.files[index], Decoding::new(Alpha::Dropped, self.exif))
    }

    fn image_as(&self, index: usize, alpha: Alpha) -> data::Result<Image> {
        open_image_as(&self.files[index], Decoding::new(alpha, self.exif))
    }

    fn look(&self, index: usize, alpha: Alpha) -> data::Result<Look> {
        data::look_at_file(&self.files[index], Decoding::new(alpha, self.exif))
    }

    fn name(&self, index: usize) -> String {
        self.files[index].display().to_string()
    }
}

/// A line for every image that cannot be read: an error, or a warning where these are left out.
pub fn tell_bad(bad: &[BadImage], choice: OnBadImage, session: &Session) {
    for bad in bad {
        tell_one(&bad.error, choice, session);
    }
}

/// A line for an image that cannot be read.
pub fn tell_one(error: &data::Error, choice: OnBadImage, session: &Session) {
    match choice {
        OnBadImage::Skip => session.warn(format!("skipped: {error}")),
        _ => stderr_line(&format!("error: {error}")),
    }
}
