//! Layers: parameters and the operations that use them. One layer a file; each has a constructor function that takes a small
//! configuration and a `VarBuilder`, as in `candle_nn`.
//!
//! A layer that does the same in training and in evaluation is a [`candle_nn::Module`]. One that does not is a
//! [`candle_nn::ModuleT`], and has a `forward` that takes the [`Mode`](crate::Mode) of the pass, with its seed. (Candle makes every
//! `Module` a `ModuleT` too, so that no layer can be both in its own way.)

mod attention;
mod attention_and_mlp;
mod attention_heads;
mod attention_pool;
mod batch_norm;
mod conv2d;
mod drop_path;
mod dropout;
mod group_norm;
mod layer_norm;
mod layer_scale;
mod linear;
mod linear_init;
mod mask;
mod mlp_block;
mod norm;
mod patch_embed;
mod qkv;
mod relative_position_bias;
mod residual_branch;
mod rms_norm;
mod rope;
mod std_conv2d;

pub use attention::{Attention, AttentionConfig, attention, attention_between};
pub use attention_and_mlp::{AttentionAndMlp, BeforeNorm, attention_and_mlp, before_norm};
pub use attention_pool::{AttentionPool, AttentionPoolConfig, attention_pool};
pub use batch_norm::{BatchNorm, batch_norm};
pub use conv2d::{Conv2d, conv2d};
pub use drop_path::DropPath;
pub use dropout::Dropout;
pub use group_norm::{GroupNorm, group_norm};
pub use layer_norm::{LayerNorm, layer_norm};
pub use layer_scale::{LayerScale, layer_scale};
pub use linear::{Linear, linear};
pub use linear_init::LinearInit;
pub use mlp_block::{Gate, MlpBlock, MlpBlockConfig, mlp_block};
pub use norm::{Norm, NormLayer, norm};
pub use patch_embed::{PatchEmbed, PatchEmbedConfig, SHIFTS, patch_embed};
pub use relative_position_bias::{RelativePositionBias, RelativePositions, relative_position_bias};
pub use residual_branch::{BranchInner, ResidualBranch, ResidualBranchConfig, residual_branch};
pub use rms_norm::{RmsNorm, rms_norm};
pub use rope::{GridIndexing, Rope, RopeConfig, RopeType, rope};
pub use std_conv2d::{StdConv2d, std_conv2d};
