//! What a ViT is made of, as plain data. Names are timm's keyword arguments.

use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::{StemLayers, Vit, flops, named, stages};
use crate::families::check::{check, check_parameters, check_rate, check_size, config_error};
use crate::families::option::plain_fields;
use crate::families::{ModelConfig, Stage};
use crate::layers::{Gate, GridIndexing, NormLayer, RopeType};
use crate::{Error, ImgSize, Result, ops};

/// Configuration of a ViT. The default is timm's `VisionTransformer()`: ViT-B/16 at 224 with 1000 classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct VitConfig {
    /// Height and width of the input image in pixels. Default 224, a square.
    pub img_size: ImgSize,
    /// Height and width of a patch in pixels, or with a stem in points of its maps. Default 16.
    pub patch_size: usize,
    /// Pixels to the right of and below the last whole patch are left out, as timm and transformers do it (SigLIP So400m/14 at 384).
    /// Default false: `patch_size` divides `img_size`.
    pub trim: bool,
    /// Input channels. Default 3.
    pub in_chans: usize,
    /// A hybrid: a ResNet with so many bottlenecks in its stages comes first, and patches are cut out of its maps. Default none.
    pub stem_layers: Option<StemLayers>,
    /// Channels of its first convolution; the first stage gives four times as many, and each further one twice as many. Default 64.
    pub stem_width: usize,
    /// Shifted patch tokenisation (Lee et al. 2021): a patch is read together with the image's four diagonal shifts by half a
    /// patch, and normalised. Default false.
    pub spt: bool,
    /// A norm over the values of every patch and one over the token that they become (vit-pytorch). Default false.
    pub norm_patches: bool,
    /// A norm over every token that a patch becomes (AIMv2). Default false.
    pub embed_norm: bool,
    /// Classes; 0 leaves out the head. Default 1000.
    pub num_classes: usize,
    /// Width of a token. Default 768.
    pub embed_dim: usize,
    /// Number of blocks. Default 12.
    pub depth: usize,
    /// Attention heads; divides `embed_dim`. Default 12.
    pub num_heads: usize,
    /// How attention and MLP are put together in a block. Default block: one after the other.
    pub block_fn: BlockFn,
    /// What a head of attention is. Default attn: a softmax.
    pub attn_layer: AttnLayer,
    /// Width of the MLP over `embed_dim`. Default 4.
    pub mlp_ratio: f64,
    /// Whether q, k, v have a bias. Default true.
    pub qkv_bias: bool,
    /// Whether k has one where q and v have one. BEiT's, EVA's and DINOv3's have none: it drops out of the softmax. Default true.
    pub k_bias: bool,
    /// Whether q, k, v come from one linear layer, and not from three. Default true.
    pub qkv_fused: bool,
    /// Whether the layers have a bias with which attention and MLP end, and that with which the MLP begins. Default true.
    pub proj_bias: bool,
    /// A norm on the queries and keys of every head. Default false.
    pub qk_norm: bool,
    /// A norm on what attention gives, before its projection (EVA-02-CLIP, BEiT-3). Default false.
    pub scale_attn_inner: bool,
    /// Locality self-attention (Lee et al. 2021): the scale of the scores is learned, one for every head, and no token attends
    /// to itself. Default false.
    pub lsa: bool,
    /// Whether there is a class token. Default true.
    pub class_token: bool,
    /// Number of register tokens (Darcet et al. 2023). Default 0.
    pub reg_tokens: usize,
    /// DeiT's distillation token and second head; logits are the mean of both. Default false.
    pub distilled: bool,
    /// Position embeddings leave out the prefix tokens. Default false.
    pub no_embed_class: bool,
    /// Kind of position embeddings. Default learned.
    pub pos_embed: PosEmbed,
    /// Rotary positions: `none`, `cat` (EVA-02), `dinov3`, or `mixed` with learned frequencies. Patches alone are turned. Default
    /// none.
    pub rope_type: RopeType,
    /// How far their frequencies spread. Default 10000.
    pub rope_temperature: f64,
    /// What is added to the numbers of rows and columns. Default 0.
    pub rope_grid_offset: f64,
    /// Which axis their first half turns with: `ij` the rows, `xy` the columns. Default ij.
    pub rope_grid_indexing: GridIndexing,
    /// Pairs are made of a head's two halves, and not of neighbours. Default false.
    pub rope_rotate_half: bool,
    /// Rows and columns of patches onto which the numbers of `cat` are stretched. Default none.
    pub ref_feat_shape: Option<ImgSize>,
    /// A bias on the scores of every block by how two tokens lie to each other (BEiT). Default false.
    pub use_rel_pos_bias: bool,
    /// The same, one for all blocks. Default false.
    pub use_shared_rel_pos_bias: bool,
    /// Width of the MLP that makes this bias of the logarithms of distances (timm's `vit_relpos_*`). Default: none, it is read from
    /// a table.
    pub rel_pos_dim: Option<usize>,
    /// A norm before the first block (CLIP). Default false.
    pub pre_norm: bool,
    /// The norms of a block come after attention and MLP, and in place of LayerScale. Default false.
    pub use_post_norm: bool,
    /// Initial value of LayerScale; none leaves LayerScale out. Default none.
    pub init_values: Option<f64>,
    /// How tokens become one vector. Default token.
    pub global_pool: GlobalPool,
    /// Whether the final norm comes after the pool (`fc_norm`) instead of before (`norm`). Default: none, which means
    /// exactly for the pools `avg`, `avgmax` and `max`.
    pub fc_norm: Option<bool>,
    /// Whether the pools over patches (`avg`, `max`, `avgmax`, `map`) read the prefix tokens too. Default false.
    pub pool_include_prefix: bool,
    /// Whether there is a final norm at all. Default true.
    pub final_norm: bool,
    /// Width of a projection between the pool and the head (CLIP's); none leaves it out. Default none.
    pub head_proj: Option<usize>,
    /// Whether that projection has a bias, as the head of a tower of timm's has where it is the projection (EVA-CLIP, Perception Encoder).
    /// Default false.
    pub head_proj_bias: bool,
    /// Whether what the head reads is divided by its length, so that logits are scaled cosines, as in a classifier that was made of the
    /// names of its classes. Default false.
    pub head_norm: bool,
    /// Activation of the MLP, or of its gate. Default gelu.
    pub act: Act,
    /// A gate in the MLP, whose width counts without it (SwiGLU with `act` silu). Default false.
    pub swiglu_mlp: bool,
    /// The width of a gated MLP is rounded up to a multiple of this number, and its gate comes from a layer of its own; 0 does neither.
    /// Default 0.
    pub swiglu_align_to: usize,
    /// A norm before the second layer of the MLP (EVA-02, BEiT-3). Default false.
    pub scale_mlp: bool,
    /// Heads of the attention pool. Default: none, those of the blocks.
    pub attn_pool_num_heads: Option<usize>,
    /// Width of the attention pool's MLP over `embed_dim`. Default: none, that of the blocks.
    pub attn_pool_mlp_ratio: Option<f64>,
    /// The kind of all norms. Default layernorm.
    pub norm_layer: NormLayer,
    /// Epsilon of every norm. Default 1e-6.
    pub norm_eps: f64,
    /// Dropout before the head. Default 0.
    pub drop_rate: f64,
    /// Dropout after the position embeddings. Default 0.
    pub pos_drop_rate: f64,
    /// Dropout after the projections of attention and MLP. Default 0.
    pub proj_drop_rate: f64,
    /// Dropout on the attention weights. Default 0.
    pub attn_drop_rate: f64,
    /// Stochastic depth of the last block, rising linearly from 0 over depth. Default 0.
    pub drop_path_rate: f64,
}

impl VitConfig {
    /// timm's `VisionTransformer()`: ViT-B/16 at 224 with 1000 classes. A constant, so that the zoo can be a table.
    pub(crate) const BASE: Self = {
        Self {
            img_size: ImgSize::square(224),
            patch_size: 16,
            trim: false,
            in_chans: 3,
            stem_layers: None,
            stem_width: 64,
            spt: false,
            norm_patches: false,
            embed_norm: false,
            num_classes: 1000,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            block_fn: BlockFn::Block,
            attn_layer: AttnLayer::Attn,
            mlp_ratio: 4.,
            qkv_bias: true,
            k_bias: true,
            qkv_fused: true,
            proj_bias: true,
            qk_norm: false,
            scale_attn_inner: false,
            lsa: false,
            class_token: true,
            reg_tokens: 0,
            distilled: false,
            no_embed_class: false,
            pos_embed: PosEmbed::Learned,
            rope_type: RopeType::None,
            rope_temperature: 10_000.,
            rope_grid_offset: 0.,
            rope_grid_indexing: GridIndexing::Ij,
            rope_rotate_half: false,
            ref_feat_shape: None,
            use_rel_pos_bias: false,
            use_shared_rel_pos_bias: false,
            rel_pos_dim: None,
            pre_norm: false,
            use_post_norm: false,
            init_values: None,
            global_pool: GlobalPool::Token,
            fc_norm: None,
            pool_include_prefix: false,
            final_norm: true,
            head_proj: None,
            head_proj_bias: false,
            head_norm: false,
            act: Act::Gelu,
            swiglu_mlp: false,
            swiglu_align_to: 0,
            scale_mlp: false,
            attn_pool_num_heads: None,
            attn_pool_mlp_ratio: None,
            norm_layer: NormLayer::LayerNorm,
            norm_eps: 1e-6,
            drop_rate: 0.,
            pos_drop_rate: 0.,
            proj_drop_rate: 0.,
            attn_drop_rate: 0.,
            drop_path_rate: 0.,
        }
    };
}

impl Default for VitConfig {
    fn default() -> Self {
        Self::BASE
    }
}

/// How attention and MLP are put together in a block. Names are those of timm's classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BlockFn {
    /// `x + ls(attn(norm(x)))`, then `x + ls(mlp(norm(x)))`.
    #[default]
    Block,
    /// `x + ls(attn(y) + mlp(y))` with `y = norm(x)`, and one layer where both begin (Dehghani et al. 2023).
    ParallelScaling,
    /// The sum of two attentions, each with a norm of its own, then that of two MLPs (Touvron et al. 2022).
    ParallelThings,
}

/// What a head of attention is. Names are timm's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AttnLayer {
    /// The softmax of scores.
    #[default]
    Attn,
    /// The difference of two softmaxes, the second weighed with a learned number (Ye et al. 2024).
    Diff,
}

/// Kinds of position embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PosEmbed {
    /// A trained parameter `pos_embed`.
    #[default]
    Learned,
    /// Fixed sines and cosines over the sequence (Vaswani et al. 2017).
    Sinusoidal,
    /// None.
    None,
}

/// How tokens become one vector per image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GlobalPool {
    /// The class token (the first token).
    #[default]
    Token,
    /// The mean of the patch tokens.
    Avg,
    /// The maximum of the patch tokens.
    Max,
    /// Half the sum of mean and maximum of the patch tokens.
    AvgMax,
    /// Attention of a learned query over all tokens (SigLIP).
    Map,
    /// The class token followed by the mean of the patch tokens, `2 * embed_dim` wide (Hugging Face's DINOv2 classifier).
    #[serde(rename = "token+avg")]
    TokenAvg,
    /// No pool: one vector per token.
    #[serde(rename = "", alias = "none")]
    None,
}

/// Activations of a ViT's MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Act {
    /// Exact (erf) GELU.
    #[default]
    Gelu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// x · sigmoid(1.702 x) (CLIP).
    QuickGelu,
    /// x · sigmoid(x), of gates.
    Silu,
}

impl BlockFn {
    /// The name that a configuration file has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::ParallelScaling => "parallel_scaling",
            Self::ParallelThings => "parallel_things",
        }
    }

    /// Attentions of a block, and MLPs.
    pub fn num_parallel(self) -> usize {
        if self == Self::ParallelThings { 2 } else { 1 }
    }
}

impl PosEmbed {
    /// The name that a configuration file has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Learned => "learned",
            Self::Sinusoidal => "sinusoidal",
            Self::None => "none",
        }
    }
}

impl Act {
    /// The name that a configuration file has for it, and timm.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::QuickGelu => "quick_gelu",
            Self::Silu => "silu",
        }
    }

    /// What it is called in a sentence.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Gelu => "exact GELU",
            Self::GeluTanh => "GELU by tanh",
            Self::QuickGelu => "QuickGELU",
            Self::Silu => "SiLU",
        }
    }

    /// The operation.
    pub fn op(self) -> ops::Gelu {
        match self {
            Self::Gelu => ops::Gelu::Erf,
            Self::GeluTanh => ops::Gelu::Tanh,
            Self::QuickGelu => ops::Gelu::Quick,
            Self::Silu => ops::Gelu::Silu,
        }
    }
}

impl std::str::FromStr for Act {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Gelu, Self::GeluTanh, Self::QuickGelu, Self::Silu]
            .into_iter()
            .find(|act| act.name() == name)
            .ok_or_else(|| config_error("act", "gelu, gelu_tanh, quick_gelu or silu", name))
    }
}

impl VitConfig {
    /// The same after `change`, in one expression: `VitConfig::default().with(|c| c.depth = 6)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Class, distillation and register tokens before the patches.
    pub fn num_prefix_tokens(&self) -> usize {
        usize::from(self.class_token) + usize::from(self.distilled) + self.reg_tokens
    }

    /// Whether the height and width of what is cut into patches, the image or a stem's maps, are whole numbers of them.
    pub fn divides_evenly(&self) -> bool {
        self.map_size().iter().all(|side| side.is_multiple_of(self.patch_size.max(1)))
    }

    /// Rows and columns of patches.
    pub fn grid_size(&self) -> [usize; 2] {
        self.map_size().map(|side| side / self.patch_size.max(1))
    }

    /// Patches of one image.
    pub fn num_patches(&self) -> usize {
        self.grid_size().iter().product()
    }

    /// Tokens of one image, prefix tokens included.
    pub fn num_tokens(&self) -> usize {
        self.num_prefix_tokens() + self.num_patches()
    }

    /// Rows of the position embeddings: the patches, and the prefix tokens unless `no_embed_class`.
    pub fn num_positions(&self) -> usize {
        if self.no_embed_class { self.num_patches() } else { self.num_tokens() }
    }

    /// Width of the MLP's hidden layer, its gate not counted.
    pub fn mlp_dim(&self) -> usize {
        let hidden = (self.embed_dim as f64 * self.mlp_ratio) as usize;
        match self.swiglu_align_to {
            align if self.gate() == Gate::Apart && align > 0 => hidden.next_multiple_of(align),
            _ => hidden,
        }
    }

    /// The `mlp_ratio` with which an MLP of tokens of `embed_dim` values is `hidden` wide, and not one less by rounding.
    pub fn mlp_ratio_of(hidden: usize, embed_dim: usize) -> f64 {
        let ratio = hidden as f64 / embed_dim.max(1) as f64;
        if ((embed_dim as f64 * ratio) as usize) < hidden { ratio.next_up() } else { ratio }
    }

    /// Where the MLP's gate comes from, as in the classes that timm has for it.
    pub fn gate(&self) -> Gate {
        let apart = self.scale_mlp || self.has_relative_tables() || self.swiglu_align_to > 0 && !self.use_post_norm;
        match (self.swiglu_mlp, apart) {
            (false, _) => Gate::None,
            (true, false) => Gate::Packed,
            (true, true) => Gate::Apart,
        }
    }

    /// Whether scores have a bias by how tokens lie to each other.
    pub fn has_relative_positions(&self) -> bool {
        self.use_rel_pos_bias || self.use_shared_rel_pos_bias
    }

    /// Whether that bias is read from tables.
    pub fn has_relative_tables(&self) -> bool {
        self.has_relative_positions() && self.rel_pos_dim.is_none()
    }

    /// Whether it is of EVA's kind: learned positions, and keys without a bias.
    pub fn is_eva(&self) -> bool {
        !self.k_bias && self.pos_embed == PosEmbed::Learned && !self.has_relative_positions()
    }

    /// Whether it is one of the ViTs that timm builds with its classes `Eva` and `Beit`, which call LayerScale `gamma_1` and
    /// `gamma_2`.
    pub fn is_eva_or_beit(&self) -> bool {
        self.rope_type != RopeType::None || !self.k_bias || !self.qkv_fused || self.has_relative_tables()
    }

    /// Width of what the pool gives.
    pub fn pool_width(&self) -> usize {
        if self.global_pool == GlobalPool::TokenAvg { 2 * self.embed_dim } else { self.embed_dim }
    }

    /// Whether the final norm comes after the pool.
    pub fn uses_fc_norm(&self) -> bool {
        self.fc_norm.unwrap_or(matches!(self.global_pool, GlobalPool::Avg | GlobalPool::AvgMax | GlobalPool::Max))
    }

    /// What LayerScale starts from, if there is one; timm reads 0 as none, but in its classes `Eva` and `ParallelScalingBlock`.
    pub fn layer_scale(&self) -> Option<f64> {
        let eva = self.is_eva_or_beit() && !self.has_relative_tables();
        self.init_values.filter(|&value| value != 0. || eva || self.block_fn == BlockFn::ParallelScaling)
    }

    /// The rate of stochastic depth of block `index`: from 0 in the first block to `drop_path_rate` in the last.
    pub fn block_drop_path_rate(&self, index: usize) -> f64 {
        if self.depth < 2 { 0. } else { self.drop_path_rate * index as f64 / (self.depth - 1) as f64 }
    }

    /// The number of values in the large parameters. It cannot overflow: every factor was checked before.
    fn approximate_parameters(&self) -> u64 {
        let [dim, hidden, depth] = [self.embed_dim, self.mlp_dim(), self.depth].map(|n| n as u64);
        let stem = dim.saturating_mul((self.patch_size.pow(2) * self.patch_chans() + self.num_tokens()) as u64);
        let heads = (1 + u64::from(self.distilled)) * (self.num_features() * self.num_classes) as u64;
        let heads = heads + (self.head_proj.unwrap_or(0) * self.pool_width()) as u64;
        let layers = if self.swiglu_mlp { 3 } else { 2 };
        let blocks = depth * self.block_fn.num_parallel() as u64 * dim * (4 * dim + layers * hidden);
        stem.saturating_add(self.stem_weights()).saturating_add(blocks + heads)
    }
}

impl VitConfig {
    /// Checks rotary positions and relative ones.
    fn validate_positions(&self) -> Result<()> {
        let c = self;
        if c.rope_type != RopeType::None {
            let head = c.embed_dim / c.num_heads;
            let heads =
                || format!("none where heads are {head} wide: rows and columns turn pairs, so 4 must divide the width");
            check(head.is_multiple_of(4), "rope_type", heads, c.rope_type.name())?;
            let positive = |value: f64| value.is_finite() && value > 0.;
            check(positive(c.rope_temperature), "rope_temperature", || "a positive number".into(), c.rope_temperature)?;
            check(c.rope_grid_offset.is_finite(), "rope_grid_offset", || "a finite number".into(), c.rope_grid_offset)?;
            let mixed = c.rope_type == RopeType::Mixed;
            check(!(mixed && c.rope_rotate_half), "rope_rotate_half", || "false with rope_type mixed".into(), true)?;
        }
        for side in c.ref_feat_shape.iter().flat_map(|shape| shape.sides()) {
            check_size("ref_feat_shape", side, 1 << 16)?;
        }
        if let Some(width) = c.rel_pos_dim {
            check_size("rel_pos_dim", width, 1 << 16)?;
            let one = c.use_rel_pos_bias != c.use_shared_rel_pos_bias;
            let needs = || "none, or one of use_rel_pos_bias and use_shared_rel_pos_bias".into();
            check(one, "rel_pos_dim", needs, width)?;
        }
        if c.has_relative_positions() {
            let field = if c.use_rel_pos_bias { "use_rel_pos_bias" } else { "use_shared_rel_pos_bias" };
            let alone = (c.class_token || c.rel_pos_dim.is_some()) && !c.distilled && c.reg_tokens == 0;
            let prefix = || "false, or a class token and no other prefix token, for which the table has entries".into();
            check(alone, field, prefix, true)?;
            let patches = || format!("false, or at most {MAX_RELATIVE} patches, as every pair of them has a bias");
            check(c.num_patches() <= MAX_RELATIVE, field, patches, true)?;
        }
        Ok(())
    }
}

impl VitConfig {
    /// Checks that blocks with attention and MLP side by side, and differences of softmaxes, have none of what timm's do without.
    fn validate_block(&self) -> Result<()> {
        let c = self;
        if c.attn_layer == AttnLayer::Diff {
            let head = c.embed_dim / c.num_heads;
            let even = || format!("attn where heads are {head} wide: two softmaxes share the width");
            check(head.is_multiple_of(2), "attn_layer", even, "diff")?;
            let plain = !c.lsa && !c.is_eva_or_beit() && !c.has_relative_positions();
            let without = || "attn with lsa, rotary or relative positions, or q, k, v of another kind".into();
            check(plain, "attn_layer", without, "diff")?;
        }
        let needs = |field: &'static str, wrong: bool, got: &'static str| {
            let without = || format!("{field} left at its default with block_fn {}", c.block_fn.name());
            check(c.block_fn == BlockFn::Block || !wrong, field, without, got)
        };
        needs("use_post_norm", c.use_post_norm, "true")?;
        needs("rope_type", c.rope_type != RopeType::None, c.rope_type.name())?;
        needs("use_rel_pos_bias", c.has_relative_positions(), "true")?;
        needs("k_bias", !c.k_bias, "false")?;
        needs("qkv_fused", !c.qkv_fused, "false")?;
        let needs = |field, wrong| needs(field, wrong && c.block_fn == BlockFn::ParallelScaling, "true");
        needs("lsa", c.lsa)?;
        needs("scale_attn_inner", c.scale_attn_inner)?;
        needs("scale_mlp", c.scale_mlp)?;
        needs("swiglu_mlp", c.swiglu_mlp)
    }
}

impl ModelConfig for VitConfig {
    type Model = Vit;

    fn named() -> Vec<(&'static str, Self)> {
        named::VITS.to_vec()
    }

    fn build(&self, vb: VarBuilder) -> candle_core::Result<Vit> {
        Vit::new(self, vb)
    }

    fn validate(&self) -> Result<()> {
        let c = self;
        for (side, of_maps) in c.img_size.sides().into_iter().zip(c.map_size()) {
            check_size("img_size", side, 1 << 16)?;
            check_size("patch_size", c.patch_size, of_maps)?;
        }
        check(
            c.trim || c.divides_evenly(),
            "patch_size",
            || format!("a divisor of {} (or an img_size of {})", cut_in_words(c), nearest_sizes(c)),
            c.patch_size,
        )?;
        check(
            c.num_patches() <= MAX_PATCHES,
            "patch_size",
            || {
                let [height, width] = c.img_size.sides();
                format!("at most {MAX_PATCHES} patches in an image of {height}x{width} pixels")
            },
            c.patch_size,
        )?;
        check_size("in_chans", c.in_chans, 1 << 16)?;
        c.validate_stem()?;
        check(
            !c.spt || c.patch_size > 1,
            "spt",
            || "false, or a patch_size of at least 2, as the shift is half a patch".into(),
            true,
        )?;
        check(c.num_classes <= 1 << 24, "num_classes", || format!("at most {}", 1 << 24), c.num_classes)?;
        check_size("embed_dim", c.embed_dim, 1 << 16)?;
        check_size("depth", c.depth, 1 << 12)?;
        check_size("num_heads", c.num_heads, c.embed_dim)?;
        check(
            c.embed_dim.is_multiple_of(c.num_heads),
            "num_heads",
            || format!("a divisor of embed_dim {}", c.embed_dim),
            c.num_heads,
        )?;
        let hidden = c.embed_dim as f64 * c.mlp_ratio;
        check((1. ..=f64::from(1 << 20)).contains(&hidden), "mlp_ratio", || mlp_ratio(c.embed_dim), c.mlp_ratio)?;
        check(
            !c.lsa || c.reg_tokens > 0 || c.num_tokens() > 1,
            "lsa",
            || "false, or more than one token, as no token attends to itself".into(),
            true,
        )?;
        check(c.reg_tokens <= 1 << 12, "reg_tokens", || format!("at most {}", 1 << 12), c.reg_tokens)?;
        check(c.norm_eps.is_finite() && c.norm_eps > 0., "norm_eps", || "a positive number".into(), c.norm_eps)?;
        c.validate_positions()?;
        c.validate_block()?;
        check(c.swiglu_align_to <= 1 << 12, "swiglu_align_to", || format!("at most {}", 1 << 12), c.swiglu_align_to)?;
        if let Some(heads) = c.attn_pool_num_heads {
            check(
                heads > 0 && c.embed_dim.is_multiple_of(heads),
                "attn_pool_num_heads",
                || format!("a divisor of embed_dim {}, or none", c.embed_dim),
                heads,
            )?;
        }
        if let Some(ratio) = c.attn_pool_mlp_ratio {
            let hidden = c.embed_dim as f64 * ratio;
            let fits = (1. ..=f64::from(1 << 20)).contains(&hidden);
            check(fits, "attn_pool_mlp_ratio", || mlp_ratio(c.embed_dim), ratio)?;
        }
        if let Some(value) = c.init_values {
            check(value.is_finite(), "init_values", || "a finite number, or none".into(), value)?;
        }
        check_rate("drop_rate", c.drop_rate)?;
        check_rate("pos_drop_rate", c.pos_drop_rate)?;
        check_rate("proj_drop_rate", c.proj_drop_rate)?;
        check_rate("attn_drop_rate", c.attn_drop_rate)?;
        check_rate("drop_path_rate", c.drop_path_rate)?;
        let pools_class = matches!(c.global_pool, GlobalPool::Token | GlobalPool::TokenAvg);
        check(
            c.class_token || !pools_class,
            "global_pool",
            || "a pool over patches (avg, max, avgmax, map) or none, as there is no class token".into(),
            c.global_pool.name(),
        )?;
        c.head_proj.map_or(Ok(()), |width| check_size("head_proj", width, 1 << 16))?;
        if c.distilled {
            let needs = |what: &'static str| move || format!("false, or {what}");
            check(c.class_token, "distilled", needs("class_token"), true)?;
            check(c.global_pool == GlobalPool::Token, "distilled", needs("global_pool token"), true)?;
            check(c.reg_tokens == 0, "distilled", needs("no reg_tokens"), true)?;
            check(!c.uses_fc_norm(), "distilled", needs("fc_norm unset"), true)?;
            check(c.head_proj.is_none() && !c.head_norm, "distilled", needs("neither head_proj nor head_norm"), true)?;
        }
        check(
            c.pos_embed != PosEmbed::Sinusoidal || c.num_positions() * c.embed_dim <= MAX_SINUSOIDAL,
            "pos_embed",
            || {
                format!(
                    "learned or none, as {} positions of {} are too many for a table",
                    c.num_positions(),
                    c.embed_dim
                )
            },
            "sinusoidal",
        )?;
        check_parameters(c.approximate_parameters())
    }

    plain_fields!();

    fn num_features(&self) -> usize {
        self.head_proj.unwrap_or_else(|| self.pool_width())
    }

    fn flops(&self) -> u64 {
        2 * flops::multiply_adds(self)
    }

    fn stage_of(&self, name: &str) -> Stage {
        stages::stage_of(name)
    }

    fn num_blocks(&self) -> usize {
        self.depth
    }

    fn layer_id(&self, name: &str) -> usize {
        stages::layer_id(self, name)
    }

    fn num_layers(&self) -> usize {
        self.depth + 2
    }

    fn is_random(&self) -> bool {
        let c = self;
        let rates = [c.drop_rate, c.pos_drop_rate, c.proj_drop_rate, c.attn_drop_rate, c.drop_path_rate];
        rates.iter().any(|&rate| rate > 0.)
    }

    fn head_reads_pooled(&self) -> bool {
        !self.distilled && self.global_pool != GlobalPool::None
    }

    fn filters(&self) -> Option<(&'static str, usize)> {
        let name = match self.stem_layers.map(|layers| layers.stages().is_empty()) {
            None => "patch_embed.proj.weight",
            Some(false) => "patch_embed.backbone.stem.conv.weight",
            Some(true) => "patch_embed.backbone.conv.weight",
        };
        Some((name, self.in_chans))
    }
}

/// More patches than any published ViT has (1024 x 1024 pixels with patches of 4); attention grows with their square.
const MAX_PATCHES: usize = 1 << 16;

/// The table of biases is read for every pair of tokens and every head.
const MAX_RELATIVE: usize = 1 << 12;

/// The encodings are computed when the model is built or listed: 65536 positions of a width of 512 are enough.
const MAX_SINUSOIDAL: usize = 1 << 25;

/// What is cut into patches.
fn cut_in_words(config: &VitConfig) -> String {
    match config.stem_layers {
        None => format!("img_size {}", config.img_size),
        Some(_) => {
            format!(
                "the sides of the stem's maps, {} for img_size {}",
                ImgSize::from(config.map_size()),
                config.img_size
            )
        }
    }
}

/// The image sizes in whole patches that are nearest to the config's: `98 or 112`.
fn nearest_sizes(config: &VitConfig) -> String {
    let patch = config.patch_pixels().max(1);
    let sides = config.img_size.sides();
    let [below, above] =
        [|side: usize, patch: usize| side / patch * patch, |side: usize, patch: usize| side.next_multiple_of(patch)]
            .map(|nearest| ImgSize::from(sides.map(|side| nearest(side, patch).max(patch))));
    if below == above { below.to_string() } else { format!("{below} or {above}") }
}

fn mlp_ratio(embed_dim: usize) -> String {
    format!("a number that makes embed_dim {embed_dim} times it lie between 1 and {}", 1 << 20)
}

impl GlobalPool {
    /// The name that a configuration file has for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Avg => "avg",
            Self::Max => "max",
            Self::AvgMax => "avgmax",
            Self::Map => "map",
            Self::TokenAvg => "token+avg",
            Self::None => "",
        }
    }
}
