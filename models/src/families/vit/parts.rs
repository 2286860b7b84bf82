//! What the layers of a ViT are made of.

use super::{Act, AttnLayer, VitConfig};
use crate::ImgSize;
use crate::layers::{
    AttentionConfig, AttentionPoolConfig, LinearInit, MlpBlockConfig, PatchEmbedConfig, ResidualBranchConfig,
    RopeConfig,
};

/// Linear layers start as in timm's `init_weights_vit_timm`.
pub(super) const INIT: LinearInit = LinearInit::Normal(0.02);

impl VitConfig {
    /// The patch embedding.
    pub(super) fn patch_embed(&self) -> PatchEmbedConfig {
        let in_chans = if self.stem_layers.is_some() { self.patch_chans() } else { self.in_chans };
        PatchEmbedConfig {
            // Where a norm follows at once, a bias would be idle.
            bias: !self.pre_norm,
            spt: self.spt,
            norm: self.norm_patches,
            embed_norm: self.embed_norm.then_some(self.norm_layer),
            norm_eps: self.norm_eps,
            ..PatchEmbedConfig::new(in_chans, self.patch_size, self.embed_dim)
        }
    }

    /// The self-attention of block `index`.
    pub(super) fn attention(&self, index: usize) -> AttentionConfig {
        AttentionConfig {
            difference: match self.attn_layer {
                AttnLayer::Attn => None,
                AttnLayer::Diff => Some(0.8 - 0.6 * (-0.3 * index as f64).exp()),
            },
            qkv_bias: self.qkv_bias,
            k_bias: self.k_bias,
            qkv_fused: self.qkv_fused,
            qk_norm: self.qk_norm,
            lsa: self.lsa,
            scale_norm: self.scale_attn_inner,
            proj_bias: self.proj_bias,
            norm_layer: self.norm_layer,
            norm_eps: self.norm_eps,
            attn_drop_rate: self.attn_drop_rate,
            proj_drop_rate: self.proj_drop_rate,
            init: INIT,
            ..AttentionConfig::new(self.embed_dim, self.num_heads)
        }
    }

    /// The MLP of a block.
    pub(super) fn mlp_block(&self) -> MlpBlockConfig {
        MlpBlockConfig {
            act: self.act.op(),
            gate: self.gate(),
            bias: self.proj_bias,
            norm: self.scale_mlp,
            norm_layer: self.norm_layer,
            norm_eps: self.norm_eps,
            drop_rate: self.proj_drop_rate,
            init: INIT,
            ..MlpBlockConfig::new(self.embed_dim, self.mlp_dim())
        }
    }

    /// Every branch of block `index`.
    pub(super) fn residual_branch(&self, index: usize) -> ResidualBranchConfig {
        ResidualBranchConfig {
            norm_layer: self.norm_layer,
            norm_eps: self.norm_eps,
            layer_scale: self.layer_scale().filter(|_| !self.is_eva_or_beit()),
            post_norm: self.use_post_norm,
            drop_path_rate: self.block_drop_path_rate(index),
            ..ResidualBranchConfig::new(self.embed_dim)
        }
    }

    /// The rotary positions.
    pub(super) fn rope(&self) -> RopeConfig {
        let head_dim = self.embed_dim / self.num_heads;
        RopeConfig {
            depth: self.depth,
            temperature: self.rope_temperature,
            grid_offset: self.rope_grid_offset,
            grid_indexing: self.rope_grid_indexing,
            rotate_half: self.rope_rotate_half,
            ref_feat_shape: self.ref_feat_shape.map(ImgSize::sides),
            ..RopeConfig::new(self.rope_type, self.grid_size(), self.num_heads, head_dim)
        }
    }

    /// The attention pool.
    pub(super) fn attention_pool(&self) -> AttentionPoolConfig {
        let act = if self.swiglu_mlp && self.act == Act::Silu { Act::Gelu } else { self.act };
        AttentionPoolConfig {
            mlp_dim: self.attn_pool_mlp_dim(),
            act: act.op(),
            norm_layer: self.norm_layer,
            norm_eps: self.norm_eps,
            init: INIT,
            ..AttentionPoolConfig::new(self.embed_dim, self.attn_pool_num_heads.unwrap_or(self.num_heads))
        }
    }

    /// Width of the hidden layer of the attention pool's MLP.
    pub(super) fn attn_pool_mlp_dim(&self) -> usize {
        (self.embed_dim as f64 * self.attn_pool_mlp_ratio.unwrap_or(self.mlp_ratio)) as usize
    }
}
