//! The vision transformer: `x + ls(attn(norm(x)))`, then `x + ls(mlp(norm(x)))`.
//!
//! Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020; options, names and their order as in timm's
//! `vision_transformer.py` and `deit.py`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use tallow_models::{Mode, Model, Params, Vit, VitConfig};
//!
//! let config = VitConfig { img_size: 28.into(), patch_size: 7, in_chans: 1, num_classes: 10, embed_dim: 32, depth: 2, num_heads: 4, ..VitConfig::default() };
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let vit = Vit::new(&config, params.builder())?;
//! let images = Tensor::zeros((2, 1, 28, 28), DType::F32, &Device::Cpu)?;
//! assert_eq!(vit.forward(&images, Mode::Eval)?.dims(), &[2, 10]);
//! assert_eq!(vit.forward_features(&images, Mode::Eval)?.dims(), &[2, 17, 32]);
//! # Ok::<(), candle_core::Error>(())
//! ```

mod block;
mod config;
mod flops;
mod flow;
mod model;
mod named;
mod parts;
mod pool;
mod sinusoidal;
mod stages;

pub use block::Block;
pub use config::{Act, GlobalPool, PosEmbed, VitConfig};
pub use flow::AttentionFlow;
pub use model::Vit;
pub use sinusoidal::sinusoidal;
