//! The families of models, a folder each, behind the traits [`ModelConfig`] and [`Model`].
//!
//! A new family touches:
//! - `families/NAME/`: its configuration, which implements [`ModelConfig`] and names the family's architectures of the zoo, and its
//!   model, which implements [`Model`];
//! - this file: `pub mod NAME`, and one line of the registry at its end;
//! - where there are published weights: rows in `zoo/pretrained.rs`, and in `tallow-weights` a naming (`naming/NAME.rs`) if their
//!   tensors have other names than the model's parameters.

mod architecture;
mod check;
pub mod cnn;
mod config;
pub mod mlp;
mod model;
mod option;
mod stages;
pub mod text;
pub mod vit;

pub use config::{ModelConfig, Stage};
pub use model::Model;

use candle_core::{Result, Tensor};
use candle_nn::{ModuleT, VarBuilder};
use serde::{Deserialize, Serialize};

use crate::Mode;

// The registry: one line a family, in the order in which the zoo lists them.
architecture::registry! {
    /// A multi-layer perceptron.
    Mlp(mlp::MlpConfig, mlp::Mlp);
    /// A convolutional network.
    Cnn(cnn::CnnConfig, cnn::Cnn);
    /// A vision transformer.
    Vit(vit::VitConfig, vit::Vit);
}
