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

use tallow::data::Image;

/// The largest and the mean absolute difference in levels.
fn difference(a: &Image, b: &Image) -> (u8, f64) {
    assert_eq!((a.width, a.height, a.channels), (b.width, b.height, b.channels));
    let differences = || a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap(), sum / a.pixels.len() as f64)
}
