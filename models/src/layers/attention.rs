//! Multi-head self-attention: `proj(softmax(q kᵀ / sqrt(d)) v)` with q, k, v from one linear layer.
//!
//! Vaswani et al., "Attention Is All You Need", 2017; parameters as timm's `Attention`.
//!
//! Locality self-attention (Lee et al., "Vision Transformer for Small-Size Datasets", 2021, section 3.2) learns the scale in
//! place of `1 / sqrt(d)`, one for every head, and leaves out of the softmax what a token says to itself.
//!
//! Positions may enter here: queries and keys are turned ([`Rope`]), or a bias is added to the scores
//! ([`RelativePositionBias`]).
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::ModuleT;
//! use tallow_models::Params;
//! use tallow_models::layers::{AttentionConfig, attention};
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let layer = attention(&AttentionConfig::new(32, 4), params.builder())?;
//! let tokens = Tensor::ones((2, 17, 32), DType::F32, &Device::Cpu)?;
//! assert_eq!(layer.forward_t(&tokens, false)?.dims(), &[2, 17, 32]);
//! assert_eq!(layer.weights(&tokens)?.dims(), &[2, 4, 17, 17]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Module, ModuleT, VarBuilder};

use super::attention_heads::{AttentionHeads, attention_heads, before};
use super::qkv::{Qkv, biases, qkv};
use super::{BranchInner, Dropout, Linear, LinearInit, Norm, NormLayer, RelativePositionBias, RelativePositions, Rope};
use super::{linear, norm, relative_position_bias};
use crate::Mode;
use crate::ops::{Inner, Middle};

/// What self-attention is made of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AttentionConfig {
    /// Width of a token.
    pub dim: usize,
    /// Attention heads; divides `dim`.
    pub num_heads: usize,
    /// Whether q, k, v have a bias. Default true.
    pub qkv_bias: bool,
    /// Whether k has one where q and v have one. Default true.
    pub k_bias: bool,
    /// Whether q, k, v come from one linear layer, and not from three. Default true.
    pub qkv_fused: bool,
    /// A norm on the queries and keys of every head. Default false.
    pub qk_norm: bool,
    /// Locality self-attention: learned scales, and no token attends to itself. Default false.
    pub lsa: bool,
    /// Whether a token attends to itself and those before it alone, as in text towers. Default false.
    pub causal: bool,
    /// A norm on what attention gives, before the projection. Default false.
    pub scale_norm: bool,
    /// A head is the difference of two softmaxes of half its width each, of which the second is weighed with a learned number that starts
    /// about here (Ye et al. 2024). Default none.
    pub difference: Option<f64>,
    /// Whether the projection has a bias. Default true.
    pub proj_bias: bool,
    /// The kind of the norms. Default layer norms.
    pub norm_layer: NormLayer,
    /// Epsilon of the norms. Default 1e-6.
    pub norm_eps: f64,
    /// Dropout on the attention weights. Default 0.
    pub attn_drop_rate: f64,
    /// Dropout after the projection. Default 0.
    pub proj_drop_rate: f64,
    /// What the linear layers start from. Default normal with a deviation of 0.02.
    pub init: LinearInit,
}

impl AttentionConfig {
    /// Plain self-attention of `num_heads` heads over tokens of `dim` values.
    pub fn new(dim: usize, num_heads: usize) -> Self {
        Self {
            dim,
            num_heads,
            qkv_bias: true,
            k_bias: true,
            qkv_fused: true,
            qk_norm: false,
            lsa: false,
            causal: false,
            scale_norm: false,
            difference: None,
            proj_bias: true,
            norm_layer: NormLayer::LayerNorm,
            norm_eps: 1e-6,
            attn_drop_rate: 0.,
            proj_drop_rate: 0.,
            init: LinearInit::Normal(0.02),
        }
    }
}

/// Self-attention with `qkv` `[3 * dim, dim]` (rows q, k, v), or `q_proj`, `k_proj` and `v_proj`; where keys have no bias, with
/// `q_bias` and `v_bias` beside `qkv`; `proj`; with `lsa`, `scale` `[heads]`; with `qk_norm`, `q_norm` and `k_norm` over the values
/// of one head; with `scale_norm`, `norm`; with `difference`, `lambda_q1`, `lambda_k1`, `lambda_q2`, `lambda_k2` and `sub_norm`.
#[derive(Debug, Clone)]
pub struct Attention {
    qkv: Qkv,
    heads: AttentionHeads,
    norm: Option<Norm>,
    proj: Linear,
    proj_drop: Dropout,
}

/// Self-attention as `config` describes it.
///
/// # Errors
/// If the heads do not divide the width.
pub fn attention(config: &AttentionConfig, vb: VarBuilder) -> Result<Attention> {
    attention_between(config, None, vb)
}

/// The same, with a bias on its scores by how the tokens lie to each other.
///
/// # Errors
/// As there.
pub fn attention_between(
    config: &AttentionConfig,
    positions: Option<&RelativePositions>,
    vb: VarBuilder,
) -> Result<Attention> {
    let (dim, init) = (config.dim, config.init);
    let biases = biases(config, &vb)?;
    // A table comes before the layers, an MLP between them, as in timm's classes.
    let bias = |table: bool| {
        let positions = positions.filter(|positions| positions.has_table() == table);
        let vb = || if table { vb.clone() } else { vb.pp("rel_pos") };
        positions.map(|positions| relative_position_bias(positions, config.num_heads, vb())).transpose()
    };
    let own = bias(true)?;
    let before = before(config, &vb)?;
    let qkv = qkv(config, biases, vb.clone())?;
    let mut heads = attention_heads(config, before, &vb)?;
    heads.relative[0] = own.or(bias(false)?);
    let between = || norm(config.norm_layer, dim, config.norm_eps, vb.pp("norm"));
    let norm = config.scale_norm.then(between).transpose()?;
    let proj = linear(dim, dim, config.proj_bias, init, vb.pp("proj"))?;
    heads.close(config, &vb)?;
    Ok(Attention {
        qkv,
        heads,
        norm,
        proj,
        proj_drop: Dropout::new(config.proj_drop_rate, &vb.pp("proj_drop").prefix()),
    })
}

impl Attention {
    /// The same with queries and keys that are turned by their patch's place.
    #[must_use]
    pub fn with_rope(mut self, rope: Option<Rope>) -> Self {
        self.heads.rope = rope;
        self
    }

    /// The same with a bias on its scores that other blocks have too, beside its own.
    #[must_use]
    pub fn with_shared_bias(mut self, shared: Option<RelativePositionBias>) -> Self {
        self.heads.relative[1] = shared;
        self
    }

    /// `[batch, tokens, dim]` to `[batch, tokens, dim]`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let x = self.heads.forward(self.qkv.forward(x)?, mode)?;
        let x = match &self.norm {
            Some(norm) => norm.forward(&x)?,
            None => x,
        };
        self.proj_drop.forward(&self.proj.forward(&x)?, mode)
    }

    /// The attention weights `[batch, heads, tokens, tokens]` of an input `[batch, tokens, dim]`: a row says how much one
    /// token takes from every other.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn weights(&self, x: &Tensor) -> Result<Tensor> {
        self.heads.weights(self.qkv.forward(x)?)
    }
}

impl BranchInner for Attention {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Attention::forward(self, x, mode)
    }

    /// None where dropout, norms, positions, learned scales or a mask lie between its parts.
    fn fused(&self, mode: Mode) -> Option<Inner<'_>> {
        let heads = self.heads.plain(mode).filter(|_| self.norm.is_none() && !self.proj_drop.is_active(mode))?;
        Some(Inner { first: self.qkv.fused()?, middle: Middle::Attention(heads), second: self.proj.parameters() })
    }

    fn parameters(&self) -> Vec<&Tensor> {
        let layers = self.qkv.parameters().into_iter().chain([self.proj.weight()]).chain(self.proj.bias());
        self.heads.parameters().into_iter().chain(self.norm.iter().flat_map(Norm::parameters)).chain(layers).collect()
    }
}

impl ModuleT for Attention {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
