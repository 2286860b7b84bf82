//! timm's names, which the original repositories of DINO, DINOv2, DINOv3, DeiT, MAE, BEiT and EVA share up to details.

use super::Fate;

/// What becomes of the tensor called `name`, its prefix removed.
pub(super) fn fate(name: &str) -> Result<Fate, String> {
    Ok(match name {
        "mask_token" | "masked_embed" => Fate::Out("used only while masks are predicted in pre-training"),
        "register_tokens" | "storage_tokens" => Fate::Is("reg_token".into()),
        _ if name.starts_with("pre_logits.") => {
            Fate::Out("the representation layer, which timm's models leave out too")
        }
        _ if name.contains(".attn.rel_pos_") => return Err("attention in windows with relative positions (SAM)".into()),
        _ if name.starts_with("local_cls_norm.") => Fate::Out("a norm of pre-training's small crops"),
        _ if name.ends_with(".relative_position_index") => Fate::Out("an index, which follows from the image's size"),
        _ if name.ends_with(".qkv.bias_mask") => Fate::Out("says that keys have no bias, and was followed"),
        "rope.freqs" => Fate::Is(name.into()),
        _ if name.starts_with("rope.") || name.starts_with("rope_embed.") || name.contains(".rope.") => {
            Fate::Out("angles of rotary positions, which follow from the image's size")
        }
        _ => of_block(name).unwrap_or_else(|| Fate::Is(name.into())),
    })
}

/// `blocks.0.3.` → `blocks.3.` (DINOv2 in chunks), `gamma_1` → `ls1.gamma` (DeiT-III, BEiT, EVA), and layers that some have apart.
fn of_block(name: &str) -> Option<Fate> {
    const RENAMED: [(&str, &str); 6] = [
        ("gamma_1", "ls1.gamma"),
        ("gamma_2", "ls2.gamma"),
        ("attn.inner_attn_ln.", "attn.norm."),
        ("mlp.ffn_ln.", "mlp.norm."),
        ("mlp.w12.", "mlp.fc1."),
        ("mlp.w3.", "mlp.fc2."),
    ];
    // Of the MLP's gate and values, and of queries, keys and values.
    const ROWS: [(&str, &str, usize); 7] = [
        ("attn.q_proj.", "attn.qkv.", 0),
        ("attn.k_proj.", "attn.qkv.", 1),
        ("attn.v_proj.", "attn.qkv.", 2),
        ("mlp.fc1_g.", "mlp.fc1.", 0),
        ("mlp.fc1_x.", "mlp.fc1.", 1),
        ("mlp.w1.", "mlp.fc1.", 0),
        ("mlp.w2.", "mlp.fc1.", 1),
    ];
    let rest = name.strip_prefix("blocks.")?;
    let rest = match rest.split_once('.') {
        Some((chunk, inner)) if is_number(chunk) && inner.split('.').next().is_some_and(is_number) => inner,
        _ => rest,
    };
    let (number, inner) = rest.split_once('.')?;
    if let Some((from, to, part)) = ROWS.iter().find(|(from, ..)| inner.starts_with(from)) {
        return Some(Fate::Rows(format!("blocks.{number}.{to}{}", &inner[from.len()..]), *part));
    }
    let renamed = RENAMED.iter().find_map(|(from, to)| Some(format!("{to}{}", inner.strip_prefix(from)?)));
    Some(Fate::Is(format!("blocks.{number}.{}", renamed.as_deref().unwrap_or(inner))))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
