//! The text tower of CLIP and SigLIP: tokens to one vector that is compared with those of images.
//!
//! Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021; Zhai et al., "Sigmoid Loss for
//! Language Image Pre-Training", 2023. It reads no images, and so is none of the zoo's models: it makes the head of one that does.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use tallow_models::Params;
//! use tallow_models::text::{TextConfig, TextTower};
//!
//! let config = TextConfig::default().with(|c| {
//!     (c.vocab_size, c.embed_dim, c.depth, c.num_heads, c.mlp_dim) = (100, 32, 2, 4, 64);
//!     c.proj_dim = Some(24);
//! });
//! let tower = TextTower::new(&config, Params::new(0, DType::F32, &Device::Cpu).builder())?;
//! // Two texts of five tokens, the last of which is the largest: there the text ends.
//! let tokens = Tensor::new(&[[98u32, 5, 7, 11, 99], [98, 3, 99, 0, 0]], &Device::Cpu)?;
//! assert_eq!(tower.forward(&tokens)?.dims(), &[2, 24]);
//! # Ok::<(), candle_core::Error>(())
//! ```

mod config;
mod model;

pub use config::{TextConfig, TextPool};
pub use model::TextTower;
