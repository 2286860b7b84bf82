//! What attention does between queries, keys and values and its projection: heads, norms, positions, scores, softmax.

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

use super::qkv::Projected;
use super::{AttentionConfig, Dropout, Norm, RelativePositionBias, RmsNorm, Rope, norm, rms_norm};
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
    difference: Option<Difference>,
    attn_drop: Dropout,
}

/// What weighs the second softmax against the first where a head is the difference of two, and the norm over what such a head gives.
///
/// Ye et al., "Differential Transformer", 2024.
#[derive(Debug, Clone)]
struct Difference {
    /// The two pairs of vectors whose products the weight is made of, `[head_dim / 2]` each.
    lambdas: [Tensor; 4],
    start: f64,
    sub_norm: Option<RmsNorm>,
}

/// Epsilon of the norm over what a difference gives.
const SUB_NORM_EPS: f64 = 1e-5;

/// What is listed before the layers: the learned scales of the heads, and what the weight of a second softmax is made of.
#[derive(Debug)]
pub(super) struct Before {
    scale: Option<Tensor>,
    lambdas: Option<[Tensor; 4]>,
}

/// What is listed before the layers.
pub(super) fn before(config: &AttentionConfig, vb: &VarBuilder) -> Result<Before> {
    let head_dim = head_dim(config.dim, config.num_heads)?;
    let scale = Init::Const((head_dim as f64).powf(-0.5));
    let lambda = |name| vb.get_with_hints(head_dim / 2, name, Init::Randn { mean: 0., stdev: 0.1 });
    let lambdas = || -> Result<_> {
        Ok([lambda("lambda_q1")?, lambda("lambda_k1")?, lambda("lambda_q2")?, lambda("lambda_k2")?])
    };
    Ok(Before {
        scale: config.lsa.then(|| vb.get_with_hints(config.num_heads, "scale", scale)).transpose()?,
        lambdas: config.difference.map(|_| lambdas()).transpose()?,
    })
}

/// The heads, with what is listed before the layers and without positions. Where they are differences, [`AttentionHeads::close`] adds the
/// rest.
pub(super) fn attention_heads(config: &AttentionConfig, before: Before, vb: &VarBuilder) -> Result<AttentionHeads> {
    let head_dim = head_dim(config.dim, config.num_heads)?;
    if config.difference.is_some() && !head_dim.is_multiple_of(2) {
        candle_core::bail!(
            "attention: expected heads of an even width for the difference of two softmaxes, got {head_dim}"
        )
    }
    let width = if config.difference.is_some() { head_dim / 2 } else { head_dim };
    let of_heads = |name| norm(config.norm_layer, width, config.norm_eps, vb.pp(name));
    let Before { scale, lambdas } = before;
    Ok(AttentionHeads {
        num_heads: config.num_heads,
        causal: config.causal,
        scale,
        rope: None,
        relative: [None, None],
        qk_norm: if config.qk_norm { Some((of_heads("q_norm")?, of_heads("k_norm")?)) } else { None },
        difference: lambdas.zip(config.difference).map(|(lambdas, start)| Difference {
            lambdas,
            start,
            sub_norm: None,
        }),
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
    /// Adds the norm over what differences give, which is listed where it is called.
    pub(super) fn close(&mut self, config: &AttentionConfig, vb: &VarBuilder) -> Result<()> {
        if let Some(difference) = &mut self.difference {
            let head_dim = head_dim(config.dim, config.num_heads)?;
            difference.sub_norm = Some(rms_norm(head_dim, SUB_NORM_EPS, vb.pp("sub_norm"))?);
        }
        Ok(())
    }

    /// What every token takes from all, `[batch, tokens, dim]`.
    pub(super) fn forward(&self, projected: Projected, mode: Mode) -> Result<Tensor> {
        if let Some(difference) = &self.difference {
            let [q, k, v] = self.prepared(projected)?;
            let weights = self.attn_drop.forward(&self.softmax(&q, &k, mode)?, mode)?;
            return difference.forward(&weights, &heads(&v, self.num_heads)?);
        }
        if self.attn_drop.is_active(mode) || self.scale.is_some() || self.causal {
            let [q, k, v] = self.prepared(projected)?;
            let weights = self.attn_drop.forward(&self.softmax(&q, &k, mode)?, mode)?;
            return weights.matmul(&heads(&v, self.num_heads)?)?.transpose(1, 2)?.flatten_from(2);
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
        if self.difference.is_some() {
            candle_core::bail!("attention: the difference of two softmaxes has no weights that sum to 1")
        }
        let [q, k, _] = self.prepared(projected)?;
        self.softmax(&q, &k, Mode::Eval)
    }

    /// How many heads there are, where nothing but the softmax of plain scores lies between its ends in a pass of this mode.
    pub(super) fn plain(&self, mode: Mode) -> Option<usize> {
        let between = self.difference.is_some()
            || self.causal
            || self.qk_norm.is_some()
            || self.scale.is_some()
            || self.attn_drop.is_active(mode);
        let placed = self.rope.is_some() || self.relative.iter().any(Option::is_some);
        (!between && !placed).then_some(self.num_heads)
    }

    pub(super) fn parameters(&self) -> Vec<&Tensor> {
        let norms = self.qk_norm.iter().flat_map(|(q_norm, k_norm)| [q_norm, k_norm]).flat_map(Norm::parameters);
        let positions = self.rope.iter().filter_map(Rope::parameter);
        let positions = positions.chain(self.relative.iter().flatten().flat_map(RelativePositionBias::parameters));
        let difference = self.difference.iter().flat_map(Difference::parameters);
        self.scale.iter().chain(positions).chain(norms).chain(difference).collect()
    }

    /// Queries and keys, normalised and turned, and values, `[batch, tokens, dim]` each.
    fn prepared(&self, projected: Projected) -> Result<[Tensor; 3]> {
        let [q, k, v] = projected.apart()?;
        let prepare = |x: Tensor, norm: Option<&Norm>| {
            let x = match norm {
                Some(norm) => {
                    let (batch, tokens, dim) = x.dims3()?;
                    let heads = x.reshape((batch, tokens, self.num_softmaxes(), dim / self.num_softmaxes()))?;
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
        let (q, k) = (heads(q, self.num_softmaxes())?, heads(k, self.num_softmaxes())?);
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

    /// One for every head, or two.
    fn num_softmaxes(&self) -> usize {
        if self.difference.is_some() { 2 * self.num_heads } else { self.num_heads }
    }
}

impl Difference {
    /// Both softmaxes of every head, `[batch, 2 * heads, tokens, tokens]`, and values `[batch, heads, tokens, head_dim]`, to
    /// `[batch, tokens, dim]`.
    fn forward(&self, weights: &Tensor, values: &Tensor) -> Result<Tensor> {
        let (batch, heads, tokens, _) = values.dims4()?;
        let weights = weights.reshape((batch, heads, 2, tokens, tokens))?;
        let part = |at: usize| weights.narrow(2, at, 1)?.squeeze(2);
        let [q1, k1, q2, k2] = &self.lambdas;
        let exp = |q: &Tensor, k: &Tensor| (q * k)?.sum_all()?.exp();
        let weight = ((exp(q1, k1)? - exp(q2, k2)?)? + self.start)?.to_dtype(values.dtype())?;
        let x = (part(0)? - part(1)?.broadcast_mul(&weight)?)?.matmul(values)?;
        let x = match &self.sub_norm {
            Some(norm) => norm.forward(&x)?,
            None => x,
        };
        (x * (1. - self.start))?.transpose(1, 2)?.flatten_from(2)
    }

    fn parameters(&self) -> impl Iterator<Item = &Tensor> {
        self.lambdas.iter().chain(self.sub_norm.iter().map(RmsNorm::weight))
    }
}

/// `[batch, tokens, dim]` to `[batch, heads, tokens, dim / heads]`.
fn heads(x: &Tensor, count: usize) -> Result<Tensor> {
    let (batch, tokens, dim) = x.dims3()?;
    x.reshape((batch, tokens, count, dim / count))?.transpose(1, 2)?.contiguous()
}

/// What to add to scores `[batch, heads, tokens, tokens]` so that no token attends to one that `hidden` names with it (the token that
/// attends first): minus infinity there.
fn masked(scores: &Tensor, hidden: impl Fn(usize, usize) -> bool) -> Result<Tensor> {
    let tokens = scores.dim(D::Minus1)?;
    let pairs = (0..tokens * tokens).map(|at| (at / tokens, at % tokens));
    let mask: Vec<f32> = pairs.map(|(from, to)| if hidden(from, to) { f32::NEG_INFINITY } else { 0. }).collect();
    Tensor::from_vec(mask, (tokens, tokens), scores.device())?.to_dtype(scores.dtype())
}
