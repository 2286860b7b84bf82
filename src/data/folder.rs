//! A folder of images: one folder a class, in parts (`DIR/train/CLASS/*`) or all together (`DIR/CLASS/*`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dataset::Parts;
use super::files::{self, Listing};
use super::{Augment, Digest, Error, Image, Result, Samples, decode};

/// Image files with their labels, sorted by class and path.
struct Files {
    root: PathBuf,
    files: Vec<(PathBuf, u32)>,
}

impl Samples for Files {
    fn len(&self) -> usize {
        self.files.len()
    }
    fn label(&self, index: usize) -> u32 {
        self.files[index].1
    }
    fn image(&self, index: usize) -> Result<Image> {
        decode::open_image(&self.files[index].0)
    }
    fn image_with_alpha(&self, index: usize) -> Result<Image> {
        Ok(decode::open_file(&self.files[index].0, true)?.image)
    }
    fn look(&self, index: usize, alpha: bool) -> Result<Option<&'static str>> {
        Ok(decode::open_file(&self.files[index].0, alpha)?.odd)
    }
    fn name(&self, index: usize) -> String {
        let path = &self.files[index].0;
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('\\', "/")
    }
    fn digest(&self, index: usize) -> Result<Digest> {
        let path = &self.files[index].0;
        Ok(Digest::of(&std::fs::read(path).map_err(|e| Error::io(path, e))?))
    }
}

/// What is worth telling about a folder, and whether faults are to be passed over.
struct Reading {
    skip_bad: bool,
    notes: Vec<String>,
}

impl Reading {
    /// An error, or a note where faults are passed over.
    fn fault(&mut self, error: Error) -> Result<()> {
        if !self.skip_bad {
            return Err(error);
        }
        self.notes.push(format!("skipped: {error}"));
        Ok(())
    }
}

/// Opens `dir`. With a folder `train` in it, the test part is `test` or, without that, `val`, `valid` or `validation`; with
/// both, the latter is the validation part. Without a folder `train`, or with nothing beside it, a test part has to be
/// split off. Classes are the folders' names, sorted.
pub(super) fn open(dir: &Path, skip_bad: bool) -> Result<Parts> {
    if !dir.is_dir() {
        return Err(Error::invalid(dir.display(), "a folder of images", "no such folder"));
    }
    let mut reading = Reading { skip_bad, notes: Vec::new() };
    let part = |names: &[&str]| names.iter().map(|name| dir.join(name)).find(|path| path.is_dir());
    let train = part(&["train", "training"]);
    let (test, validation) = (part(&["test"]), part(&["val", "valid", "validation"]));
    let (train, test, validation) = match (train, test, validation) {
        (Some(train), None, validation) => (train, validation, None),
        (Some(train), test, validation) => (train, test, validation),
        (None, None, None) => (dir.to_path_buf(), None, None),
        (None, ..) => {
            let remedy = "rename the part to train, or move the classes up";
            return Err(Error::unusable(dir.display(), "a folder train beside the test part", "none", remedy));
        }
    };
    let classes = subfolders(&train)?;
    if classes.len() < 2 {
        let expected = "at least two folders, one for each class";
        let remedy = "put the images of every class into a folder with the class's name";
        return Err(Error::unusable(train.display(), expected, classes.len(), remedy));
    }
    let train = reading.part(dir, &train, &classes)?;
    let test = test.map(|path| reading.part(dir, &path, &classes)).transpose()?;
    let validation = validation.map(|path| reading.part(dir, &path, &classes)).transpose()?;
    Ok(Parts {
        classes,
        train: Arc::new(train),
        val: validation.map(|files| Arc::new(files) as Arc<dyn Samples>),
        test: test.map(|files| Arc::new(files) as Arc<dyn Samples>),
        shape: None,
        notes: reading.notes,
        augment: vec![Augment::ResizedCrop, Augment::Flip],
        sorted: true,
    })
}

impl Reading {
    /// The images of one part.
    fn part(&mut self, root: &Path, part: &Path, classes: &[String]) -> Result<Files> {
        for class in subfolders(part)? {
            if !classes.contains(&class) {
                let remedy = "remove it, or add training images of that class";
                let got = "a folder of another name";
                self.fault(Error::unusable(part.join(&class).display(), "a class of the training part", got, remedy))?;
            }
        }
        let (mut files, mut others) = (Vec::new(), Vec::new());
        for (label, class) in classes.iter().enumerate() {
            let folder = part.join(class);
            let listing = if folder.is_dir() { Listing::of(&folder)? } else { Listing::default() };
            let found = listing.images;
            if found.is_empty() {
                let got = match (folder.is_dir(), files::left_out(&listing.others)) {
                    (false, _) => "no such folder".to_string(),
                    (true, None) => "none".into(),
                    (true, Some(others)) => format!("none, but {others}"),
                };
                let remedy = "add some, or remove the class";
                self.fault(Error::unusable(folder.display(), "images of this class", got, remedy))?;
            }
            others.extend(listing.others);
            files.extend(found.into_iter().map(|file| (file, label as u32)));
        }
        if let Some(others) = files::left_out(&others) {
            self.notes.push(format!("{}: left out: {others}", part.display()));
        }
        Ok(Files { root: root.to_path_buf(), files })
    }
}

/// The names of the folders in `dir`, hidden ones apart, sorted.
fn subfolders(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        if path.file_name().is_none_or(files::is_clutter) || !path.is_dir() {
            continue;
        }
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => names.push(name.to_string()),
            None => {
                return Err(Error::unusable(
                    path.display(),
                    "a class name in UTF-8",
                    "other bytes",
                    "rename the folder",
                ));
            }
        }
    }
    names.sort();
    Ok(names)
}
