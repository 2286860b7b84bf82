//! Vision models for [Candle](https://github.com/huggingface/candle) that train: an MLP, a CNN and a configurable ViT,
//! and the differentiable operations under them.
//!
//! Candle's fused LayerNorm and softmax have no backward pass, so that whatever lies upstream of them silently gets no gradient. The
//! operations in [`ops`] have one, which is checked by finite differences and against a composition of Candle's own operations, and
//! [`Params::backward`] refuses a step in which a trainable parameter received no gradient.
//!
//! This crate works on tensors and knows no files, no network and no terminal. The code that computes on the CPU is in
//! `tallow-kernels`.

// Memory of a CUDA device can only be reached with unsafe code.
#![cfg_attr(not(feature = "cuda"), forbid(unsafe_code))]

pub mod autograd;
#[cfg(feature = "cuda")]
pub mod cuda;
mod error;
pub mod families;
#[cfg(test)]
mod gradcheck;
mod hash;
pub mod images;
mod img_size;
pub mod layers;
mod mode;
mod nearest;
pub mod ops;
pub mod optim;
pub mod params;
pub mod pretraining;
mod readback;
mod slices;
pub mod zoo;

pub use error::{Error, Result};
pub use families::cnn::{Cnn, CnnConfig};
pub use families::mlp::{Mlp, MlpAct, MlpConfig};
pub use families::vit::{Vit, VitConfig};
pub use families::{AnyModel, Architecture, Model, ModelConfig, Stage};
pub use families::{cnn, mlp, text, vit};
pub use hash::fnv1a;
pub use img_size::ImgSize;
pub use mode::Mode;
pub use params::{Gradients, Param, ParamSpec, Params};
pub use readback::Readback;
