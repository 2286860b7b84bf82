//! Where checkpoints come from and how they are made to fit a model of [`tallow_models`].
//!
//! Source (hub, file, folder, bundled) → format (safetensors, GGUF, npz, PyTorch) → naming (timm, Hugging Face, DINOv2) →
//! adaptation (positions, patches, channels, head) → an account of every tensor.
//!
//! ```no_run
//! use candle_core::{DType, Device};
//! use tallow_models::Params;
//! use tallow_weights::{LoadOptions, OpenOptions, Source, load, open};
//!
//! // A name of the zoo, `hf-hub:OWNER/REPO`, a folder or a file.
//! let checkpoint = open(&Source::parse("vit_small_patch14_dinov2.saliency")?, &OpenOptions::default())?;
//! let (config, _notes) = checkpoint.config_or_inferred()?;
//! // Smaller images and ten classes: positions are resampled, and the head is new.
//! let architecture = config.architecture.with_img_size(56).with_num_classes(10);
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let account = load(&checkpoint, &architecture, &LoadOptions::default(), &params)?;
//! // A model that is trained; `params.eval_builder()` is for one that only predicts.
//! let model = architecture.build(params.builder())?;
//! println!("{account}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A model inside another is loaded with [`LoadOptions::prefix`] and built under the same: `params.builder().pp("vit")`.
//!
//! Nothing is guessed in silence: what has no place in the model or gets no value is an error that lists names, as are damaged
//! files, and whatever had to be assumed is among the notes. [`save`] writes what timm and GGUF readers load.

pub mod account;
pub mod adapt;
pub mod bundled;
pub mod checkpoint;
pub mod config;
mod error;
mod format;
mod head;
#[cfg(feature = "hub")]
pub mod hub;
pub mod load;
mod naming;
mod one_line;
mod options;
mod paths;
pub mod save;
mod selection;
pub mod source;
pub mod text;
mod whitening;

pub use account::Account;
pub use checkpoint::Checkpoint;
pub use config::{CheckpointConfig, Interpolation, Preprocessing, Resizing, Transparency};
pub use error::{Error, Result};
pub use format::TensorInfo;
pub use load::{Head, LoadOptions, load};
#[doc(hidden)]
pub use one_line::{one_line, quoted};
pub use options::{OpenOptions, Progress};
pub use paths::expanded;
pub use source::{Source, open};
pub use whitening::Whitening;
