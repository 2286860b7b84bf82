//! The names of mmpretrain (mmcls before it) and mmseg, of all their versions.

use super::{Fate, renamed};

/// What stands directly in a ViT.
pub(super) const MODULES: &str =
    "cls_token pos_embed dist_token mask_token patch_embed pre_norm layers ln1 ln2 norm1 norm2";

/// What becomes of the tensor called `name`, its prefix removed.
pub(super) fn fate(name: &str) -> Result<Fate, String> {
    const TOP: [(&str, &str); 6] = [
        ("patch_embed.projection.", "patch_embed.proj."),
        ("pre_norm.", "norm_pre."),
        ("ln1.", "norm."),
        ("norm1.", "norm."),
        // After the mean of the patch tokens.
        ("ln2.", "fc_norm."),
        ("norm2.", "fc_norm."),
    ];
    const BLOCK: [(&str, &str); 10] = [
        ("ln1.", "norm1."),
        ("ln2.", "norm2."),
        // mmcls and mmseg took PyTorch's own attention at first.
        ("attn.attn.in_proj_", "attn.qkv."),
        ("attn.attn.out_proj.", "attn.proj."),
        ("attn.gamma1.weight", "ls1.gamma"),
        ("attn.gamma1", "ls1.gamma"),
        ("ffn.gamma2.weight", "ls2.gamma"),
        ("ffn.gamma2", "ls2.gamma"),
        ("ffn.layers.0.0.", "mlp.fc1."),
        ("ffn.layers.1.", "mlp.fc2."),
    ];
    if name == "mask_token" {
        return Ok(Fate::Out("used only while masks are predicted in pre-training"));
    }
    if name.contains(".ffn.w12.") || name.contains(".ffn.w3.") {
        return Err("a gated MLP (SwiGLU)".into());
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
    name.strip_prefix("layers.")?.split_once('.')
}
