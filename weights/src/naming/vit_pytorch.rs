//! The names of vit-pytorch's `ViT`: `to_patch_embedding`, `transformer.layers.0.0.to_qkv`, `mlp_head`.

use super::clip::batched;
use super::{Fate, Turn, renamed};

/// What stands directly in a ViT.
pub(super) const MODULES: &str = "cls_token pos_embedding to_patch_embedding transformer";

/// What becomes of the tensor called `name`, its prefix removed.
pub(super) fn fate(name: &str) -> Result<Fate, String> {
    const TOP: [(&str, &str); 3] = [
        ("to_patch_embedding.2.bias", "patch_embed.proj.bias"),
        ("to_patch_embedding.3.", "patch_embed.norm."),
        ("transformer.norm.", "norm."),
    ];
    const BLOCK: [(&str, &str); 6] = [
        ("0.norm.", "norm1."),
        ("0.to_qkv.", "attn.qkv."),
        ("0.to_out.0.", "attn.proj."),
        ("1.net.0.", "norm2."),
        ("1.net.1.", "mlp.fc1."),
        ("1.net.4.", "mlp.fc2."),
    ];
    let turned = |name: String, turn| Fate::Turned(vec![(name, turn)]);
    Ok(match name {
        "cls_token" => batched("cls_token"),
        "pos_embedding" => batched("pos_embed"),
        "to_patch_embedding.2.weight" => turned("patch_embed.proj.weight".into(), Turn::KernelOfPixels),
        _ => match (name.strip_prefix("to_patch_embedding.1."), renamed(name, &TOP), block_of(name)) {
            (Some(kind), ..) => turned(format!("patch_embed.patch_norm.{kind}"), Turn::Pixels),
            (_, Some(name), _) => Fate::Is(name),
            (_, _, Some((number, rest))) => {
                Fate::Is(format!("blocks.{number}.{}", renamed(rest, &BLOCK).unwrap_or_else(|| rest.into())))
            }
            _ => Fate::Is(name.into()),
        },
    })
}

/// The number of a block, and what follows it.
pub(super) fn block_of(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("transformer.layers.")?.split_once('.')
}
