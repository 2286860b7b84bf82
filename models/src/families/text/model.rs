//! The text tower itself.

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::{Init, Module, VarBuilder};

use super::{TextConfig, TextPool};
use crate::Mode;
use crate::layers::{
    Attention, AttentionConfig, LayerNorm, Linear, LinearInit, MlpBlock, MlpBlockConfig, ResidualBranch,
    ResidualBranchConfig, attention, layer_norm, linear, mlp_block, residual_branch,
};

/// Linear layers start as those of the vision tower beside it.
const INIT: LinearInit = LinearInit::Normal(0.02);

/// A text tower, with `token_embed` `[vocab_size, embed_dim]`, `pos_embed` `[context_length, embed_dim]`, `blocks` and `norm` in the names of
/// a ViT's, and `proj`.
#[derive(Debug, Clone)]
pub struct TextTower {
    config: TextConfig,
    token_embed: Tensor,
    pos_embed: Tensor,
    blocks: Vec<(ResidualBranch<Attention>, ResidualBranch<MlpBlock>)>,
    norm: LayerNorm,
    proj: Option<Linear>,
}

impl TextTower {
    /// Builds the tower.
    ///
    /// # Errors
    /// If the configuration makes no sense ([`crate::Error::Config`]), or a parameter of the builder has another shape.
    pub fn new(config: &TextConfig, vb: VarBuilder) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let dim = config.embed_dim;
        let embeddings = |rows, name, stdev| vb.get_with_hints((rows, dim), name, Init::Randn { mean: 0., stdev });
        Ok(Self {
            config: config.clone(),
            token_embed: embeddings(config.vocab_size, "token_embed", 0.02)?,
            pos_embed: embeddings(config.context_length, "pos_embed", 0.01)?,
            blocks: (0..config.depth).map(|i| block(config, vb.pp(format!("blocks.{i}")))).collect::<Result<_>>()?,
            norm: layer_norm(dim, config.norm_eps, vb.pp("norm"))?,
            proj: match config.proj_dim {
                Some(width) => Some(linear(dim, width, config.proj_bias, INIT, vb.pp("proj"))?),
                None => None,
            },
        })
    }

    /// What the tower was built from.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Where in the rows of all tokens, one text after the other, those are that stand for their texts.
    fn pooled_rows(&self, tokens: &[Vec<u32>], length: usize) -> Vec<u32> {
        let first = |text: &[u32], number: u32| text.iter().position(|&token| token == number).unwrap_or(0);
        let place = |text: &Vec<u32>| match self.config.pool {
            TextPool::Largest => first(text, text.iter().copied().max().unwrap_or(0)),
            TextPool::Token(number) => first(text, number),
            TextPool::First => 0,
            TextPool::Last => length - 1,
        };
        tokens.iter().enumerate().map(|(at, text)| (at * length + place(text)) as u32).collect()
    }
}

/// A pre-norm block, as a ViT has them.
fn block(config: &TextConfig, vb: VarBuilder) -> Result<(ResidualBranch<Attention>, ResidualBranch<MlpBlock>)> {
    let (dim, norm_eps) = (config.embed_dim, config.norm_eps);
    let branch = ResidualBranchConfig { norm_eps, layer_scale: config.init_values, ..ResidualBranchConfig::new(dim) };
    let attn = AttentionConfig { causal: config.causal, init: INIT, ..AttentionConfig::new(dim, config.num_heads) };
    let mlp = MlpBlockConfig { act: config.act.op(), init: INIT, ..MlpBlockConfig::new(dim, config.mlp_dim) };
    let (attn, mlp) = (|vb| attention(&attn, vb), |vb| mlp_block(&mlp, vb));
    Ok((
        residual_branch(&branch, ["norm1", "attn", "ls1", "drop_path1"], attn, vb.clone())?,
        residual_branch(&branch, ["norm2", "mlp", "ls2", "drop_path2"], mlp, vb)?,
    ))
}

impl Module for TextTower {
    /// Numbers of tokens `[batch, tokens]`, u32, at most `context_length` of a text, to `[batch, num_features]`.
    fn forward(&self, tokens: &Tensor) -> Result<Tensor> {
        let (batch, length) = tokens.dims2()?;
        let TextConfig { context_length, vocab_size, embed_dim, .. } = self.config;
        if batch == 0 || !(1..=context_length).contains(&length) {
            bail!("text: expected [batch, tokens] with 1 to {context_length} tokens, got: {:?}", tokens.dims())
        }
        let numbers = tokens.to_device(&Device::Cpu)?.to_dtype(DType::U32)?.to_vec2::<u32>()?;
        if let Some(number) = numbers.iter().flatten().find(|&&number| number as usize >= vocab_size) {
            bail!("text: expected tokens below {vocab_size}, got: {number}")
        }
        let words = self.token_embed.index_select(&tokens.flatten_all()?, 0)?.reshape((batch, length, embed_dim))?;
        let mut x = words.broadcast_add(&self.pos_embed.narrow(0, 0, length)?)?;
        for (attn, mlp) in &self.blocks {
            x = mlp.forward(&attn.forward(&x, Mode::Eval)?, Mode::Eval)?;
        }
        // The norm is of every token by itself: only those that stand for their texts need it.
        let rows = Tensor::new(self.pooled_rows(&numbers, length), x.device())?;
        let x = self.norm.forward(&x.flatten_to(1)?.index_select(&rows, 0)?)?;
        match &self.proj {
            Some(proj) => proj.forward(&x),
            None => Ok(x),
        }
    }
}
