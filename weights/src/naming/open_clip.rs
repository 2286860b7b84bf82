//! The names of OpenAI's CLIP and of open_clip's own vision towers: `visual.conv1`, `visual.transformer.resblocks.0.attn.in_proj_weight`.

use super::clip::batched;
use super::{Fate, Turn, renamed};

/// What stands directly in a tower.
pub(super) const MODULES: &str =
    "class_embedding positional_embedding conv1 ln_pre transformer ln_post proj attn_pool attn_pool_contrastive";

/// What becomes of the tensor called `name`, its prefix removed.
pub(super) fn fate(name: &str) -> Result<Fate, String> {
    const TOP: [(&str, &str); 3] = [("conv1.", "patch_embed.proj."), ("ln_pre.", "norm_pre."), ("ln_post.", "norm.")];
    const BLOCK: [(&str, &str); 8] = [
        ("ln_1.", "norm1."),
        ("ln_2.", "norm2."),
        ("attn.in_proj_", "attn.qkv."),
        ("attn.out_proj.", "attn.proj."),
        ("mlp.c_fc.", "mlp.fc1."),
        ("mlp.c_proj.", "mlp.fc2."),
        ("ls_1.gamma", "ls1.gamma"),
        ("ls_2.gamma", "ls2.gamma"),
    ];
    Ok(match name {
        "class_embedding" => batched("cls_token"),
        "positional_embedding" => batched("pos_embed"),
        "proj" => Fate::Turned(vec![("head.weight".into(), Turn::Transposed)]),
        _ if name.starts_with("attn_pool") => return Err("a pool by several queries (CoCa's attn_pool)".into()),
        _ => match (renamed(name, &TOP), block_of(name)) {
            (Some(name), _) => Fate::Is(name),
            (None, Some((number, rest))) => {
                Fate::Is(format!("blocks.{number}.{}", renamed(rest, &BLOCK).unwrap_or_else(|| rest.into())))
            }
            (None, None) => Fate::Is(name.into()),
        },
    })
}

/// The number of a block, and what follows it.
pub(super) fn block_of(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("transformer.resblocks.")?.split_once('.')
}
