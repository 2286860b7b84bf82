//! One block of a ViT: `x + ls(attn(norm(x)))`, then `x + ls(mlp(norm(x)))`.

use candle_core::{Result, Tensor};
use candle_nn::{Module, ModuleT, VarBuilder};

use super::VitConfig;
use crate::Mode;
use crate::autograd::checkpoint;
use crate::layers::{Attention, MlpBlock, ResidualBranch, attention, mlp_block, residual_branch};

/// A pre-norm transformer block.
#[derive(Debug, Clone)]
pub struct Block {
    attn: ResidualBranch<Attention>,
    mlp: ResidualBranch<MlpBlock>,
    grad_checkpointing: bool,
}

impl Block {
    /// Builds block `index` of a ViT.
    pub(super) fn new(config: &VitConfig, index: usize, vb: VarBuilder) -> Result<Self> {
        let branch = config.residual_branch(index);
        let attn = |vb| attention(&config.attention(), vb);
        let mlp = |vb| mlp_block(&config.mlp_block(), vb);
        Ok(Self {
            attn: residual_branch(&branch, ["norm1", "attn", "ls1", "drop_path1"], attn, vb.clone())?,
            mlp: residual_branch(&branch, ["norm2", "mlp", "ls2", "drop_path2"], mlp, vb)?,
            grad_checkpointing: false,
        })
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
        self.attn.inner().weights(&self.attn.norm().forward(x)?)
    }
}

impl ModuleT for Block {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
