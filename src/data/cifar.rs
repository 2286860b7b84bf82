//! CIFAR-10 in its official binary files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dataset::Parts;
use super::{Augment, Error, Image, Result, Samples};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// A label and three planes.
const RECORD: usize = 1 + 3 * PLANE;
/// No file may be larger; the official ones have 31 MB.
const MAX_BYTES: u64 = 1 << 30;

const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// What is usual for it.
const AUGMENT: [Augment; 2] = [Augment::Crop, Augment::Flip];

/// Records of one part: a label and the planes red, green, blue.
struct Cifar {
    part: &'static str,
    records: Vec<u8>,
}

impl Samples for Cifar {
    fn len(&self) -> usize {
        self.records.len() / RECORD
    }
    fn label(&self, index: usize) -> u32 {
        u32::from(self.records[index * RECORD])
    }
    fn image(&self, index: usize) -> Result<Image> {
        let planes = &self.records[index * RECORD + 1..(index + 1) * RECORD];
        let pixels = (0..PLANE).flat_map(|at| [planes[at], planes[at + PLANE], planes[at + 2 * PLANE]]).collect();
        Ok(Image { width: SIDE, height: SIDE, channels: 3, pixels })
    }
    fn name(&self, index: usize) -> String {
        format!("{}/{index}", self.part)
    }
    fn image_size(&self) -> Option<[usize; 3]> {
        Some([SIDE, SIDE, 3])
    }
}

/// CIFAR-10 by its name: the official binary files, where they were unpacked, or the copy on the hub.
#[cfg(feature = "parquet")]
pub(super) fn cifar10(hub: &tallow_weights::OpenOptions, wishes: super::parts::Wishes) -> Result<Parts> {
    match unpacked() {
        Some(dir) => open(dir),
        None => Ok(Parts {
            shape: Some([3, SIDE, SIDE]),
            augment: AUGMENT.to_vec(),
            ..super::parquet::open_hub("uoft-cs/cifar10", hub, wishes, super::Exif::default())?
        }),
    }
}

/// CIFAR-10 by its name: the official binary files, where they were unpacked.
#[cfg(not(feature = "parquet"))]
pub(super) fn cifar10() -> Result<Parts> {
    let remedy =
        "get cifar-10-binary.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html and unpack it, or write cifar:DIR";
    let expected = || format!("its binary files in {}", PLACES.join(" or "));
    open(unpacked().ok_or_else(|| Error::unusable("cifar10", expected(), "no such folder", remedy))?)
}

/// Where the official archive is unpacked usually.
const PLACES: [&str; 2] = ["data/cifar-10-batches-bin", "cifar-10-batches-bin"];

fn unpacked() -> Option<&'static Path> {
    PLACES.iter().map(Path::new).find(|dir| dir.is_dir())
}

/// A folder with `data_batch_*.bin`, `test_batch.bin` and `batches.meta.txt`, or a single file of records, from which a
/// test part has to be split off.
pub(super) fn open(path: &Path) -> Result<Parts> {
    let parts = |train: Vec<u8>, test: Option<Vec<u8>>, classes: Vec<String>| Parts {
        classes,
        train: Arc::new(Cifar { part: "train", records: train }),
        val: None,
        test: test.map(|records| Arc::new(Cifar { part: "test", records }) as Arc<dyn Samples>),
        shape: Some([3, SIDE, SIDE]),
        notes: Vec::new(),
        parts: Vec::new(),
        augment: AUGMENT.to_vec(),
        sorted: false,
    };
    if path.is_file() {
        let classes = CLASSES.map(String::from).to_vec();
        return Ok(parts(read(path, classes.len())?, None, classes));
    }
    let entries = std::fs::read_dir(path).map_err(|e| Error::io(path, e))?;
    let mut batches = Vec::<PathBuf>::new();
    for entry in entries {
        let file = entry.map_err(|e| Error::io(path, e))?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("data_batch_") && name.ends_with(".bin") {
            batches.push(file);
        }
    }
    batches.sort();
    if batches.is_empty() {
        let expected = "the files data_batch_1.bin to data_batch_5.bin and test_batch.bin";
        return Err(Error::invalid(path.display(), expected, "no data_batch_*.bin"));
    }
    let classes = class_names(&path.join("batches.meta.txt"))?;
    let mut train = Vec::new();
    for file in &batches {
        train.extend(read(file, classes.len())?);
    }
    let test = path.join("test_batch.bin");
    let test = if test.is_file() { Some(read(&test, classes.len())?) } else { None };
    Ok(parts(train, test, classes))
}

/// The names in `batches.meta.txt`, one a line; the usual ones where the file is missing.
fn class_names(path: &Path) -> Result<Vec<String>> {
    if !path.is_file() {
        return Ok(CLASSES.map(String::from).to_vec());
    }
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    if names.is_empty() || names.len() > 256 {
        return Err(Error::invalid(
            path.display(),
            "a class name a line, 256 at most",
            format!("{} names", names.len()),
        ));
    }
    Ok(names)
}

fn read(path: &Path, classes: usize) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if size == 0 || size > MAX_BYTES || size % RECORD as u64 != 0 {
        let expected = format!("a multiple of {RECORD} bytes (a label and 3x32x32 values), at most {MAX_BYTES}");
        return Err(Error::unusable(
            path.display(),
            expected,
            size,
            "the file is damaged or none of CIFAR-10: get it again",
        ));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    match bytes.chunks_exact(RECORD).position(|record| usize::from(record[0]) >= classes) {
        Some(at) => {
            let expected = format!("labels below {classes}");
            Err(Error::invalid(format!("{}, record {at}", path.display()), expected, bytes[at * RECORD]))
        }
        None => Ok(bytes),
    }
}
