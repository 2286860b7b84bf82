//! Attention and MLP side by side: `attn_out_proj(attention(q, k, v)) + mlp_out_proj(act(h))` with q, k, v and h from one linear layer.
//!
//! Dehghani et al., "Scaling Vision Transformers to 22 Billion Parameters", 2023; parameters as timm's `ParallelScalingBlock`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::ModuleT;
//! use tallow_models::Params;
//! use tallow_models::layers::{AttentionConfig, MlpBlockConfig, attention_and_mlp, before_norm};
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let (attn, mlp) = (AttentionConfig::new(32, 4), MlpBlockConfig::new(32, 128));
//! let before = before_norm(&attn, &mlp, &params.builder())?;
//! let layer = attention_and_mlp(&attn, &mlp, before, params.builder())?;
//! let tokens = Tensor::ones((2, 17, 32), DType::F32, &Device::Cpu)?;
//! assert_eq!(layer.forward_t(&tokens, false)?.dims(), &[2, 17, 32]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, Module, ModuleT, VarBuilder};

use super::attention_heads::{AttentionHeads, Before, attention_heads, before};
use super::qkv::Projected;
use super::{AttentionConfig, BranchInner, Dropout, Linear, MlpBlockConfig, linear};
use crate::Mode;
use crate::ops::{self, Gelu};

/// The layers `in_proj` `[hidden + 3 * dim, dim]` (rows of the MLP's hidden layer, q, k, v), `attn_out_proj` and `mlp_out_proj`; with
/// `qk_norm`, `q_norm` and `k_norm` over the values of one head. Where heads are differences, with their parameters and one layer
/// `out_proj` `[dim, dim + hidden]`, as timm's `DiffParallelScalingBlock`.
#[derive(Debug, Clone)]
pub struct AttentionAndMlp {
    /// The bias of the hidden layer, where q, k, v have none.
    mlp_bias: Option<Tensor>,
    in_proj: Linear,
    heads: AttentionHeads,
    act: Gelu,
    mlp_drop: Dropout,
    out: Out,
    hidden: usize,
    dim: usize,
}

/// The layers behind.
#[derive(Debug, Clone)]
enum Out {
    /// Attention's and the MLP's.
    Apart([Linear; 2]),
    /// One for both.
    Fused(Linear),
}

/// The parameters that timm lists before the norm in front.
#[derive(Debug)]
pub struct BeforeNorm {
    mlp_bias: Option<Tensor>,
    heads: Before,
}

/// The parameters that are listed before the norm: the hidden layer's bias where q, k, v have none, and those of differences.
///
/// # Errors
/// Those of the builder.
pub fn before_norm(attn: &AttentionConfig, mlp: &MlpBlockConfig, vb: &VarBuilder) -> Result<BeforeNorm> {
    let bias = || vb.get_with_hints(mlp.hidden, "mlp_bias", Init::Const(0.));
    let mlp_bias = (!attn.qkv_bias).then(bias).transpose()?;
    Ok(BeforeNorm { mlp_bias, heads: before(attn, vb)? })
}

/// The layers as both configurations describe them: of the attention heads, norms on queries and keys and biases count, of the MLP width,
/// activation, dropout and whether there are biases behind.
///
/// # Errors
/// If the heads do not divide the width.
pub fn attention_and_mlp(
    attn: &AttentionConfig,
    mlp: &MlpBlockConfig,
    before: BeforeNorm,
    vb: VarBuilder,
) -> Result<AttentionAndMlp> {
    let (dim, hidden, init) = (attn.dim, mlp.hidden, attn.init);
    let layer = |from, to, bias, name| linear(from, to, bias, init, vb.pp(name));
    let in_proj = layer(dim, hidden + 3 * dim, attn.qkv_bias, "in_proj")?;
    let mut heads = attention_heads(attn, before.heads, &vb)?;
    heads.close(attn, &vb)?;
    Ok(AttentionAndMlp {
        mlp_bias: before.mlp_bias,
        in_proj,
        heads,
        act: mlp.act,
        mlp_drop: Dropout::new(mlp.drop_rate, &vb.pp("mlp_drop").prefix()),
        out: match attn.difference {
            None => Out::Apart([
                layer(dim, dim, attn.proj_bias, "attn_out_proj")?,
                layer(hidden, dim, mlp.bias, "mlp_out_proj")?,
            ]),
            Some(_) => Out::Fused(layer(dim + hidden, dim, attn.proj_bias, "out_proj")?),
        },
        hidden,
        dim,
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
        match &self.out {
            Out::Apart([attn, mlp]) => ops::add(&attn.forward(&mixed)?, &mlp.forward(&hidden)?),
            Out::Fused(both) => both.forward(&Tensor::cat(&[mixed, hidden], D::Minus1)?),
        }
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
        let (dim, hidden) = (self.dim, self.hidden);
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
        let out = match &self.out {
            Out::Apart(layers) => layers.as_slice(),
            Out::Fused(layer) => std::slice::from_ref(layer),
        };
        let layers = [&self.in_proj].into_iter().chain(out);
        let layers = layers.flat_map(|layer| [Some(layer.weight()), layer.bias()]).flatten();
        layers.chain(&self.mlp_bias).chain(self.heads.parameters()).collect()
    }
}

impl ModuleT for AttentionAndMlp {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
