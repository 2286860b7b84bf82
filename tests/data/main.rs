//! Data: files to images, data sets to parts, images to what a model reads, batches.

mod augment;
mod exif;
mod faults;
mod files;
mod hugging_face;
mod images;
mod loader;
mod packed;
mod parquet;
mod parts;
mod sets;
mod whitening;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tallow::data::{Image, open_image};

use packed::unpacked;

/// The files of a folder by their names.
fn files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path)).collect()
}

/// The pictures of `references/data/NAME.zip` by their names, without the ending.
fn pictures(name: &str) -> BTreeMap<String, Image> {
    let files = files(&unpacked(name)).into_iter();
    files.map(|(name, path)| (name.trim_end_matches(".png").to_owned(), open_image(path).unwrap())).collect()
}

/// The largest and the mean absolute difference in levels.
fn difference(a: &Image, b: &Image) -> (u8, f64) {
    assert_eq!((a.width, a.height, a.channels), (b.width, b.height, b.channels));
    let differences = || a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap(), sum / a.pixels.len() as f64)
}
