//! The vision transformer: `x + ls(attn(norm(x)))`, then `x + ls(mlp(norm(x)))`.
//!
//! Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020; options and names as in timm's `vision_transformer.py`.

mod config;

pub use config::{Act, GlobalPool, PosEmbed, VitConfig};

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::{Mode, Model};

/// A vision transformer.
#[derive(Debug, Clone)]
pub struct Vit {
    config: VitConfig,
}

impl Vit {
    /// Builds the model; parameters carry timm's names.
    pub fn new(config: &VitConfig, _vb: VarBuilder) -> Result<Self> {
        Ok(Self { config: config.clone() })
    }

    /// What the model was built from.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Tokens after the final norm, `[batch, prefix + patches, embed_dim]`.
    pub fn forward_features(&self, _images: &Tensor, _mode: Mode) -> Result<Tensor> {
        candle_core::bail!("not built yet")
    }

    /// Tokens to logits, or to what the head reads with `pre_logits`.
    pub fn forward_head(&self, _tokens: &Tensor, _pre_logits: bool, _mode: Mode) -> Result<Tensor> {
        candle_core::bail!("not built yet")
    }

    /// The attention weights of every block, each `[batch, heads, tokens, tokens]`.
    pub fn attention_maps(&self, _images: &Tensor) -> Result<Vec<Tensor>> {
        candle_core::bail!("not built yet")
    }
}

impl Model for Vit {
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_head(&self.forward_features(images, mode)?, false, mode)
    }

    fn pooled(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_head(&self.forward_features(images, mode)?, true, mode)
    }
}
