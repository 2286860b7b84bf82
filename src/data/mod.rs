//! Data sets, splits, transforms and the threads that load batches.
//!
//! [`open`] turns what a user writes (`mnist`, `folder:photos`) into a [`Dataset`]: labelled [`Samples`] in a training and a
//! test part. A [`Transform`] makes a decoded [`Image`] into what a model reads, and a [`Loader`] does so for the batches
//! of an epoch in threads of its own.

pub mod augment;
pub mod check;
pub mod crops;
pub mod dataset;
pub mod digest;
pub mod exif;
pub mod input;
pub mod loader;
pub mod mix;
mod open;
pub mod picked;
pub mod resize;
pub mod samples;
pub mod statistics;
pub mod transform;
pub mod whitening;

mod cifar;
mod circles;
mod decode;
mod error;
pub mod files;
mod folder;
mod idx;
#[cfg(feature = "parquet")]
mod parquet;
mod parts;
mod split;

pub use augment::Augment;
pub use check::{BadImage, Checked, OnBadImage};
pub use crops::{Crop, CropKind};
pub use dataset::{DataOptions, Dataset};
pub use decode::{Decoding, decode, decode_as, look_at_file, open_image, open_image_as, open_image_with_alpha};
pub use digest::{Digest, Digested, digests};
pub use error::{Error, Result};
pub use exif::Exif;
pub use input::Input;
pub use loader::{Batch, Loader, LoaderOptions, epoch_order};
pub use mix::{Blend, Mix};
pub use open::{holds_points, open, open_at, open_with};
pub use parts::{Part, Role};
pub use picked::{Pick, Picked};
pub use samples::{Alpha, Image, Look, Samples};
#[cfg(feature = "train")]
pub(crate) use split::proportional_labels;
pub use split::{SplitBy, Subset};
pub use statistics::Statistics;
pub use transform::{Draw, Transform};
