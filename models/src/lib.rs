//! Vision models for [Candle](https://github.com/huggingface/candle) that train: an MLP, a CNN and a configurable ViT,
//! and the differentiable operations under them.
//!
//! Candle's fused LayerNorm and softmax have no backward: whatever lies upstream of them silently gets no gradient. The
//! operations in [`ops`] have one, checked by finite differences and against a composition of Candle's own ops, and
//! [`Params::backward`] refuses a step in which a trainable parameter received no gradient.
//!
//! A step of training, with a ViT from the [`zoo`] that was made smaller:
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use tallow_models::{Mode, Model, Params, ops, zoo};
//!
//! let mut architecture = zoo::find("vit_tiny_patch16_224")?.architecture.with_img_size(32).with_num_classes(10);
//! architecture.set("depth", "2")?;
//!
//! // The store owns the parameters; a model is a view of them.
//! let params = Params::new(42, DType::F32, &Device::Cpu);
//! let model = architecture.build(params.builder())?;
//!
//! let images = Tensor::zeros((4, 3, 32, 32), DType::F32, &Device::Cpu)?;
//! let labels = Tensor::new(&[3u32, 1, 4, 1], &Device::Cpu)?;
//! let logits = model.forward(&images, Mode::Train { seed: 0 })?;
//! let gradients = params.backward(&ops::cross_entropy(&logits, &labels, 0.1)?)?;
//! for (param, (_, gradient)) in params.trainable().iter().zip(gradients.iter()) {
//!     param.var.set(&(param.var.as_tensor() - (gradient * 0.1)?)?)?;
//! }
//!
//! // A model for evaluation sees the new values and records no history.
//! let logits = architecture.build(params.eval_builder())?.forward(&images, Mode::Eval)?;
//! assert_eq!(logits.dims(), &[4, 10]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate knows tensors and nothing of files, networks or terminals.

pub mod architecture;
pub mod cnn;
mod error;
mod hash;
pub mod layers;
pub mod mlp;
pub mod ops;
pub mod params;
pub mod vit;
pub mod zoo;

pub use architecture::{AnyModel, Architecture, Mode, Model, Stage};
pub use cnn::{Cnn, CnnConfig};
pub use error::{Error, Result};
pub use mlp::{Mlp, MlpAct, MlpConfig};
pub use params::{Gradients, Param, ParamSpec, Params};
pub use vit::{Vit, VitConfig};
