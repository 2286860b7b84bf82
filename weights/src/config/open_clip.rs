//! open_clip's `open_clip_config.json`: `model_cfg` with its `vision_cfg`, and `preprocess_cfg`.

use tallow_models::vit::{Act, GlobalPool};
use tallow_models::{Architecture, ModelConfig, VitConfig};

use super::fields::Fields;
use super::{CLIP, CheckpointConfig, Preprocessing, Transparency, timm};
use crate::Result;

pub(super) fn parse(root: &Fields, notes: &mut Vec<String>) -> Result<CheckpointConfig> {
    let nested = root.object("model_cfg")?;
    let model = nested.as_ref().unwrap_or(root);
    let vision = model.object("vision_cfg")?.ok_or_else(|| model.error("vision_cfg", "a JSON object"))?;
    let embed_dim = model.size("embed_dim")?.ok_or_else(|| model.error("embed_dim", "the width of the embeddings"))?;
    let name = vision.text("timm_model_name")?.filter(|name| !name.is_empty());
    let (vit, name, bias) = match name {
        Some(name) => of_timm(&vision, name, embed_dim, notes)?,
        None => (own(model, &vision, embed_dim)?, None, false),
    };
    let preprocessing = preprocessing(root.object("preprocess_cfg")?.as_ref(), &vit)?;
    let projection = vit.num_classes > 0;
    Ok(CheckpointConfig::new(Architecture::Vit(vit), preprocessing)
        .with(|c| (c.name, c.projection, c.projection_bias) = (name, projection, bias)))
}

/// open_clip's own tower.
fn own(model: &Fields, vision: &Fields, embed_dim: usize) -> Result<VitConfig> {
    if vision.value("layers").is_some_and(serde_json::Value::is_array) {
        return Err(vision.unsupported("layers", "it is a ResNet: choose a CLIP whose vision tower is a ViT"));
    }
    check_plain(vision, &["attentional_pool"], "choose a CLIP with a plain ViT")?;
    let width = vision.size("width")?.unwrap_or(768);
    let head_width = vision.size("head_width")?.unwrap_or(64);
    if head_width == 0 || width < head_width {
        return Err(vision.error("head_width", &format!("1 to the width, {width}")));
    }
    let mut made = VitConfig::default();
    made.img_size = vision.img_size("image_size")?.unwrap_or(224.into());
    made.patch_size = vision.side("patch_size")?.unwrap_or(16);
    made.trim = !made.divides_evenly();
    made.num_classes = embed_dim;
    made.embed_dim = width;
    made.depth = vision.size("layers")?.unwrap_or(12);
    made.num_heads = width / head_width;
    made.mlp_ratio = vision.number("mlp_ratio")?.unwrap_or(4.);
    made.pre_norm = vision.bool("no_ln_pre")? != Some(true);
    made.init_values = vision.number("ls_init_value")?;
    made.global_pool = match vision.text("pool_type")? {
        None | Some("tok") => GlobalPool::Token,
        Some("avg") => GlobalPool::Avg,
        Some(_) => return Err(vision.unsupported("pool_type", "known are tok and avg")),
    };
    made.fc_norm = Some(vision.bool("final_ln_after_pool")? == Some(true));
    made.act = act(model, vision)?;
    made.norm_eps = norm_eps(vision)?;
    Ok(made)
}

/// Refuses a tower, of images or of texts, that has one of `others` or blocks of another kind.
pub(super) fn check_plain(tower: &Fields, others: &[&str], remedy: &str) -> Result<()> {
    const OF_BLOCKS: [&str; 7] =
        ["block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"];
    for field in others.iter().chain(&OF_BLOCKS) {
        let value = tower.value(field);
        let plain = value.is_none_or(|value| value.as_bool() == Some(false) || value.as_str() == Some("default"));
        if !plain {
            return Err(tower.unsupported(field, remedy));
        }
    }
    Ok(())
}

/// The epsilon of a tower's norms.
pub(super) fn norm_eps(tower: &Fields) -> Result<f64> {
    let eps = tower.object("norm_kwargs")?.map(|norm| norm.number("eps")).transpose()?.flatten();
    Ok(eps.unwrap_or(1e-5))
}

/// QuickGELU where `quick_gelu` says so, else GELU, exact or by tanh.
pub(super) fn act(model: &Fields, tower: &Fields) -> Result<Act> {
    if model.bool("quick_gelu")? == Some(true) {
        return Ok(Act::QuickGelu);
    }
    let Some(act) = tower.object("act_kwargs")? else { return Ok(Act::Gelu) };
    match act.text("approximate")? {
        None | Some("none") => Ok(Act::Gelu),
        Some("tanh") => Ok(Act::GeluTanh),
        Some(_) => Err(act.error("approximate", "none or tanh")),
    }
}

/// A tower of timm's, its name, and whether its projection has a bias.
fn of_timm(
    vision: &Fields,
    name: &str,
    embed_dim: usize,
    notes: &mut Vec<String>,
) -> Result<(VitConfig, Option<String>, bool)> {
    let found = super::of_timm(name, vision.origin, "timm_model_name")?;
    let Architecture::Vit(mut vit) = found.architecture else {
        return Err(vision.unsupported("timm_model_name", "choose a CLIP whose vision tower is a ViT"));
    };
    let proj = match (vision.has("timm_proj"), vision.is_null("timm_proj")) {
        (_, true) => "",
        (false, _) => "linear",
        _ => vision.text("timm_proj")?.unwrap_or_default(),
    };
    let pool = if vision.is_null("timm_pool") { "" } else { vision.text("timm_pool")?.unwrap_or("avg") };
    if matches!(pool, "abs_attn" | "rot_attn") {
        return Err(vision.unsupported("timm_pool", "known are token, avg, map and the empty text"));
    }
    let wanted = timm::global_pool(pool)
        .ok_or_else(|| vision.error("timm_pool", "token, avg, max, avgmax, map or the empty text"))?;
    match proj {
        // The tower is made with this pool, and its own head is the projection, if there is one.
        "" | "none" => vit.global_pool = wanted,
        // The pool of a tower is changed that keeps its norm where it is.
        "linear" | "mlp" if wanted != GlobalPool::None => {
            (vit.fc_norm, vit.global_pool) = (Some(vit.uses_fc_norm()), wanted);
        }
        "linear" | "mlp" => {}
        _ => return Err(vision.error("timm_proj", "linear, mlp, none or null")),
    }
    vit.num_classes = if matches!(proj, "none" | "mlp") { 0 } else { embed_dim };
    if proj == "mlp" {
        notes.push(
            "the projection is an MLP (timm_proj = mlp), which no model here has: it is left out, and there are no logits".into(),
        );
    }
    let bias = proj.is_empty() || proj == "linear" && vision.bool("timm_proj_bias")? == Some(true);
    Ok((vit, Some(name.split('.').next().unwrap_or(name).to_owned()), bias))
}

fn preprocessing(file: Option<&Fields>, vit: &VitConfig) -> Result<Preprocessing> {
    let [mean, std] = CLIP.map(Vec::from);
    let made = Preprocessing::new(vit.input_size(), mean, std).with(|c| c.transparency = Transparency::Resized);
    let Some(file) = file else { return Ok(made) };
    let squash = match file.text("resize_mode")? {
        None | Some("shortest") => false,
        Some("squash") => true,
        Some(_) => return Err(file.unsupported("resize_mode", "known are shortest and squash")),
    };
    let interpolation = match file.text("interpolation")? {
        None | Some("random") => made.interpolation,
        Some(name) => {
            name.parse().map_err(|()| file.error("interpolation", "nearest, bilinear, bicubic or lanczos"))?
        }
    };
    let (mean, std) = (file.numbers("mean")?, file.numbers("std")?);
    Ok(made.with(|c| {
        (c.squash, c.interpolation) = (squash, interpolation);
        c.mean = mean.unwrap_or(std::mem::take(&mut c.mean));
        c.std = std.unwrap_or(std::mem::take(&mut c.std));
    }))
}
