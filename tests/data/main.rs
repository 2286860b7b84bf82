//! Data: files to images, data sets to parts, images to what a model reads, batches.

mod augment;
mod exif;
mod faults;
mod files;
mod hugging_face;
mod images;
mod loader;
mod parquet;
mod parts;
mod sets;
mod whitening;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use tallow::data::{Image, decode};

/// The pictures of `references/data/NAME.zip` by their names, without the ending.
fn packed(name: &str) -> BTreeMap<String, Image> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/references/data/{name}.zip"));
    let mut archive = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let mut pictures = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        let name = file.name().unwrap();
        pictures.insert(name.trim_end_matches(".png").to_owned(), decode(&content, &name).unwrap());
    }
    pictures
}

/// The largest and the mean absolute difference in levels.
fn difference(a: &Image, b: &Image) -> (u8, f64) {
    assert_eq!((a.width, a.height, a.channels), (b.width, b.height, b.channels));
    let differences = || a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap(), sum / a.pixels.len() as f64)
}
