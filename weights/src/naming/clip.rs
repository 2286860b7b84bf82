//! The names of the vision towers of Hugging Face transformers' CLIP and SigLIP.

use super::hugging_face::block_of;
use super::{Fate, Turn, renamed};

/// What stands directly in a tower.
pub(super) const MODULES: &str = "embeddings pre_layrnorm pre_layernorm encoder post_layernorm head";

/// The projection into the space that images share with texts; it stands beside the tower.
pub(super) const PROJECTION: &str = "visual_projection";

/// What becomes of the tensor called `name`, its prefix removed.
pub(super) fn fate(name: &str) -> Result<Fate, String> {
    const TOP: [(&str, &str); 8] = [
        ("embeddings.patch_embedding.", "patch_embed.proj."),
        // As CLIP writes it, and as whoever corrects it does.
        ("pre_layrnorm.", "norm_pre."),
        ("pre_layernorm.", "norm_pre."),
        ("post_layernorm.", "norm."),
        ("head.probe", "attn_pool.latent"),
        ("head.attention.out_proj.", "attn_pool.proj."),
        ("head.layernorm.", "attn_pool.norm."),
        ("head.mlp.", "attn_pool.mlp."),
    ];
    Ok(match name {
        "embeddings.class_embedding" => batched("cls_token"),
        "embeddings.position_embedding.weight" => batched("pos_embed"),
        "embeddings.position_ids" => Fate::Out("the numbers of the positions, which are counted here"),
        _ => match name.strip_prefix("head.attention.in_proj_") {
            Some(kind) => Fate::Turned(vec![
                (format!("attn_pool.q.{kind}"), Turn::Queries),
                (format!("attn_pool.kv.{kind}"), Turn::KeysAndValues),
            ]),
            None => match renamed(name, &TOP) {
                Some(name) => Fate::Is(name),
                None => block(name).unwrap_or_else(|| Fate::Is(name.into())),
            },
        },
    })
}

pub(super) fn batched(name: &str) -> Fate {
    Fate::Turned(vec![(name.into(), Turn::Batched)])
}

fn block(name: &str) -> Option<Fate> {
    const RENAMED: [(&str, &str); 4] = [
        ("layer_norm1.", "norm1."),
        ("layer_norm2.", "norm2."),
        ("self_attn.out_proj.", "attn.proj."),
        ("mlp.", "mlp."),
    ];
    const ROWS: [&str; 3] = ["self_attn.q_proj.", "self_attn.k_proj.", "self_attn.v_proj."];
    let (number, rest) = block_of(name)?;
    if let Some(name) = renamed(rest, &RENAMED) {
        return Some(Fate::Is(format!("blocks.{number}.{name}")));
    }
    let (part, kind) = ROWS.iter().enumerate().find_map(|(part, name)| Some((part, rest.strip_prefix(name)?)))?;
    Some(Fate::Rows(format!("blocks.{number}.attn.qkv.{kind}"), part))
}
