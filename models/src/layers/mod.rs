//! Layers: parameters and the operations that use them. One layer a file; each has a constructor function that takes a
//! `VarBuilder`, as in `candle_nn`.

mod attention;
mod attention_pool;
mod batch_norm;
mod conv2d;
mod drop_path;
mod dropout;
mod law;
mod layer_norm;
mod layer_scale;
mod linear;
mod mask;
mod mlp_block;
mod patch_embed;

pub use attention::{Attention, attention};
pub use attention_pool::{AttentionPool, attention_pool};
pub use batch_norm::{BatchNorm, batch_norm};
pub use conv2d::{Conv2d, conv2d};
pub use drop_path::DropPath;
pub use dropout::Dropout;
pub use law::Law;
pub use layer_norm::{LayerNorm, layer_norm};
pub use layer_scale::{LayerScale, layer_scale};
pub use linear::{Linear, linear};
pub use mlp_block::{MlpBlock, mlp_block};
pub use patch_embed::{PatchEmbed, SHIFTS, patch_embed};
