//! Attention pool: a learned query attends to all tokens (the `map` pool of SigLIP), then an MLP with a residual.
//!
//! Zhai et al., "Scaling Vision Transformers", 2021; parameters as timm's `AttentionPoolLatent`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::ModuleT;
//! use tallow_models::Params;
//! use tallow_models::layers::{AttentionPoolConfig, attention_pool};
//!
//! let params = Params::new(0, DType::F32, &Device::Cpu);
//! let pool = attention_pool(&AttentionPoolConfig::new(32, 4), params.builder())?;
//! let tokens = Tensor::ones((2, 17, 32), DType::F32, &Device::Cpu)?;
//! assert_eq!(pool.forward_t(&tokens, false)?.dims(), &[2, 32]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, Module, ModuleT, VarBuilder};

use super::attention_heads::head_dim;
use super::{Linear, LinearInit, MlpBlock, MlpBlockConfig, Norm, NormLayer, linear, mlp_block, norm};
use crate::Mode;
use crate::ops::{self, Gelu};

/// What an attention pool is made of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AttentionPoolConfig {
    /// Width of a token.
    pub dim: usize,
    /// Attention heads; divides `dim`.
    pub num_heads: usize,
    /// Width of the MLP's hidden layer. Default 4 times `dim`.
    pub mlp_dim: usize,
    /// The MLP's activation. Default exact GELU.
    pub act: Gelu,
    /// The kind of the norm. Default a layer norm.
    pub norm_layer: NormLayer,
    /// Epsilon of the norm. Default 1e-6.
    pub norm_eps: f64,
    /// What the linear layers start from. Default normal with a deviation of 0.02.
    pub init: LinearInit,
}

impl AttentionPoolConfig {
    /// A pool of `num_heads` heads over tokens of `dim` values.
    pub fn new(dim: usize, num_heads: usize) -> Self {
        let (norm_layer, init) = (NormLayer::LayerNorm, LinearInit::Normal(0.02));
        Self { dim, num_heads, mlp_dim: 4 * dim, act: Gelu::Erf, norm_layer, norm_eps: 1e-6, init }
    }
}

/// An attention pool with `latent` `[1, 1, dim]`, `q`, `kv` (rows k, v), `proj`, `norm` and `mlp`.
#[derive(Debug, Clone)]
pub struct AttentionPool {
    num_heads: usize,
    latent: Tensor,
    q: Linear,
    kv: Linear,
    proj: Linear,
    norm: Norm,
    mlp: MlpBlock,
}

/// The attention pool that `config` describes.
///
/// # Errors
/// If the heads do not divide the width.
pub fn attention_pool(config: &AttentionPoolConfig, vb: VarBuilder) -> Result<AttentionPool> {
    let (dim, init) = (config.dim, config.init);
    head_dim(dim, config.num_heads)?;
    // timm truncates this one at two deviations, a law that Candle's `Init` cannot say: the store knows the name.
    let stdev = (dim as f64).powf(-0.5);
    let mlp = MlpBlockConfig { act: config.act, init, ..MlpBlockConfig::new(dim, config.mlp_dim) };
    Ok(AttentionPool {
        num_heads: config.num_heads,
        latent: vb.get_with_hints((1, 1, dim), "latent", Init::Randn { mean: 0., stdev })?,
        q: linear(dim, dim, true, init, vb.pp("q"))?,
        kv: linear(dim, 2 * dim, true, init, vb.pp("kv"))?,
        proj: linear(dim, dim, true, init, vb.pp("proj"))?,
        norm: norm(config.norm_layer, dim, config.norm_eps, vb.pp("norm"))?,
        mlp: mlp_block(&mlp, vb.pp("mlp"))?,
    })
}

impl AttentionPool {
    /// `[batch, tokens, dim]` to `[batch, dim]`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let (batch, _, dim) = x.dims3()?;
        let q = self.q.forward(&self.latent)?.broadcast_as((batch, 1, dim))?;
        let kv = self.kv.forward(x)?;
        let (k, v) = (kv.narrow(D::Minus1, 0, dim)?, kv.narrow(D::Minus1, dim, dim)?);
        let x = self.proj.forward(&ops::attention(&q, &k, &v, self.num_heads)?)?;
        ops::add(&x, &self.mlp.forward(&self.norm.forward(&x)?, mode)?)?.squeeze(1)
    }

    /// How much the query takes from each token of `x [batch, tokens, dim]`, `[batch, heads, tokens]`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn weights(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, tokens, dim) = x.dims3()?;
        let head_dim = dim / self.num_heads;
        let heads = |x: Tensor| x.reshape(((), x.dim(1)?, self.num_heads, head_dim))?.transpose(1, 2)?.contiguous();
        let q =
            heads(self.q.forward(&self.latent)?)?.broadcast_as((batch, self.num_heads, 1, head_dim))?.contiguous()?;
        let k = heads(self.kv.forward(x)?.narrow(D::Minus1, 0, dim)?)?;
        let scores = (q.matmul(&k.t()?)? * (head_dim as f64).powf(-0.5))?;
        ops::softmax(&scores)?.reshape((batch, self.num_heads, tokens))
    }
}

impl ModuleT for AttentionPool {
    fn forward_t(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        self.forward(x, Mode::of(train))
    }
}
