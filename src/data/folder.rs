//! A folder of images: one folder a class, in parts (`DIR/train/CLASS/*`) or all together (`DIR/CLASS/*`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::dataset::Parts;
use super::{Augment, Digest, Error, Image, Result, Samples, decode};

/// Endings of the files that are images, in lower case.
const ENDINGS: [&str; 7] = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "jfif"];

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
            let mut found = Vec::new();
            if folder.is_dir() {
                walk(&folder, &mut found, &mut others)?;
            }
            found.sort();
            if self.skip_bad {
                found = self.readable(found);
            }
            if found.is_empty() {
                let got = if folder.is_dir() { "none" } else { "no such folder" };
                let remedy = "add some, or remove the class";
                self.fault(Error::unusable(folder.display(), "images of this class", got, remedy))?;
            }
            files.extend(found.into_iter().map(|file| (file, label as u32)));
        }
        if let Some(first) = others.first() {
            let part = part.display();
            let more = if others.len() > 1 { format!(" and {} more", others.len() - 1) } else { String::new() };
            self.notes.push(format!("{part}: files that are no images were skipped: {}{more}", first.display()));
        }
        Ok(Files { root: root.to_path_buf(), files })
    }

    /// Those files that can be decoded.
    fn readable(&mut self, files: Vec<PathBuf>) -> Vec<PathBuf> {
        let checked: Vec<_> = files.into_par_iter().map(|file| decode::open_image(&file).map(|_| file)).collect();
        let mut readable = Vec::new();
        for file in checked {
            match file {
                Ok(file) => readable.push(file),
                Err(error) => self.notes.push(format!("skipped: {error}")),
            }
        }
        readable
    }
}

/// The names of the folders in `dir`, hidden ones apart, sorted.
fn subfolders(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        if hidden(&path) || !path.is_dir() {
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

/// Collects the image files under `dir`, at any depth, and those that are not images; leaves out hidden ones. A folder that
/// is a link is not followed, so that there is an end.
fn walk(dir: &Path, images: &mut Vec<PathBuf>, others: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let entry = entry.map_err(|e| Error::io(dir, e))?;
        let path = entry.path();
        if hidden(&path) {
            continue;
        }
        if entry.file_type().map_err(|e| Error::io(&path, e))?.is_dir() {
            walk(&path, images, others)?;
            continue;
        }
        // a pipe or a link to a folder; of a link to nowhere the decoder will tell
        let special = std::fs::metadata(&path).is_ok_and(|target| !target.is_file());
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        if ENDINGS.contains(&ending.as_str()) && !special { images.push(path) } else { others.push(path) }
    }
    Ok(())
}

fn hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}
