//! Patch embedding: cuts an image into square patches and maps each to a token.
//!
//! With shifted patch tokenisation (Lee et al., "Vision Transformer for Small-Size Datasets", 2021, section 3.1) a token sees
//! beyond its patch: the patch is cut out of the image and of the image's four diagonal shifts by half a patch, and all that is
//! normalised before it is mapped.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use super::{Law, LayerNorm, layer_norm};
use crate::{VitConfig, ops};

/// Shifted copies of the image beside the image itself.
pub const SHIFTS: usize = 4;

/// A patch embedding with parameters `proj.weight` `[dim, channels, patch, patch]` and, if it has one, `proj.bias` `[dim]`.
///
/// With shifts, the channels are the image's, then those of the image moved down and to the right, down and to the left, up and
/// to the right, up and to the left; and `patch_norm`, over the values of a patch in the weight's order, comes before.
#[derive(Debug, Clone)]
pub struct PatchEmbed {
    patch_norm: Option<LayerNorm>,
    weight: Tensor,
    bias: Option<Tensor>,
}

/// The patch embedding of a ViT.
pub fn patch_embed(config: &VitConfig, vb: VarBuilder) -> Result<PatchEmbed> {
    let (dim, channels, size) = (config.embed_dim, config.patch_chans(), config.patch_size);
    let (fan_in, law) = (channels * size * size, Law::Torch);
    let patch_norm = config.spt.then(|| layer_norm(fan_in, config.norm_eps, vb.pp("patch_norm"))).transpose()?;
    let vb = vb.pp("proj");
    let weight = vb.get_with_hints((dim, channels, size, size), "weight", law.weight(fan_in))?;
    // Where a norm follows at once, a bias would be idle.
    let bias = (!config.pre_norm).then(|| vb.get_with_hints(dim, "bias", law.bias(fan_in))).transpose()?;
    Ok(PatchEmbed { patch_norm, weight, bias })
}

impl PatchEmbed {
    /// The type of the parameters.
    pub(crate) fn dtype(&self) -> DType {
        self.weight.dtype()
    }

    /// `[batch, channels, height, width]` to `[batch, patches, dim]`, patches in reading order.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let Some(norm) = &self.patch_norm else {
            return ops::patch_embed(images, &self.weight, self.bias.as_ref());
        };
        let size = self.weight.dim(2)?;
        let patches = norm.forward(&ops::patches(&with_shifts(images, size / 2)?, [size, size])?)?;
        ops::linear(&patches, &self.weight.flatten_from(1)?, self.bias.as_ref())
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
