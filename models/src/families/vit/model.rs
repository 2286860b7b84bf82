//! The vision transformer itself.

use candle_core::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

use super::block::{Common, through};
use super::parts::INIT;
use super::stem::Stem;
use super::{Block, GlobalPool, PosEmbed, VitConfig, pool, sinusoidal};
use crate::autograd::release;
use crate::families::check::check_images;
use crate::layers::{AttentionPool, Dropout, Linear, Norm, PatchEmbed, RelativePositions, RopeType};
use crate::layers::{attention_pool, linear, norm, patch_embed, relative_position_bias, rope};
use crate::{Mode, Model, ModelConfig, ops};

/// A vision transformer.
#[derive(Debug, Clone)]
pub struct Vit {
    config: VitConfig,
    cls_token: Option<Tensor>,
    reg_token: Option<Tensor>,
    pub(super) pos_embed: Option<Tensor>,
    dist_token: Option<Tensor>,
    stem: Option<Stem>,
    pub(super) patch_embed: PatchEmbed,
    pub(super) pos_drop: Dropout,
    pub(super) norm_pre: Option<Norm>,
    blocks: Vec<Block>,
    norm: Option<Norm>,
    attn_pool: Option<AttentionPool>,
    fc_norm: Option<Norm>,
    head_proj: Option<Linear>,
    head_drop: Dropout,
    head_drop_dist: Dropout,
    head: Option<Linear>,
    head_dist: Option<Linear>,
}

impl Vit {
    /// Builds the model; parameters carry timm's names and come in timm's order.
    ///
    /// # Errors
    /// If the configuration makes no sense ([`crate::Error::Config`]), or a parameter of the builder has another shape.
    pub fn new(config: &VitConfig, vb: VarBuilder) -> Result<Self> {
        config.validate().map_err(candle_core::Error::wrap)?;
        let (dim, width, classes) = (config.embed_dim, config.pool_width(), config.num_classes);
        let normal = |stdev| Init::Randn { mean: 0., stdev };
        let token = |name, count, stdev| match count {
            0 => Ok(None),
            _ => vb.get_with_hints((1, count, dim), name, normal(stdev)).map(Some),
        };
        let of_tokens = |wanted, name, dim| match wanted {
            true => norm(config.norm_layer, dim, config.norm_eps, vb.pp(name)).map(Some),
            false => Ok(None),
        };
        let head = |wanted, name| match wanted {
            true => linear(config.num_features(), classes, true, INIT, vb.pp(name)).map(Some),
            false => Ok(None),
        };
        let norm_pre;
        // Field by field, in the order in which timm lists the parameters.
        Ok(Self {
            config: config.clone(),
            cls_token: token("cls_token", usize::from(config.class_token), 1e-6)?,
            reg_token: token("reg_token", config.reg_tokens, 1e-6)?,
            pos_embed: match config.pos_embed {
                PosEmbed::Learned => token("pos_embed", config.num_positions(), 0.02)?,
                PosEmbed::Sinusoidal => {
                    let encoding = sinusoidal(config.num_positions(), dim)?.unsqueeze(0)?;
                    Some(encoding.to_device(vb.device())?.to_dtype(vb.dtype())?)
                }
                PosEmbed::None => None,
            },
            dist_token: token("dist_token", usize::from(config.distilled), 0.02)?,
            stem: Stem::new(config, vb.pp("patch_embed.backbone"))?,
            patch_embed: patch_embed(&config.patch_embed(), vb.pp("patch_embed"))?,
            pos_drop: Dropout::new(config.pos_drop_rate, "pos_drop"),
            blocks: {
                let common = common(config, &vb)?;
                norm_pre = of_tokens(config.pre_norm, "norm_pre", dim)?;
                let block = |i| Block::new(config, i, &common, vb.pp(format!("blocks.{i}")));
                (0..config.depth).map(block).collect::<Result<_>>()?
            },
            norm_pre,
            norm: of_tokens(config.final_norm && !config.uses_fc_norm(), "norm", dim)?,
            attn_pool: match config.global_pool {
                GlobalPool::Map => Some(attention_pool(&config.attention_pool(), vb.pp("attn_pool"))?),
                _ => None,
            },
            fc_norm: of_tokens(config.final_norm && config.uses_fc_norm(), "fc_norm", width)?,
            head_proj: match config.head_proj {
                Some(to) => Some(linear(width, to, config.head_proj_bias, INIT, vb.pp("head_proj"))?),
                None => None,
            },
            head_drop: Dropout::new(config.drop_rate, "head_drop"),
            head_drop_dist: Dropout::new(config.drop_rate, "head_drop_dist"),
            head: head(classes > 0, "head")?,
            head_dist: head(classes > 0 && config.distilled, "head_dist")?,
        })
    }

    /// What the model was built from.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Gradient checkpointing: the backward computes what lies inside the blocks, and a stem's bottlenecks, again instead of finding it in memory. The
    /// gradients are the same. (On Metal it changes nothing.)
    ///
    /// Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.
    pub fn set_grad_checkpointing(&mut self, on: bool) {
        self.stem.iter_mut().for_each(|stem| stem.set_grad_checkpointing(on));
        self.blocks.iter_mut().for_each(|block| block.set_grad_checkpointing(on));
    }

    /// Prepacking: the second forward pass without history lays out the blocks' weights for matrix products, and later ones find
    /// them so, which makes passes of one or a few images faster, for as much memory as the weights take. **The weights must
    /// not change from then on**: it is for models that only predict. (On GPUs, and on CPUs whose products read weights as
    /// they are, it changes nothing.)
    pub fn set_prepacking(&mut self, on: bool) {
        self.blocks.iter_mut().for_each(|block| block.set_prepacking(on));
    }

    /// The blocks, first to last. [`Vit::embed`], the blocks in order and [`Vit::final_norm`] are [`Vit::forward_features`]:
    /// what walks through the model piece by piece (gradient checkpointing) uses these.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Images `[batch, channels, height, width]` to the tokens `[batch, prefix + patches, embed_dim]` that the first block
    /// reads: patches, prefix tokens, positions, and the norm before the blocks if there is one.
    ///
    /// # Errors
    /// If the images have another shape than the configuration says.
    pub fn embed(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        check_images(images, self.config.input_size())?;
        self.embed_at(&self.trimmed(images)?, self.pos_embed.as_ref(), mode)
    }

    /// As [`Vit::embed`], of images of any size that patches tile (with a stem, whose maps they tile), with positions of as many patches.
    pub(super) fn embed_at(&self, images: &Tensor, pos_embed: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
        // Prefix and positions are added in the parameters' type: their gradients are sums over the batch.
        let maps = self.stem.as_ref().map(|stem| stem.forward(images)).transpose()?;
        let patches = self.patch_embed.forward(maps.as_ref().unwrap_or(images))?;
        let narrow = patches.dtype();
        let patches = patches.to_dtype(self.patch_embed.weight().dtype())?;
        let tokens = match pos_embed {
            Some(pos_embed) if self.config.no_embed_class => {
                let placed = patches.broadcast_add(pos_embed)?;
                let tokens = self.with_prefix(&placed)?;
                release_but(placed, &tokens)?;
                tokens
            }
            _ => self.with_prefix(&patches)?,
        };
        release_but(patches, &tokens)?;
        let x = match pos_embed {
            Some(pos_embed) if !self.config.no_embed_class => {
                let x = tokens.broadcast_add(pos_embed)?;
                release_but(tokens, &x)?;
                x
            }
            _ => tokens,
        };
        let drops = pos_embed.is_some() || self.config.is_eva_or_beit();
        let x = if drops { self.pos_drop.forward(&x, mode)? } else { x };
        apply(&self.norm_pre, &x.to_dtype(narrow)?)
    }

    /// What whole patches cover of the images.
    fn trimmed(&self, images: &Tensor) -> Result<Tensor> {
        if self.config.divides_evenly() {
            return Ok(images.clone());
        }
        let [height, width] = self.config.grid_size().map(|patches| patches * self.config.patch_size);
        images.narrow(2, 0, height)?.narrow(3, 0, width)?.contiguous()
    }

    /// The norm after the last block, where there is one before the pool.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn final_norm(&self, x: &Tensor) -> Result<Tensor> {
        apply(&self.norm, x)
    }

    /// Tokens after the final norm, `[batch, prefix + patches, embed_dim]`.
    ///
    /// # Errors
    /// If the images have another shape than the configuration says.
    pub fn forward_features(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.final_norm(&self.before_norm(images, mode)?)
    }

    /// Tokens after the last block.
    fn before_norm(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        through(&self.blocks, self.embed(images, mode)?, mode)
    }

    /// What [`Vit::forward_head`] gives for the tokens of images.
    fn read(&self, images: &Tensor, pre_logits: bool, mode: Mode) -> Result<Tensor> {
        let x = self.before_norm(images, mode)?;
        // The norm of a token depends on no other token: where the head reads one or two of them, it is computed of these alone.
        let read = match self.config.global_pool {
            _ if self.config.distilled => Some(2),
            GlobalPool::Token if self.attn_pool.is_none() => Some(1),
            _ => None,
        };
        let read = match read {
            Some(first) if !self.blocks.is_empty() => {
                let read = x.narrow(1, 0, first)?.force_contiguous()?;
                release(x)?;
                read
            }
            Some(first) => x.narrow(1, 0, first)?.contiguous()?,
            None => x,
        };
        self.head_of(&self.final_norm(&read)?, pre_logits, mode)
    }

    /// The tokens after each of the blocks `indices`, in that order, `[batch, prefix + patches, embed_dim]` each; with
    /// `norm`, after the final norm.
    ///
    /// # Errors
    /// If there is no such block, or the images have another shape than the configuration says.
    pub fn forward_intermediates(&self, images: &Tensor, indices: &[usize], norm: bool) -> Result<Vec<Tensor>> {
        if let Some(index) = indices.iter().find(|&&i| i >= self.blocks.len()) {
            candle_core::bail!("block: expected an index below {}, got: {index}", self.blocks.len())
        }
        let mut x = self.embed(images, Mode::Eval)?;
        let mut outputs = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            x = block.forward(&x, Mode::Eval)?;
            outputs.push(x.clone());
        }
        indices.iter().map(|&i| if norm { self.final_norm(&outputs[i]) } else { Ok(outputs[i].clone()) }).collect()
    }

    /// Tokens to logits `[batch, num_classes]`, or, with `pre_logits` or without a head, to what the head reads,
    /// `[batch, num_features]`. Without a pool, one row per token.
    ///
    /// # Errors
    /// If the tokens have another shape than [`Vit::forward_features`] gives.
    pub fn forward_head(&self, tokens: &Tensor, pre_logits: bool, mode: Mode) -> Result<Tensor> {
        let (count, dim) = (self.config.num_tokens(), self.config.embed_dim);
        if !matches!(tokens.dims(), [batch, rest @ ..] if *batch > 0 && rest == [count, dim]) {
            candle_core::bail!("tokens: expected [batch, {count}, {dim}], got: {:?}", tokens.dims())
        }
        self.head_of(tokens, pre_logits, mode)
    }

    /// As [`Vit::forward_head`], of any number of tokens.
    pub(super) fn head_of(&self, tokens: &Tensor, pre_logits: bool, mode: Mode) -> Result<Tensor> {
        if self.config.distilled {
            return self.distilled_head(tokens, pre_logits, mode);
        }
        let x = match &self.attn_pool {
            Some(attn_pool) => attn_pool.forward(&self.without_prefix(tokens)?, mode)?,
            None => pool::pool(tokens, self.config.global_pool, self.pooled_from())?,
        };
        let mut x = apply(&self.fc_norm, &x)?;
        if let Some(head_proj) = &self.head_proj {
            x = head_proj.forward(&x)?;
        }
        if self.config.head_norm {
            x = ops::unit_length(&x)?;
        }
        let x = self.head_drop.forward(&x, mode)?;
        if pre_logits { Ok(x) } else { self.head(&x) }
    }

    /// The attention weights of every block, each `[batch, heads, tokens, tokens]`.
    ///
    /// # Errors
    /// If the images have another shape than the configuration says.
    pub fn attention_maps(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        let mut x = self.embed(images, Mode::Eval)?;
        let mut maps = Vec::with_capacity(self.blocks.len());
        for block in &self.blocks {
            maps.push(block.attention_weights(&x)?);
            x = block.forward(&x, Mode::Eval)?;
        }
        Ok(maps)
    }

    /// What the attention pool takes from each of the tokens that it reads, the last ones, `[batch, heads, read]`; none without such a pool.
    pub(super) fn pool_weights(&self, tokens: &Tensor) -> Result<Option<Tensor>> {
        let weights = |pool: &AttentionPool| pool.weights(&self.without_prefix(tokens)?);
        self.attn_pool.as_ref().map(weights).transpose()
    }

    /// Class, distillation and register tokens, then `x`.
    pub(super) fn with_prefix(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, dim) = x.dims3()?;
        let prefix = [&self.cls_token, &self.dist_token, &self.reg_token];
        let mut parts = Vec::with_capacity(prefix.len() + 1);
        for token in prefix.into_iter().flatten() {
            parts.push(token.broadcast_as((batch, token.dim(1)?, dim))?);
        }
        if parts.is_empty() {
            return Ok(x.clone());
        }
        parts.push(x.clone());
        Tensor::cat(&parts, 1)
    }

    /// The first token that pools over patches read.
    fn pooled_from(&self) -> usize {
        if self.config.pool_include_prefix { 0 } else { self.config.num_prefix_tokens() }
    }

    fn without_prefix(&self, tokens: &Tensor) -> Result<Tensor> {
        tokens.narrow(1, self.pooled_from(), tokens.dim(1)? - self.pooled_from())
    }

    /// DeiT's two heads on its two tokens, averaged.
    fn distilled_head(&self, tokens: &Tensor, pre_logits: bool, mode: Mode) -> Result<Tensor> {
        let token = |i| tokens.narrow(1, i, 1)?.squeeze(1);
        let mut class = self.head_drop.forward(&token(0)?, mode)?;
        let mut distilled = self.head_drop_dist.forward(&token(1)?, mode)?;
        if let (Some(head), Some(head_dist), false) = (&self.head, &self.head_dist, pre_logits) {
            (class, distilled) = (head.forward(&class)?, head_dist.forward(&distilled)?);
        }
        (class + distilled)? / 2.
    }
}

/// What the blocks have in common, in the order of timm's parameters.
fn common(config: &VitConfig, vb: &VarBuilder) -> Result<Common> {
    let mut common = Common { rope: None, positions: None, bias: None };
    if config.rope_type != RopeType::None {
        common.rope = rope(&config.rope(), vb.pp("rope"))?;
    }
    if config.has_relative_positions() {
        let positions = RelativePositions::new(config.grid_size(), config.class_token, vb.device())?;
        let positions = positions.with_mlp(config.rel_pos_dim);
        if config.use_shared_rel_pos_bias {
            let name = if positions.has_table() { "rel_pos_bias" } else { "shared_rel_pos" };
            common.bias = Some(relative_position_bias(&positions, config.num_heads, vb.pp(name))?);
        }
        common.positions = Some(positions);
    }
    Ok(common)
}

impl Model for Vit {
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.read(images, false, mode)
    }

    fn pooled(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.read(images, true, mode)
    }

    fn head(&self, pooled: &Tensor) -> Result<Tensor> {
        match &self.head {
            Some(_) if self.head_dist.is_some() => {
                candle_core::bail!("a distilled ViT has two heads that read two tokens: pooled features are not enough")
            }
            Some(head) => head.forward(pooled),
            None => Ok(pooled.clone()),
        }
    }

    fn set_grad_checkpointing(&mut self, on: bool) {
        Vit::set_grad_checkpointing(self, on);
    }

    fn set_prepacking(&mut self, on: bool) {
        Vit::set_prepacking(self, on);
    }

    fn is_packed(&self) -> bool {
        self.blocks.iter().all(Block::is_fused)
    }
}

/// Gives up the values of `x`, which only its sum or its concatenation with others has read, unless they are `kept`'s as well.
fn release_but(x: Tensor, kept: &Tensor) -> Result<()> {
    if x.id() == kept.id() { Ok(()) } else { release(x) }
}

pub(super) fn apply(norm: &Option<Norm>, x: &Tensor) -> Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(x),
        None => Ok(x.clone()),
    }
}
