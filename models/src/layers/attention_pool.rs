//! Attention pool: a learned query attends to all tokens (the `map` pool of SigLIP), then an MLP with a residual.
//!
//! Zhai et al., "Scaling Vision Transformers", 2021; parameters as timm's `AttentionPoolLatent`.

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::{Law, LayerNorm, Linear, MlpBlock, layer_norm, linear, mlp_block};
use crate::{Mode, VitConfig, ops};

/// An attention pool with `latent` `[1, 1, dim]`, `q`, `kv` (rows k, v), `proj`, `norm` and `mlp`.
#[derive(Debug, Clone)]
pub struct AttentionPool {
    num_heads: usize,
    latent: Tensor,
    q: Linear,
    kv: Linear,
    proj: Linear,
    norm: LayerNorm,
    mlp: MlpBlock,
}

/// The attention pool of a ViT.
pub fn attention_pool(config: &VitConfig, law: Law, vb: VarBuilder) -> Result<AttentionPool> {
    let dim = config.embed_dim;
    // timm truncates this one at two deviations, a law that Candle's `Init` cannot say: the store knows the name.
    let stdev = (dim as f64).powf(-0.5);
    Ok(AttentionPool {
        num_heads: config.num_heads,
        latent: vb.get_with_hints((1, 1, dim), "latent", Init::Randn { mean: 0., stdev })?,
        q: linear(dim, dim, true, law, vb.pp("q"))?,
        kv: linear(dim, 2 * dim, true, law, vb.pp("kv"))?,
        proj: linear(dim, dim, true, law, vb.pp("proj"))?,
        norm: layer_norm(dim, config.norm_eps, vb.pp("norm"))?,
        mlp: mlp_block(dim, config.mlp_dim(), config.act, 0., law, vb.pp("mlp"))?,
    })
}

impl AttentionPool {
    /// `[batch, tokens, dim]` to `[batch, dim]`.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let (batch, _, dim) = x.dims3()?;
        let q = self.q.forward(&self.latent)?.broadcast_as((batch, 1, dim))?;
        let kv = self.kv.forward(x)?;
        let (k, v) = (kv.narrow(D::Minus1, 0, dim)?, kv.narrow(D::Minus1, dim, dim)?);
        let x = self.proj.forward(&ops::attention(&q, &k, &v, self.num_heads)?)?;
        ops::add(&x, &self.mlp.forward(&self.norm.forward(&x)?, mode)?)?.squeeze(1)
    }
}
