//! Hugging Face's `config.json` of ViT, DeiT, ViT-MAE, ViT-MSN, I-JEPA, DINOv2, DINOv3, BEiT and Data2Vec-Vision, with the
//! `preprocessor_config.json` beside it.

use tallow_models::vit::{Act, GlobalPool, PosEmbed, RopeType};
use tallow_models::{Architecture, ImgSize, ModelConfig, VitConfig};

use super::fields::Fields;
use super::{CLIP, CheckpointConfig, IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocessing};
use crate::Result;

/// `classifier` is the head that the weights have, where the class of the model that the file names has none.
pub(super) fn parse(
    root: &Fields,
    processor: Option<&Fields>,
    classifier: Option<Classifier>,
    notes: &mut Vec<String>,
) -> Result<CheckpointConfig> {
    let kind = root.text("model_type")?.unwrap_or_default();
    let dinov2 = matches!(kind, "dinov2" | "dinov2_with_registers");
    let (dinov3, beit) = (kind == "dinov3_vit", matches!(kind, "beit" | "data2vec-vision"));
    if !(dinov2 || dinov3 || beit || matches!(kind, "vit" | "deit" | "vit_mae" | "vit_msn" | "ijepa")) {
        let known = "known are vit, deit, vit_mae, vit_msn, ijepa, dinov2, dinov2_with_registers, dinov3_vit, beit, data2vec-vision, \
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
    let in_chans = channels(root)?;
    let mut vit = {
        let mut made = VitConfig::default();
        made.img_size = root.img_size("image_size")?.unwrap_or(224.into());
        made.patch_size = root.side("patch_size")?.unwrap_or(if dinov2 { 14 } else { 16 });
        made.in_chans = in_chans;
        made.num_classes = num_classes;
        made.embed_dim = embed_dim;
        made.depth = root.size("num_hidden_layers")?.unwrap_or(12);
        made.num_heads = root.size("num_attention_heads")?.unwrap_or(12);
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
        made
    };
    let preprocessing = preprocessing(processor, kind, &mut vit, dinov2 || dinov3, notes)?;
    let license = root.text("license")?.map(str::to_lowercase);
    Ok(CheckpointConfig::new(Architecture::Vit(vit), preprocessing).with(|c| (c.labels, c.license) = (labels, license)))
}

/// How images become the input: as the processor's file says, else as transformers' processors do. `any_size` says that the model
/// takes images of any size.
pub(super) fn preprocessing(
    processor: Option<&Fields>,
    kind: &str,
    vit: &mut VitConfig,
    any_size: bool,
    notes: &mut Vec<String>,
) -> Result<Preprocessing> {
    let Some(file) = processor else { return Ok(unsaid(vit, kind)) };
    if let Some(class) = Kind::stranger(file)? {
        notes.push(format!(
            "{}: {class} is no image processor of these models: what the file says is done, and not what else the class does",
            file.origin
        ));
    }
    Processor::read(file, kind, vit.in_chans)?.preprocessing(file, vit, any_size, notes)
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

/// The channels of the input.
pub(super) fn channels(root: &Fields) -> Result<usize> {
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

/// What transformers' processors of these models do when nothing is said.
fn unsaid(vit: &VitConfig, kind: &str) -> Preprocessing {
    let half = || vec![0.5; vit.in_chans];
    let (dinov2, clip) = (kind.starts_with("dinov2"), Kind::of_model(kind) == Kind::Bit && !kind.starts_with("dinov2"));
    let (mean, std) = match (dinov2 || kind == "dinov3_vit", clip) {
        (true, _) => (IMAGENET_MEAN.into(), IMAGENET_STD.into()),
        (_, true) => CLIP.map(Vec::from).into(),
        _ => (half(), half()),
    };
    let beit = matches!(kind, "beit" | "data2vec-vision");
    let cubic = dinov2 || clip || beit || Kind::of_model(kind) == Kind::Siglip;
    Preprocessing {
        input_size: vit.input_size(),
        interpolation: if cubic { Interpolation::Bicubic } else { Interpolation::Bilinear },
        crop_pct: if dinov2 { 224. / 256. } else { 1. },
        squash: !(dinov2 || clip),
        crop_floor: true,
        mean,
        std,
    }
}

/// Kinds of image processors, by what they do where their file says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Both sides to 224.
    Vit,
    /// The same by the cubic filter.
    Siglip,
    /// Both sides to 256, then the centre of 224.
    Deit,
    /// The shorter side to 224, then the centre of 224: BiT's, which DINOv2 uses, and CLIP's.
    Bit,
    /// The shorter side, divided by a share, then the centre.
    ConvNext,
}

impl Kind {
    /// By the name of the processor's class, else by the model that it belongs to.
    fn of(file: &Fields, model: &str) -> Result<Self> {
        let name = file.text("image_processor_type")?.or(file.text("feature_extractor_type")?).unwrap_or(model);
        Ok(Self::of_model(name))
    }

    /// By the name of a model or of a class.
    fn of_model(name: &str) -> Self {
        let name = name.to_lowercase();
        let kinds = [
            ("siglip", Self::Siglip),
            ("deit", Self::Deit),
            ("bit", Self::Bit),
            ("clip", Self::Bit),
            ("dinov2", Self::Bit),
            ("convnext", Self::ConvNext),
        ];
        kinds.iter().find(|(part, _)| name.contains(part)).map_or(Self::Vit, |(_, kind)| *kind)
    }

    /// The class of the processor, where it is none of those whose ways are known here.
    fn stranger<'a>(file: &'a Fields) -> Result<Option<&'a str>> {
        let known = "vit deit bit clip dinov2 dinov3vit convnext siglip siglip2 beit ijepa chineseclip";
        let name = file.text("image_processor_type")?.or(file.text("feature_extractor_type")?);
        Ok(name.filter(|name| {
            let name = name.to_lowercase();
            let base = name.split("imageprocessor").next().and_then(|name| name.split("featureextractor").next());
            !known.split(' ').any(|known| base == Some(known))
        }))
    }

    /// Whether a lone number is the shorter side's, and not that of both.
    fn keeps_ratio(self) -> bool {
        matches!(self, Self::Bit | Self::ConvNext)
    }
}

/// What becomes of an image's size.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Resize {
    /// Nothing.
    No,
    /// Height and width become these.
    Both([usize; 2]),
    /// The shorter side becomes this.
    Shorter(usize),
}

/// What an image processor does, as far as evaluation is concerned.
struct Processor {
    resize: Resize,
    /// The centre of this height and width is taken.
    crop: Option<[usize; 2]>,
    interpolation: Interpolation,
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Processor {
    fn read(file: &Fields, model: &str, in_chans: usize) -> Result<Self> {
        let kind = Kind::of(file, model)?;
        let interpolation = match file.size("resample")? {
            Some(0) => Interpolation::Nearest,
            Some(1) => Interpolation::Lanczos,
            Some(2) => Interpolation::Bilinear,
            Some(3) => Interpolation::Bicubic,
            None if kind == Kind::Vit => Interpolation::Bilinear,
            None => Interpolation::Bicubic,
            Some(_) => {
                let known = "known are 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic)";
                return Err(file.unsupported("resample", known));
            }
        };
        let (resize, crop) = sizes(file, kind)?;
        let (mean, std) = normalisation(file, kind, in_chans)?;
        Ok(Self { resize, crop, interpolation, mean, std })
    }

    /// The same in our words. Where a model takes images of any size, as transformers' DINOv2 does, it reads what the processor
    /// makes; others read the size that they were built for.
    fn preprocessing(
        self,
        file: &Fields,
        vit: &mut VitConfig,
        any_size: bool,
        notes: &mut Vec<String>,
    ) -> Result<Preprocessing> {
        let name = file.origin;
        let made = match (self.crop, self.resize) {
            (Some(crop), _) => Some(crop),
            (None, Resize::Both(sides)) => Some(sides),
            (None, Resize::Shorter(side)) => Some([side; 2]),
            (None, Resize::No) => None,
        };
        if let Some(made) = made.map(ImgSize::from).filter(|made| *made != vit.img_size) {
            let own = vit.img_size;
            if any_size {
                let whole = made.sides().map(|side| side - side % vit.patch_size.max(1));
                if whole.contains(&0) {
                    return Err(file.error("size", &format!("at least a patch, {} pixels", vit.patch_size)));
                }
                vit.img_size = whole.into();
                notes.push(format!(
                    "{name} makes images of {made} pixels, and the config says {own}: the model reads {}, as in transformers \
                     (`img_size = {own}` asks for the other)",
                    vit.img_size
                ));
            } else {
                notes.push(format!(
                    "{name} makes images of {made} pixels, but the model reads {own}: they are made in that size"
                ));
            }
        }
        let sides = vit.img_size.sides();
        let (crop_pct, squash) = match (self.resize, self.crop) {
            (Resize::Both(whole), crop) => {
                let crop = crop.unwrap_or(whole);
                let pct = share(crop[0].min(sides[0]), whole[0]);
                if crop[0] > whole[0] || crop[1] > whole[1] {
                    return Err(file.error("crop_size", "no more than size"));
                }
                if (0..2).any(|axis| crop[axis] * whole[0] != crop[0] * whole[axis]) {
                    return Err(file.error("crop_size", "the same share of size in height and width"));
                }
                (pct, true)
            }
            (Resize::Shorter(side), None) => {
                notes.push(format!(
                    "{name} crops nothing: of an image that is no square, transformers reads all, and Tallow the centre"
                ));
                (share(side.min(sides[0]), side), false)
            }
            (Resize::Shorter(side), Some([height, width])) => {
                if height != width {
                    return Err(file.error("crop_size", "equal height and width"));
                }
                if height > side {
                    return Err(file.error("crop_size", "no more than size"));
                }
                (share(height.min(sides[0]), side), false)
            }
            (Resize::No, crop) => {
                notes.push(format!(
                    "{name} resizes nothing (do_resize): images of other sizes than {} are resized here all the same",
                    vit.img_size
                ));
                (1., crop.is_none())
            }
        };
        let Self { interpolation, mean, std, .. } = self;
        Ok(Preprocessing { input_size: vit.input_size(), interpolation, crop_pct, squash, crop_floor: true, mean, std })
    }
}

/// The share of `whole` that `part` is, so that `part` divided by it, in floating point, is `whole` and not just below.
pub(super) fn share(part: usize, whole: usize) -> f64 {
    let (part, whole) = (part as f64, whole as f64);
    let share = part / whole;
    if part / share < whole { share.next_down() } else { share }
}

/// What images are resized to, and which centre of them is taken.
fn sizes(file: &Fields, kind: Kind) -> Result<(Resize, Option<[usize; 2]>)> {
    let resize = if file.bool("do_resize")? == Some(false) { Resize::No } else { resized(file, kind)? };
    if kind == Kind::ConvNext {
        // Large images are not cropped.
        return Ok(match resize {
            Resize::Shorter(side) if side >= 384 => (Resize::Both([side; 2]), None),
            Resize::Shorter(side) => {
                let pct = file.number("crop_pct")?.unwrap_or(224. / 256.);
                (Resize::Shorter((side as f64 / pct) as usize), Some([side; 2]))
            }
            other => (other, None),
        });
    }
    let crops = file.bool("do_center_crop")?.unwrap_or(matches!(kind, Kind::Bit | Kind::Deit));
    let crop = if crops { Some(sides(file, "crop_size")?.unwrap_or([224; 2])) } else { None };
    Ok((resize, crop))
}

fn resized(file: &Fields, kind: Kind) -> Result<Resize> {
    let object = if file.value("size").is_some_and(serde_json::Value::is_object) { file.object("size")? } else { None };
    if let Some(size) = object {
        if size.has("longest_edge") {
            return Err(file.unsupported("size", "known are height and width, or shortest_edge alone"));
        }
        if let Some(edge) = size.size("shortest_edge")? {
            return if edge > 0 {
                Ok(Resize::Shorter(edge))
            } else {
                Err(file.error("size", "a shortest_edge above 0"))
            };
        }
    }
    Ok(match (sides(file, "size")?, kind) {
        (Some([height, width]), kind) if height == width && kind.keeps_ratio() && !file_has_sides(file) => {
            Resize::Shorter(height)
        }
        (Some(sides), _) => Resize::Both(sides),
        (None, Kind::Vit | Kind::Siglip) => Resize::Both([224; 2]),
        (None, Kind::Deit) => Resize::Both([256; 2]),
        (None, Kind::Bit) => Resize::Shorter(224),
        (None, Kind::ConvNext) => Resize::Shorter(384),
    })
}

/// Whether `size` says height and width, and is no lone number.
fn file_has_sides(file: &Fields) -> bool {
    file.value("size").is_some_and(|size| size.is_object() || size.is_array())
}

/// Mean and deviation of pixels in [0, 1].
fn normalisation(file: &Fields, kind: Kind, in_chans: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let (mut mean, mut std) = if file.bool("do_normalize")?.unwrap_or(true) {
        let [clip_mean, clip_std] = CLIP.map(Vec::from);
        let unsaid = |clip: Vec<f64>| if kind == Kind::Bit { clip } else { vec![0.5; in_chans] };
        (
            file.numbers("image_mean")?.unwrap_or_else(|| unsaid(clip_mean)),
            file.numbers("image_std")?.unwrap_or_else(|| unsaid(clip_std)),
        )
    } else {
        (vec![0.; in_chans], vec![1.; in_chans])
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
    Ok((mean, std))
}

/// Height and width: a number for both, two numbers, or an object of them.
fn sides(file: &Fields, field: &str) -> Result<Option<[usize; 2]>> {
    let expected = "a number above 0, or height and width";
    let sides = if file.value(field).is_some_and(serde_json::Value::is_object) {
        let Some(size) = file.object(field)? else { return Ok(None) };
        match (size.size("height")?, size.size("width")?, size.size("shortest_edge")?) {
            (Some(height), Some(width), _) => Some([height, width]),
            // Old files of CLIP's kind.
            (None, None, Some(edge)) => Some([edge; 2]),
            _ => return Err(file.error(field, expected)),
        }
    } else {
        file.img_size(field)?.map(ImgSize::sides)
    };
    match sides {
        Some(sides) if sides.contains(&0) => Err(file.error(field, expected)),
        sides => Ok(sides),
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
    fn dinov2_giant_has_a_gate_of_two_thirds_in_eights() {
        let text =
            r#"{"model_type": "dinov2", "hidden_size": 1536, "num_attention_heads": 24, "use_swiglu_ffn": true}"#;
        let Architecture::Vit(vit) = parsed(text, None).unwrap().architecture else { panic!("no ViT") };
        assert_eq!((vit.mlp_dim(), vit.swiglu_mlp, vit.act), (4096, true, Act::Silu));
    }

    #[test]
    fn a_field_that_makes_no_sense_is_named() {
        for (text, field) in [
            (r#"{"model_type": "vit", "hidden_size": -1}"#, "hidden_size"),
            (r#"{"model_type": "vit", "num_attention_heads": 7}"#, "num_heads"),
            (r#"{"model_type": "vit", "image_size": [224, 336, 3]}"#, "image_size"),
            (r#"{"model_type": "vit", "patch_size": 0}"#, "patch_size"),
            (r#"{"model_type": "vit", "hidden_act": "relu"}"#, "hidden_act"),
            (r#"{"model_type": "swin"}"#, "model_type"),
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
