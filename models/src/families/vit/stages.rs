//! Which part of a ViT a parameter belongs to.

use super::VitConfig;
use crate::Stage;

/// The part of the model that the parameter called `name` belongs to.
pub(super) fn stage_of(name: &str) -> Stage {
    match name.split('.').next().unwrap_or(name) {
        "blocks" => {
            let block = name.split('.').nth(1).and_then(|number| number.parse().ok());
            block.map_or(Stage::Neck, Stage::Block)
        }
        "norm" | "fc_norm" | "attn_pool" | "head_proj" => Stage::Neck,
        "head" | "head_dist" => Stage::Head,
        _ => Stage::Stem,
    }
}

/// As timm has it: 0 for the stem, `i + 1` for block `i`, the final norm with the last block, and what comes after it last, with
/// the frequencies of rotary positions and the MLP of relative ones that all blocks have a part in.
pub(super) fn layer_id(config: &VitConfig, name: &str) -> usize {
    match stage_of(name) {
        Stage::Stem if name.starts_with("rope.") || name.starts_with("shared_rel_pos.") => config.depth + 1,
        Stage::Stem => 0,
        Stage::Block(i) => i + 1,
        Stage::Neck if name.starts_with("norm.") => config.depth,
        Stage::Neck | Stage::Head => config.depth + 1,
    }
}
