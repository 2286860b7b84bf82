//! The vision transformer: `x + ls(attn(norm(x)))`, then `x + ls(mlp(norm(x)))`.
//!
//! Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020; options, names and their order as in timm's
//! `vision_transformer.py` and `deit.py`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use tallow_models::{Mode, Model, Params, Vit, VitConfig};
//!
//! let config = VitConfig::default().with(|c| {
//!     (c.img_size, c.patch_size, c.in_chans, c.num_classes) = (28.into(), 7, 1, 10);
//!     (c.embed_dim, c.depth, c.num_heads) = (32, 2, 4);
//! });
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
mod parts_of_images;
mod pool;
mod sinusoidal;
mod stages;
mod stem;

pub use crate::layers::{GridIndexing, NormLayer, RopeType};
pub use block::Block;
pub(crate) use block::{Common, through};
pub use config::{Act, AttnLayer, BlockFn, GlobalPool, PosEmbed, VitConfig};
pub use flow::AttentionFlow;
pub use model::Vit;
pub use sinusoidal::sinusoidal;
pub use stem::StemLayers;
