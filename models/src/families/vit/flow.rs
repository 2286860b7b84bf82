//! Where a ViT's attention goes: the last block's weights, and the rollout through all blocks.

use candle_core::{D, DType, Result, Tensor};

use super::Vit;
use crate::Mode;

/// What tokens take from tokens, in float32. A row belongs to the token that takes, and its values sum to 1.
#[derive(Debug, Clone)]
pub struct AttentionFlow {
    /// The attention weights of the last block, `[batch, heads, tokens, tokens]`.
    pub last: Tensor,
    /// Attention rollout, `[batch, tokens, tokens]`: how much of every input token arrives at every token of the last block, if
    /// each block passes on half of a token and half of what it attends to, its heads averaged.
    ///
    /// Abnar and Zuidema, "Quantifying Attention Flow in Transformers", 2020.
    pub rollout: Tensor,
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
            (Some(last), Some(rollout)) => Ok(AttentionFlow { last, rollout }),
            _ => candle_core::bail!("attention: expected a ViT with at least one block, got none"),
        }
    }

    /// The part of `flow [.., tokens, tokens]` that goes from the patches into what the model's pool reads, `[.., patches]`: the
    /// class token's row, or where there is no class token the mean of the patches' rows.
    ///
    /// # Errors
    /// If the flow has another number of tokens.
    pub fn attention_to_patches(&self, flow: &Tensor) -> Result<Tensor> {
        let (tokens, prefix) = (self.config().num_tokens(), self.config().num_prefix_tokens());
        if !matches!(flow.dims(), [.., rows, columns] if [*rows, *columns] == [tokens; 2]) {
            candle_core::bail!("attention: expected [.., {tokens}, {tokens}], got: {:?}", flow.dims())
        }
        let from_patches = flow.narrow(D::Minus1, prefix, tokens - prefix)?;
        if self.config().class_token {
            from_patches.narrow(D::Minus2, 0, 1)?.squeeze(D::Minus2)
        } else {
            from_patches.narrow(D::Minus2, prefix, tokens - prefix)?.mean(D::Minus2)
        }
    }
}
