//! Queries, keys and values of tokens: one linear layer or three, whose keys may do without a bias.
//!
//! A bias of the keys adds the same to all scores of a query, and drops out of the softmax.

use candle_core::{D, Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::{AttentionConfig, Linear, linear};

/// The linear layers; see [`AttentionConfig`] for their names.
#[derive(Debug, Clone)]
pub(super) enum Qkv {
    /// One layer, `[3 * dim, dim]` (rows q, k, v).
    Fused(Linear),
    /// The same with the biases of queries and values alone, `[dim]` each.
    WithoutKeyBias { weight: Tensor, q_bias: Tensor, v_bias: Tensor },
    /// Three layers.
    Separate([Linear; 3]),
}

/// Queries, keys and values, `[batch, tokens, dim]` each.
pub(super) enum Projected {
    /// Behind one another in every row, `[batch, tokens, 3 * dim]`.
    Packed(Tensor),
    Separate([Tensor; 3]),
}

/// The biases of queries and values, where keys have none and all three come from one layer.
pub(super) fn biases(config: &AttentionConfig, vb: &VarBuilder) -> Result<Option<[Tensor; 2]>> {
    if !config.qkv_fused || !config.qkv_bias || config.k_bias {
        return Ok(None);
    }
    let bias = |name| vb.get_with_hints(config.dim, name, config.init.bias(config.dim));
    Ok(Some([bias("q_bias")?, bias("v_bias")?]))
}

/// The layers, with these [`biases`].
pub(super) fn qkv(config: &AttentionConfig, biases: Option<[Tensor; 2]>, vb: VarBuilder) -> Result<Qkv> {
    let (dim, init) = (config.dim, config.init);
    let one = |name, bias| linear(dim, dim, bias, init, vb.pp(name));
    if !config.qkv_fused {
        let (bias, of_keys) = (config.qkv_bias, config.qkv_bias && config.k_bias);
        return Ok(Qkv::Separate([one("q_proj", bias)?, one("k_proj", of_keys)?, one("v_proj", bias)?]));
    }
    let Some([q_bias, v_bias]) = biases else {
        return Ok(Qkv::Fused(linear(dim, 3 * dim, config.qkv_bias, init, vb.pp("qkv"))?));
    };
    let weight = vb.pp("qkv").get_with_hints((3 * dim, dim), "weight", init.weight(dim))?;
    Ok(Qkv::WithoutKeyBias { weight, q_bias, v_bias })
}

impl Qkv {
    pub(super) fn forward(&self, x: &Tensor) -> Result<Projected> {
        match self {
            Self::Fused(layer) => layer.forward(x).map(Projected::Packed),
            Self::WithoutKeyBias { weight, q_bias, v_bias } => {
                let bias = Tensor::cat(&[q_bias, &q_bias.zeros_like()?, v_bias], 0)?;
                Linear::new(weight.clone(), Some(bias)).forward(x).map(Projected::Packed)
            }
            Self::Separate([q, k, v]) => Ok(Projected::Separate([q.forward(x)?, k.forward(x)?, v.forward(x)?])),
        }
    }

    /// The layer, where it is one and nothing else.
    pub(super) fn fused(&self) -> Option<(&Tensor, Option<&Tensor>)> {
        match self {
            Self::Fused(layer) => Some(layer.parameters()),
            _ => None,
        }
    }

    pub(super) fn parameters(&self) -> Vec<&Tensor> {
        match self {
            Self::Fused(layer) => of(layer),
            Self::WithoutKeyBias { weight, q_bias, v_bias } => vec![weight, q_bias, v_bias],
            Self::Separate(layers) => layers.iter().flat_map(of).collect(),
        }
    }
}

fn of(layer: &Linear) -> Vec<&Tensor> {
    [layer.weight()].into_iter().chain(layer.bias()).collect()
}

impl Projected {
    /// The three apart.
    pub(super) fn apart(self) -> Result<[Tensor; 3]> {
        match self {
            Self::Separate(parts) => Ok(parts),
            Self::Packed(qkv) => {
                let dim = qkv.dim(D::Minus1)? / 3;
                let part = |i| qkv.narrow(D::Minus1, i * dim, dim);
                Ok([part(0)?, part(1)?, part(2)?])
            }
        }
    }
}
