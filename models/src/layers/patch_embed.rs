//! Patch embedding: cuts an image into square patches and maps each to a token.
//!
//! With shifted patch tokenisation (Lee et al., "Vision Transformer for Small-Size Datasets", 2021, section 3.1) a token sees
//! beyond its patch: the patch is cut out of the image and of the image's four diagonal shifts by half a patch, and all that is
//! normalised before it is mapped.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use tallow_models::Params;
//! use tallow_models::layers::{PatchEmbedConfig, patch_embed};
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let layer = patch_embed(&PatchEmbedConfig::new(3, 14, 32), params.builder())?;
//! let images = Tensor::zeros((2, 3, 56, 56), DType::F32, &Device::Cpu)?;
//! assert_eq!(layer.forward(&images)?.dims(), &[2, 16, 32]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::{LayerNorm, LinearInit, Norm, NormLayer, layer_norm, norm};
use crate::ops;

/// Shifted copies of the image beside the image itself.
pub const SHIFTS: usize = 4;

/// What a patch embedding is made of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PatchEmbedConfig {
    /// Channels of the image.
    pub in_chans: usize,
    /// Height and width of a patch in pixels.
    pub patch_size: usize,
    /// Width of a token.
    pub dim: usize,
    /// Whether there is a bias; where a norm follows at once, it would be idle. Default true.
    pub bias: bool,
    /// Shifted patch tokenisation. Default false.
    pub spt: bool,
    /// A norm over the values of every patch and one over the token that they become (vit-pytorch). Default false.
    pub norm: bool,
    /// A norm over the token that a patch becomes, of this kind (AIMv2). Default none.
    pub embed_norm: Option<NormLayer>,
    /// Epsilon of the norms. Default 1e-6.
    pub norm_eps: f64,
}

impl PatchEmbedConfig {
    /// Patches of `patch_size` pixels a side, of `in_chans` channels, to tokens of `dim` values.
    pub fn new(in_chans: usize, patch_size: usize, dim: usize) -> Self {
        Self { in_chans, patch_size, dim, bias: true, spt: false, norm: false, embed_norm: None, norm_eps: 1e-6 }
    }
}

/// A patch embedding with parameters `proj.weight` `[dim, channels, patch, patch]` and, if it has one, `proj.bias` `[dim]`.
///
/// With shifts, the channels are the image's, then those of the image moved down and to the right, down and to the left, up and
/// to the right, up and to the left; and `patch_norm`, over the values of a patch in the weight's order, comes before. With norms it
/// comes before, too, and `norm` behind.
#[derive(Debug, Clone)]
pub struct PatchEmbed {
    shifts: bool,
    norm: Option<Norm>,
    patch_norm: Option<LayerNorm>,
    weight: Tensor,
    bias: Option<Tensor>,
}

/// The patch embedding that `config` describes.
///
/// # Errors
/// Those of the builder.
pub fn patch_embed(config: &PatchEmbedConfig, vb: VarBuilder) -> Result<PatchEmbed> {
    let (dim, size) = (config.dim, config.patch_size);
    let channels = if config.spt { (1 + SHIFTS) * config.in_chans } else { config.in_chans };
    let (fan_in, init) = (channels * size * size, LinearInit::Torch);
    let before = || layer_norm(fan_in, config.norm_eps, vb.pp("patch_norm"));
    let patch_norm = (config.spt || config.norm).then(before).transpose()?;
    let behind = |kind| norm(kind, dim, config.norm_eps, vb.pp("norm"));
    // vit-pytorch's norm behind the layer is listed before it, AIMv2's after it.
    let listed_first = config.norm.then(|| behind(NormLayer::LayerNorm)).transpose()?;
    let proj = vb.pp("proj");
    let weight = proj.get_with_hints((dim, channels, size, size), "weight", init.weight(fan_in))?;
    let bias = config.bias.then(|| proj.get_with_hints(dim, "bias", init.bias(fan_in))).transpose()?;
    let norm = match (listed_first, config.embed_norm) {
        (None, Some(kind)) => Some(behind(kind)?),
        (listed_first, _) => listed_first,
    };
    Ok(PatchEmbed { shifts: config.spt, norm, patch_norm, weight, bias })
}

impl PatchEmbed {
    /// The patches of images `[batch, channels, height, width]` as the weight reads them, with those of the shifts if there are any:
    /// `[batch, patches, values]`, in reading order.
    ///
    /// # Errors
    /// If the patches do not tile the images.
    pub fn cut(&self, images: &Tensor) -> Result<Tensor> {
        let size = self.weight.dim(2)?;
        match self.shifts {
            false => ops::patches(images, [size, size]),
            true => ops::patches(&with_shifts(images, size / 2)?, [size, size]),
        }
    }

    /// Any patches of [`PatchEmbed::cut`], `[.., values]`, to tokens `[.., dim]`.
    ///
    /// # Errors
    /// If they have another width.
    pub fn project(&self, patches: &Tensor) -> Result<Tensor> {
        let weight = self.weight.flatten_from(1)?;
        let tokens = match &self.patch_norm {
            None => ops::linear(patches, &weight, self.bias.as_ref())?,
            Some(norm) => ops::linear(&norm.forward(patches)?, &weight, self.bias.as_ref())?,
        };
        match &self.norm {
            None => Ok(tokens),
            Some(norm) => norm.forward(&tokens),
        }
    }

    /// The weight, `[dim, channels, patch, patch]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `[dim]`.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl Module for PatchEmbed {
    /// `[batch, channels, height, width]` to `[batch, patches, dim]`, patches in reading order.
    fn forward(&self, images: &Tensor) -> Result<Tensor> {
        match (&self.patch_norm, &self.norm) {
            (None, None) => ops::patch_embed(images, &self.weight, self.bias.as_ref()),
            (None, Some(norm)) => norm.forward(&ops::patch_embed(images, &self.weight, self.bias.as_ref())?),
            (Some(_), _) => self.project(&self.cut(images)?),
        }
    }
}

/// Images `[batch, channels, height, width]` and, behind them, their four diagonal shifts by `by` pixels, with zeros where
/// nothing moves in: `[batch, 5 * channels, height, width]`.
fn with_shifts(images: &Tensor, by: usize) -> Result<Tensor> {
    let (_, _, height, width) = images.dims4()?;
    let padded = images.pad_with_zeros(2, by, by)?.pad_with_zeros(3, by, by)?;
    let window = |top: usize, left: usize| padded.narrow(2, top, height)?.narrow(3, left, width);
    Tensor::cat(&[images, &window(0, 0)?, &window(0, 2 * by)?, &window(2 * by, 0)?, &window(2 * by, 2 * by)?], 1)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn shifts_move_the_image_along_both_diagonals_and_leave_zeros_behind() -> Result<()> {
        let image = Tensor::new(&[[1f32, 2., 3.], [4., 5., 6.], [7., 8., 9.]], &Device::Cpu)?.reshape((1, 1, 3, 3))?;
        let all = with_shifts(&image, 1)?;
        assert_eq!(all.dims(), [1, 5, 3, 3]);
        let expected: [[[f32; 3]; 3]; 5] = [
            [[1., 2., 3.], [4., 5., 6.], [7., 8., 9.]],
            [[0., 0., 0.], [0., 1., 2.], [0., 4., 5.]],
            [[0., 0., 0.], [2., 3., 0.], [5., 6., 0.]],
            [[0., 4., 5.], [0., 7., 8.], [0., 0., 0.]],
            [[5., 6., 0.], [8., 9., 0.], [0., 0., 0.]],
        ];
        for (shift, expected) in expected.iter().enumerate() {
            assert_eq!(all.get(0)?.get(shift)?.to_vec2::<f32>()?, expected);
        }
        Ok(())
    }
}
