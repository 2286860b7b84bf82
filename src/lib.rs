//! Tallow trains vision models: from scratch or from pretrained weights, on bundled data sets or one's own images, and
//! compares the runs in one report.
//!
//! Most programs need [`Classifier`], which predicts the classes of images, or [`Embedder`], which turns images into vectors; both are in
//! [`inference`]. They are built on [`data`] (reading, resizing and normalising images; data sets), on the models ([`tallow_models`])
//! and on the weights ([`tallow_weights`]). Training and reports are behind the features `train` and `report`. The `tallow` binary is
//! a separate package, `tallow-cli`.

pub mod data;
pub mod inference;
#[cfg(feature = "report")]
pub mod report;
#[cfg(feature = "text")]
pub mod text;
#[cfg(feature = "train")]
pub mod train;

/// The version of Candle whose tensors this crate uses.
pub use candle_core;
pub use candle_nn;
pub use tallow_models as models;
pub use tallow_weights as weights;

pub use inference::{
    AsImage, Class, Classifier, Embedder, Error, Features, ImageInput, Images, Prediction, Pretrained,
    PretrainedBuilder, Result,
};

/// The programs in the guide and in the README are tests: all of them compile, and those that need nothing from elsewhere run.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
#[doc = include_str!("../README.md")]
#[cfg_attr(feature = "text", doc = include_str!("../docs/words.md"))]
mod guide {}
