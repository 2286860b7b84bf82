//! What a checkpoint's `config.json` says: architecture, preprocessing, labels. timm's two layouts and Hugging Face's.

use serde::{Deserialize, Serialize};
use tallow_models::Architecture;

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

/// How an image becomes a model's input in evaluation: resize the shorter side to `input_size / crop_pct`, crop the centre,
/// divide by 255, subtract `mean`, divide by `std`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Mean per channel, of pixels in [0, 1].
    pub mean: Vec<f64>,
    /// Standard deviation per channel, of pixels in [0, 1].
    pub std: Vec<f64>,
}

/// Everything that a checkpoint says about itself apart from its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointConfig {
    /// The zoo's name of the architecture, such as `vit_small_patch16_224`, where it is known.
    pub name: Option<String>,
    /// The weights' tag, such as `augreg_in1k`.
    pub tag: Option<String>,
    /// The model that the tensors fit.
    pub architecture: Architecture,
    /// How its input is made.
    pub preprocessing: Preprocessing,
    /// Class names, in the order of the logits.
    pub labels: Option<Vec<String>>,
    /// The licence of the weights (SPDX, lower case), where it is stated.
    pub license: Option<String>,
}
