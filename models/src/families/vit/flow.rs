//! Where a ViT's attention goes: the last block's weights, and the rollout through all blocks.

use candle_core::{D, DType, Result, Tensor};

use super::Vit;
use crate::Mode;

/// What tokens take from tokens, in float32. A row belongs to the token that takes, and its values sum to 1.
#[derive(Debug, Clone)]
pub struct AttentionFlow {
    /// The attention weights of the last block, `[batch, heads, tokens, tokens]`; of two attentions side by side the heads of both.
    pub last: Tensor,
    /// Attention rollout, `[batch, tokens, tokens]`: how much of every input token arrives at every token of the last block, if
    /// each block passes on half of a token and half of what it attends to, its heads averaged.
    ///
    /// Abnar and Zuidema, "Quantifying Attention Flow in Transformers", 2020.
    pub rollout: Tensor,
    /// How much what the head reads takes from every token of the last block, `[batch, tokens]`.
    reads: Tensor,
    /// Tokens before the patches.
    prefix: usize,
}

impl Vit {
    /// Where the attention of `images` goes. One block's weights are held at a time.
    ///
    /// # Errors
    /// If the images have another shape than the configuration says.
    pub fn attention_flow(&self, images: &Tensor) -> Result<AttentionFlow> {
        let mut x = self.embed(images, Mode::Eval)?;
        let (_, tokens, _) = x.dims3()?;
        let itself = Tensor::eye(tokens, DType::F32, x.device())?;
        let mut last = None;
        let mut rollout: Option<Tensor> = None;
        for block in self.blocks() {
            let weights = block.attention_weights(&x)?.to_dtype(DType::F32)?;
            let step = (weights.mean(1)?.broadcast_add(&itself)? * 0.5)?;
            rollout = Some(match rollout {
                None => step,
                Some(before) => step.matmul(&before)?,
            });
            last = Some(weights);
            x = block.forward(&x, Mode::Eval)?;
        }
        match (last, rollout) {
            (Some(last), Some(rollout)) => {
                let (reads, prefix) = (self.reads(&self.final_norm(&x)?)?, self.config().num_prefix_tokens());
                Ok(AttentionFlow { last, rollout, reads, prefix })
            }
            _ => candle_core::bail!("attention: expected a ViT with at least one block, got none"),
        }
    }

    /// How much what the head reads takes from every token of the last block, `[batch, tokens]`: of an attention pool its weights, its heads
    /// averaged; else all from the class token, or where there is none the same from every patch.
    fn reads(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, count, _) = tokens.dims3()?;
        let (device, prefix) = (tokens.device(), self.config().num_prefix_tokens());
        let alike = |from: usize, many: usize| -> Result<Tensor> {
            let zeros = |many: usize| Tensor::zeros((batch, many), DType::F32, device);
            let share = (Tensor::ones((batch, many), DType::F32, device)? / many as f64)?;
            Tensor::cat(&[&zeros(from)?, &share, &zeros(count - from - many)?], 1)
        };
        match self.pool_weights(tokens)? {
            Some(weights) => {
                let weights = weights.to_dtype(DType::F32)?.mean(1)?;
                let others = Tensor::zeros((batch, count - weights.dim(1)?), DType::F32, device)?;
                Tensor::cat(&[others, weights], 1)
            }
            None if self.config().class_token => alike(0, 1),
            None => alike(prefix, count - prefix),
        }
    }
}

impl AttentionFlow {
    /// What the head reads of every patch by the last block, `[batch, heads, patches]`: by the class token, the mean of the patches, or the
    /// attention pool.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn last_to_patches(&self) -> Result<Tensor> {
        self.to_patches(&self.last, self.reads.unsqueeze(1)?)
    }

    /// The same by the rollout, `[batch, patches]`.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn rollout_to_patches(&self) -> Result<Tensor> {
        self.to_patches(&self.rollout, self.reads.clone())
    }

    fn to_patches(&self, flow: &Tensor, reads: Tensor) -> Result<Tensor> {
        let tokens = flow.dim(D::Minus1)?;
        let from_patches = flow.narrow(D::Minus1, self.prefix, tokens - self.prefix)?.contiguous()?;
        reads.unsqueeze(D::Minus2)?.broadcast_matmul(&from_patches)?.squeeze(D::Minus2)
    }
}
