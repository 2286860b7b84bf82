//! What the shapes of a ViT's tensors say about it, for files that come without a config.

use std::collections::HashSet;

use tallow_models::layers::SHIFTS;
use tallow_models::vit::GlobalPool;
use tallow_models::{Architecture, VitConfig, zoo};

use super::{CheckpointConfig, IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocessing};
use crate::naming::{Naming, Translation};
use crate::{Error, Result};

/// The config that the shapes imply, and what had to be assumed because shapes do not say it.
///
/// # Errors
/// If shapes contradict each other, or the number of heads cannot be told.
pub(crate) fn infer(origin: &str, translation: &Translation) -> Result<(CheckpointConfig, Vec<String>)> {
    let shape = |name: &str| translation.get(name).map(|mapped| mapped.shape.as_slice());
    let has = |name: &str| shape(name).is_some();
    let ask = |expected: &str, got: String| {
        Error::format(origin, format!("{expected}; name the model that the weights belong to"), got)
    };
    let Some(&[embed_dim, in_chans, patch_size, width]) = shape("patch_embed.proj.weight") else {
        let got = format!("{:?}", shape("patch_embed.proj.weight"));
        return Err(ask("patch_embed.proj.weight of shape [dim, channels, height, width]", got));
    };
    if patch_size != width || patch_size == 0 || embed_dim == 0 {
        return Err(ask("square patches", format!("{patch_size}×{width}")));
    }
    let blocks: HashSet<&str> = translation
        .mapped
        .iter()
        .filter_map(|mapped| Some(mapped.name.strip_prefix("blocks.")?.split_once('.')?.0))
        .collect();
    let mut notes = Vec::new();
    let (spt, lsa) = (has("patch_embed.patch_norm.weight"), shape("blocks.0.attn.scale"));
    let in_chans = if spt { in_chans / (1 + SHIFTS) } else { in_chans };
    let num_heads = match (shape("blocks.0.attn.q_norm.weight"), lsa) {
        (Some(&[head]), _) if head > 0 && embed_dim % head == 0 => embed_dim / head,
        (_, Some(&[heads])) => heads,
        _ => heads(origin, embed_dim, blocks.len(), &mut notes)?,
    };
    let class_token = has("cls_token");
    let reg_tokens = shape("reg_token").and_then(|shape| shape.get(1).copied()).unwrap_or(0);
    let distilled = has("dist_token");
    let prefix = usize::from(class_token) + usize::from(distilled) + reg_tokens;
    let (grid, no_embed_class) = match shape("pos_embed") {
        Some(&[_, count, _]) => match (square_root(count.wrapping_sub(prefix)), square_root(count)) {
            (Some(grid), _) => (grid, false),
            (None, Some(grid)) => (grid, true),
            (None, None) => return Err(ask(&format!("{prefix} positions and a square of them"), count.to_string())),
        },
        _ => return Err(ask("pos_embed of shape [1, positions, dim]", format!("{:?}", shape("pos_embed")))),
    };
    let hidden = shape("blocks.0.mlp.fc1.weight").and_then(|shape| shape.first().copied()).unwrap_or(4 * embed_dim);
    let (num_classes, head_width) = match shape("head.weight") {
        Some(&[classes, width]) => (classes, width),
        _ => (0, embed_dim),
    };
    let fc_norm = has("fc_norm.weight");
    let global_pool = if has("attn_pool.latent") {
        GlobalPool::Map
    } else if head_width == 2 * embed_dim {
        GlobalPool::TokenAvg
    } else if fc_norm || !class_token {
        GlobalPool::Avg
    } else {
        GlobalPool::Token
    };
    let vit = VitConfig {
        img_size: (grid * patch_size).into(),
        patch_size,
        in_chans,
        spt,
        num_classes,
        embed_dim,
        depth: blocks.len(),
        num_heads,
        mlp_ratio: hidden as f64 / embed_dim as f64,
        qkv_bias: blocks.is_empty() || has("blocks.0.attn.qkv.bias"),
        qk_norm: has("blocks.0.attn.q_norm.weight"),
        lsa: lsa.is_some(),
        class_token,
        reg_tokens,
        distilled,
        no_embed_class: no_embed_class && prefix > 0,
        pre_norm: has("norm_pre.weight"),
        init_values: has("blocks.0.ls1.gamma").then_some(1e-5),
        global_pool,
        fc_norm: (global_pool == GlobalPool::Avg && !fc_norm).then_some(false),
        final_norm: fc_norm || has("norm.weight"),
        norm_eps: if translation.naming == Naming::HuggingFace { 1e-12 } else { 1e-6 },
        ..VitConfig::default()
    };
    notes.push(format!(
        "no config.json: the architecture was read off the tensors' shapes; exact GELU, norms with eps {:e}, and pixels \
         normalised with ImageNet's mean and deviation were assumed",
        vit.norm_eps
    ));
    let architecture = Architecture::Vit(vit);
    super::check_architecture(&architecture, origin)?;
    let preprocessing = Preprocessing {
        input_size: architecture.input_size(),
        interpolation: Interpolation::Bicubic,
        crop_pct: 0.875,
        squash: false,
        crop_floor: false,
        mean: IMAGENET_MEAN.into(),
        std: IMAGENET_STD.into(),
    };
    Ok((
        CheckpointConfig {
            name: None,
            tag: None,
            architecture,
            preprocessing,
            whitening: None,
            labels: None,
            head_fault: None,
            license: None,
        },
        notes,
    ))
}

/// The number of heads: what the zoo's models of this width and depth agree on, else heads 64 wide, which is said.
fn heads(origin: &str, embed_dim: usize, depth: usize, notes: &mut Vec<String>) -> Result<usize> {
    let known: HashSet<usize> = zoo::list("*")
        .iter()
        .filter_map(|entry| match &entry.architecture {
            Architecture::Vit(vit) if vit.embed_dim == embed_dim && vit.depth == depth => Some(vit.num_heads),
            _ => None,
        })
        .collect();
    let mut known = known.into_iter();
    match (known.next(), known.next()) {
        (Some(heads), None) => Ok(heads),
        (None, _) if embed_dim.is_multiple_of(64) => {
            notes.push(format!("{} attention heads were assumed, 64 wide each: shapes do not tell", embed_dim / 64));
            Ok(embed_dim / 64)
        }
        _ => Err(Error::format(
            origin,
            "a config.json, or the name of the model that the weights belong to",
            format!("weights alone, {embed_dim} wide, whose number of attention heads shapes do not tell"),
        )),
    }
}

fn square_root(count: usize) -> Option<usize> {
    let root = count.isqrt();
    (root > 0 && root * root == count).then_some(root)
}
