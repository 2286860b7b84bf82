//! Patch embedding: cuts an image into square patches and maps each to a token.

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use super::Law;
use crate::ops;

/// A patch embedding with parameters `proj.weight` `[dim, channels, patch, patch]` and, if it has one, `proj.bias` `[dim]`.
#[derive(Debug, Clone)]
pub struct PatchEmbed {
    weight: Tensor,
    bias: Option<Tensor>,
}

/// A patch embedding of `in_chans` channels and patches of `patch_size` pixels into `embed_dim` values.
pub fn patch_embed(
    in_chans: usize,
    patch_size: usize,
    embed_dim: usize,
    bias: bool,
    vb: VarBuilder,
) -> Result<PatchEmbed> {
    let (vb, law) = (vb.pp("proj"), Law::Torch);
    let fan_in = in_chans * patch_size * patch_size;
    let weight = vb.get_with_hints((embed_dim, in_chans, patch_size, patch_size), "weight", law.weight(fan_in))?;
    let bias = bias.then(|| vb.get_with_hints(embed_dim, "bias", law.bias(fan_in))).transpose()?;
    Ok(PatchEmbed { weight, bias })
}

impl PatchEmbed {
    /// The type of the parameters.
    pub(crate) fn dtype(&self) -> DType {
        self.weight.dtype()
    }

    /// `[batch, channels, height, width]` to `[batch, patches, dim]`, patches in reading order.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        ops::patch_embed(images, &self.weight, self.bias.as_ref())
    }
}
