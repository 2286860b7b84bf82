//! Hugging Face's `config.json` of ViT, ViT-Hybrid, DeiT, ViT-MAE, ViT-MSN, I-JEPA, DINOv2, DINOv3, BEiT and Data2Vec-Vision.

use tallow_models::vit::{Act, GlobalPool, PosEmbed, RopeType};
use tallow_models::{Architecture, VitConfig};

use super::fields::Fields;
use super::{CheckpointConfig, processor, stem};
use crate::Result;

/// `classifier` is the head that the weights have, where the class of the model that the file names has none.
pub(super) fn parse(
    root: &Fields,
    processor_file: Option<&Fields>,
    classifier: Option<Classifier>,
    notes: &mut Vec<String>,
) -> Result<CheckpointConfig> {
    let kind = root.text("model_type")?.unwrap_or_default();
    let dinov2 = matches!(kind, "dinov2" | "dinov2_with_registers");
    let (dinov3, beit) = (kind == "dinov3_vit", matches!(kind, "beit" | "data2vec-vision"));
    if !(dinov2 || dinov3 || beit || matches!(kind, "vit" | "vit-hybrid" | "deit" | "vit_mae" | "vit_msn" | "ijepa")) {
        let known = "known are vit, vit-hybrid, deit, vit_mae, vit_msn, ijepa, dinov2, dinov2_with_registers, dinov3_vit, beit, data2vec-vision, \
                     clip, siglip and their vision models";
        return Err(root.unsupported("model_type", known));
    }
    let classes = root.value("architectures").and_then(|names| names.get(0)?.as_str());
    let classifies = classes.is_some_and(|class| class.contains("ForImageClassification")) || classifier.is_some();
    let (num_classes, labels) = classes_of(root, classifies, classifier, notes)?;
    let embed_dim = root.size("hidden_size")?.unwrap_or(768);
    let mlp_ratio = match root.size("intermediate_size")? {
        Some(width) if !dinov2 && embed_dim > 0 => VitConfig::mlp_ratio_of(width, embed_dim),
        _ => root.number("mlp_ratio")?.unwrap_or(4.),
    };
    let teacher = classifier.map_or(classes.is_some_and(|class| class.ends_with("WithTeacher")), |head| head.distilled);
    if let Some(head) = classifier {
        notes.push(head.note(classes));
    }
    let both_pools = dinov2 && classifies && classifier.is_none_or(|head| head.width == 2 * embed_dim);
    let registers = match kind {
        "dinov2_with_registers" => root.size("num_register_tokens")?.unwrap_or(4),
        // Without the second head, DeiT's distillation token is an extra token as any register.
        "deit" if !teacher => 1,
        _ => 0,
    };
    let dropout = root.number("hidden_dropout_prob")?.unwrap_or(0.);
    let mut vit = {
        let hybrid = kind == "vit-hybrid";
        let mut made = sizes(
            root,
            if hybrid {
                1
            } else if dinov2 {
                14
            } else {
                16
            },
        )?;
        made.num_classes = num_classes;
        made.mlp_ratio = mlp_ratio;
        made.qkv_bias = root.bool("qkv_bias")?.unwrap_or(true);
        made.reg_tokens = registers;
        made.distilled = teacher;
        made.no_embed_class = kind == "dinov2_with_registers";
        made.init_values = if dinov2 { Some(root.number("layerscale_value")?.unwrap_or(1.)) } else { None };
        made.global_pool = match kind {
            "ijepa" => GlobalPool::Avg,
            _ if both_pools => GlobalPool::TokenAvg,
            _ => GlobalPool::Token,
        };
        if kind == "ijepa" {
            (made.class_token, made.fc_norm) = (false, Some(false));
        }
        made.act = act(root, Act::Gelu)?;
        let usual = if dinov2 || kind == "vit_msn" { 1e-6 } else { 1e-12 };
        made.norm_eps = root.number("layer_norm_eps")?.unwrap_or(usual);
        made.pos_drop_rate = dropout;
        made.proj_drop_rate = dropout;
        made.attn_drop_rate = root.number("attention_probs_dropout_prob")?.unwrap_or(0.);
        made.drop_path_rate = root.number("drop_path_rate")?.unwrap_or(0.);
        if dinov2 && root.bool("use_swiglu_ffn")? == Some(true) {
            // Two thirds of what is stated, in eights.
            let hidden = ((embed_dim as f64 * mlp_ratio) as usize * 2 / 3).next_multiple_of(8);
            made.mlp_ratio = VitConfig::mlp_ratio_of(hidden, embed_dim);
            (made.swiglu_mlp, made.act) = (true, Act::Silu);
        }
        if dinov3 {
            as_dinov3(root, &mut made)?;
        }
        if beit {
            as_beit(root, classes, &mut made)?;
        }
        if hybrid {
            stem::of_hugging_face(root, &mut made)?;
        }
        made
    };
    let preprocessing = processor::preprocessing(processor_file, kind, &mut vit, dinov2 || dinov3, notes)?;
    let license = root.text("license")?.map(str::to_lowercase);
    Ok(CheckpointConfig::new(Architecture::Vit(vit), preprocessing).with(|c| (c.labels, c.license) = (labels, license)))
}

/// The number of classes of a model that classifies, and their names where they have some.
pub(super) fn classes_of(
    root: &Fields,
    classifies: bool,
    classifier: Option<Classifier>,
    notes: &mut Vec<String>,
) -> Result<(usize, Option<Vec<String>>)> {
    let stated = root.size("num_labels")?;
    let by_name = || root.labels_by_name("label2id").filter(|labels| stated.is_none_or(|count| count == labels.len()));
    let labels = root.labels("id2label")?.or_else(by_name);
    if let (Some(count), Some(labels)) = (stated.filter(|_| classifies), &labels)
        && count != labels.len()
    {
        let named = labels.len();
        notes.push(format!(
            "config.json: num_labels is {count}, id2label names {named}: {named} was taken, as in transformers"
        ));
    }
    let num_classes = match (classifies, &labels) {
        (false, _) => 0,
        (true, Some(labels)) => labels.len(),
        // transformers leaves its default of two classes unsaid in the config of a classifier.
        (true, None) => stated.unwrap_or(classifier.map_or(2, |head| head.classes)),
    };
    let unnamed = |labels: &Vec<String>| labels.iter().enumerate().all(|(i, label)| *label == format!("LABEL_{i}"));
    Ok((num_classes, labels.filter(|labels| classifies && !unnamed(labels))))
}

/// A ViT of the sizes that all of transformers' have under the same names: of images, patches, tokens, blocks and heads.
pub(super) fn sizes(root: &Fields, patch_size: usize) -> Result<VitConfig> {
    let mut made = VitConfig::default();
    made.img_size = root.img_size("image_size")?.unwrap_or(224.into());
    made.patch_size = root.side("patch_size")?.unwrap_or(patch_size);
    made.in_chans = channels(root)?;
    made.embed_dim = root.size_or("hidden_size", 768)?;
    made.depth = root.size_or("num_hidden_layers", 12)?;
    made.num_heads = root.size_or("num_attention_heads", 12)?;
    Ok(made)
}

/// What a config of several parts says of one, `text` or `vision`. Of CLIP's, transformers takes an older `text_config_dict` before
/// `text_config`, its defaults too.
pub(super) fn part_of<'a>(root: &Fields<'a>, part: &str, siglip: bool) -> Result<Option<Fields<'a>>> {
    let old = if siglip { None } else { root.object(&format!("{part}_config_dict"))? };
    old.map_or_else(|| root.object(&format!("{part}_config")), |old| Ok(Some(old)))
}

/// The channels of the input.
fn channels(root: &Fields) -> Result<usize> {
    let in_chans = root.size("num_channels")?.unwrap_or(3);
    // As many numbers stand for a mean that nothing says.
    if !(1..=MAX_CHANNELS).contains(&in_chans) {
        return Err(root.error("num_channels", &format!("1 to {MAX_CHANNELS}")));
    }
    Ok(in_chans)
}

/// DINOv3's own numbers.
fn as_dinov3(root: &Fields, vit: &mut VitConfig) -> Result<()> {
    let bias = |field: &str, unsaid: bool| root.bool(field).map(|bias| bias.unwrap_or(unsaid));
    if !bias("proj_bias", true)? || !bias("mlp_bias", true)? {
        let field = if bias("proj_bias", true)? { "mlp_bias" } else { "proj_bias" };
        return Err(root.unsupported(field, "projection and MLP of these models have biases"));
    }
    let (q, k, v) = (bias("query_bias", true)?, bias("key_bias", false)?, bias("value_bias", true)?);
    if q != v || k && !q {
        return Err(
            root.unsupported("query_bias", "queries and values have biases both or neither, and keys only with them")
        );
    }
    if !root.has("hidden_size") {
        vit.embed_dim = 384;
        let hidden = root.size("intermediate_size")?.unwrap_or(1536);
        vit.mlp_ratio = VitConfig::mlp_ratio_of(hidden, vit.embed_dim);
    }
    if !root.has("num_attention_heads") {
        vit.num_heads = 6;
    }
    (vit.qkv_bias, vit.k_bias) = (q, k);
    vit.reg_tokens = root.size("num_register_tokens")?.unwrap_or(0);
    vit.init_values = Some(root.number("layerscale_value")?.unwrap_or(1.));
    vit.norm_eps = root.number("layer_norm_eps")?.unwrap_or(1e-5);
    vit.attn_drop_rate = root.number("attention_dropout")?.unwrap_or(0.);
    vit.pos_embed = PosEmbed::None;
    vit.rope_type = RopeType::DinoV3;
    vit.rope_temperature = root.number("rope_theta")?.unwrap_or(100.);
    vit.rope_rotate_half = true;
    if root.bool("use_gated_mlp")? == Some(true) {
        // timm has the gate apart where its width is aligned, which 1 leaves as it is.
        (vit.swiglu_mlp, vit.swiglu_align_to) = (true, 1);
    }
    Ok(())
}

/// BEiT's own numbers, which Data2Vec-Vision shares. `class` is that of the model.
fn as_beit(root: &Fields, class: Option<&str>, vit: &mut VitConfig) -> Result<()> {
    let is = |field: &str| root.bool(field).map(|is| is == Some(true));
    let positions = is("use_absolute_position_embeddings")?;
    vit.pos_embed = if positions { PosEmbed::Learned } else { PosEmbed::None };
    vit.use_rel_pos_bias = is("use_relative_position_bias")?;
    vit.use_shared_rel_pos_bias = is("use_shared_relative_position_bias")?;
    (vit.qkv_bias, vit.k_bias) = (true, false);
    vit.init_values = Some(root.number("layer_scale_init_value")?.unwrap_or(0.1)).filter(|value| *value > 0.);
    vit.drop_path_rate = root.number("drop_path_rate")?.unwrap_or(0.1);
    let mean = root.bool("use_mean_pooling")? != Some(false);
    if mean {
        vit.global_pool = GlobalPool::Avg;
        // The norm belongs to the pooler, which these classes leave out.
        if class.is_some_and(|class| class == "Data2VecVisionModel" || class.ends_with("ForMaskedImageModeling")) {
            (vit.final_norm, vit.fc_norm) = (false, Some(false));
        }
    }
    Ok(())
}

/// No model reads more channels.
const MAX_CHANNELS: usize = 1 << 16;

/// A linear layer over the features that lies in the weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Classifier {
    /// Its rows.
    pub(crate) classes: usize,
    /// What it reads.
    pub(crate) width: usize,
    /// Whether there is a second one for DeiT's distillation token.
    pub(crate) distilled: bool,
    /// Whether it projects into a space that images share with texts, and is no classifier.
    pub(crate) projects: bool,
}

impl Classifier {
    /// What is said where the class of the model that the config names has no such head.
    pub(super) fn note(self, class: Option<&str>) -> String {
        let named = class.map_or("names no class of the model".into(), |class| format!("is that of a {class}"));
        let what = if self.projects { "projection" } else { "classifier" };
        format!("config.json {named}: the weights have a {what} of {} rows, which was taken for its head", self.classes)
    }
}

/// The activation of the MLPs; `unsaid` is transformers' default.
pub(super) fn act(root: &Fields, unsaid: Act) -> Result<Act> {
    Ok(match root.text("hidden_act")? {
        None => unsaid,
        Some("gelu") => Act::Gelu,
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Act::GeluTanh,
        Some("quick_gelu") => Act::QuickGelu,
        Some("silu" | "swish") => Act::Silu,
        Some(_) => {
            let known = "known are gelu, gelu_new, gelu_pytorch_tanh, quick_gelu and silu";
            return Err(root.unsupported("hidden_act", known));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(config: &str, preprocessor: Option<&str>) -> Result<CheckpointConfig> {
        CheckpointConfig::parse(config, preprocessor, "config.json")
    }

    #[test]
    fn dinov2_giant_has_a_gate_of_two_thirds_in_eights() {
        let text =
            r#"{"model_type": "dinov2", "hidden_size": 1536, "num_attention_heads": 24, "use_swiglu_ffn": true}"#;
        let Architecture::Vit(vit) = parsed(text, None).unwrap().architecture else { panic!("no ViT") };
        assert_eq!((vit.mlp_dim(), vit.swiglu_mlp, vit.act), (4096, true, Act::Silu));
    }

    #[test]
    fn a_field_that_makes_no_sense_is_named() {
        let hybrid = |more: &str| {
            let kind = r#""layer_type": "bottleneck", "global_padding": "same", "embedding_dynamic_padding": true"#;
            format!(r#"{{"model_type": "vit-hybrid", "backbone_config": {{{kind}, {more}}}}}"#)
        };
        let text = hybrid(r#""depths": [3, 4, 9], "out_features": ["stage3"]"#);
        let Architecture::Vit(vit) = parsed(&text, None).unwrap().architecture else { panic!("no ViT") };
        let stages = vit.stem_layers.map(Vec::from);
        assert_eq!((stages, vit.stem_width, vit.grid_size()), (Some(vec![3, 4, 9]), 64, [14, 14]));
        for (text, field) in [
            (r#"{"model_type": "vit", "hidden_size": -1}"#, "hidden_size"),
            (r#"{"model_type": "vit", "num_attention_heads": 7}"#, "num_heads"),
            (r#"{"model_type": "vit", "image_size": [224, 336, 3]}"#, "image_size"),
            (r#"{"model_type": "vit", "patch_size": 0}"#, "patch_size"),
            (r#"{"model_type": "vit", "hidden_act": "relu"}"#, "hidden_act"),
            (r#"{"model_type": "swin"}"#, "model_type"),
            (r#"{"model_type": "vit-hybrid", "backbone_config": {"layer_type": "preactivation"}}"#, "layer_type"),
            (hybrid(r#""num_groups": 16"#).as_str(), "backbone_config.num_groups"),
            (hybrid(r#""depths": [3, 0]"#).as_str(), "stem_layers"),
            (hybrid(r#""depths": [3, 4], "out_features": ["stage1"]"#).as_str(), "out_features"),
            (hybrid(r#""depths": [3, 4], "hidden_sizes": [256]"#).as_str(), "hidden_sizes"),
            (hybrid(r#""depths": [3], "embedding_size": 4294967295"#).as_str(), "hidden_sizes"),
            (r#"{"model_type": "dinov3_vit", "hidden_size": 36, "num_attention_heads": 6}"#, "rope_type"),
            (r#"{"model_type": "dinov3_vit", "query_bias": false}"#, "query_bias"),
            (r#"{"model_type": "beit", "use_relative_position_bias": true, "image_size": 2048}"#, "use_rel_pos_bias"),
            (r#"{"model_type": "vit", "num_hidden_layers": 1000000000}"#, "depth"),
        ] {
            let error = parsed(text, None).unwrap_err().to_string();
            assert!(error.contains(field) && !error.contains('\n'), "{error}");
        }
    }
}
