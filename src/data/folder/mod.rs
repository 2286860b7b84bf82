//! A folder of images: one folder a class, in parts (`DIR/train/CLASS/*`) or all together (`DIR/CLASS/*`).

mod layout;
mod unlabelled;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::layout::{FolderPart, layout};
use super::dataset::{DataOptions, Parts};
use super::decode::{self, Decoding};
use super::files::{self, Listing};
use super::parts::{Role, Wishes};
use super::{Alpha, Augment, Digest, Error, Exif, Image, Look, OnBadImage, Result, Samples, samples};

/// Image files with their labels, sorted by class and path.
struct Files {
    root: PathBuf,
    files: Vec<(PathBuf, u32)>,
    exif: Exif,
}

impl Samples for Files {
    fn len(&self) -> usize {
        self.files.len()
    }
    fn label(&self, index: usize) -> u32 {
        self.files[index].1
    }
    fn image(&self, index: usize) -> Result<Image> {
        decode::open_image_as(&self.files[index].0, Decoding::new(Alpha::Dropped, self.exif))
    }
    fn image_as(&self, index: usize, alpha: Alpha) -> Result<Image> {
        decode::open_image_as(&self.files[index].0, Decoding::new(alpha, self.exif))
    }
    fn look(&self, index: usize, alpha: Alpha) -> Result<Look> {
        decode::look_at_file(&self.files[index].0, Decoding::new(alpha, self.exif))
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

/// Opens `dir`, whose parts are told by [`layout`]. A test part that is missing has to be split off. Classes are the folders'
/// names in the training part, sorted.
pub(super) fn open(dir: &Path, options: &DataOptions, wishes: Wishes) -> Result<Parts> {
    if !dir.is_dir() {
        return Err(Error::invalid(dir.display(), "a folder of images", "no such folder"));
    }
    let labelled = labelled(dir, options, wishes);
    if !options.unlabelled || wishes.train.is_some() || wishes.test.is_some() {
        return labelled;
    }
    match labelled {
        Ok(parts) if !leaves_out_many(dir, &parts)? => Ok(parts),
        _ => unlabelled::open(dir, options),
    }
}

/// Whether more than a tenth of the images lie in no folder of a class: what looks like classes is then some other order.
fn leaves_out_many(dir: &Path, parts: &Parts) -> Result<bool> {
    let all = Listing::of(dir)?.images.len();
    let placed: usize = parts.parts.iter().filter_map(|part| part.samples).sum();
    Ok(10 * all.saturating_sub(placed) > all)
}

/// Opens a folder whose images lie in folders of classes.
fn labelled(dir: &Path, options: &DataOptions, wishes: Wishes) -> Result<Parts> {
    let (mut parts, notes) = layout(dir, wishes)?;
    let mut reading = Reading { skip_bad: options.on_bad_image == OnBadImage::Skip, notes };
    let trained: Vec<&FolderPart> = parts.iter().filter(|part| part.role == Role::Train).collect();
    // Without a training part, where that is allowed, the test part says what the classes are.
    let telling =
        if trained.is_empty() { parts.iter().filter(|part| part.role == Role::Test).collect() } else { trained };
    let mut classes: Vec<String> =
        telling.iter().flat_map(|part| &part.classes).map(|(class, _)| class.clone()).collect();
    classes.sort();
    classes.dedup();
    if classes.len() < 2 && !(wishes.whole && classes.len() == 1) {
        let expected = "at least two folders, one for each class";
        let remedy = "put the images of every class into a folder with the class's name";
        let place = telling.first().map_or(dir, |part| &part.folder);
        return Err(Error::unusable(place.display(), expected, classes.len(), remedy));
    }
    let mut read = |role: Role| -> Result<Option<Arc<dyn Samples>>> {
        let mut files: Vec<(PathBuf, u32)> = Vec::new();
        for part in parts.iter_mut().filter(|part| part.role == role) {
            let of_part = reading.part(part, &classes)?;
            part.fact.samples = Some(of_part.len());
            files.extend(of_part);
        }
        // Several folders of one part: class by class, as in one folder.
        files.sort_by_key(|(_, label)| *label);
        let samples = Files { root: dir.to_path_buf(), files, exif: options.exif };
        Ok((!samples.is_empty()).then(|| Arc::new(samples) as Arc<dyn Samples>))
    };
    let [train, val, test] = [read(Role::Train)?, read(Role::Val)?, read(Role::Test)?];
    for part in parts.iter_mut().filter(|part| part.role == Role::LeftOut) {
        let counts = part.classes.iter().map(|(_, folder)| Ok(Listing::of(folder)?.images.len()));
        part.fact.samples = Some(counts.sum::<Result<usize>>()?);
    }
    Ok(Parts {
        classes,
        train: train.unwrap_or_else(samples::nothing),
        val,
        test,
        shape: None,
        notes: reading.notes,
        parts: parts.into_iter().map(|part| part.fact).collect(),
        augment: vec![Augment::ResizedCrop, Augment::Flip],
        sorted: true,
    })
}

impl Reading {
    /// The images of one part with their labels.
    fn part(&mut self, part: &FolderPart, classes: &[String]) -> Result<Vec<(PathBuf, u32)>> {
        for (class, folder) in &part.classes {
            if !classes.contains(class) {
                let remedy = "remove it, or add training images of that class";
                let got = "a folder of another name";
                self.fault(Error::unusable(folder.display(), "a class of the training part", got, remedy))?;
            }
        }
        let (mut images, mut others) = (Vec::new(), Vec::new());
        for (label, class) in classes.iter().enumerate() {
            let folder = part.classes.iter().find(|(name, _)| name == class).map(|(_, folder)| folder);
            let Some(folder) = folder else {
                // Of the training part's folders, each may hold some of the classes.
                if part.role != Role::Train {
                    let folder = part.folder.join(class);
                    self.notes.push(format!("{}: no such folder, so that class is not in the part", folder.display()));
                }
                continue;
            };
            let listing = Listing::of(folder)?;
            let found = listing.images;
            if found.is_empty() {
                let got =
                    files::left_out(&listing.others).map_or("none".into(), |others| format!("none, but {others}"));
                let remedy = "add some, or remove the class";
                self.fault(Error::unusable(folder.display(), "images of this class", got, remedy))?;
            }
            others.extend(listing.others);
            images.extend(found.into_iter().map(|file| (file, label as u32)));
        }
        if let Some(others) = files::left_out(&others) {
            self.notes.push(format!("{}: left out: {others}", part.folder.display()));
        }
        Ok(images)
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
