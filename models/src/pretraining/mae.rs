//! The decoder of a masked autoencoder: from the tokens of the patches that the encoder saw to the pixels of those that it did not.
//!
//! He et al., "Masked Autoencoders Are Scalable Vision Learners", 2021 (arXiv 2111.06377), as in its code's `models_mae.py`. All tokens
//! have positions of their own, so that their order means nothing to the blocks: where the code sorts mask tokens in among the others,
//! they stand behind them here.

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, Module, VarBuilder};

use super::sinusoidal_2d;
use crate::families::vit::{Block, Common, VitConfig, through};
use crate::layers::{LayerNorm, Linear, LinearInit, layer_norm, linear};
use crate::{Mode, ops};

/// What a decoder is made of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MaeDecoderConfig {
    /// Width of the encoder's tokens.
    pub encoder_dim: usize,
    /// The encoder's tokens before those of the patches.
    pub prefix: usize,
    /// Rows and columns of patches in an image.
    pub grid: [usize; 2],
    /// Values of a patch: its pixels in all channels.
    pub patch_values: usize,
    /// Width of a token. Default 512; a multiple of the heads.
    pub dim: usize,
    /// Number of blocks. Default 8.
    pub depth: usize,
    /// Attention heads. Default 16.
    pub num_heads: usize,
}

impl MaeDecoderConfig {
    /// For the encoder `vit`, with the paper's width and depth.
    pub fn new(vit: &VitConfig) -> Self {
        let grid = vit.grid_size();
        let patch_values = vit.in_chans * vit.patch_size * vit.patch_size;
        let prefix = vit.num_prefix_tokens();
        Self { encoder_dim: vit.embed_dim, prefix, grid, patch_values, dim: 512, depth: 8, num_heads: 16 }
    }

    /// The same after `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// A decoder; its parameters are called as in MAE's code without `decoder_`: `embed`, `mask_token`, `blocks`, `norm`, `pred`.
#[derive(Debug, Clone)]
pub struct MaeDecoder {
    config: MaeDecoderConfig,
    embed: Linear,
    mask_token: Tensor,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    pred: Linear,
}

/// The decoder that `config` describes.
///
/// # Errors
/// If its heads do not divide its width, or those of the builder.
pub fn mae_decoder(config: &MaeDecoderConfig, vb: VarBuilder) -> Result<MaeDecoder> {
    const EPS: f64 = 1e-6;
    let MaeDecoderConfig { encoder_dim, prefix, grid, patch_values, dim, depth, num_heads } = *config;
    if num_heads == 0 || dim % num_heads != 0 {
        bail!("decoder: expected heads that divide its width of {dim}, got: {num_heads}")
    }
    let of_blocks = VitConfig::default().with(|c| {
        (c.embed_dim, c.depth, c.num_heads, c.norm_eps) = (dim, depth, num_heads, EPS);
    });
    let init = LinearInit::Normal(0.02);
    Ok(MaeDecoder {
        config: config.clone(),
        embed: linear(encoder_dim, dim, true, init, vb.pp("embed"))?,
        mask_token: vb.get_with_hints((1, 1, dim), "mask_token", Init::Randn { mean: 0., stdev: 0.02 })?,
        positions: sinusoidal_2d(grid, dim, prefix)?.to_device(vb.device())?.to_dtype(vb.dtype())?,
        blocks: (0..depth)
            .map(|i| Block::new(&of_blocks, i, &Common::default(), vb.pp(format!("blocks.{i}"))))
            .collect::<Result<_>>()?,
        norm: layer_norm(dim, EPS, vb.pp("norm"))?,
        pred: linear(dim, patch_values, true, init, vb.pp("pred"))?,
    })
}

impl MaeDecoder {
    /// From the encoder's `tokens [batch, prefix + kept, encoder_dim]` of the patches `kept [batch, kept]` to the values of the patches
    /// `hidden [batch, hidden]`, both in u32: `[batch, hidden, patch_values]`.
    ///
    /// # Errors
    /// If the shapes do not fit each other.
    pub fn forward(&self, tokens: &Tensor, kept: &Tensor, hidden: &Tensor, mode: Mode) -> Result<Tensor> {
        let MaeDecoderConfig { prefix, dim, .. } = self.config;
        let (batch, count, _) = tokens.dims3()?;
        let (seen, missing) = (kept.dim(1)?, hidden.dim(1)?);
        if count != prefix + seen || kept.dim(0)? != batch || hidden.dim(0)? != batch {
            bail!("decoder: expected {} tokens of each of {batch} images, got: {count}", prefix + seen)
        }
        let narrow = tokens.dtype();
        let embedded = self.embed.forward(tokens)?.to_dtype(self.mask_token.dtype())?;
        let masks = self.mask_token.broadcast_as((batch, missing, dim))?;
        let places = Tensor::cat(&[kept, hidden], 1)?.flatten_all()?;
        let positions = self.positions.narrow(0, prefix, self.config.grid.iter().product())?;
        let positions = positions.index_select(&places, 0)?.reshape((batch, seen + missing, dim))?;
        let first = self.positions.narrow(0, 0, prefix)?.unsqueeze(0)?.broadcast_as((batch, prefix, dim))?;
        let positions = if prefix == 0 { positions } else { Tensor::cat(&[&first.contiguous()?, &positions], 1)? };
        let x = (Tensor::cat(&[&embedded, &masks], 1)? + positions)?.to_dtype(narrow)?;
        let x = through(&self.blocks, x, mode)?;
        let x = x.narrow(1, count, missing)?.contiguous()?;
        self.pred.forward(&self.norm.forward(&x)?)
    }
}

/// What the decoder is to give for the patches `hidden [batch, hidden]` of images `[batch, channels, height, width]`, whose patches have
/// `patch` pixels a side: `[batch, hidden, patch_values]`, the values in the order of a patch embedding's weight. With `norm_pix` those
/// of every patch have its mean taken off and are divided by its deviation.
///
/// # Errors
/// If patches do not tile the images.
pub fn mae_targets(images: &Tensor, hidden: &Tensor, patch: usize, norm_pix: bool) -> Result<Tensor> {
    const EPS: f64 = 1e-6;
    let patches = ops::patches(&images.detach(), [patch, patch])?;
    let (batch, count, width) = patches.dims3()?;
    let first: Vec<u32> = (0..batch).map(|sample| (sample * count) as u32).collect();
    let places = hidden.broadcast_add(&Tensor::from_vec(first, (batch, 1), hidden.device())?)?.flatten_all()?;
    let targets = patches.reshape((batch * count, width))?.index_select(&places, 0)?;
    let targets = if norm_pix {
        let apart = targets.broadcast_sub(&targets.mean_keepdim(1)?)?;
        let variance = (apart.sqr()?.sum_keepdim(1)? / (width.max(2) - 1) as f64)?;
        apart.broadcast_div(&(variance + EPS)?.sqrt()?)?
    } else {
        targets
    };
    targets.reshape((batch, hidden.dim(1)?, width))
}

/// The mean square of what `predicted` is off from `targets`, both `[batch, hidden, patch_values]`.
///
/// # Errors
/// If the shapes differ.
pub fn mae_loss(predicted: &Tensor, targets: &Tensor) -> Result<Tensor> {
    (predicted.to_dtype(targets.dtype())? - targets)?.sqr()?.mean_all()
}
