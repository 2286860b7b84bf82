//! What the layers of a ViT are made of.

use super::VitConfig;
use crate::layers::{
    AttentionConfig, AttentionPoolConfig, LinearInit, MlpBlockConfig, PatchEmbedConfig, ResidualBranchConfig,
};

/// Linear layers start as in timm's `init_weights_vit_timm`.
pub(super) const INIT: LinearInit = LinearInit::Normal(0.02);

impl VitConfig {
    /// The patch embedding.
    pub(super) fn patch_embed(&self) -> PatchEmbedConfig {
        PatchEmbedConfig {
            // Where a norm follows at once, a bias would be idle.
            bias: !self.pre_norm,
            spt: self.spt,
            norm_eps: self.norm_eps,
            ..PatchEmbedConfig::new(self.in_chans, self.patch_size, self.embed_dim)
        }
    }

    /// The self-attention of a block.
    pub(super) fn attention(&self) -> AttentionConfig {
        AttentionConfig {
            qkv_bias: self.qkv_bias,
            qk_norm: self.qk_norm,
            lsa: self.lsa,
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
            drop_rate: self.proj_drop_rate,
            init: INIT,
            ..MlpBlockConfig::new(self.embed_dim, self.mlp_dim())
        }
    }

    /// Both branches of block `index`.
    pub(super) fn residual_branch(&self, index: usize) -> ResidualBranchConfig {
        ResidualBranchConfig {
            norm_eps: self.norm_eps,
            layer_scale: self.layer_scale(),
            drop_path_rate: self.block_drop_path_rate(index),
            ..ResidualBranchConfig::new(self.embed_dim)
        }
    }

    /// The attention pool.
    pub(super) fn attention_pool(&self) -> AttentionPoolConfig {
        AttentionPoolConfig {
            mlp_dim: self.mlp_dim(),
            act: self.act.op(),
            norm_eps: self.norm_eps,
            init: INIT,
            ..AttentionPoolConfig::new(self.embed_dim, self.num_heads)
        }
    }
}
