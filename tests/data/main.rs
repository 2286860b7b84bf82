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
