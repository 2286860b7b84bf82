//! Tallow trains vision models: from scratch or from pretrained weights, on bundled data sets or one's own images, and
//! compares the runs in one report.
//!
//! [`Classifier`] names what images show, [`Embedder`] turns them into vectors: the front door, in [`inference`]. Under it are
//! [`data`] (reading, resizing and normalising images; data sets), the models ([`tallow_models`]) and the weights
//! ([`tallow_weights`]). Training and reports are behind the features `train` and `report`.
//! The `tallow` binary on top of all that is a package of its own, `tallow-cli`.

pub mod data;
pub mod inference;
#[cfg(feature = "report")]
pub mod report;
#[cfg(feature = "train")]
pub mod train;

/// The version of Candle that this crate's tensors are of.
pub use candle_core;
pub use candle_nn;
pub use tallow_models as models;
pub use tallow_weights as weights;

pub use inference::{
    AsImage, Class, Classifier, Embedder, Error, Features, ImageInput, Images, Prediction, Pretrained,
    PretrainedBuilder, Result,
};

/// The guide is true: its programs compile, and those that need nothing from elsewhere run.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
#[doc = include_str!("../README.md")]
mod guide {}
