//! Vision models for [Candle](https://github.com/huggingface/candle) that train: an MLP, a CNN and a configurable ViT,
//! and the differentiable operations under them.
//!
//! Candle's fused LayerNorm and softmax have no backward: whatever lies upstream of them silently gets no gradient. The
//! operations in [`ops`] have one, checked by finite differences and against a composition of Candle's own ops, and
//! [`Params::backward`] refuses a step in which a trainable parameter received no gradient.
//!
//! This crate knows tensors and nothing of files, networks or terminals.

pub mod architecture;
pub mod cnn;
mod error;
mod hash;
mod img_size;
pub mod layers;
pub mod mlp;
pub mod ops;
pub mod params;
pub mod vit;
pub mod zoo;

pub use architecture::{AnyModel, Architecture, Mode, Model, Stage};
pub use cnn::{Cnn, CnnConfig};
pub use error::{Error, Result};
pub use img_size::ImgSize;
pub use mlp::{Mlp, MlpAct, MlpConfig};
pub use params::{Gradients, Param, ParamSpec, Params};
pub use vit::{Vit, VitConfig};
