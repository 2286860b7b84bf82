//! What a forward pass of a ViT costs.

use super::{GlobalPool, VitConfig};
use crate::ModelConfig;

/// The multiply-adds of a forward pass for one image.
pub(super) fn multiply_adds(c: &VitConfig) -> u64 {
    let [patches, tokens, dim, hidden] = [c.num_patches(), c.num_tokens(), c.embed_dim, c.mlp_dim()].map(|n| n as u64);
    let patch_embed = patches * dim * (c.patch_chans() * c.patch_size * c.patch_size) as u64;
    let layers = if c.swiglu_mlp { 3 } else { 2 };
    let block = tokens * dim * (4 * dim + layers * hidden) + 2 * tokens * tokens * dim;
    let block = c.block_fn.num_parallel() as u64 * block;
    let pool = match c.global_pool {
        GlobalPool::Map => {
            let keys = if c.pool_include_prefix { tokens } else { patches };
            // Queries and projection of one latent, keys and values of all, attention, MLP.
            2 * dim * dim + keys * 2 * dim * dim + 2 * keys * dim + 2 * dim * c.attn_pool_mlp_dim() as u64
        }
        _ => 0,
    };
    let rows = if c.global_pool == GlobalPool::None { tokens } else { 1 + u64::from(c.distilled) };
    let positions = match c.rel_pos_dim {
        Some(hidden) => {
            let ways: usize = c.grid_size().iter().map(|side| 2 * side - 1).product();
            let times = if c.use_rel_pos_bias { c.depth } else { 1 };
            (times * ways * hidden * (2 + c.num_heads)) as u64
        }
        None => 0,
    };
    let pool = pool + (c.head_proj.unwrap_or(0) * c.pool_width()) as u64;
    c.stem_multiply_adds()
        + patch_embed
        + c.depth as u64 * block
        + positions
        + pool
        + rows * (c.num_features() * c.num_classes) as u64
}
