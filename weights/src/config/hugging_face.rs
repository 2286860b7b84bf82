//! Hugging Face's `config.json` of ViT, DeiT, ViT-MAE and DINOv2, with the `preprocessor_config.json` beside it.

use tallow_models::vit::{Act, GlobalPool};
use tallow_models::{Architecture, VitConfig};

use super::fields::Fields;
use super::{CheckpointConfig, IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocessing};
use crate::Result;

pub(super) fn parse(root: &Fields, preprocessor: Option<&Fields>) -> Result<CheckpointConfig> {
    let kind = root.text("model_type")?.unwrap_or_default();
    let dinov2 = matches!(kind, "dinov2" | "dinov2_with_registers");
    if !dinov2 && !matches!(kind, "vit" | "deit" | "vit_mae") {
        return Err(root.unsupported("model_type", "known are vit, deit, vit_mae, dinov2 and dinov2_with_registers"));
    }
    if root.bool("use_swiglu_ffn")? == Some(true) {
        return Err(root.unsupported("use_swiglu_ffn", "choose a model with a plain MLP: small, base or large"));
    }
    let classes = root.value("architectures").and_then(|names| names.get(0)?.as_str());
    let classifies = classes.is_some_and(|class| class.contains("ForImageClassification"));
    let labels = root.labels("id2label")?;
    let num_classes = match (classifies, &labels) {
        (false, _) => 0,
        (true, Some(labels)) => labels.len(),
        // transformers leaves its default of two classes unsaid.
        (true, None) => root.size("num_labels")?.unwrap_or(2),
    };
    let embed_dim = root.size("hidden_size")?.unwrap_or(768);
    let mlp_ratio = match root.size("intermediate_size")? {
        Some(width) if !dinov2 && embed_dim > 0 => width as f64 / embed_dim as f64,
        _ => root.number("mlp_ratio")?.unwrap_or(4.),
    };
    let teacher = classes.is_some_and(|class| class.ends_with("WithTeacher"));
    let registers = match kind {
        "dinov2_with_registers" => root.size("num_register_tokens")?.unwrap_or(4),
        // Without the second head, DeiT's distillation token is an extra token as any register.
        "deit" if !teacher => 1,
        _ => 0,
    };
    let dropout = root.number("hidden_dropout_prob")?.unwrap_or(0.);
    let vit = VitConfig {
        img_size: root.side("image_size")?.unwrap_or(224),
        patch_size: root.side("patch_size")?.unwrap_or(if dinov2 { 14 } else { 16 }),
        in_chans: root.size("num_channels")?.unwrap_or(3),
        num_classes,
        embed_dim,
        depth: root.size("num_hidden_layers")?.unwrap_or(12),
        num_heads: root.size("num_attention_heads")?.unwrap_or(12),
        mlp_ratio,
        qkv_bias: root.bool("qkv_bias")?.unwrap_or(true),
        reg_tokens: registers,
        distilled: teacher,
        no_embed_class: kind == "dinov2_with_registers",
        init_values: if dinov2 { Some(root.number("layerscale_value")?.unwrap_or(1.)) } else { None },
        global_pool: if dinov2 && classifies { GlobalPool::TokenAvg } else { GlobalPool::Token },
        act: act(root)?,
        norm_eps: root.number("layer_norm_eps")?.unwrap_or(if dinov2 { 1e-6 } else { 1e-12 }),
        pos_drop_rate: dropout,
        proj_drop_rate: dropout,
        attn_drop_rate: root.number("attention_probs_dropout_prob")?.unwrap_or(0.),
        drop_path_rate: root.number("drop_path_rate")?.unwrap_or(0.),
        ..VitConfig::default()
    };
    let unnamed = |labels: &Vec<String>| labels.iter().enumerate().all(|(i, label)| *label == format!("LABEL_{i}"));
    Ok(CheckpointConfig {
        name: None,
        tag: None,
        preprocessing: preprocessing(preprocessor, &vit, dinov2)?,
        architecture: Architecture::Vit(vit),
        whitening: None,
        labels: labels.filter(|labels| classifies && !unnamed(labels)),
        head_fault: None,
        license: root.text("license")?.map(str::to_lowercase),
    })
}

fn act(root: &Fields) -> Result<Act> {
    Ok(match root.text("hidden_act")? {
        None | Some("gelu") => Act::Gelu,
        Some("gelu_new" | "gelu_pytorch_tanh" | "gelu_fast") => Act::GeluTanh,
        Some("quick_gelu") => Act::QuickGelu,
        Some(_) => {
            return Err(root.unsupported("hidden_act", "known are gelu, gelu_new, gelu_pytorch_tanh and quick_gelu"));
        }
    })
}

/// What the image processor does, as far as evaluation is concerned. Without a file: what transformers' processors of these
/// models do when nothing is said.
fn preprocessing(file: Option<&Fields>, vit: &VitConfig, dinov2: bool) -> Result<Preprocessing> {
    let input_size = [vit.in_chans, vit.img_size, vit.img_size];
    let Some(file) = file else {
        let (mean, std): (Vec<f64>, Vec<f64>) = if dinov2 {
            (IMAGENET_MEAN.into(), IMAGENET_STD.into())
        } else {
            (vec![0.5; vit.in_chans], vec![0.5; vit.in_chans])
        };
        let interpolation = if dinov2 { Interpolation::Bicubic } else { Interpolation::Bilinear };
        let crop_pct = if dinov2 { 224. / 256. } else { 1. };
        return Ok(Preprocessing { input_size, interpolation, crop_pct, squash: !dinov2, mean, std });
    };
    let interpolation = match file.size("resample")? {
        Some(0) => Interpolation::Nearest,
        Some(1) => Interpolation::Lanczos,
        None | Some(2) => Interpolation::Bilinear,
        Some(3) => Interpolation::Bicubic,
        Some(_) => {
            return Err(file.unsupported("resample", "known are 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic)"));
        }
    };
    let (resized, squash) = resized(file)?;
    let crop =
        if file.bool("do_center_crop")?.unwrap_or(file.has("crop_size")) { side(file, "crop_size")? } else { None };
    let crop_pct = match (crop, resized) {
        (Some(crop), Some(resized)) if crop <= resized => crop as f64 / resized as f64,
        (Some(_), Some(_)) => return Err(file.error("crop_size", "no more than size")),
        _ => 1.,
    };
    let (mut mean, mut std) = if file.bool("do_normalize")?.unwrap_or(true) {
        let read = |field: &str| file.numbers(field).map(|numbers| numbers.unwrap_or(vec![0.5; vit.in_chans]));
        (read("image_mean")?, read("image_std")?)
    } else {
        (vec![0.; vit.in_chans], vec![1.; vit.in_chans])
    };
    // Ours divides by 255, then normalises: another factor goes into mean and deviation.
    let factor =
        if file.bool("do_rescale")?.unwrap_or(true) { file.number("rescale_factor")?.unwrap_or(1. / 255.) } else { 1. };
    let scale = factor * 255.;
    if !(scale.is_finite() && scale > 0.) {
        return Err(file.error("rescale_factor", "a factor above 0"));
    }
    if (scale - 1.).abs() > 1e-6 {
        mean.iter_mut().chain(&mut std).for_each(|value| *value /= scale);
    }
    Ok(Preprocessing { input_size, interpolation, crop_pct, squash, mean, std })
}

/// The size that images are resized to, and whether both sides are (else the shorter one).
fn resized(file: &Fields) -> Result<(Option<usize>, bool)> {
    let Some(size) = file.value("size") else { return Ok((None, true)) };
    if size.is_object() {
        let size = file.object("size")?;
        let Some(size) = size else { return Ok((None, true)) };
        if let Some(edge) = size.size("shortest_edge")? {
            return Ok((Some(edge), false));
        }
        return Ok((side(file, "size")?, true));
    }
    // A number alone means the shorter edge for the processors of CLIP's kind, and both sides for ViT's.
    let kind = file.text("image_processor_type")?.or(file.text("feature_extractor_type")?).unwrap_or_default();
    let shorter = ["CLIP", "Bit", "ConvNext"].iter().any(|name| kind.contains(name));
    Ok((side(file, "size")?, !shorter))
}

/// A number, or an object of equal `height` and `width`.
fn side(file: &Fields, field: &str) -> Result<Option<usize>> {
    if !file.value(field).is_some_and(serde_json::Value::is_object) {
        return file.side(field);
    }
    let Some(size) = file.object(field)? else { return Ok(None) };
    match (size.size("height")?, size.size("width")?) {
        (Some(height), Some(width)) if height == width && height > 0 => Ok(Some(height)),
        _ => Err(file.error(field, "equal height and width")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(config: &str, preprocessor: Option<&str>) -> Result<CheckpointConfig> {
        CheckpointConfig::parse(config, preprocessor, "config.json")
    }

    #[test]
    fn the_vit_processor_squashes_and_the_bit_processor_crops() {
        let vit = parsed(
            r#"{"model_type": "vit", "image_size": 384}"#,
            Some(
                r#"{"size": {"height": 384, "width": 384}, "resample": 2, "image_mean": [0.5,0.5,0.5], "image_std": [0.5,0.5,0.5]}"#,
            ),
        );
        let vit = vit.unwrap().preprocessing;
        assert!(vit.squash);
        assert_eq!((vit.interpolation, vit.crop_pct), (Interpolation::Bilinear, 1.));
        let bit = parsed(
            r#"{"model_type": "dinov2", "image_size": 224}"#,
            Some(
                r#"{"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": true,
                   "resample": 3, "image_mean": [0.485,0.456,0.406], "image_std": [0.229,0.224,0.225]}"#,
            ),
        );
        let bit = bit.unwrap().preprocessing;
        assert!(!bit.squash);
        assert_eq!((bit.interpolation, bit.crop_pct), (Interpolation::Bicubic, 0.875));
    }

    #[test]
    fn another_rescale_factor_goes_into_mean_and_deviation() {
        let text =
            r#"{"rescale_factor": 0.00784313725490196, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]}"#;
        let preprocessing = parsed(r#"{"model_type": "vit"}"#, Some(text)).unwrap().preprocessing;
        assert!((preprocessing.mean[0] - 0.5).abs() < 1e-9);
        assert!((preprocessing.std[0] - 0.5).abs() < 1e-9);
    }

    #[test]
    fn swiglu_is_refused_by_name() {
        let error = parsed(r#"{"model_type": "dinov2", "use_swiglu_ffn": true}"#, None).unwrap_err().to_string();
        assert!(error.contains("use_swiglu_ffn") && error.contains("not supported"), "{error}");
    }

    #[test]
    fn a_field_that_makes_no_sense_is_named() {
        for (text, field) in [
            (r#"{"model_type": "vit", "hidden_size": -1}"#, "hidden_size"),
            (r#"{"model_type": "vit", "num_attention_heads": 7}"#, "num_heads"),
            (r#"{"model_type": "vit", "image_size": [224, 336]}"#, "image_size"),
            (r#"{"model_type": "vit", "patch_size": 0}"#, "patch_size"),
            (r#"{"model_type": "vit", "hidden_act": "relu"}"#, "hidden_act"),
            (r#"{"model_type": "swin"}"#, "model_type"),
            (r#"{"model_type": "vit", "num_hidden_layers": 1000000000}"#, "depth"),
        ] {
            let error = parsed(text, None).unwrap_err().to_string();
            assert!(error.contains(field) && !error.contains('\n'), "{error}");
        }
    }
}
