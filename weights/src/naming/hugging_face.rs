//! The names of Hugging Face transformers' ViT, DeiT, ViT-MAE, ViT-MSN, I-JEPA and DINOv2 (with registers), of version 4 and of version 5.

use super::{Fate, renamed};

/// What becomes of the tensor called `name`, its prefix removed. `distilled` says that there is a second head for DeiT's
/// distillation token.
pub(super) fn fate(name: &str, distilled: bool) -> Result<Fate, String> {
    let is = |name: &str| Fate::Is(name.to_owned());
    Ok(match name {
        "embeddings.cls_token" => is("cls_token"),
        "embeddings.position_embeddings" => is("pos_embed"),
        "embeddings.register_tokens" => is("reg_token"),
        "embeddings.distillation_token" => is(if distilled { "dist_token" } else { "reg_token" }),
        "embeddings.mask_token" => Fate::Out("used only while masks are predicted in pre-training"),
        _ if name.starts_with("pooler.") => Fate::Out("the pooler, which no classifier reads"),
        _ => match top(name).or_else(|| block(name)) {
            Some(fate) => fate,
            None if name.contains(".mlp.weights_") || name.contains(".mlp.gate_proj.") => {
                return Err("a gated MLP (SwiGLU)".into());
            }
            None => is(name),
        },
    })
}

fn top(name: &str) -> Option<Fate> {
    const RENAMED: [(&str, &str); 2] =
        [("embeddings.patch_embeddings.projection.", "patch_embed.proj."), ("layernorm.", "norm.")];
    renamed(name, &RENAMED).map(Fate::Is)
}

fn block(name: &str) -> Option<Fate> {
    const RENAMED: [(&str, &str); 12] = [
        ("layernorm_before.", "norm1."),
        ("layernorm_after.", "norm2."),
        ("norm1.", "norm1."),
        ("norm2.", "norm2."),
        ("attention.output.dense.", "attn.proj."),
        ("attention.o_proj.", "attn.proj."),
        ("intermediate.dense.", "mlp.fc1."),
        ("output.dense.", "mlp.fc2."),
        ("mlp.fc1.", "mlp.fc1."),
        ("mlp.fc2.", "mlp.fc2."),
        ("layer_scale1.lambda1", "ls1.gamma"),
        ("layer_scale2.lambda1", "ls2.gamma"),
    ];
    const ROWS: [[&str; 3]; 3] = [["query.", "key.", "value."], ["q_proj.", "k_proj.", "v_proj."], ["q.", "k.", "v."]];
    let (number, rest) = block_of(name)?;
    if let Some(name) = renamed(rest, &RENAMED) {
        return Some(Fate::Is(format!("blocks.{number}.{name}")));
    }
    let rest = rest.strip_prefix("attention.attention.").or_else(|| rest.strip_prefix("attention."))?;
    let (part, kind) = ROWS
        .iter()
        .flat_map(|names| names.iter().enumerate())
        .find_map(|(part, name)| Some((part, rest.strip_prefix(name)?)))?;
    Some(Fate::Rows(format!("blocks.{number}.attn.qkv.{kind}"), part))
}

/// The number of a block, and what follows it.
pub(super) fn block_of(name: &str) -> Option<(&str, &str)> {
    let rest = ["encoder.layer.", "encoder.layers.", "layers."].iter().find_map(|prefix| name.strip_prefix(prefix))?;
    rest.split_once('.')
}
