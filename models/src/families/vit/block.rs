//! One block of a ViT: `x + ls(attn(norm(x)))`, then `x + ls(mlp(norm(x)))`; or with the norms behind attention and MLP.

use candle_core::{Result, Tensor};
use candle_nn::{Init, ModuleT, VarBuilder};

use super::VitConfig;
use crate::Mode;
use crate::autograd::checkpoint;
use crate::layers::{
    Attention, LayerScale, MlpBlock, RelativePositionBias, RelativePositions, ResidualBranch, Rope, attention_between,
    mlp_block, residual_branch,
};

/// What the blocks of a ViT have in common. By default nothing.
#[derive(Default)]
pub(crate) struct Common {
    pub(super) rope: Option<Rope>,
    /// How tokens lie to each other, and the bias that all blocks share.
    pub(super) positions: Option<RelativePositions>,
    pub(super) bias: Option<RelativePositionBias>,
}

/// A transformer block.
#[derive(Debug, Clone)]
pub struct Block {
    attn: ResidualBranch<Attention>,
    mlp: ResidualBranch<MlpBlock>,
    grad_checkpointing: bool,
}

impl Block {
    /// Builds block `index` of a ViT.
    pub(crate) fn new(config: &VitConfig, index: usize, common: &Common, vb: VarBuilder) -> Result<Self> {
        let branch = config.residual_branch(index);
        let scales = match config.layer_scale() {
            Some(value) if config.is_eva_or_beit() && !config.use_post_norm => {
                let gamma = |name| vb.get_with_hints(config.embed_dim, name, Init::Const(value)).map(LayerScale::new);
                [Some(gamma("gamma_1")?), Some(gamma("gamma_2")?)]
            }
            _ => [None, None],
        };
        let attn = |vb| attention_of(config, index, common, vb);
        let mlp = |vb| mlp_block(&config.mlp_block(), vb);
        let mut block = Self {
            attn: residual_branch(&branch, ["norm1", "attn", "ls1", "drop_path1"], attn, vb.clone())?,
            mlp: residual_branch(&branch, ["norm2", "mlp", "ls2", "drop_path2"], mlp, vb)?,
            grad_checkpointing: false,
        };
        if let [Some(first), Some(second)] = scales {
            block.attn = block.attn.with_layer_scale(Some(first));
            block.mlp = block.mlp.with_layer_scale(Some(second));
        }
        Ok(block)
    }

    /// Keeps only the block's input for the backward, which computes the rest again: less memory for more time.
    pub(super) fn set_grad_checkpointing(&mut self, on: bool) {
        self.grad_checkpointing = on;
    }

    /// Keeps the layout of the weights from one forward pass to the next.
    pub(super) fn set_prepacking(&mut self, on: bool) {
        self.attn.set_prepacking(on);
        self.mlp.set_prepacking(on);
    }

    /// `[batch, tokens, dim]` to the same shape.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        if self.grad_checkpointing {
            let block = self.clone();
            return checkpoint(x, &self.parameters(), move |x| block.pass(x, mode));
        }
        self.pass(x, mode)
    }

    fn pass(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = self.attn.forward(x, mode)?;
        self.mlp.forward(&x, mode)
    }

    /// Every tensor that the block computes with.
    fn parameters(&self) -> Vec<&Tensor> {
        self.attn.parameters().into_iter().chain(self.mlp.parameters()).collect()
    }

    /// The attention weights `[batch, heads, tokens, tokens]` for an input `[batch, tokens, dim]`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn attention_weights(&self, x: &Tensor) -> Result<Tensor> {
        self.attn.inner().weights(&self.attn.before_inner(x)?)
    }
}

/// The attention of block `index`, with its positions.
fn attention_of(config: &VitConfig, index: usize, common: &Common, vb: VarBuilder) -> Result<Attention> {
    let own = common.positions.as_ref().filter(|_| config.use_rel_pos_bias);
    let rope = common.rope.as_ref().map(|rope| rope.of_block(index));
    Ok(attention_between(&config.attention(), own, vb)?.with_rope(rope).with_shared_bias(common.bias.clone()))
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
