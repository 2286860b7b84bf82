//! Multi-head self-attention: `proj(softmax(q kᵀ / sqrt(d)) v)` with q, k, v from one linear layer.
//!
//! Vaswani et al., "Attention Is All You Need", 2017; parameters as timm's `Attention`.
//!
//! Locality self-attention (Lee et al., "Vision Transformer for Small-Size Datasets", 2021, section 3.2) learns the scale in
//! place of `1 / sqrt(d)`, one for every head, and leaves out of the softmax what a token says to itself.
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

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, Module, ModuleT, VarBuilder};

use super::{BranchInner, Dropout, LayerNorm, Linear, LinearInit, layer_norm, linear};
use crate::ops::{Inner, Middle};
use crate::{Mode, ops};

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
    /// LayerNorm on the queries and keys of every head. Default false.
    pub qk_norm: bool,
    /// Locality self-attention: learned scales, and no token attends to itself. Default false.
    pub lsa: bool,
    /// Whether a token attends to itself and those before it alone, as in text towers. Default false.
    pub causal: bool,
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
            qk_norm: false,
            lsa: false,
            causal: false,
            norm_eps: 1e-6,
            attn_drop_rate: 0.,
            proj_drop_rate: 0.,
            init: LinearInit::Normal(0.02),
        }
    }
}

/// Self-attention with `qkv` `[3 * dim, dim]` (rows q, k, v), `proj`; with `lsa`, `scale` `[heads]`; with `qk_norm`, `q_norm` and
/// `k_norm` over the values of one head.
#[derive(Debug, Clone)]
pub struct Attention {
    num_heads: usize,
    causal: bool,
    /// The learned scales of locality self-attention.
    scale: Option<Tensor>,
    qkv: Linear,
    qk_norm: Option<(LayerNorm, LayerNorm)>,
    attn_drop: Dropout,
    proj: Linear,
    proj_drop: Dropout,
}

/// Self-attention as `config` describes it.
///
/// # Errors
/// If the heads do not divide the width.
pub fn attention(config: &AttentionConfig, vb: VarBuilder) -> Result<Attention> {
    let (dim, heads, init) = (config.dim, config.num_heads, config.init);
    let head_dim = head_dim(dim, heads)?;
    let norm = |name| layer_norm(head_dim, config.norm_eps, vb.pp(name));
    let scale = Init::Const((head_dim as f64).powf(-0.5));
    Ok(Attention {
        num_heads: heads,
        causal: config.causal,
        scale: config.lsa.then(|| vb.get_with_hints(heads, "scale", scale)).transpose()?,
        qkv: linear(dim, 3 * dim, config.qkv_bias, init, vb.pp("qkv"))?,
        qk_norm: if config.qk_norm { Some((norm("q_norm")?, norm("k_norm")?)) } else { None },
        attn_drop: Dropout::new(config.attn_drop_rate, &vb.pp("attn_drop").prefix()),
        proj: linear(dim, dim, true, init, vb.pp("proj"))?,
        proj_drop: Dropout::new(config.proj_drop_rate, &vb.pp("proj_drop").prefix()),
    })
}

/// The width of a head.
pub(super) fn head_dim(dim: usize, num_heads: usize) -> Result<usize> {
    match dim.checked_div(num_heads) {
        Some(head_dim) if dim > 0 && head_dim * num_heads == dim => Ok(head_dim),
        _ => candle_core::bail!("attention: expected num_heads to divide dim {dim}, got {num_heads}"),
    }
}

impl Attention {
    /// `[batch, tokens, dim]` to `[batch, tokens, dim]`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let qkv = self.qkv.forward(x)?;
        let x = if self.attn_drop.is_active(mode) || self.scale.is_some() || self.causal {
            let (q, k, v) = self.split(&qkv)?;
            let weights = self.attn_drop.forward(&self.softmax(&q, &k)?, mode)?;
            weights.matmul(&self.heads(&v)?)?.transpose(1, 2)?.flatten_from(2)?
        } else if self.qk_norm.is_some() {
            let (q, k, v) = self.split(&qkv)?;
            ops::attention(&q, &k, &v, self.num_heads)?
        } else {
            ops::attention_qkv(&qkv, self.num_heads)?
        };
        self.proj_drop.forward(&self.proj.forward(&x)?, mode)
    }

    /// The attention weights `[batch, heads, tokens, tokens]` of an input `[batch, tokens, dim]`: a row says how much one
    /// token takes from every other.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn weights(&self, x: &Tensor) -> Result<Tensor> {
        let (q, k, _) = self.split(&self.qkv.forward(x)?)?;
        self.softmax(&q, &k)
    }

    /// Normalised queries, normalised keys and values, `[batch, tokens, dim]` each.
    fn split(&self, qkv: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
        let dim = qkv.dim(D::Minus1)? / 3;
        let part = |i| qkv.narrow(D::Minus1, i * dim, dim);
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let Some((q_norm, k_norm)) = &self.qk_norm else { return Ok((q, k, v)) };
        let per_head = |x: &Tensor, norm: &LayerNorm| {
            let (batch, tokens, dim) = x.dims3()?;
            norm.forward(&x.reshape((batch, tokens, self.num_heads, dim / self.num_heads))?)?
                .reshape((batch, tokens, dim))
        };
        Ok((per_head(&q, q_norm)?, per_head(&k, k_norm)?, v))
    }

    fn softmax(&self, q: &Tensor, k: &Tensor) -> Result<Tensor> {
        let (q, k) = (self.heads(q)?, self.heads(k)?);
        let scores = match &self.scale {
            None => {
                let scale = (q.dim(D::Minus1)? as f64).powf(-0.5);
                (q * scale)?.matmul(&k.t()?)?
            }
            Some(scale) => {
                let q = q.broadcast_mul(&scale.reshape((1, self.num_heads, 1, 1))?)?;
                let scores = q.matmul(&k.t()?)?;
                scores.broadcast_add(&masked(&scores, |from, to| from == to)?)?
            }
        };
        match self.causal {
            true => ops::softmax(&scores.broadcast_add(&masked(&scores, |from, to| to > from)?)?),
            false => ops::softmax(&scores),
        }
    }

    /// `[batch, tokens, dim]` to `[batch, heads, tokens, dim / heads]`.
    fn heads(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, dim) = x.dims3()?;
        x.reshape((batch, tokens, self.num_heads, dim / self.num_heads))?.transpose(1, 2)?.contiguous()
    }
}

impl BranchInner for Attention {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Attention::forward(self, x, mode)
    }

    /// None where dropout, norms, learned scales or a mask lie between its parts.
    fn fused(&self, mode: Mode) -> Option<Inner<'_>> {
        let drops = self.attn_drop.is_active(mode) || self.proj_drop.is_active(mode);
        let plain = !(drops || self.causal || self.qk_norm.is_some() || self.scale.is_some());
        let middle = Middle::Attention(self.num_heads);
        plain.then(|| Inner { first: self.qkv.parameters(), middle, second: self.proj.parameters() })
    }

    fn parameters(&self) -> Vec<&Tensor> {
        let norms = self.qk_norm.iter().flat_map(|(q_norm, k_norm)| [q_norm.parameters(), k_norm.parameters()]);
        let norms = norms.flat_map(|(weight, bias)| [weight, bias]);
        let layers = [self.qkv.parameters(), self.proj.parameters()];
        let layers = layers.into_iter().flat_map(|(weight, bias)| [Some(weight), bias]).flatten();
        self.scale.iter().chain(norms).chain(layers).collect()
    }
}

impl ModuleT for Attention {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}

/// What to add to scores `[batch, heads, tokens, tokens]` so that no token attends to one that `hidden` names with it (the token that
/// attends first): minus infinity there.
fn masked(scores: &Tensor, hidden: impl Fn(usize, usize) -> bool) -> Result<Tensor> {
    let tokens = scores.dim(D::Minus1)?;
    let pairs = (0..tokens * tokens).map(|at| (at / tokens, at % tokens));
    let mask: Vec<f32> = pairs.map(|(from, to)| if hidden(from, to) { f32::NEG_INFINITY } else { 0. }).collect();
    Tensor::from_vec(mask, (tokens, tokens), scores.device())?.to_dtype(scores.dtype())
}
