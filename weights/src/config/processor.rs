//! Hugging Face's `preprocessor_config.json`: how images become the input, as transformers' image processors do it.

use tallow_models::{ImgSize, ModelConfig, VitConfig};

use super::fields::Fields;
use super::{CLIP, IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocessing, Resizing, Transparency};
use crate::Result;

/// The largest side of an image.
const MAX_SIDE: usize = 16384;
/// The least share of an image that the model may see.
const LEAST_SHARE: f64 = 0.05;

/// The fields of the processor in the file `origin`, which may have others beside it.
pub(super) fn fields<'a>(file: &'a serde_json::Value, origin: &'a str) -> Result<Fields<'a>> {
    let file = Fields::new(origin, file)?;
    Ok(file.object("image_processor")?.unwrap_or(file))
}

/// How images become the input of weights without a config, of the kind `model`, beside which the processor's file lies.
pub(super) fn beside(
    (text, origin): (&str, &str),
    model: &str,
    vit: &mut VitConfig,
    notes: &mut Vec<String>,
) -> Result<Preprocessing> {
    let file = super::json(text, origin)?;
    let file = fields(&file, origin)?;
    // Only DINOv2 and DINOv3 read images of any size.
    let any_size = matches!(Kind::of(&file, model)?, Kind::Bit | Kind::DinoV3) && !model.contains("clip");
    preprocessing(Some(&file), model, vit, any_size, notes)
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

/// What transformers' processors of these models do when nothing is said.
fn unsaid(vit: &VitConfig, model: &str) -> Preprocessing {
    let (kind, transparency) = (Kind::of_model(model), transparency(model));
    let dinov2 = model.starts_with("dinov2");
    let (mean, std) =
        if dinov2 { (IMAGENET_MEAN.into(), IMAGENET_STD.into()) } else { kind.normalisation(vit.in_chans) };
    Preprocessing {
        input_size: vit.input_size(),
        interpolation: kind.interpolation(),
        crop_pct: if dinov2 { 224. / 256. } else { 1. },
        squash: !kind.keeps_ratio(),
        crop_floor: true,
        resizing: kind.resizing(),
        keep_size: false,
        transparency,
        mean,
        std,
    }
}

/// Kinds of image processors, by what they do where their file says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Both sides to 224.
    Vit,
    /// The same by the cubic filter: SigLIP's.
    Siglip,
    /// The same, which does not convert to RGB: BEiT's.
    Beit,
    /// Both sides to 256, then the centre of 224.
    Deit,
    /// The shorter side to 224, then the centre of 224: BiT's, which DINOv2 uses, and CLIP's.
    Bit,
    /// The shorter side, divided by a share, then the centre.
    ConvNext,
    /// Both sides to 224, after pixels have become floats.
    DinoV3,
}

impl Kind {
    /// By the name of the processor's class, else by the model that it belongs to.
    fn of(file: &Fields, model: &str) -> Result<Self> {
        Ok(Self::of_model(class_of(file)?.unwrap_or(model)))
    }

    /// By the name of a model or of a class.
    fn of_model(name: &str) -> Self {
        let name = name.to_lowercase();
        let kinds = [
            ("siglip", Self::Siglip),
            ("deit", Self::Deit),
            ("beit", Self::Beit),
            ("data2vec", Self::Beit),
            ("bit", Self::Bit),
            ("clip", Self::Bit),
            ("dinov2", Self::Bit),
            ("dinov3", Self::DinoV3),
            ("convnext", Self::ConvNext),
            ("hybrid", Self::Bit),
        ];
        kinds.iter().find(|(part, _)| name.contains(part)).map_or(Self::Vit, |(_, kind)| *kind)
    }

    /// The class of the processor, where it is none of those whose ways are known here.
    fn stranger<'a>(file: &Fields<'a>) -> Result<Option<&'a str>> {
        let known = "vit deit bit clip dinov2 dinov3vit convnext siglip beit ijepa chineseclip vithybrid";
        Ok(class_of(file)?.filter(|name| {
            let name = name.to_lowercase();
            let base = name.split("imageprocessor").next().and_then(|name| name.split("featureextractor").next());
            !known.split(' ').any(|known| base == Some(known))
        }))
    }

    /// Whether a lone number is the shorter side's, and not that of both.
    fn keeps_ratio(self) -> bool {
        matches!(self, Self::Bit | Self::ConvNext)
    }

    fn interpolation(self) -> Interpolation {
        match self {
            Self::Vit | Self::DinoV3 => Interpolation::Bilinear,
            _ => Interpolation::Bicubic,
        }
    }

    /// How transformers 5 resizes where torchvision is there, whichever version of a class the file names (`…Fast`, `…Pil` or none): its
    /// `AutoImageProcessor` takes torchvision's.
    fn resizing(self) -> Resizing {
        if self == Self::DinoV3 { Resizing::Floats } else { Resizing::Torchvision }
    }

    /// Mean and deviation.
    fn normalisation(self, in_chans: usize) -> (Vec<f64>, Vec<f64>) {
        match self {
            Self::Bit => CLIP.map(Vec::from).into(),
            Self::DinoV3 => (IMAGENET_MEAN.into(), IMAGENET_STD.into()),
            _ => (vec![0.5; in_chans], vec![0.5; in_chans]),
        }
    }
}

/// The name of the processor's class, where the file says it.
fn class_of<'a>(file: &Fields<'a>) -> Result<Option<&'a str>> {
    Ok(file.text("image_processor_type")?.or(file.text("feature_extractor_type")?))
}

/// What processors of this class, or of this model, do with transparent images where their file says nothing of it: those that convert
/// to RGB lay them on white. The others are of no use for them in transformers, which fails on a fourth channel.
fn transparency(name: &str) -> Transparency {
    let name = name.to_lowercase();
    // SigLIP 2's processor of images of any shape does not.
    let converts =
        !name.starts_with("siglip2") && ["clip", "siglip", "bit", "dinov2"].iter().any(|part| name.contains(part));
    if converts { Transparency::OnWhite } else { Transparency::Dropped }
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
    resizing: Resizing,
    transparency: Transparency,
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
            None => kind.interpolation(),
            Some(_) => {
                let known = "known are 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic)";
                return Err(file.unsupported("resample", known));
            }
        };
        let (resize, crop) = sizes(file, kind)?;
        let (mean, std) = normalisation(file, kind, in_chans)?;
        let resizing = match kind.resizing() {
            // Pixels that are not rescaled stay levels.
            Resizing::Floats if file.bool("do_rescale")? == Some(false) => Resizing::Torchvision,
            usual => usual,
        };
        let transparency = match file.bool("do_convert_rgb")? {
            Some(true) => Transparency::OnWhite,
            // A null that is stated goes before what the class does.
            None if !file.is_null("do_convert_rgb") => transparency(class_of(file)?.unwrap_or(model)),
            Some(false) | None => Transparency::Dropped,
        };
        Ok(Self { resize, crop, interpolation, resizing, transparency, mean, std })
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
                let patch = vit.patch_pixels().max(1);
                if made.sides().iter().any(|&side| side < patch) {
                    return Err(file.error("size", &format!("at least a patch, {patch} pixels")));
                }
                vit.img_size = made;
                // As a convolution does, which leaves out the pixels of no whole patch.
                vit.trim |= !vit.divides_evenly();
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
                // Without a crop an image of another size is an error.
                (1., crop.is_none())
            }
        };
        if crop_pct < LEAST_SHARE {
            return Err(
                file.error("size", &format!("at most 20 times the {} pixels that the model reads", vit.img_size))
            );
        }
        let (input_size, keep_size) = (vit.input_size(), self.resize == Resize::No);
        let Self { interpolation, resizing, transparency, mean, std, .. } = self;
        let crop_floor = true;
        Ok(Preprocessing {
            input_size,
            interpolation,
            crop_pct,
            squash,
            crop_floor,
            resizing,
            keep_size,
            transparency,
            mean,
            std,
        })
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
            return if (1..=MAX_SIDE).contains(&edge) {
                Ok(Resize::Shorter(edge))
            } else {
                Err(file.error("size", &format!("a shortest_edge from 1 to {MAX_SIDE}")))
            };
        }
    }
    Ok(match (sides(file, "size")?, kind) {
        (Some([height, width]), kind) if height == width && kind.keeps_ratio() && !file_has_sides(file) => {
            Resize::Shorter(height)
        }
        (Some(sides), _) => Resize::Both(sides),
        (None, Kind::Vit | Kind::Siglip | Kind::Beit | Kind::DinoV3) => Resize::Both([224; 2]),
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
        let (mean, std) = kind.normalisation(in_chans);
        (file.numbers("image_mean")?.unwrap_or(mean), file.numbers("image_std")?.unwrap_or(std))
    } else {
        (vec![0.; in_chans], vec![1.; in_chans])
    };
    // Ours divides by 255, then normalises: another factor goes into mean and deviation.
    let factor =
        if file.bool("do_rescale")?.unwrap_or(true) { file.number("rescale_factor")?.unwrap_or(1. / 255.) } else { 1. };
    let fits = |values: &[f64]| values.len() == 1 || values.len() == in_chans || [1, 3, 4].contains(&in_chans);
    if !(fits(&mean) && fits(&std)) {
        let expected = format!("{in_chans} values, one for each channel that the config says (num_channels)");
        return Err(file.error(if fits(&mean) { "image_std" } else { "image_mean" }, &expected));
    }
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
    let expected = format!("a number from 1 to {MAX_SIDE}, or height and width");
    let sides = if file.value(field).is_some_and(serde_json::Value::is_object) {
        let Some(size) = file.object(field)? else { return Ok(None) };
        match (size.size("height")?, size.size("width")?, size.size("shortest_edge")?) {
            (Some(height), Some(width), _) => Some([height, width]),
            // Old files of CLIP's kind.
            (None, None, Some(edge)) => Some([edge; 2]),
            _ => return Err(file.error(field, &expected)),
        }
    } else {
        file.img_size(field)?.map(ImgSize::sides)
    };
    match sides {
        Some(sides) if sides.iter().any(|side| !(1..=MAX_SIDE).contains(side)) => Err(file.error(field, &expected)),
        sides => Ok(sides),
    }
}

#[cfg(test)]
mod tests {
    use super::super::CheckpointConfig;
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
    fn transparent_images_are_laid_on_white_where_the_class_converts() {
        let white = |model: &str, file: Option<&str>| {
            let config = format!(r#"{{"model_type": "{model}"}}"#);
            parsed(&config, file).unwrap().preprocessing.transparency == Transparency::OnWhite
        };
        for (model, class, usual) in [
            ("vit", "ViTImageProcessor", false),
            ("vit", "CLIPImageProcessor", true),
            ("dinov2", "BitImageProcessor", true),
            ("beit", "BeitImageProcessorFast", false),
            ("siglip_vision_model", "SiglipImageProcessor", true),
            ("clip_vision_model", "CLIPImageProcessorPil", true),
            ("dinov3_vit", "DINOv3ViTImageProcessorFast", false),
        ] {
            let file = |more: &str| format!(r#"{{"image_processor_type": "{class}"{more}}}"#);
            assert_eq!(white(model, Some(&file(""))), usual, "{class}");
            for says in [true, false] {
                assert_eq!(white(model, Some(&file(&format!(r#", "do_convert_rgb": {says}"#)))), says, "{class}");
            }
        }
        assert!(white("dinov2", None) && white("clip_vision_model", None) && !white("vit", None));
    }

    #[test]
    fn a_class_of_pillows_is_torchvisions_as_auto_image_processor_has_it() {
        let text = r#"{"image_processor_type": "ViTImageProcessorPil"}"#;
        let preprocessing = parsed(r#"{"model_type": "vit"}"#, Some(text)).unwrap().preprocessing;
        assert_eq!(preprocessing.resizing, Resizing::Torchvision);
    }

    #[test]
    fn pixels_of_no_whole_patch_are_left_out_by_the_model() {
        let text = r#"{"size": {"height": 50, "width": 83}, "do_center_crop": false}"#;
        let config = parsed(r#"{"model_type": "dinov2", "patch_size": 8}"#, Some(text)).unwrap();
        assert_eq!(config.preprocessing.input_size, [3, 50, 83]);
        let tallow_models::Architecture::Vit(vit) = config.architecture else { panic!("no ViT") };
        assert!(vit.trim && vit.grid_size() == [6, 10]);
    }

    #[test]
    fn a_field_that_makes_no_sense_is_named_with_its_file() {
        for (config, file, field) in [
            (r#"{"model_type": "vit"}"#, r#"{"size": 100000000}"#, "size"),
            (r#"{"model_type": "vit", "image_size": 48}"#, r#"{"size": {"shortest_edge": 5000}}"#, "size"),
            (r#"{"model_type": "dinov2"}"#, r#"{"crop_size": 100000000}"#, "crop_size"),
            (r#"{"model_type": "vit", "num_channels": 5}"#, r#"{"image_mean": [0.5, 0.5, 0.5]}"#, "image_mean"),
        ] {
            let error = parsed(config, Some(file)).unwrap_err().to_string();
            assert!(error.contains(&format!("preprocessor_config.json: {field}: ")), "{error}");
        }
    }

    #[test]
    fn another_rescale_factor_goes_into_mean_and_deviation() {
        let text =
            r#"{"rescale_factor": 0.00784313725490196, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]}"#;
        let preprocessing = parsed(r#"{"model_type": "vit"}"#, Some(text)).unwrap().preprocessing;
        assert!((preprocessing.mean[0] - 0.5).abs() < 1e-9);
        assert!((preprocessing.std[0] - 0.5).abs() < 1e-9);
    }
}
