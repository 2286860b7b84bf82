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

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, Module, ModuleT, VarBuilder};

use super::qkv::{Projected, Qkv, biases, qkv};
use super::{BranchInner, Dropout, LayerNorm, Linear, LinearInit, RelativePositionBias, RelativePositions, Rope};
use super::{layer_norm, linear, relative_position_bias};
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
    /// Whether k has one where q and v have one. Default true.
    pub k_bias: bool,
    /// Whether q, k, v come from one linear layer, and not from three. Default true.
    pub qkv_fused: bool,
    /// LayerNorm on the queries and keys of every head. Default false.
    pub qk_norm: bool,
    /// Locality self-attention: learned scales, and no token attends to itself. Default false.
    pub lsa: bool,
    /// Whether a token attends to itself and those before it alone, as in text towers. Default false.
    pub causal: bool,
    /// LayerNorm on what attention gives, before the projection. Default false.
    pub scale_norm: bool,
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
            norm_eps: 1e-6,
            attn_drop_rate: 0.,
            proj_drop_rate: 0.,
            init: LinearInit::Normal(0.02),
        }
    }
}

/// Self-attention with `qkv` `[3 * dim, dim]` (rows q, k, v), or `q_proj`, `k_proj` and `v_proj`; where keys have no bias, with
/// `q_bias` and `v_bias` beside `qkv`; `proj`; with `lsa`, `scale` `[heads]`; with `qk_norm`, `q_norm` and `k_norm` over the values
/// of one head; with `scale_norm`, `norm`.
#[derive(Debug, Clone)]
pub struct Attention {
    num_heads: usize,
    causal: bool,
    /// The learned scales of locality self-attention.
    scale: Option<Tensor>,
    rope: Option<Rope>,
    /// The bias of this attention alone, and the one that it shares with others.
    relative: [Option<RelativePositionBias>; 2],
    qkv: Qkv,
    qk_norm: Option<(LayerNorm, LayerNorm)>,
    attn_drop: Dropout,
    norm: Option<LayerNorm>,
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
    let (dim, heads, init) = (config.dim, config.num_heads, config.init);
    let head_dim = head_dim(dim, heads)?;
    let norm = |wanted: bool, name, dim| wanted.then(|| layer_norm(dim, config.norm_eps, vb.pp(name))).transpose();
    let scale = Init::Const((head_dim as f64).powf(-0.5));
    let biases = biases(config, &vb)?;
    // A table comes before the layers, an MLP between them, as in timm's classes.
    let bias = |table: bool| {
        let positions = positions.filter(|positions| positions.has_table() == table);
        let vb = || if table { vb.clone() } else { vb.pp("rel_pos") };
        positions.map(|positions| relative_position_bias(positions, heads, vb())).transpose()
    };
    let own = bias(true)?;
    Ok(Attention {
        num_heads: heads,
        causal: config.causal,
        scale: config.lsa.then(|| vb.get_with_hints(heads, "scale", scale)).transpose()?,
        rope: None,
        qkv: qkv(config, biases, vb.clone())?,
        qk_norm: norm(config.qk_norm, "q_norm", head_dim)?.zip(norm(config.qk_norm, "k_norm", head_dim)?),
        relative: [own.or(bias(false)?), None],
        attn_drop: Dropout::new(config.attn_drop_rate, &vb.pp("attn_drop").prefix()),
        norm: norm(config.scale_norm, "norm", dim)?,
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
    /// The same with queries and keys that are turned by their patch's place.
    #[must_use]
    pub fn with_rope(mut self, rope: Option<Rope>) -> Self {
        self.rope = rope;
        self
    }

    /// The same with a bias on its scores that other blocks have too, beside its own.
    #[must_use]
    pub fn with_shared_bias(mut self, shared: Option<RelativePositionBias>) -> Self {
        self.relative[1] = shared;
        self
    }

    /// `[batch, tokens, dim]` to `[batch, tokens, dim]`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let projected = self.qkv.forward(x)?;
        let x = if self.attn_drop.is_active(mode) || self.scale.is_some() || self.causal {
            let [q, k, v] = self.prepared(projected)?;
            let weights = self.attn_drop.forward(&self.softmax(&q, &k, mode)?, mode)?;
            weights.matmul(&self.heads(&v)?)?.transpose(1, 2)?.flatten_from(2)?
        } else if let Some(bias) = self.bias(mode)? {
            let qkv = match projected {
                Projected::Packed(qkv) if self.qk_norm.is_none() && self.rope.is_none() => qkv,
                projected => Tensor::cat(&self.prepared(projected)?, D::Minus1)?,
            };
            ops::attention_qkv_biased(&qkv, &bias)?
        } else {
            match (projected, &self.qk_norm, &self.rope) {
                (Projected::Packed(qkv), None, None) => ops::attention_qkv(&qkv, self.num_heads)?,
                (Projected::Packed(qkv), None, Some(rope)) => {
                    let qkv = rope.turn(&qkv, 3 * self.num_heads, 2 * self.num_heads)?;
                    ops::attention_qkv(&qkv, self.num_heads)?
                }
                (projected, ..) => {
                    let [q, k, v] = self.prepared(projected)?;
                    ops::attention(&q, &k, &v, self.num_heads)?
                }
            }
        };
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
        let [q, k, _] = self.prepared(self.qkv.forward(x)?)?;
        self.softmax(&q, &k, Mode::Eval)
    }

    /// Queries and keys, normalised and turned, and values, `[batch, tokens, dim]` each.
    fn prepared(&self, projected: Projected) -> Result<[Tensor; 3]> {
        let [q, k, v] = projected.apart()?;
        let prepare = |x: Tensor, norm: Option<&LayerNorm>| {
            let x = match norm {
                Some(norm) => {
                    let (batch, tokens, dim) = x.dims3()?;
                    let heads = x.reshape((batch, tokens, self.num_heads, dim / self.num_heads))?;
                    norm.forward(&heads)?.reshape((batch, tokens, dim))?
                }
                None => x,
            };
            match &self.rope {
                Some(rope) => rope.turn(&x, self.num_heads, self.num_heads),
                None => Ok(x),
            }
        };
        let (q_norm, k_norm) = self.qk_norm.as_ref().map(|(q, k)| (q, k)).unzip();
        Ok([prepare(q, q_norm)?, prepare(k, k_norm)?, v])
    }

    /// What is added to the scores, `[heads, tokens, tokens]`.
    fn bias(&self, mode: Mode) -> Result<Option<Tensor>> {
        let [own, shared] = &self.relative;
        let Some(first) = own.as_ref().or(shared.as_ref()) else { return Ok(None) };
        first.forward(shared.as_ref().filter(|_| own.is_some()), mode).map(Some)
    }

    fn softmax(&self, q: &Tensor, k: &Tensor, mode: Mode) -> Result<Tensor> {
        let (q, k) = (self.heads(q)?, self.heads(k)?);
        let q = match &self.scale {
            None => (&q * (q.dim(D::Minus1)? as f64).powf(-0.5))?,
            Some(scale) => q.broadcast_mul(&scale.reshape((1, self.num_heads, 1, 1))?)?,
        };
        let mut scores = q.matmul(&k.t()?)?;
        if let Some(bias) = self.bias(mode)? {
            scores = scores.broadcast_add(&bias.to_dtype(scores.dtype())?.unsqueeze(0)?)?;
        }
        if self.scale.is_some() {
            scores = scores.broadcast_add(&masked(&scores, |from, to| from == to)?)?;
        }
        if self.causal {
            scores = scores.broadcast_add(&masked(&scores, |from, to| to > from)?)?;
        }
        ops::softmax(&scores)
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

    /// None where dropout, norms, positions, learned scales or a mask lie between its parts.
    fn fused(&self, mode: Mode) -> Option<Inner<'_>> {
        let drops = self.attn_drop.is_active(mode) || self.proj_drop.is_active(mode);
        let between = self.causal || self.qk_norm.is_some() || self.scale.is_some() || self.norm.is_some();
        let placed = self.rope.is_some() || self.relative.iter().any(Option::is_some);
        let first = self.qkv.fused().filter(|_| !(drops || between || placed))?;
        Some(Inner { first, middle: Middle::Attention(self.num_heads), second: self.proj.parameters() })
    }

    fn parameters(&self) -> Vec<&Tensor> {
        let norms = self.qk_norm.iter().flat_map(|(q_norm, k_norm)| [q_norm.parameters(), k_norm.parameters()]);
        let norms = norms.chain(self.norm.iter().map(LayerNorm::parameters)).flat_map(|(weight, bias)| [weight, bias]);
        let positions = self.rope.iter().filter_map(Rope::parameter);
        let positions = positions.chain(self.relative.iter().flatten().flat_map(RelativePositionBias::parameters));
        let layers = self.qkv.parameters().into_iter().chain([self.proj.weight()]).chain(self.proj.bias());
        self.scale.iter().chain(positions).chain(norms).chain(layers).collect()
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
