//! Where checkpoints come from and how they are made to fit a model of [`tallow_models`].
//!
//! Source (hub, file, folder, bundled) → format (safetensors, GGUF, npz, PyTorch) → naming (timm, Hugging Face, DINOv2) →
//! adaptation (positions, patches, channels, head) → an account of every tensor.

pub mod account;
pub mod adapt;
pub mod bundled;
pub mod checkpoint;
pub mod config;
mod error;
mod format;
#[cfg(feature = "hub")]
pub mod hub;
pub mod load;
mod naming;
mod options;
pub mod save;
pub mod source;

pub use account::Account;
pub use checkpoint::Checkpoint;
pub use config::{CheckpointConfig, Interpolation, Preprocessing};
pub use error::{Error, Result};
pub use format::TensorInfo;
pub use load::{Head, LoadOptions, load};
pub use options::{OpenOptions, Progress};
pub use source::{Source, open};
