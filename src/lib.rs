//! Tallow trains vision models: from scratch or from pretrained weights, on bundled data sets or one's own images, and
//! compares the runs in one report.
//!
//! The models are in [`tallow_models`], the weights in [`tallow_weights`]; this crate adds data, training and reports.
//! The `tallow` binary on top of them is a package of its own, `tallow-cli`.

pub mod data;
pub mod inference;
#[cfg(feature = "report")]
pub mod report;
#[cfg(feature = "train")]
pub mod train;

pub use tallow_models as models;
pub use tallow_weights as weights;

pub use inference::{
    AsImage, Class, Classifier, Embedder, Error, Features, ImageInput, Images, Prediction, Pretrained,
    PretrainedBuilder, Result,
};
