//! The names of Hugging Face transformers' ViT, ViT-Hybrid, DeiT, ViT-MAE, ViT-MSN, I-JEPA, DINOv2 (with registers), DINOv3, BEiT and
//! Data2Vec-Vision, of version 4 and of version 5.

use super::{Fate, renamed};

/// What becomes of the tensor called `name`, its prefix removed. `distilled` says that there is a second head for DeiT's
/// distillation token.
pub(super) fn fate(name: &str, distilled: bool) -> Fate {
    let is = |name: &str| Fate::Is(name.to_owned());
    match name {
        "embeddings.cls_token" => is("cls_token"),
        "embeddings.position_embeddings" => is("pos_embed"),
        "embeddings.register_tokens" => is("reg_token"),
        "embeddings.distillation_token" => is(if distilled { "dist_token" } else { "reg_token" }),
        "embeddings.mask_token" => Fate::Out("used only while masks are predicted in pre-training"),
        _ if name.ends_with(".relative_position_index") => Fate::Out("an index, which follows from the image's size"),
        _ if name.starts_with("rope_embeddings.") => {
            Fate::Out("angles of rotary positions, which follow from the image's size")
        }
        _ if name.starts_with("pooler.") && !name.starts_with("pooler.layernorm.") => {
            Fate::Out("the pooler, which no classifier reads")
        }
        _ => match stem(name).or_else(|| top(name)).or_else(|| block(name)) {
            Some(fate) => fate,
            None => is(name),
        },
    }
}

/// Of a hybrid's ResNet.
fn stem(name: &str) -> Option<Fate> {
    const RENAMED: [(&str, &str); 2] = [("embedder.convolution.", "stem.conv."), ("embedder.norm.", "stem.norm.")];
    let rest = name.strip_prefix("embeddings.patch_embeddings.backbone.")?;
    let rest = rest.strip_prefix("bit.").unwrap_or(rest);
    let name = renamed(rest, &RENAMED).or_else(|| {
        let (stage, rest) = rest.strip_prefix("encoder.stages.")?.split_once(".layers.")?;
        Some(format!("stages.{stage}.blocks.{rest}"))
    });
    Some(Fate::Is(format!("patch_embed.backbone.{}", name.as_deref().unwrap_or(rest))))
}

fn top(name: &str) -> Option<Fate> {
    const RENAMED: [(&str, &str); 6] = [
        ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        ("embeddings.patch_embeddings.", "patch_embed.proj."),
        ("layernorm.", "norm."),
        ("pooler.layernorm.", "fc_norm."),
        ("encoder.relative_position_bias.", "rel_pos_bias."),
        ("shared_position_bias.", "rel_pos_bias."),
    ];
    renamed(name, &RENAMED).map(Fate::Is)
}

fn block(name: &str) -> Option<Fate> {
    const RENAMED: [(&str, &str); 19] = [
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
        ("lambda_1", "ls1.gamma"),
        ("lambda_2", "ls2.gamma"),
        ("mlp.weights_in.", "mlp.fc1."),
        ("mlp.weights_out.", "mlp.fc2."),
        ("mlp.down_proj.", "mlp.fc2."),
        ("attention.attention.relative_position_bias.", "attn."),
        ("relative_position_bias.", "attn."),
    ];
    const GATED: [&str; 2] = ["mlp.gate_proj.", "mlp.up_proj."];
    const ROWS: [[&str; 3]; 3] = [["query.", "key.", "value."], ["q_proj.", "k_proj.", "v_proj."], ["q.", "k.", "v."]];
    let (number, rest) = block_of(name)?;
    if let Some(name) = renamed(rest, &RENAMED) {
        return Some(Fate::Is(format!("blocks.{number}.{name}")));
    }
    if let Some((part, kind)) = GATED.iter().enumerate().find_map(|(part, from)| Some((part, rest.strip_prefix(from)?)))
    {
        return Some(Fate::Rows(format!("blocks.{number}.mlp.fc1.{kind}"), part));
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
    const BEFORE: [&str; 5] = ["encoder.layer.", "encoder.layers.", "layers.", "layer.", "model.layer."];
    BEFORE.iter().find_map(|prefix| name.strip_prefix(prefix))?.split_once('.')
}
