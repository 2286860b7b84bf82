//! Hugging Face's `config.json` of CLIP and SigLIP, of both towers or of the vision tower alone; of the CLIPs among them
//! whose vision tower is CLIP's own (Chinese-CLIP, AltCLIP, MetaCLIP 2), too.

use tallow_models::vit::{Act, GlobalPool};
use tallow_models::{Architecture, VitConfig};

use super::fields::Fields;
use super::hugging_face::{self, Classifier, part_of};
use super::{CheckpointConfig, processor};
use crate::Result;

/// Whether a config is one of these models' (those that are refused among them).
pub(super) fn knows(root: &Fields) -> Result<bool> {
    const FAMILIES: [&str; 6] = ["clip", "chinese_clip", "altclip", "metaclip_2", "siglip", "siglip2"];
    let Some(kind) = root.text("model_type")? else { return Ok(false) };
    let family = kind.strip_suffix("_vision_model").or(kind.strip_suffix("_text_model")).unwrap_or(kind);
    Ok(FAMILIES.contains(&family))
}

/// `classifier` is the head that the weights have, where the class of the model that the file names has none.
pub(super) fn parse(
    root: &Fields,
    processor_file: Option<&Fields>,
    classifier: Option<Classifier>,
    notes: &mut Vec<String>,
) -> Result<CheckpointConfig> {
    let kind = root.text("model_type")?.unwrap_or_default();
    if kind.starts_with("siglip2") {
        let remedy =
            "its images have as many patches as their shape asks for (NaFlex); choose a SigLIP 2 of a fixed size";
        return Err(root.unsupported("model_type", remedy));
    }
    if kind.ends_with("_text_model") {
        return Err(root.unsupported("model_type", "it is a text tower alone: choose a model with its vision tower"));
    }
    let siglip = kind.starts_with("siglip");
    let class = root.value("architectures").and_then(|names| names.get(0)?.as_str());
    let has = |part: &str| class.is_some_and(|class| class.contains(part));
    let head = classifier.filter(|head| !head.projects);
    let classifies = has("ForImageClassification") || head.is_some();
    let vision = vision(root, kind)?;
    let vision = vision.as_ref().unwrap_or(root);
    let (num_classes, labels) = hugging_face::classes_of(root, classifies, head, notes)?;
    let both = !siglip && ["CLIPModel", "MetaClip2Model"].iter().any(|name| has(name));
    let projected = match classifier {
        Some(head) if head.projects => Some(head.classes),
        // In a model of both towers it is theirs together.
        _ if both => Some(root.size("projection_dim")?.unwrap_or(if kind == "altclip" { 768 } else { 512 })),
        _ if !siglip && has("WithProjection") => Some(vision.size("projection_dim")?.unwrap_or(512)),
        _ => None,
    };
    if let Some(head) = classifier {
        notes.push(head.note(class));
    }
    let mut vit = tower(vision, siglip)?;
    if siglip && vision.bool("vision_use_head")? == Some(false) {
        (vit.global_pool, vit.fc_norm) = (GlobalPool::Avg, Some(false));
    }
    vit.num_classes = projected.unwrap_or(num_classes);
    if classifies {
        // The mean of the patch tokens, which CLIP does not normalise for it.
        (vit.global_pool, vit.fc_norm, vit.final_norm) = (GlobalPool::Avg, Some(false), siglip);
    }
    let preprocessing = processor::preprocessing(processor_file, kind, &mut vit, false, notes)?;
    let license = root.text("license")?.map(str::to_lowercase);
    Ok(CheckpointConfig::new(Architecture::Vit(vit), preprocessing).with(|c| {
        c.projection = projected.is_some();
        c.labels = labels;
        c.license = license;
    }))
}

/// What a config of both towers says of the vision tower; nothing where the config is that of the tower alone.
fn vision<'a>(root: &Fields<'a>, kind: &str) -> Result<Option<Fields<'a>>> {
    if kind.ends_with("_vision_model") {
        return Ok(None);
    }
    match part_of(root, "vision", kind.starts_with("siglip"))? {
        None => Err(root.error("vision_config", "a JSON object")),
        own => Ok(own),
    }
}

fn tower(vision: &Fields, siglip: bool) -> Result<VitConfig> {
    let hidden = vision.size("intermediate_size")?.unwrap_or(3072);
    let mut made = hugging_face::sizes(vision, if siglip { 16 } else { 32 })?;
    made.trim = !made.divides_evenly();
    made.num_classes = 0;
    made.mlp_ratio = VitConfig::mlp_ratio_of(hidden, made.embed_dim);
    made.class_token = !siglip;
    made.pre_norm = !siglip;
    made.global_pool = if siglip { GlobalPool::Map } else { GlobalPool::Token };
    made.act = hugging_face::act(vision, if siglip { Act::GeluTanh } else { Act::QuickGelu })?;
    made.norm_eps = vision.number("layer_norm_eps")?.unwrap_or(if siglip { 1e-6 } else { 1e-5 });
    made.attn_drop_rate = vision.number("attention_dropout")?.unwrap_or(0.);
    Ok(made)
}
