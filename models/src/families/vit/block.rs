//! One block of a ViT: `x + ls(attn(norm(x)))`, then `x + ls(mlp(norm(x)))`.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::VitConfig;
use super::model::LAW;
use crate::layers::{Attention, DropPath, LayerNorm, LayerScale, MlpBlock};
use crate::layers::{attention, layer_norm, layer_scale, mlp_block};
use crate::ops::{Branch, Inner, Prepacked};
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
    /// Of the attention's branch and the MLP's.
    prepacked: Option<[Prepacked; 2]>,
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
            prepacked: None,
        })
    }

    /// Keeps only the block's input for the backward, which computes the rest again: less memory for more time.
    pub(super) fn set_grad_checkpointing(&mut self, on: bool) {
        self.grad_checkpointing = on;
    }

    /// Keeps the layout of the weights from one forward pass to the next.
    pub(super) fn set_prepacking(&mut self, on: bool) {
        self.prepacked = on.then(Default::default);
    }

    /// `[batch, tokens, dim]` to the same shape.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        if self.grad_checkpointing {
            let block = self.clone();
            return ops::checkpoint(x, &self.parameters(), move |x| block.pass(x, mode));
        }
        self.pass(x, mode)
    }

    fn pass(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let [attn, mlp] = self.prepacked.as_ref().map_or([None, None], |prepacked| prepacked.each_ref().map(Some));
        let x = &match self.attn.inner(mode) {
            Some(inner) => fused(x, &self.norm1, inner, &self.residual1, attn, mode)?,
            None => self.residual1.add(x, &self.attn.forward(&self.norm1.forward(x)?, mode)?, mode)?,
        };
        match self.mlp.inner(mode) {
            Some(inner) => fused(x, &self.norm2, inner, &self.residual2, mlp, mode),
            None => self.residual2.add(x, &self.mlp.forward(&self.norm2.forward(x)?, mode)?, mode),
        }
    }

    /// Every tensor that the block computes with.
    fn parameters(&self) -> Vec<&Tensor> {
        let norms = [self.norm1.parameters(), self.norm2.parameters()];
        let norms = norms.into_iter().flat_map(|(weight, bias)| [weight, bias]);
        let scales = [&self.residual1, &self.residual2].into_iter().filter_map(Residual::gamma);
        norms.chain(self.attn.parameters()).chain(self.mlp.parameters()).chain(scales).collect()
    }

    /// The attention weights `[batch, heads, tokens, tokens]` for an input `[batch, tokens, dim]`.
    pub fn attention_weights(&self, x: &Tensor) -> Result<Tensor> {
        self.attn.weights(&self.norm1.forward(x)?)
    }
}

fn fused(
    x: &Tensor,
    norm: &LayerNorm,
    inner: Inner,
    residual: &Residual,
    prepacked: Option<&Prepacked>,
    mode: Mode,
) -> Result<Tensor> {
    let keep = residual.drop_path.keep(x, mode)?;
    let (norm, eps) = (norm.parameters(), norm.eps());
    ops::branch(x, &Branch { norm, eps, inner, gamma: residual.gamma(), keep: keep.as_ref(), prepacked })
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

    fn gamma(&self) -> Option<&Tensor> {
        self.layer_scale.as_ref().map(LayerScale::gamma)
    }

    fn add(&self, x: &Tensor, y: &Tensor, mode: Mode) -> Result<Tensor> {
        ops::scale_add(x, y, self.gamma(), self.drop_path.keep(y, mode)?.as_ref())
    }
}
