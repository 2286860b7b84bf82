//! timm's names, which the original repositories of DINO, DINOv2, DeiT and MAE share up to details.

use super::Fate;

/// What becomes of the tensor called `name`, its prefix removed.
pub(super) fn fate(name: &str) -> Result<Fate, String> {
    let has = |word: &str| name.contains(word);
    Ok(match name {
        "mask_token" | "masked_embed" => Fate::Out("used only while masks are predicted in pre-training"),
        "register_tokens" => Fate::Is("reg_token".into()),
        _ if name.starts_with("pre_logits.") => {
            Fate::Out("the representation layer, which timm's models leave out too")
        }
        _ if has(".mlp.w12.") || has(".mlp.w3.") || has(".mlp.fc1_g.") => return Err("a gated MLP (SwiGLU)".into()),
        _ => Fate::Is(renamed(name)),
    })
}

/// `blocks.0.3.` → `blocks.3.` (DINOv2 in chunks), `gamma_1` → `ls1.gamma` (DeiT-III).
fn renamed(name: &str) -> String {
    let Some(rest) = name.strip_prefix("blocks.") else { return name.into() };
    let rest = match rest.split_once('.') {
        Some((chunk, inner)) if is_number(chunk) && inner.split('.').next().is_some_and(is_number) => inner,
        _ => rest,
    };
    format!("blocks.{rest}").replace(".gamma_1", ".ls1.gamma").replace(".gamma_2", ".ls2.gamma")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
