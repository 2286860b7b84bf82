//! torchvision's names, which SWAG's repository has up to the numbers of blocks and the layers of MLPs.

use super::clip::batched;
use super::{Fate, renamed};

/// What stands directly in a ViT.
pub(super) const MODULES: &str = "class_token conv_proj encoder";

/// What becomes of the tensor called `name`, its prefix removed.
pub(super) fn fate(name: &str) -> Result<Fate, String> {
    const TOP: [(&str, &str); 3] =
        [("class_token", "cls_token"), ("conv_proj.", "patch_embed.proj."), ("encoder.ln.", "norm.")];
    const BLOCK: [(&str, &str); 8] = [
        ("ln_1.", "norm1."),
        ("ln_2.", "norm2."),
        ("self_attention.in_proj_", "attn.qkv."),
        ("self_attention.out_proj.", "attn.proj."),
        ("mlp.0.", "mlp.fc1."),
        ("mlp.3.", "mlp.fc2."),
        ("mlp.linear_1.", "mlp.fc1."),
        ("mlp.linear_2.", "mlp.fc2."),
    ];
    // SWAG's have the batch in the middle.
    if name == "encoder.pos_embedding" {
        return Ok(batched("pos_embed"));
    }
    Ok(Fate::Is(match (renamed(name, &TOP), block_of(name)) {
        (Some(name), _) => name,
        (None, Some((number, rest))) => {
            format!("blocks.{number}.{}", renamed(rest, &BLOCK).unwrap_or_else(|| rest.into()))
        }
        (None, None) => name.into(),
    }))
}

/// The number of a block, and what follows it.
pub(super) fn block_of(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_prefix("encoder.layers.")?;
    rest.strip_prefix("encoder_layer_").or_else(|| rest.strip_prefix("layer_"))?.split_once('.')
}
