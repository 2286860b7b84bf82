//! What a ViT is made of, as plain data. Names are timm's keyword arguments.

use serde::{Deserialize, Serialize};

/// Configuration of a ViT. The default is timm's `VisionTransformer()`: ViT-B/16 at 224 with 1000 classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// Height and width of the input image in pixels. Default 224.
    pub img_size: usize,
    /// Height and width of a patch in pixels. Default 16.
    pub patch_size: usize,
    /// Input channels. Default 3.
    pub in_chans: usize,
    /// Classes; 0 leaves out the head. Default 1000.
    pub num_classes: usize,
    /// Width of a token. Default 768.
    pub embed_dim: usize,
    /// Number of blocks. Default 12.
    pub depth: usize,
    /// Attention heads; divides `embed_dim`. Default 12.
    pub num_heads: usize,
    /// Width of the MLP over `embed_dim`. Default 4.
    pub mlp_ratio: f64,
    /// Whether q, k, v have a bias. Default true.
    pub qkv_bias: bool,
    /// LayerNorm on the queries and keys of every head. Default false.
    pub qk_norm: bool,
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
    /// A norm before the first block (CLIP). Default false.
    pub pre_norm: bool,
    /// Initial value of LayerScale; none leaves LayerScale out. Default none.
    pub init_values: Option<f64>,
    /// How tokens become one vector. Default token.
    pub global_pool: GlobalPool,
    /// Whether the final norm comes after the pool (`fc_norm`) instead of before (`norm`). Default: none, which means
    /// exactly for the pools `avg`, `avgmax` and `max`.
    pub fc_norm: Option<bool>,
    /// Whether there is a final norm at all. Default true.
    pub final_norm: bool,
    /// Activation of the MLP. Default gelu.
    pub act: Act,
    /// Epsilon of every LayerNorm. Default 1e-6.
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

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            img_size: 224,
            patch_size: 16,
            in_chans: 3,
            num_classes: 1000,
            embed_dim: 768,
            depth: 12,
            num_heads: 12,
            mlp_ratio: 4.,
            qkv_bias: true,
            qk_norm: false,
            class_token: true,
            reg_tokens: 0,
            distilled: false,
            no_embed_class: false,
            pos_embed: PosEmbed::Learned,
            pre_norm: false,
            init_values: None,
            global_pool: GlobalPool::Token,
            fc_norm: None,
            final_norm: true,
            act: Act::Gelu,
            norm_eps: 1e-6,
            drop_rate: 0.,
            pos_drop_rate: 0.,
            proj_drop_rate: 0.,
            attn_drop_rate: 0.,
            drop_path_rate: 0.,
        }
    }
}

/// Kinds of position embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
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
    #[serde(rename = "")]
    None,
}

/// Activations of a ViT's MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Exact (erf) GELU.
    #[default]
    Gelu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// x · sigmoid(1.702 x) (CLIP).
    QuickGelu,
}

impl VitConfig {
    /// The width of what the head reads.
    pub fn num_features(&self) -> usize {
        if self.global_pool == GlobalPool::TokenAvg { 2 * self.embed_dim } else { self.embed_dim }
    }

    /// Class, distillation and register tokens before the patches.
    pub fn num_prefix_tokens(&self) -> usize {
        usize::from(self.class_token) + usize::from(self.distilled) + self.reg_tokens
    }

    /// Patches along one side of the image.
    pub fn grid_size(&self) -> usize {
        self.img_size / self.patch_size.max(1)
    }
}
