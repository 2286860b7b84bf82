//! Attention and MLP side by side: `attn_out_proj(attention(q, k, v)) + mlp_out_proj(act(h))` with q, k, v and h from one linear layer.
//!
//! Dehghani et al., "Scaling Vision Transformers to 22 Billion Parameters", 2023; parameters as timm's `ParallelScalingBlock`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::ModuleT;
//! use tallow_models::Params;
//! use tallow_models::layers::{AttentionConfig, MlpBlockConfig, attention_and_mlp};
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let layer = attention_and_mlp(&AttentionConfig::new(32, 4), &MlpBlockConfig::new(32, 128), None, params.builder())?;
//! let tokens = Tensor::ones((2, 17, 32), DType::F32, &Device::Cpu)?;
//! assert_eq!(layer.forward_t(&tokens, false)?.dims(), &[2, 17, 32]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{D, Result, Tensor};
use candle_nn::{Module, ModuleT, VarBuilder};

use super::attention_heads::{AttentionHeads, attention_heads};
use super::qkv::Projected;
use super::{AttentionConfig, BranchInner, Dropout, Linear, MlpBlockConfig, linear};
use crate::Mode;
use crate::ops::{self, Gelu};

/// The layers `in_proj` `[hidden + 3 * dim, dim]` (rows of the MLP's hidden layer, q, k, v), `attn_out_proj` and `mlp_out_proj`; with
/// `qk_norm`, `q_norm` and `k_norm` over the values of one head.
#[derive(Debug, Clone)]
pub struct AttentionAndMlp {
    /// The bias of the hidden layer, where q, k, v have none.
    mlp_bias: Option<Tensor>,
    in_proj: Linear,
    heads: AttentionHeads,
    act: Gelu,
    mlp_drop: Dropout,
    attn_out_proj: Linear,
    mlp_out_proj: Linear,
}

/// The layers as both configurations describe them: of the attention heads, norms on queries and keys and biases count, of the MLP width,
/// activation, dropout and whether there are biases behind. `mlp_bias` `[hidden]` is for q, k, v without a bias.
///
/// # Errors
/// If the heads do not divide the width.
pub fn attention_and_mlp(
    attn: &AttentionConfig,
    mlp: &MlpBlockConfig,
    mlp_bias: Option<Tensor>,
    vb: VarBuilder,
) -> Result<AttentionAndMlp> {
    let (dim, hidden, init) = (attn.dim, mlp.hidden, attn.init);
    Ok(AttentionAndMlp {
        mlp_bias,
        in_proj: linear(dim, hidden + 3 * dim, attn.qkv_bias, init, vb.pp("in_proj"))?,
        heads: attention_heads(attn, None, &vb)?,
        act: mlp.act,
        mlp_drop: Dropout::new(mlp.drop_rate, &vb.pp("mlp_drop").prefix()),
        attn_out_proj: linear(dim, dim, attn.proj_bias, init, vb.pp("attn_out_proj"))?,
        mlp_out_proj: linear(hidden, dim, mlp.bias, init, vb.pp("mlp_out_proj"))?,
    })
}

impl AttentionAndMlp {
    /// `[batch, tokens, dim]` to the same shape.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let (hidden, qkv) = self.projected(x)?;
        let mixed = self.heads.forward(qkv, mode)?;
        let hidden = self.mlp_drop.forward(&self.act.apply(&hidden)?, mode)?;
        ops::add(&self.attn_out_proj.forward(&mixed)?, &self.mlp_out_proj.forward(&hidden)?)
    }

    /// The attention weights `[batch, heads, tokens, tokens]` of an input `[batch, tokens, dim]`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn weights(&self, x: &Tensor) -> Result<Tensor> {
        self.heads.weights(self.projected(x)?.1)
    }

    /// The hidden layer before its activation, and queries, keys and values.
    fn projected(&self, x: &Tensor) -> Result<(Tensor, Projected)> {
        let (dim, hidden) = (self.attn_out_proj.weight().dim(1)?, self.mlp_out_proj.weight().dim(1)?);
        let y = match &self.mlp_bias {
            None => self.in_proj.forward(x)?,
            Some(bias) => {
                let none = Tensor::zeros(3 * dim, bias.dtype(), bias.device())?;
                let bias = Tensor::cat(&[bias, &none], 0)?;
                Linear::new(self.in_proj.weight().clone(), Some(bias)).forward(x)?
            }
        };
        let part = |start, width| y.narrow(D::Minus1, start, width)?.contiguous();
        Ok((part(0, hidden)?, Projected::Packed(part(hidden, 3 * dim)?)))
    }
}

impl BranchInner for AttentionAndMlp {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        AttentionAndMlp::forward(self, x, mode)
    }

    fn parameters(&self) -> Vec<&Tensor> {
        let layers = [&self.in_proj, &self.attn_out_proj, &self.mlp_out_proj];
        let layers = layers.into_iter().flat_map(|layer| [Some(layer.weight()), layer.bias()]).flatten();
        layers.chain(&self.mlp_bias).chain(self.heads.parameters()).collect()
    }
}

impl ModuleT for AttentionAndMlp {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
