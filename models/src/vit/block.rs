//! One block of a ViT: `x + ls(attn(norm(x)))`, then `x + ls(mlp(norm(x)))`.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::{LAW, VitConfig};
use crate::layers::{Attention, DropPath, LayerNorm, LayerScale, MlpBlock};
use crate::layers::{attention, layer_norm, layer_scale, mlp_block};
use crate::ops::{Branch, Inner};
use crate::{Mode, ops};

/// A pre-norm transformer block.
#[derive(Debug, Clone)]
pub struct Block {
    norm1: LayerNorm,
    attn: Attention,
    residual1: Residual,
    norm2: LayerNorm,
    mlp: MlpBlock,
    residual2: Residual,
    grad_checkpointing: bool,
}

impl Block {
    /// Builds block `index` of a ViT.
    pub(super) fn new(config: &VitConfig, index: usize, vb: VarBuilder) -> Result<Self> {
        let dim = config.embed_dim;
        let norm = |name| layer_norm(dim, config.norm_eps, vb.pp(name));
        // Field by field, in the order in which timm lists the parameters.
        Ok(Self {
            norm1: norm("norm1")?,
            attn: attention(config, LAW, vb.pp("attn"))?,
            residual1: Residual::new(config, index, vb.pp("ls1"), vb.pp("drop_path1"))?,
            norm2: norm("norm2")?,
            mlp: mlp_block(dim, config.mlp_dim(), config.act, config.proj_drop_rate, LAW, vb.pp("mlp"))?,
            residual2: Residual::new(config, index, vb.pp("ls2"), vb.pp("drop_path2"))?,
            grad_checkpointing: false,
        })
    }

    /// Keeps only the inputs of the two residual branches for the backward, which computes the rest again: less memory for
    /// more time.
    pub(super) fn set_grad_checkpointing(&mut self, on: bool) {
        self.grad_checkpointing = on;
    }

    /// `[batch, tokens, dim]` to the same shape.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = &match self.attn.inner(mode) {
            Some(inner) => self.fused(x, &self.norm1, inner, &self.residual1, mode)?,
            None => self.residual1.add(x, &self.attn.forward(&self.norm1.forward(x)?, mode)?, mode)?,
        };
        match self.mlp.inner(mode) {
            Some(inner) => self.fused(x, &self.norm2, inner, &self.residual2, mode),
            None => self.residual2.add(x, &self.mlp.forward(&self.norm2.forward(x)?, mode)?, mode),
        }
    }

    fn fused(&self, x: &Tensor, norm: &LayerNorm, inner: Inner, residual: &Residual, mode: Mode) -> Result<Tensor> {
        let keep = residual.drop_path.keep(x, mode)?;
        let (norm, eps, recompute) = (norm.parameters(), norm.eps(), self.grad_checkpointing);
        let gamma = residual.layer_scale.as_ref().map(LayerScale::gamma);
        ops::branch(x, &Branch { norm, eps, inner, gamma, keep: keep.as_ref(), recompute })
    }

    /// The attention weights `[batch, heads, tokens, tokens]` for an input `[batch, tokens, dim]`.
    pub fn attention_weights(&self, x: &Tensor) -> Result<Tensor> {
        self.attn.weights(&self.norm1.forward(x)?)
    }
}

/// How a branch joins the trunk: `x + drop_path(ls(y))`.
#[derive(Debug, Clone)]
struct Residual {
    layer_scale: Option<LayerScale>,
    drop_path: DropPath,
}

impl Residual {
    fn new(config: &VitConfig, index: usize, layer_scale_vb: VarBuilder, drop_path_vb: VarBuilder) -> Result<Self> {
        let scale = |value| layer_scale(config.embed_dim, value, layer_scale_vb);
        Ok(Self {
            layer_scale: config.layer_scale().map(scale).transpose()?,
            drop_path: DropPath::new(config.block_drop_path_rate(index), &drop_path_vb.prefix()),
        })
    }

    fn add(&self, x: &Tensor, y: &Tensor, mode: Mode) -> Result<Tensor> {
        let gamma = self.layer_scale.as_ref().map(LayerScale::gamma);
        ops::scale_add(x, y, gamma, self.drop_path.keep(y, mode)?.as_ref())
    }
}
