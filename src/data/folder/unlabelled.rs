//! A folder of images that lie in no folders of classes, for training without labels: all of them, at any depth, are of one class.

use std::path::Path;
use std::sync::Arc;

use super::{Files, files::Listing};
use crate::data::dataset::{DataOptions, Parts};
use crate::data::parts::{Part, Role};
use crate::data::{Augment, Error, Result, Samples};

/// What the one class is called.
const CLASS: &str = "images";

/// Opens `dir`: the images in its folder `train` and, if there is one, `test` or `val`, or else all that are in it.
pub(super) fn open(dir: &Path, options: &DataOptions) -> Result<Parts> {
    let mut notes = Vec::new();
    let mut of = |folder: &Path, name: &str, role| -> Result<(Arc<dyn Samples>, Part)> {
        let listing = Listing::of(folder)?;
        if listing.images.is_empty() {
            let got = listing.left_out().map_or("none".into(), |others| format!("none, but {others}"));
            return Err(Error::unusable(folder.display(), "images, at any depth", got, "add some"));
        }
        notes.extend(listing.left_out().map(|others| format!("{}: left out: {others}", folder.display())));
        if role == Role::Train && listing.images.len() < 2 {
            return Err(Error::unusable(folder.display(), "at least two images", "a single one", "add some"));
        }
        let samples = listing.images.len();
        let files = listing.images.into_iter().map(|file| (file, 0)).collect();
        let fact = Part {
            name: name.into(),
            role,
            source: folder.display().to_string(),
            why: "labels are not read: all images at any depth are taken".into(),
            samples: Some(samples),
        };
        Ok((Arc::new(Files { root: dir.to_path_buf(), files, exif: options.exif }), fact))
    };
    let part = |name: &str| Some(dir.join(name)).filter(|folder| folder.is_dir());
    let mut parts = Vec::new();
    let (train, fact) = match part("train") {
        Some(folder) => of(&folder, "train", Role::Train)?,
        None => of(dir, ".", Role::Train)?,
    };
    parts.push(fact);
    let held = ["test", "val"].into_iter().find_map(|name| part(name).map(|folder| (name, folder)));
    let test = match held.filter(|_| part("train").is_some()) {
        Some((name, folder)) => {
            let (test, fact) = of(&folder, name, Role::Test)?;
            parts.push(fact);
            Some(test)
        }
        None => None,
    };
    notes.push(format!("{}: {} images without classes: labels are not read", dir.display(), train.len()));
    Ok(Parts {
        classes: vec![CLASS.into()],
        train,
        val: None,
        test,
        shape: None,
        notes,
        parts,
        augment: vec![Augment::ResizedCrop, Augment::Flip],
        sorted: true,
    })
}
