//! What attention does between queries, keys and values and its projection: heads, norms, positions, scores, softmax.

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

use super::qkv::Projected;
use super::{AttentionConfig, Dropout, Norm, RelativePositionBias, Rope, norm};
use crate::{Mode, ops};

/// The parameters of this part; see [`AttentionConfig`] for their names.
#[derive(Debug, Clone)]
pub(super) struct AttentionHeads {
    num_heads: usize,
    causal: bool,
    /// The learned scales of locality self-attention.
    scale: Option<Tensor>,
    pub(super) rope: Option<Rope>,
    /// The bias of this attention alone, and the one that it shares with others.
    pub(super) relative: [Option<RelativePositionBias>; 2],
    qk_norm: Option<(Norm, Norm)>,
    attn_drop: Dropout,
}

/// The learned scales of the heads, where there are any.
pub(super) fn scales(config: &AttentionConfig, vb: &VarBuilder) -> Result<Option<Tensor>> {
    let init = Init::Const((head_dim(config.dim, config.num_heads)? as f64).powf(-0.5));
    config.lsa.then(|| vb.get_with_hints(config.num_heads, "scale", init)).transpose()
}

/// The heads, with these [`scales`] and without positions.
pub(super) fn attention_heads(
    config: &AttentionConfig,
    scale: Option<Tensor>,
    vb: &VarBuilder,
) -> Result<AttentionHeads> {
    let head_dim = head_dim(config.dim, config.num_heads)?;
    let of_heads = |name| norm(config.norm_layer, head_dim, config.norm_eps, vb.pp(name));
    Ok(AttentionHeads {
        num_heads: config.num_heads,
        causal: config.causal,
        scale,
        rope: None,
        relative: [None, None],
        qk_norm: if config.qk_norm { Some((of_heads("q_norm")?, of_heads("k_norm")?)) } else { None },
        attn_drop: Dropout::new(config.attn_drop_rate, &vb.pp("attn_drop").prefix()),
    })
}

/// The width of a head.
pub(super) fn head_dim(dim: usize, num_heads: usize) -> Result<usize> {
    match dim.checked_div(num_heads) {
        Some(head_dim) if dim > 0 && head_dim * num_heads == dim => Ok(head_dim),
        _ => candle_core::bail!("attention: expected num_heads to divide dim {dim}, got {num_heads}"),
    }
}

impl AttentionHeads {
    /// What every token takes from all, `[batch, tokens, dim]`.
    pub(super) fn forward(&self, projected: Projected, mode: Mode) -> Result<Tensor> {
        if self.attn_drop.is_active(mode) || self.scale.is_some() || self.causal {
            let [q, k, v] = self.prepared(projected)?;
            let weights = self.attn_drop.forward(&self.softmax(&q, &k, mode)?, mode)?;
            return weights.matmul(&self.heads(&v)?)?.transpose(1, 2)?.flatten_from(2);
        }
        if let Some(bias) = self.bias(mode)? {
            let qkv = match projected {
                Projected::Packed(qkv) if self.qk_norm.is_none() && self.rope.is_none() => qkv,
                projected => Tensor::cat(&self.prepared(projected)?, D::Minus1)?,
            };
            return ops::attention_qkv_biased(&qkv, &bias);
        }
        match (projected, &self.qk_norm, &self.rope) {
            (Projected::Packed(qkv), None, None) => ops::attention_qkv(&qkv, self.num_heads),
            (Projected::Packed(qkv), None, Some(rope)) => {
                let qkv = rope.turn(&qkv, 3 * self.num_heads, 2 * self.num_heads)?;
                ops::attention_qkv(&qkv, self.num_heads)
            }
            (projected, ..) => {
                let [q, k, v] = self.prepared(projected)?;
                ops::attention(&q, &k, &v, self.num_heads)
            }
        }
    }

    /// The attention weights `[batch, heads, tokens, tokens]`: a row says how much one token takes from every other.
    pub(super) fn weights(&self, projected: Projected) -> Result<Tensor> {
        let [q, k, _] = self.prepared(projected)?;
        self.softmax(&q, &k, Mode::Eval)
    }

    /// How many heads there are, where nothing but the softmax of plain scores lies between its ends in a pass of this mode.
    pub(super) fn plain(&self, mode: Mode) -> Option<usize> {
        let between = self.causal || self.qk_norm.is_some() || self.scale.is_some() || self.attn_drop.is_active(mode);
        let placed = self.rope.is_some() || self.relative.iter().any(Option::is_some);
        (!between && !placed).then_some(self.num_heads)
    }

    pub(super) fn parameters(&self) -> Vec<&Tensor> {
        let norms = self.qk_norm.iter().flat_map(|(q_norm, k_norm)| [q_norm, k_norm]).flat_map(Norm::parameters);
        let positions = self.rope.iter().filter_map(Rope::parameter);
        let positions = positions.chain(self.relative.iter().flatten().flat_map(RelativePositionBias::parameters));
        self.scale.iter().chain(positions).chain(norms).collect()
    }

    /// Queries and keys, normalised and turned, and values, `[batch, tokens, dim]` each.
    fn prepared(&self, projected: Projected) -> Result<[Tensor; 3]> {
        let [q, k, v] = projected.apart()?;
        let prepare = |x: Tensor, norm: Option<&Norm>| {
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

/// What to add to scores `[batch, heads, tokens, tokens]` so that no token attends to one that `hidden` names with it (the token that
/// attends first): minus infinity there.
fn masked(scores: &Tensor, hidden: impl Fn(usize, usize) -> bool) -> Result<Tensor> {
    let tokens = scores.dim(D::Minus1)?;
    let pairs = (0..tokens * tokens).map(|at| (at / tokens, at % tokens));
    let mask: Vec<f32> = pairs.map(|(from, to)| if hidden(from, to) { f32::NEG_INFINITY } else { 0. }).collect();
    Tensor::from_vec(mask, (tokens, tokens), scores.device())?.to_dtype(scores.dtype())
}
