//! What a checkpoint's `config.json` says: architecture, preprocessing, labels. timm's two layouts, Hugging Face's and
//! open_clip's.

mod blocks;
mod clip;
mod fields;
mod hugging_face;
mod inferred;
mod open_clip;
mod positions;
mod processor;
mod stem;
mod text;
mod timm;
mod twins;

pub(crate) use hugging_face::Classifier;
pub(crate) use inferred::{Beside, Told, act_unknown, infer, named};
pub use text::{Cleaning, Tokenizing};
pub(crate) use text::{StatedText, hugging_face as text_of_hugging_face, open_clip as text_of_open_clip};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tallow_models::{Architecture, zoo};

use crate::{Error, Result, Whitening};
use fields::Fields;

/// What open_clip says of a model, beside weights whose names begin with `open_clip`.
pub(crate) const OPEN_CLIP: &str = "open_clip_config.json";

/// The mean of ImageNet's pixels, per channel.
pub const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// The standard deviation of ImageNet's pixels, per channel.
pub const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];
/// The mean and deviation of CLIP's training images.
const CLIP: [[f64; 3]; 2] = [[0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]];

/// Filters for resizing images and position embeddings, as Pillow and PyTorch name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Triangle filter.
    Bilinear,
    /// Cubic convolution, a = −0.5.
    #[default]
    Bicubic,
    /// Lanczos with three lobes.
    Lanczos,
}

/// Whose arithmetic resizes an image: they differ in how they round between levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Resizing {
    /// Pillow's, in 8 bits: timm's, open_clip's and torchvision's presets.
    #[default]
    Pillow,
    /// PyTorch's of tensors of 8 bits, whose weights have 16: transformers' image processors, as torchvision serves them.
    Torchvision,
    /// PyTorch's of float32, which rounds nothing: the image processor of transformers' DINOv3.
    Floats,
}

impl Resizing {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of the alpha of transparent images where a model reads none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Transparency {
    /// It is left out before anything else, and the colours stay as they are: timm's and torchvision's data sets.
    #[default]
    Dropped,
    /// The image is laid on white: transformers' image processors that convert to RGB (`do_convert_rgb`).
    OnWhite,
    /// It is left out after resizing, in which a colour counts for as much as it is opaque: open_clip, and OpenAI's CLIP.
    Resized,
}

impl Transparency {
    /// All of them, the default first.
    const ALL: [Self; 3] = [Self::Dropped, Self::OnWhite, Self::Resized];

    /// Its name in configs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::OnWhite => "on_white",
            Self::Resized => "resized",
        }
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How an image becomes a model's input in evaluation: resize the shorter side to `input_size / crop_pct`, crop the centre,
/// divide by 255, subtract `mean`, divide by `std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Preprocessing {
    /// `[channels, height, width]` of the model's input.
    pub input_size: [usize; 3],
    /// The filter for resizing.
    pub interpolation: Interpolation,
    /// The share of the resized image that the centre crop keeps.
    pub crop_pct: f64,
    /// Resize both sides to the target, without keeping the aspect ratio (timm's `crop_mode: squash`, and what Hugging Face's
    /// ViT processor does).
    pub squash: bool,
    /// Where the centre crop leaves an odd number of pixels: half of it is cut off, as in transformers, instead of rounded to even, as
    /// in torchvision. What is augmented is cropped as in torchvision.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crop_floor: bool,
    /// Whose arithmetic resizes. What is augmented is resized as Pillow does it.
    #[serde(default, skip_serializing_if = "Resizing::is_default")]
    pub resizing: Resizing,
    /// What becomes of the alpha of transparent images. It means nothing to models of four channels, which read it.
    #[serde(default, skip_serializing_if = "Transparency::is_default")]
    pub transparency: Transparency,
    /// Images are not resized: the centre is cropped, and what is missing is black; with `squash` an image of another size is an
    /// error (transformers' `do_resize: false`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_size: bool,
    /// Mean per channel, of pixels in [0, 1].
    pub mean: Vec<f64>,
    /// Standard deviation per channel, of pixels in [0, 1].
    pub std: Vec<f64>,
}

impl Preprocessing {
    /// Images resized to the input's size by the cubic filter, cropped to it, and normalised with this mean and deviation per
    /// channel, of pixels in [0, 1].
    pub fn new(input_size: [usize; 3], mean: Vec<f64>, std: Vec<f64>) -> Self {
        Self {
            input_size,
            interpolation: Interpolation::Bicubic,
            crop_pct: 1.,
            squash: false,
            crop_floor: false,
            resizing: Resizing::default(),
            keep_size: false,
            transparency: Transparency::default(),
            mean,
            std,
        }
    }

    /// The same after `change`, in one expression: `Preprocessing::new(size, mean, std).with(|c| c.squash = true)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The same where images are augmented: resized as Pillow does it and cropped as in torchvision, as timm trains.
    #[must_use]
    pub fn of_training(self) -> Self {
        self.with(|c| (c.crop_floor, c.resizing, c.keep_size) = (false, Resizing::Pillow, false))
    }

    /// The same with what timm's config has no words for as `other` has it.
    #[must_use]
    pub fn treating_images_as(self, other: &Self) -> Self {
        let of_other = (other.crop_floor, other.resizing, other.keep_size, other.transparency);
        self.with(|c| (c.crop_floor, c.resizing, c.keep_size, c.transparency) = of_other)
    }

    /// Whether timm's config says all of it.
    pub fn is_timms(&self) -> bool {
        !(self.crop_floor || self.keep_size) && self.transparency.is_default() && self.resizing == Resizing::Pillow
    }

    /// The same with a mean and a deviation for every channel of the input: one value is repeated, three become their mean for a
    /// grey model, and an alpha channel that they say nothing about gets 0.5 and 0.5. Other numbers stay as they are.
    #[must_use]
    pub fn per_channel(mut self) -> Self {
        let channels = self.input_size[0];
        for values in [&mut self.mean, &mut self.std] {
            match (values.len(), channels) {
                (1, _) => *values = vec![values[0]; channels],
                (3, 1) => *values = vec![values.iter().sum::<f64>() / 3.],
                (3, 4) => values.push(0.5),
                (4, 3) => values.truncate(3),
                (4, 1) => *values = vec![values[..3].iter().sum::<f64>() / 3.],
                _ => {}
            }
        }
        self
    }
}

/// Everything that a checkpoint says about itself apart from its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointConfig {
    /// The zoo's name of the architecture, such as `vit_small_patch16_224`, where it is known.
    pub name: Option<String>,
    /// The weights' tag, such as `augreg_in1k`.
    pub tag: Option<String>,
    /// The model that the tensors fit.
    pub architecture: Architecture,
    /// How its input is made.
    pub preprocessing: Preprocessing,
    /// What whitens the normalised input. It lies in a file beside the `config.json` and not in its text: [`crate::open`] reads
    /// it, [`CheckpointConfig::parse`] alone does not.
    #[serde(skip)]
    pub whitening: Option<Whitening>,
    /// The head is the projection into a space that images share with texts, as CLIP's: its rows are no classes, and what it gives is
    /// compared with what the text tower gives.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub projection: bool,
    /// That projection has a bias: it is the head of a tower of timm's in open_clip, and not open_clip's own projection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub projection_bias: bool,
    /// Class names, in the order of the logits.
    pub labels: Option<Vec<String>>,
    /// Why the head's rows must not be used, where that is so: they were drawn and never trained, which what is saved says too, or
    /// the config names another number of classes than it says there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_fault: Option<String>,
    /// The licence of the weights (SPDX, lower case), where it is stated.
    pub license: Option<String>,
}

impl CheckpointConfig {
    /// A checkpoint of this architecture with this input, which says nothing else about itself.
    pub fn new(architecture: Architecture, preprocessing: Preprocessing) -> Self {
        Self {
            name: None,
            tag: None,
            architecture,
            preprocessing,
            whitening: None,
            projection: false,
            projection_bias: false,
            labels: None,
            head_fault: None,
            license: None,
        }
    }

    /// The same after `change`, in one expression: `CheckpointConfig::new(architecture, preprocessing).with(|c| c.labels = Some(labels))`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Parses the text of a `config.json` in timm's nested or flat layout, or in Hugging Face's; then
    /// `preprocessor` is the text of the `preprocessor_config.json` beside it. `origin` names the file in errors.
    ///
    /// # Errors
    /// If the text is no JSON, a field makes no sense, or the model is none that this project has.
    pub fn parse(text: &str, preprocessor: Option<&str>, origin: &str) -> Result<Self> {
        let preprocessor = preprocessor.map(|text| (text, "preprocessor_config.json"));
        Ok(Self::parse_noting(text, preprocessor, origin)?.0)
    }

    /// As [`CheckpointConfig::parse`], with what a reader should know about how it was understood. `processor` is the text and the
    /// name of `preprocessor_config.json`, or of `processor_config.json`, in which newer versions of transformers have it as
    /// `image_processor`.
    ///
    /// # Errors
    /// As there.
    pub fn parse_noting(text: &str, processor: Option<(&str, &str)>, origin: &str) -> Result<(Self, Vec<String>)> {
        Self::parse_with(text, processor, None, origin)
    }

    /// The same, of weights that have this classifier, though a Hugging Face config names no class that has one.
    pub(crate) fn parse_with(
        text: &str,
        processor: Option<(&str, &str)>,
        classifier: Option<Classifier>,
        origin: &str,
    ) -> Result<(Self, Vec<String>)> {
        let mut notes = Vec::new();
        let value = json(text, origin)?;
        let fields = Fields::new(origin, &value)?;
        let mut config = if fields.has("architecture") || fields.has("tallow") {
            notes.extend(timm::assumed_epsilon(&fields)?);
            notes.extend(timm::drawn_filter(&fields)?);
            let config = timm::parse(&fields)?;
            notes.extend(timm::other_size(&fields, &config.architecture)?);
            config
        } else if fields.has("model_type") {
            let beside = origin.replace("config.json", processor.map_or("preprocessor_config.json", |(_, name)| name));
            let processor = processor.map(|(text, _)| json(text, &beside)).transpose()?;
            let processor = processor.as_ref().map(|value| processor::fields(value, &beside)).transpose()?;
            let processor = processor.as_ref();
            if clip::knows(&fields)? {
                clip::parse(&fields, processor, classifier, &mut notes)?
            } else {
                hugging_face::parse(&fields, processor, classifier, &mut notes)?
            }
        } else if fields.has("model_cfg") || fields.has("vision_cfg") {
            open_clip::parse(&fields, &mut notes)?
        } else {
            let expected = "architecture (timm's layout), model_type (Hugging Face's) or model_cfg (open_clip's)";
            return Err(Error::format(origin, expected, "none of them"));
        };
        config.check(origin)?;
        config.settle_labels();
        Ok((config, notes))
    }

    /// Names that are not as many as the classes name none of them. Without a head there are none to name.
    fn settle_labels(&mut self) {
        let classes = self.architecture.num_classes();
        let Some(labels) = self.labels.take_if(|labels| labels.len() != classes) else { return };
        if classes > 0 && self.head_fault.is_none() {
            let names = labels.len();
            self.head_fault = Some(format!("its config says {classes} classes and names {names}"));
        }
    }

    /// Whether the text of a `config.json` names a whitening, which is then in [`Whitening::FILE`] beside it.
    ///
    /// # Errors
    /// If it names another file.
    pub(crate) fn is_whitened(text: &str, origin: &str) -> Result<bool> {
        let value = json(text, origin)?;
        let Some(own) = Fields::new(origin, &value)?.object("tallow")? else { return Ok(false) };
        match own.text("whitening")? {
            None => Ok(false),
            Some(Whitening::FILE) => Ok(true),
            Some(_) => Err(own.error("whitening", Whitening::FILE)),
        }
    }

    /// Checks what any layout could get wrong.
    fn check(&self, origin: &str) -> Result<()> {
        check_architecture(&self.architecture, origin)?;
        let preprocessing = &self.preprocessing;
        let (mean, std) = (&preprocessing.mean, &preprocessing.std);
        if mean.is_empty() || mean.len() != std.len() {
            let expected = "as many values as std has, at least one";
            return Err(Error::config(origin, "mean", expected, format!("{mean:?} with std {std:?}")));
        }
        if !mean.iter().all(|value| value.is_finite()) {
            return Err(Error::config(origin, "mean", "finite values", format!("{mean:?}")));
        }
        if !std.iter().all(|value| value.is_finite() && *value > 0.) {
            return Err(Error::config(origin, "std", "values above 0", format!("{std:?}")));
        }
        if !(preprocessing.crop_pct > 0. && preprocessing.crop_pct <= 1.) {
            return Err(Error::config(origin, "crop_pct", "a share above 0 and up to 1", preprocessing.crop_pct));
        }
        Ok(())
    }
}

/// What the zoo has under this name of timm's, which stands in a field of the file.
fn of_timm(name: &str, origin: &str, field: &str) -> Result<zoo::Entry> {
    zoo::find(name).map_err(|e| {
        let what = match e {
            tallow_models::Error::RefusedArchitecture { name, reason } => format!("{name} ({reason})"),
            other => format!("{other}; it"),
        };
        Error::unsupported(&format!("{origin}: {field}"), what, "see `tallow list` for what is")
    })
}

/// Refuses what makes no sense, naming the file: what a damaged config claims must not be built.
fn check_architecture(architecture: &Architecture, origin: &str) -> Result<()> {
    architecture.validate().map_err(|e| match e {
        tallow_models::Error::Config { field, expected, got } => Error::config(origin, &field, expected, got),
        other => other.into(),
    })
}

fn json(text: &str, origin: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| Error::format(origin, "JSON", e))
}

impl std::str::FromStr for Interpolation {
    type Err = ();

    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        Ok(match name {
            "nearest" => Self::Nearest,
            "bilinear" => Self::Bilinear,
            "bicubic" => Self::Bicubic,
            "lanczos" => Self::Lanczos,
            _ => return Err(()),
        })
    }
}
