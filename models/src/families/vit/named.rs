//! The ViTs of the zoo: a name and a line of numbers each. Names and numbers are timm's.

use super::{Act, AttnLayer, BlockFn, GlobalPool, GridIndexing, NormLayer, PosEmbed, RopeType, StemLayers, VitConfig};
use crate::ImgSize;

/// Image size, patch size, width, depth and heads on top of what a family has in common.
const fn vit(
    img_size: usize,
    patch_size: usize,
    embed_dim: usize,
    depth: usize,
    num_heads: usize,
    family: VitConfig,
) -> VitConfig {
    VitConfig { img_size: ImgSize::square(img_size), patch_size, embed_dim, depth, num_heads, ..family }
}

const BASE: VitConfig = VitConfig::BASE;
const DEIT3: VitConfig = BASE.no_embed_class().scaled(1e-6);
const DINOV2: VitConfig = BASE.scaled(1e-5);
const CLIP: VitConfig = VitConfig { pre_norm: true, norm_eps: 1e-5, ..BASE };
/// CLIP as OpenAI and MetaCLIP trained it.
const QUICK_CLIP: VitConfig = VitConfig { act: Act::QuickGelu, ..CLIP };
const SIGLIP: VitConfig = VitConfig { class_token: false, global_pool: GlobalPool::Map, ..BASE };
/// The mean of several teachers' features, without a norm at the end.
const RADIO: VitConfig = BASE.no_embed_class().no_final_norm();
/// No class token; the mean of the patches, then the norm.
const GAP: VitConfig = VitConfig { class_token: false, global_pool: GlobalPool::Avg, ..BASE };
/// No class token; the norm, then the mean of the patches.
const SIGLIP_GAP: VitConfig = VitConfig { fc_norm: Some(false), ..GAP };

/// Keys without a bias; the mean of the patches, then the norm.
const EVA: VitConfig = VitConfig { k_bias: false, global_pool: GlobalPool::Avg, ..BASE };
const BEIT: VitConfig = VitConfig { pos_embed: PosEmbed::None, use_rel_pos_bias: true, ..EVA };
const EVA02: VitConfig = VitConfig { mlp_ratio: 4. * 2. / 3., ..EVA.rotary().stretched(16).swiglu(0) };
const EVA02_CLIP: VitConfig = VitConfig { scale_attn_inner: true, ..EVA02.qkv_apart().scale_mlp().token() };
/// timm's default is the mean of the patches, after the norm. (The authors take the class token.)
const DINOV3: VitConfig = VitConfig {
    qkv_bias: false,
    fc_norm: Some(false),
    norm_eps: 1e-5,
    pos_embed: PosEmbed::None,
    rope_type: RopeType::DinoV3,
    rope_temperature: 100.,
    rope_rotate_half: true,
    ..EVA.registers(4).scaled(1e-5)
};
/// Heo et al. 2024.
const ROPE: VitConfig = VitConfig {
    rope_grid_indexing: GridIndexing::Xy,
    rope_temperature: 100.,
    pos_embed: PosEmbed::None,
    ..BASE.rotary().scaled(1e-5)
};
const ROPE_GAP: VitConfig =
    VitConfig { pos_embed: PosEmbed::None, ..EVA.rotary().stretched(16).scaled(1e-5).no_class() };
/// Positions are a bias by distance alone, from an MLP; the norm, then the mean of the patches.
const RELPOS: VitConfig = VitConfig {
    fc_norm: Some(false),
    pos_embed: PosEmbed::None,
    use_rel_pos_bias: true,
    rel_pos_dim: Some(128),
    ..GAP.scaled(1e-6)
};
/// Norms inside of attention and MLP.
const BEIT3: VitConfig = VitConfig { scale_attn_inner: true, scale_mlp: true, norm_eps: 1e-5, ..BASE.avg() };
/// RMS norms, also of patches, and no bias anywhere but there; the norm, then the mean of the patches.
const AIMV2: VitConfig = VitConfig {
    embed_norm: true,
    mlp_ratio: 2.75,
    qkv_bias: false,
    proj_bias: false,
    norm_eps: 1e-5,
    ..SIGLIP_GAP.swiglu(1).rms_norm()
};
/// Attention and MLP at once, RMS norms, also of queries and keys.
const XP: VitConfig =
    VitConfig { qkv_bias: false, qk_norm: true, pre_norm: true, ..BASE.parallel_scaling().rms_norm().no_embed_class() };
/// Perception Encoder: the mean of the patches as the last block leaves them.
const PE: VitConfig = VitConfig {
    pre_norm: true,
    norm_eps: 1e-5,
    global_pool: GlobalPool::Avg,
    fc_norm: Some(false),
    final_norm: false,
    rope_grid_offset: 1.,
    rope_grid_indexing: GridIndexing::Xy,
    ..BASE.rotary()
};

/// Hybrids: the beginning of a ResNet, ResNet-26, and ResNet-50 with and without its last stage.
const R: VitConfig = BASE.stem([0; 4]);
const R26: VitConfig = BASE.stem([2, 2, 2, 2]);
const R50: VitConfig = BASE.stem([3, 4, 6, 3]);
const R50_S16: VitConfig = BASE.stem([3, 4, 9, 0]);

impl VitConfig {
    const fn avg(self) -> Self {
        Self { global_pool: GlobalPool::Avg, ..self }
    }
    /// Perception Encoder's pool: attention over all tokens, after the norm.
    const fn core(self) -> Self {
        Self {
            global_pool: GlobalPool::Map,
            pool_include_prefix: true,
            attn_pool_num_heads: Some(8),
            attn_pool_mlp_ratio: Some(4.),
            fc_norm: None,
            final_norm: true,
            ..self
        }
    }
    const fn diff(self) -> Self {
        Self { attn_layer: AttnLayer::Diff, ..self }
    }
    const fn distilled(self) -> Self {
        Self { distilled: true, ..self }
    }
    const fn class_token(self) -> Self {
        Self { class_token: true, ..self }
    }
    const fn fc_norm_on(self) -> Self {
        Self { fc_norm: Some(true), ..self }
    }
    const fn fc_norm_off(self) -> Self {
        Self { fc_norm: Some(false), ..self }
    }
    const fn gelu_tanh(self) -> Self {
        Self { act: Act::GeluTanh, ..self }
    }
    const fn learned(self) -> Self {
        Self { pos_embed: PosEmbed::Learned, ..self }
    }
    const fn mixed(self) -> Self {
        Self { rope_type: RopeType::Mixed, rope_temperature: 10., ..self }
    }
    const fn scaled(self, value: f64) -> Self {
        Self { init_values: Some(value), ..self }
    }
    const fn mlp_ratio(self, mlp_ratio: f64) -> Self {
        Self { mlp_ratio, ..self }
    }
    const fn no_class(self) -> Self {
        Self { class_token: false, ..self }
    }
    const fn no_embed_class(self) -> Self {
        Self { no_embed_class: true, ..self }
    }
    const fn no_final_norm(self) -> Self {
        Self { final_norm: false, ..self }
    }
    const fn no_head(self) -> Self {
        Self { num_classes: 0, ..self }
    }
    const fn no_offset(self) -> Self {
        Self { rope_grid_offset: 0., ..self }
    }
    const fn no_qkv_bias(self) -> Self {
        Self { qkv_bias: false, ..self }
    }
    const fn parallel_scaling(self) -> Self {
        Self { block_fn: BlockFn::ParallelScaling, ..self }
    }
    const fn parallel_things(self) -> Self {
        Self { block_fn: BlockFn::ParallelThings, ..self }
    }
    const fn pool_include_prefix(self) -> Self {
        Self { pool_include_prefix: true, ..self }
    }
    const fn trimmed(self) -> Self {
        Self { trim: true, ..self }
    }
    const fn rel_pos_dim(self, rel_pos_dim: usize) -> Self {
        Self { rel_pos_dim: Some(rel_pos_dim), ..self }
    }
    const fn shared_rel_pos(self, rel_pos_dim: usize) -> Self {
        Self { use_rel_pos_bias: false, use_shared_rel_pos_bias: true, ..self.rel_pos_dim(rel_pos_dim) }
    }
    const fn post_norm(self) -> Self {
        Self { use_post_norm: true, ..self }
    }
    const fn qkv_apart(self) -> Self {
        Self { qkv_fused: false, ..self }
    }
    const fn qkv_bias(self) -> Self {
        Self { qkv_bias: true, ..self }
    }
    const fn registers(self, reg_tokens: usize) -> Self {
        Self { reg_tokens, ..self }
    }
    const fn rotary(self) -> Self {
        Self { rope_type: RopeType::Cat, ..self }
    }
    const fn rms_norm(self) -> Self {
        Self { norm_layer: NormLayer::RmsNorm, ..self }
    }
    const fn scale_mlp(self) -> Self {
        Self { scale_mlp: true, ..self }
    }
    const fn stem(self, stages: [usize; 4]) -> Self {
        Self { stem_layers: Some(StemLayers::new(stages)), ..self }
    }
    const fn stretched(self, side: usize) -> Self {
        Self { ref_feat_shape: Some(ImgSize::square(side)), ..self }
    }
    const fn swiglu(self, swiglu_align_to: usize) -> Self {
        Self { swiglu_mlp: true, act: Act::Silu, swiglu_align_to, ..self }
    }
    const fn token(self) -> Self {
        Self { global_pool: GlobalPool::Token, ..self }
    }
}

/// The ViTs by name. `num_classes` is that of the chosen weights ([`crate::zoo::find`]), or 1000.
#[rustfmt::skip]
pub(super) static VITS: &[(&str, VitConfig)] = &[
    // For MNIST: small enough to train from scratch in minutes.
    ("vit_mnist", VitConfig { in_chans: 1, num_classes: 10, ..vit(28, 7, 64, 6, 4, BASE) }),
    // From timm: image, patch, width, depth, heads.
    ("aimv2_1b_patch14_224", vit(224, 14, 2048, 24, 16, AIMV2)),
    ("aimv2_1b_patch14_336", vit(336, 14, 2048, 24, 16, AIMV2)),
    ("aimv2_1b_patch14_448", vit(448, 14, 2048, 24, 16, AIMV2)),
    ("aimv2_3b_patch14_224", vit(224, 14, 3072, 24, 24, AIMV2.mlp_ratio(2.6667))),
    ("aimv2_3b_patch14_336", vit(336, 14, 3072, 24, 24, AIMV2.mlp_ratio(2.6667))),
    ("aimv2_3b_patch14_448", vit(448, 14, 3072, 24, 24, AIMV2.mlp_ratio(2.6667))),
    ("aimv2_huge_patch14_224", vit(224, 14, 1536, 24, 12, AIMV2.mlp_ratio(2.6667))),
    ("aimv2_huge_patch14_336", vit(336, 14, 1536, 24, 12, AIMV2.mlp_ratio(2.6667))),
    ("aimv2_huge_patch14_448", vit(448, 14, 1536, 24, 12, AIMV2.mlp_ratio(2.6667))),
    ("aimv2_large_patch14_224", vit(224, 14, 1024, 24, 8, AIMV2)),
    ("aimv2_large_patch14_336", vit(336, 14, 1024, 24, 8, AIMV2)),
    ("aimv2_large_patch14_448", vit(448, 14, 1024, 24, 8, AIMV2)),
    ("beit3_base_patch16_224", vit(224, 16, 768, 12, 12, BEIT3)),
    ("beit3_giant_patch14_224", vit(224, 14, 1408, 40, 16, BEIT3.mlp_ratio(4.3637))),
    ("beit3_giant_patch14_336", vit(336, 14, 1408, 40, 16, BEIT3.mlp_ratio(4.3637))),
    ("beit3_large_patch16_224", vit(224, 16, 1024, 24, 16, BEIT3)),
    ("beit_base_patch16_224", vit(224, 16, 768, 12, 12, BEIT.scaled(0.1))),
    ("beit_base_patch16_384", vit(384, 16, 768, 12, 12, BEIT.scaled(0.1))),
    ("beit_large_patch16_224", vit(224, 16, 1024, 24, 16, BEIT.scaled(1e-05))),
    ("beit_large_patch16_384", vit(384, 16, 1024, 24, 16, BEIT.scaled(1e-05))),
    ("beit_large_patch16_512", vit(512, 16, 1024, 24, 16, BEIT.scaled(1e-05))),
    ("beitv2_base_patch16_224", vit(224, 16, 768, 12, 12, BEIT.scaled(1e-05))),
    ("beitv2_large_patch16_224", vit(224, 16, 1024, 24, 16, BEIT.scaled(1e-05))),
    ("deit3_base_patch16_224", vit(224, 16, 768, 12, 12, DEIT3)),
    ("deit3_base_patch16_384", vit(384, 16, 768, 12, 12, DEIT3)),
    ("deit3_huge_patch14_224", vit(224, 14, 1280, 32, 16, DEIT3)),
    ("deit3_large_patch16_224", vit(224, 16, 1024, 24, 16, DEIT3)),
    ("deit3_large_patch16_384", vit(384, 16, 1024, 24, 16, DEIT3)),
    ("deit3_medium_patch16_224", vit(224, 16, 512, 12, 8, DEIT3)),
    ("deit3_small_patch16_224", vit(224, 16, 384, 12, 6, DEIT3)),
    ("deit3_small_patch16_384", vit(384, 16, 384, 12, 6, DEIT3)),
    ("deit_base_distilled_patch16_224", vit(224, 16, 768, 12, 12, BASE.distilled())),
    ("deit_base_distilled_patch16_384", vit(384, 16, 768, 12, 12, BASE.distilled())),
    ("deit_base_patch16_224", vit(224, 16, 768, 12, 12, BASE)),
    ("deit_base_patch16_384", vit(384, 16, 768, 12, 12, BASE)),
    ("deit_small_distilled_patch16_224", vit(224, 16, 384, 12, 6, BASE.distilled())),
    ("deit_small_patch16_224", vit(224, 16, 384, 12, 6, BASE)),
    ("deit_tiny_distilled_patch16_224", vit(224, 16, 192, 12, 3, BASE.distilled())),
    ("deit_tiny_patch16_224", vit(224, 16, 192, 12, 3, BASE)),
    ("eva02_base_patch14_224", vit(224, 14, 768, 12, 12, EVA02.qkv_apart().scale_mlp())),
    ("eva02_base_patch14_448", vit(448, 14, 768, 12, 12, EVA02.qkv_apart().scale_mlp())),
    ("eva02_base_patch16_clip_224", vit(224, 16, 768, 12, 12, EVA02_CLIP)),
    ("eva02_enormous_patch14_clip_224", vit(224, 14, 1792, 64, 16, EVA.token().mlp_ratio(8.571428571428571).post_norm())),
    ("eva02_large_patch14_224", vit(224, 14, 1024, 24, 16, EVA02.qkv_apart().scale_mlp())),
    ("eva02_large_patch14_448", vit(448, 14, 1024, 24, 16, EVA02.qkv_apart().scale_mlp())),
    ("eva02_large_patch14_clip_224", vit(224, 14, 1024, 24, 16, EVA02_CLIP)),
    ("eva02_large_patch14_clip_336", vit(336, 14, 1024, 24, 16, EVA02_CLIP)),
    ("eva02_small_patch14_224", vit(224, 14, 384, 12, 6, EVA02)),
    ("eva02_small_patch14_336", vit(336, 14, 384, 12, 6, EVA02)),
    ("eva02_tiny_patch14_224", vit(224, 14, 192, 12, 3, EVA02)),
    ("eva02_tiny_patch14_336", vit(336, 14, 192, 12, 3, EVA02)),
    ("eva_giant_patch14_224", vit(224, 14, 1408, 40, 16, EVA.mlp_ratio(4.363636363636363))),
    ("eva_giant_patch14_336", vit(336, 14, 1408, 40, 16, EVA.mlp_ratio(4.363636363636363))),
    ("eva_giant_patch14_560", vit(560, 14, 1408, 40, 16, EVA.mlp_ratio(4.363636363636363))),
    ("eva_giant_patch14_clip_224", vit(224, 14, 1408, 40, 16, EVA.token().mlp_ratio(4.363636363636363))),
    ("eva_large_patch14_196", vit(196, 14, 1024, 24, 16, BASE.avg())),
    ("eva_large_patch14_336", vit(336, 14, 1024, 24, 16, BASE.avg())),
    ("flexivit_base", vit(240, 16, 768, 12, 12, BASE.no_embed_class())),
    ("flexivit_large", vit(240, 16, 1024, 24, 16, BASE.no_embed_class())),
    ("flexivit_small", vit(240, 16, 384, 12, 6, BASE.no_embed_class())),
    ("test_vit", vit(160, 16, 64, 6, 2, BASE.mlp_ratio(3.0))),
    ("test_vit2", vit(160, 16, 64, 8, 2, GAP.mlp_ratio(3.0).scaled(1e-05).registers(1))),
    ("test_vit3", vit(160, 16, 96, 9, 3, SIGLIP.mlp_ratio(2.0).scaled(1e-05).registers(1).pool_include_prefix())),
    ("test_vit4", vit(160, 16, 96, 9, 3, GAP.mlp_ratio(3.0).scaled(1e-05).registers(1).rms_norm())),
    ("test_vit_relpos", vit(160, 16, 96, 9, 3, RELPOS.no_qkv_bias().mlp_ratio(2.0).fc_norm_on())),
    ("vit_7b_patch16_dinov3", vit(256, 16, 4096, 40, 32, DINOV3.swiglu(64).mlp_ratio(2.0))),
    ("vit_base_patch8_224", vit(224, 8, 768, 12, 12, BASE)),
    ("vit_base_patch14_dinov2", vit(518, 14, 768, 12, 12, DINOV2)),
    ("vit_base_patch14_reg1_tipsv2", vit(448, 14, 768, 12, 12, BASE.scaled(1.0).no_embed_class().registers(1))),
    ("vit_base_patch14_reg4_dinov2", vit(518, 14, 768, 12, 12, DINOV2.no_embed_class().registers(4))),
    ("vit_base_patch16_18x2_224", vit(224, 16, 768, 18, 12, DINOV2.parallel_things())),
    ("vit_base_patch16_224", vit(224, 16, 768, 12, 12, BASE)),
    ("vit_base_patch16_224_miil", vit(224, 16, 768, 12, 12, BASE.no_qkv_bias())),
    ("vit_base_patch16_384", vit(384, 16, 768, 12, 12, BASE)),
    ("vit_base_patch16_clip_224", vit(224, 16, 768, 12, 12, CLIP)),
    ("vit_base_patch16_clip_384", vit(384, 16, 768, 12, 12, CLIP)),
    ("vit_base_patch16_clip_quickgelu_224", vit(224, 16, 768, 12, 12, QUICK_CLIP)),
    ("vit_base_patch16_dinov3", vit(256, 16, 768, 12, 12, DINOV3)),
    ("vit_base_patch16_dinov3_qkvb", vit(256, 16, 768, 12, 12, DINOV3.qkv_bias())),
    ("vit_base_patch16_gap_224", vit(224, 16, 768, 12, 16, SIGLIP_GAP)),
    ("vit_base_patch16_lingbot", vit(512, 16, 768, 12, 12, DINOV3.qkv_bias().token())),
    ("vit_base_patch16_plus_240", vit(240, 16, 896, 12, 14, DINOV2)),
    ("vit_base_patch16_plus_clip_240", vit(240, 16, 896, 12, 14, CLIP)),
    ("vit_base_patch16_radio_v3", vit(512, 16, 768, 12, 12, RADIO.scaled(1e-5).registers(7))),
    ("vit_base_patch16_reg4_gap_256", vit(256, 16, 768, 12, 12, GAP.no_embed_class().registers(4))),
    ("vit_base_patch16_rope_224", vit(224, 16, 768, 12, 12, ROPE.fc_norm_off())),
    ("vit_base_patch16_rope_ape_224", vit(224, 16, 768, 12, 12, ROPE.learned().no_embed_class())),
    ("vit_base_patch16_rope_mixed_224", vit(224, 16, 768, 12, 12, ROPE.mixed())),
    ("vit_base_patch16_rope_mixed_ape_224", vit(224, 16, 768, 12, 12, ROPE.learned().mixed().no_embed_class())),
    ("vit_base_patch16_rope_reg1_gap_256", vit(256, 16, 768, 12, 12, ROPE_GAP.registers(1))),
    ("vit_base_patch16_rpn_224", vit(224, 16, 768, 12, 12, GAP.no_qkv_bias().scaled(1e-05).post_norm())),
    ("vit_base_patch16_siglip_224", vit(224, 16, 768, 12, 12, SIGLIP)),
    ("vit_base_patch16_siglip_256", vit(256, 16, 768, 12, 12, SIGLIP)),
    ("vit_base_patch16_siglip_384", vit(384, 16, 768, 12, 12, SIGLIP)),
    ("vit_base_patch16_siglip_512", vit(512, 16, 768, 12, 12, SIGLIP)),
    ("vit_base_patch16_siglip_gap_224", vit(224, 16, 768, 12, 12, SIGLIP_GAP)),
    ("vit_base_patch16_siglip_gap_256", vit(256, 16, 768, 12, 12, SIGLIP_GAP)),
    ("vit_base_patch16_siglip_gap_384", vit(384, 16, 768, 12, 12, SIGLIP_GAP)),
    ("vit_base_patch16_siglip_gap_512", vit(512, 16, 768, 12, 12, SIGLIP_GAP)),
    ("vit_base_patch16_xp_224", vit(224, 16, 768, 12, 12, XP)),
    ("vit_base_patch32_224", vit(224, 32, 768, 12, 12, BASE)),
    ("vit_base_patch32_384", vit(384, 32, 768, 12, 12, BASE)),
    ("vit_base_patch32_clip_224", vit(224, 32, 768, 12, 12, CLIP)),
    ("vit_base_patch32_clip_256", vit(256, 32, 768, 12, 12, CLIP)),
    ("vit_base_patch32_clip_384", vit(384, 32, 768, 12, 12, CLIP)),
    ("vit_base_patch32_clip_448", vit(448, 32, 768, 12, 12, CLIP)),
    ("vit_base_patch32_clip_quickgelu_224", vit(224, 32, 768, 12, 12, QUICK_CLIP)),
    ("vit_base_patch32_plus_256", vit(256, 32, 896, 12, 14, DINOV2)),
    ("vit_base_patch32_siglip_256", vit(256, 32, 768, 12, 12, SIGLIP.gelu_tanh())),
    ("vit_base_patch32_siglip_gap_256", vit(256, 32, 768, 12, 12, SIGLIP_GAP.gelu_tanh())),
    ("vit_base_r26_s32_224", vit(224, 1, 768, 12, 12, R26)),
    ("vit_base_r50_s16_224", vit(224, 1, 768, 12, 12, R50_S16)),
    ("vit_base_r50_s16_384", vit(384, 1, 768, 12, 12, R50_S16)),
    ("vit_betwixt_patch16_gap_256", vit(256, 16, 640, 12, 10, SIGLIP_GAP.no_qkv_bias().scaled(1e-06))),
    ("vit_betwixt_patch16_reg1_gap_256", vit(256, 16, 640, 12, 10, GAP.scaled(1e-05).no_embed_class().registers(1))),
    ("vit_betwixt_patch16_reg4_gap_256", vit(256, 16, 640, 12, 10, GAP.scaled(1e-05).no_embed_class().registers(4))),
    ("vit_betwixt_patch16_reg4_gap_384", vit(384, 16, 640, 12, 10, GAP.scaled(1e-05).no_embed_class().registers(4))),
    ("vit_betwixt_patch16_rope_reg4_gap_256", vit(256, 16, 640, 12, 10, ROPE_GAP.registers(4))),
    ("vit_betwixt_patch32_clip_224", vit(224, 32, 640, 12, 10, CLIP)),
    ("vit_dlittle_patch16_reg1_gap_256", vit(256, 16, 320, 14, 5, GAP.mlp_ratio(5.6).scaled(1e-05).no_embed_class().registers(1).diff())),
    ("vit_dpwee_patch16_reg1_gap_256", vit(256, 16, 256, 16, 4, GAP.mlp_ratio(5.0).scaled(1e-05).no_embed_class().registers(1).parallel_scaling().diff())),
    ("vit_dwee_patch16_reg1_gap_256", vit(256, 16, 256, 14, 4, GAP.mlp_ratio(5.0).scaled(1e-05).no_embed_class().registers(1).diff())),
    ("vit_giant_patch14_224", vit(224, 14, 1408, 40, 16, BASE.mlp_ratio(4.363636363636363))),
    ("vit_giant_patch14_clip_224", vit(224, 14, 1408, 40, 16, CLIP.mlp_ratio(4.363636363636363))),
    ("vit_giant_patch14_dinov2", vit(518, 14, 1536, 40, 24, DINOV2.swiglu(0).mlp_ratio(2.66667))),
    ("vit_giant_patch14_reg1_tipsv2", vit(448, 14, 1536, 40, 24, BASE.registers(1).scaled(1.0).swiglu(0).mlp_ratio(2.66667).no_embed_class())),
    ("vit_giant_patch14_reg4_dinov2", vit(518, 14, 1536, 40, 24, DINOV2.registers(4).swiglu(0).mlp_ratio(2.66667).no_embed_class())),
    ("vit_giant_patch16_gap_224", vit(224, 16, 1408, 40, 16, SIGLIP_GAP.mlp_ratio(4.363636363636363).no_head())),
    ("vit_giant_patch16_lingbot", vit(512, 16, 1536, 40, 24, DINOV3.token().swiglu(8).mlp_ratio(2.6666666666666665))),
    ("vit_giant_patch16_radio_v3", vit(512, 16, 1536, 40, 24, RADIO.registers(7))),
    ("vit_giantopt_patch16_siglip_256", vit(256, 16, 1536, 40, 16, SIGLIP.gelu_tanh())),
    ("vit_giantopt_patch16_siglip_384", vit(384, 16, 1536, 40, 16, SIGLIP.gelu_tanh())),
    ("vit_giantopt_patch16_siglip_gap_256", vit(256, 16, 1536, 40, 16, SIGLIP_GAP.gelu_tanh())),
    ("vit_giantopt_patch16_siglip_gap_384", vit(384, 16, 1536, 40, 16, SIGLIP_GAP.gelu_tanh())),
    ("vit_gigantic_patch14_224", vit(224, 14, 1664, 48, 16, BASE.mlp_ratio(4.923076923076923))),
    ("vit_gigantic_patch14_clip_224", vit(224, 14, 1664, 48, 16, CLIP.mlp_ratio(4.923076923076923))),
    ("vit_gigantic_patch14_clip_378", vit(378, 14, 1664, 48, 16, CLIP.mlp_ratio(4.923076923076923))),
    ("vit_gigantic_patch14_clip_quickgelu_224", vit(224, 14, 1664, 48, 16, QUICK_CLIP.mlp_ratio(4.923076923076923))),
    ("vit_huge_patch14_224", vit(224, 14, 1280, 32, 16, BASE)),
    ("vit_huge_patch14_clip_224", vit(224, 14, 1280, 32, 16, CLIP)),
    ("vit_huge_patch14_clip_336", vit(336, 14, 1280, 32, 16, CLIP)),
    ("vit_huge_patch14_clip_378", vit(378, 14, 1280, 32, 16, CLIP)),
    ("vit_huge_patch14_clip_quickgelu_224", vit(224, 14, 1280, 32, 16, QUICK_CLIP)),
    ("vit_huge_patch14_clip_quickgelu_378", vit(378, 14, 1280, 32, 16, QUICK_CLIP)),
    ("vit_huge_patch14_gap_224", vit(224, 14, 1280, 32, 16, SIGLIP_GAP.no_head())),
    ("vit_huge_patch14_xp_224", vit(224, 14, 1280, 32, 16, XP)),
    ("vit_huge_patch16_gap_448", vit(448, 16, 1280, 32, 16, SIGLIP_GAP.no_head())),
    ("vit_huge_plus_patch16_dinov3", vit(256, 16, 1280, 32, 20, DINOV3.swiglu(8))),
    ("vit_huge_plus_patch16_dinov3_qkvb", vit(256, 16, 1280, 32, 20, DINOV3.qkv_bias().swiglu(8))),
    ("vit_huge_patch16_radio_v3", vit(512, 16, 1280, 32, 16, RADIO.registers(7))),
    ("vit_huge_patch16_radio_v4", vit(512, 16, 1280, 32, 16, RADIO.registers(9))),
    ("vit_intern300m_patch14_448", vit(448, 14, 1024, 24, 16, BASE.scaled(0.1).no_final_norm())),
    ("vit_large_patch14_224", vit(224, 14, 1024, 24, 16, BASE)),
    ("vit_large_patch14_clip_224", vit(224, 14, 1024, 24, 16, CLIP)),
    ("vit_large_patch14_clip_336", vit(336, 14, 1024, 24, 16, CLIP)),
    ("vit_large_patch14_clip_quickgelu_224", vit(224, 14, 1024, 24, 16, QUICK_CLIP)),
    ("vit_large_patch14_clip_quickgelu_336", vit(336, 14, 1024, 24, 16, QUICK_CLIP)),
    ("vit_large_patch14_dinov2", vit(518, 14, 1024, 24, 16, DINOV2)),
    ("vit_large_patch14_reg1_tipsv2", vit(448, 14, 1024, 24, 16, BASE.scaled(1.0).no_embed_class().registers(1))),
    ("vit_large_patch14_reg4_dinov2", vit(518, 14, 1024, 24, 16, DINOV2.no_embed_class().registers(4))),
    ("vit_large_patch14_xp_224", vit(224, 14, 1024, 24, 16, XP)),
    ("vit_large_patch16_224", vit(224, 16, 1024, 24, 16, BASE)),
    ("vit_large_patch16_384", vit(384, 16, 1024, 24, 16, BASE)),
    ("vit_large_patch16_dinov3", vit(256, 16, 1024, 24, 16, DINOV3)),
    ("vit_large_patch16_dinov3_qkvb", vit(256, 16, 1024, 24, 16, DINOV3.qkv_bias())),
    ("vit_large_patch16_lingbot", vit(512, 16, 1024, 24, 16, DINOV3.qkv_bias().token())),
    ("vit_large_patch16_rope_224", vit(224, 16, 1024, 24, 16, ROPE)),
    ("vit_large_patch16_rope_ape_224", vit(224, 16, 1024, 24, 16, ROPE.learned().no_embed_class())),
    ("vit_large_patch16_rope_mixed_224", vit(224, 16, 1024, 24, 16, ROPE.mixed())),
    ("vit_large_patch16_rope_mixed_ape_224", vit(224, 16, 1024, 24, 16, ROPE.learned().mixed().no_embed_class())),
    ("vit_large_patch16_radio_v3", vit(512, 16, 1024, 24, 16, RADIO.scaled(1e-5).registers(7))),
    ("vit_large_patch16_siglip_256", vit(256, 16, 1024, 24, 16, SIGLIP)),
    ("vit_large_patch16_siglip_384", vit(384, 16, 1024, 24, 16, SIGLIP)),
    ("vit_large_patch16_siglip_512", vit(512, 16, 1024, 24, 16, SIGLIP.gelu_tanh())),
    ("vit_large_patch16_siglip_gap_256", vit(256, 16, 1024, 24, 16, SIGLIP_GAP)),
    ("vit_large_patch16_siglip_gap_384", vit(384, 16, 1024, 24, 16, SIGLIP_GAP)),
    ("vit_large_patch16_siglip_gap_512", vit(512, 16, 1024, 24, 16, SIGLIP_GAP.gelu_tanh())),
    ("vit_large_patch32_224", vit(224, 32, 1024, 24, 16, BASE)),
    ("vit_large_patch32_384", vit(384, 32, 1024, 24, 16, BASE)),
    ("vit_large_r50_s32_224", vit(224, 1, 1024, 24, 16, R50)),
    ("vit_large_r50_s32_384", vit(384, 1, 1024, 24, 16, R50)),
    ("vit_little_patch16_reg1_gap_256", vit(256, 16, 320, 14, 5, GAP.mlp_ratio(5.6).scaled(1e-05).no_embed_class().registers(1))),
    ("vit_little_patch16_reg4_gap_256", vit(256, 16, 320, 14, 5, GAP.mlp_ratio(5.6).scaled(1e-05).no_embed_class().registers(4))),
    ("vit_medium_patch16_clip_224", vit(224, 16, 512, 12, 8, CLIP)),
    ("vit_medium_patch16_gap_240", vit(240, 16, 512, 12, 8, SIGLIP_GAP.no_qkv_bias().scaled(1e-06))),
    ("vit_medium_patch16_gap_256", vit(256, 16, 512, 12, 8, SIGLIP_GAP.no_qkv_bias().scaled(1e-06))),
    ("vit_medium_patch16_gap_384", vit(384, 16, 512, 12, 8, SIGLIP_GAP.no_qkv_bias().scaled(1e-06))),
    ("vit_medium_patch16_reg1_gap_256", vit(256, 16, 512, 12, 8, GAP.scaled(1e-05).no_embed_class().registers(1))),
    ("vit_medium_patch16_reg4_gap_256", vit(256, 16, 512, 12, 8, GAP.scaled(1e-05).no_embed_class().registers(4))),
    ("vit_medium_patch16_rope_reg1_gap_256", vit(256, 16, 512, 12, 8, ROPE_GAP.registers(1))),
    ("vit_medium_patch32_clip_224", vit(224, 32, 512, 12, 8, CLIP)),
    ("vit_mediumd_patch16_reg4_gap_256", vit(256, 16, 512, 20, 8, GAP.scaled(1e-05).no_embed_class().registers(4))),
    ("vit_mediumd_patch16_reg4_gap_384", vit(384, 16, 512, 20, 8, GAP.scaled(1e-05).no_embed_class().registers(4))),
    ("vit_mediumd_patch16_rope_reg1_gap_256", vit(256, 16, 512, 20, 8, ROPE_GAP.no_qkv_bias().registers(1))),
    ("vit_pe_core_base_patch16_224", vit(224, 16, 768, 12, 12, PE.core().stretched(14))),
    ("vit_pe_core_gigantic_patch14_448", vit(448, 14, 1536, 50, 16, PE.core().no_offset().stretched(32).mlp_ratio(5.833333333333333).no_class())),
    ("vit_pe_core_large_patch14_336", vit(336, 14, 1024, 24, 16, PE.core().stretched(24))),
    ("vit_pe_core_small_patch16_384", vit(384, 16, 384, 12, 6, PE.core().stretched(24))),
    ("vit_pe_core_tiny_patch16_384", vit(384, 16, 192, 12, 3, PE.core().stretched(24))),
    ("vit_pe_lang_gigantic_patch14_448", vit(448, 14, 1536, 47, 16, PE.scaled(0.1).no_offset().stretched(32).mlp_ratio(5.833333333333333).no_class())),
    ("vit_pe_lang_large_patch14_448", vit(448, 14, 1024, 23, 16, PE.scaled(0.1).stretched(32))),
    ("vit_pe_spatial_base_patch16_512", vit(512, 16, 768, 12, 12, PE.stretched(32))),
    ("vit_pe_spatial_gigantic_patch14_448", vit(448, 14, 1536, 50, 16, PE.scaled(0.1).no_offset().stretched(32).mlp_ratio(5.833333333333333).no_class())),
    ("vit_pe_spatial_large_patch14_448", vit(448, 14, 1024, 24, 16, PE.stretched(32))),
    ("vit_pe_spatial_small_patch16_512", vit(512, 16, 384, 12, 6, PE.stretched(32))),
    ("vit_pe_spatial_tiny_patch16_512", vit(512, 16, 192, 12, 3, PE.stretched(32))),
    ("vit_pwee_patch16_reg1_gap_256", vit(256, 16, 256, 16, 4, GAP.mlp_ratio(5.0).scaled(1e-05).no_embed_class().registers(1).parallel_scaling())),
    ("vit_relpos_base_patch16_224", vit(224, 16, 768, 12, 12, RELPOS.no_qkv_bias().fc_norm_on())),
    ("vit_relpos_base_patch16_cls_224", vit(224, 16, 768, 12, 12, RELPOS.no_qkv_bias().class_token().token())),
    ("vit_relpos_base_patch16_clsgap_224", vit(224, 16, 768, 12, 12, RELPOS.no_qkv_bias().class_token().fc_norm_on())),
    ("vit_relpos_base_patch16_plus_240", vit(240, 16, 896, 12, 14, RELPOS)),
    ("vit_relpos_base_patch16_rpn_224", vit(224, 16, 768, 12, 12, RELPOS.no_qkv_bias().post_norm())),
    ("vit_relpos_base_patch32_plus_rpn_256", vit(256, 32, 896, 12, 14, RELPOS.post_norm())),
    ("vit_relpos_medium_patch16_224", vit(224, 16, 512, 12, 8, RELPOS.no_qkv_bias().fc_norm_on())),
    ("vit_relpos_medium_patch16_cls_224", vit(224, 16, 512, 12, 8, RELPOS.no_qkv_bias().class_token().token().rel_pos_dim(256))),
    ("vit_relpos_medium_patch16_rpn_224", vit(224, 16, 512, 12, 8, RELPOS.no_qkv_bias().post_norm())),
    ("vit_relpos_small_patch16_224", vit(224, 16, 384, 12, 6, RELPOS.no_qkv_bias().fc_norm_on())),
    ("vit_relpos_small_patch16_rpn_224", vit(224, 16, 384, 12, 6, RELPOS.no_qkv_bias().post_norm())),
    ("vit_small_patch8_224", vit(224, 8, 384, 12, 6, BASE)),
    ("vit_small_patch14_dinov2", vit(518, 14, 384, 12, 6, DINOV2)),
    ("vit_small_patch14_reg4_dinov2", vit(518, 14, 384, 12, 6, DINOV2.no_embed_class().registers(4))),
    ("vit_small_patch16_18x2_224", vit(224, 16, 384, 18, 6, DINOV2.parallel_things())),
    ("vit_small_patch16_36x1_224", vit(224, 16, 384, 36, 6, DINOV2)),
    ("vit_small_patch16_224", vit(224, 16, 384, 12, 6, BASE)),
    ("vit_small_patch16_384", vit(384, 16, 384, 12, 6, BASE)),
    ("vit_small_patch16_dinov3", vit(256, 16, 384, 12, 6, DINOV3)),
    ("vit_small_patch16_dinov3_qkvb", vit(256, 16, 384, 12, 6, DINOV3.qkv_bias())),
    ("vit_small_patch16_lingbot", vit(512, 16, 384, 12, 6, DINOV3.qkv_bias().token())),
    ("vit_small_patch16_rope_224", vit(224, 16, 384, 12, 6, ROPE)),
    ("vit_small_patch16_rope_ape_224", vit(224, 16, 384, 12, 6, ROPE.learned().no_embed_class())),
    ("vit_small_patch16_rope_mixed_224", vit(224, 16, 384, 12, 6, ROPE.mixed())),
    ("vit_small_patch16_rope_mixed_ape_224", vit(224, 16, 384, 12, 6, ROPE.learned().mixed().no_embed_class())),
    ("vit_small_patch32_224", vit(224, 32, 384, 12, 6, BASE)),
    ("vit_small_patch32_384", vit(384, 32, 384, 12, 6, BASE)),
    ("vit_small_plus_patch16_dinov3", vit(256, 16, 384, 12, 6, DINOV3.swiglu(8))),
    ("vit_small_plus_patch16_dinov3_qkvb", vit(256, 16, 384, 12, 6, DINOV3.qkv_bias().swiglu(8))),
    ("vit_small_r26_s32_224", vit(224, 1, 384, 12, 6, R26)),
    ("vit_small_r26_s32_384", vit(384, 1, 384, 12, 6, R26)),
    ("vit_so150m2_patch16_reg1_gap_256", vit(256, 16, 832, 21, 13, GAP.mlp_ratio(2.6153846153846154).no_qkv_bias().scaled(1e-05).registers(1))),
    ("vit_so150m2_patch16_reg1_gap_384", vit(384, 16, 832, 21, 13, GAP.mlp_ratio(2.6153846153846154).no_qkv_bias().scaled(1e-05).registers(1))),
    ("vit_so150m2_patch16_reg1_gap_448", vit(448, 16, 832, 21, 13, GAP.mlp_ratio(2.6153846153846154).no_qkv_bias().scaled(1e-05).registers(1))),
    ("vit_so150m_patch16_reg4_gap_256", vit(256, 16, 896, 18, 14, SIGLIP_GAP.mlp_ratio(2.572).registers(4))),
    ("vit_so150m_patch16_reg4_gap_384", vit(384, 16, 896, 18, 14, SIGLIP_GAP.mlp_ratio(2.572).registers(4))),
    ("vit_so150m_patch16_reg4_map_256", vit(256, 16, 896, 18, 14, SIGLIP.mlp_ratio(2.572).registers(4))),
    ("vit_so400m_patch14_reg1_tipsv2", vit(448, 14, 1152, 27, 16, BASE.mlp_ratio(3.736111111111111).scaled(1.0).no_embed_class().registers(1))),
    ("vit_so400m_patch14_siglip_224", vit(224, 14, 1152, 27, 16, SIGLIP.mlp_ratio(3.7362))),
    ("vit_so400m_patch14_siglip_378", vit(378, 14, 1152, 27, 16, SIGLIP.mlp_ratio(3.7362))),
    ("vit_so400m_patch14_siglip_384", vit(384, 14, 1152, 27, 16, SIGLIP.mlp_ratio(3.7362).trimmed())),
    ("vit_so400m_patch14_siglip_gap_224", vit(224, 14, 1152, 27, 16, SIGLIP_GAP.mlp_ratio(3.7362))),
    ("vit_so400m_patch14_siglip_gap_378", vit(378, 14, 1152, 27, 16, SIGLIP_GAP.mlp_ratio(3.7362))),
    ("vit_so400m_patch14_siglip_gap_384", vit(384, 14, 1152, 27, 16, SIGLIP_GAP.mlp_ratio(3.7362).trimmed())),
    ("vit_so400m_patch14_siglip_gap_448", vit(448, 14, 1152, 27, 16, SIGLIP_GAP.mlp_ratio(3.7362))),
    ("vit_so400m_patch14_siglip_gap_896", vit(896, 14, 1152, 27, 16, SIGLIP_GAP.mlp_ratio(3.7362))),
    ("vit_so400m_patch16_radio_v4", vit(512, 16, 1152, 27, 16, RADIO.mlp_ratio(3.736111111111111).registers(9))),
    ("vit_so400m_patch16_siglip_256", vit(256, 16, 1152, 27, 16, SIGLIP.mlp_ratio(3.7362).gelu_tanh())),
    ("vit_so400m_patch16_siglip_384", vit(384, 16, 1152, 27, 16, SIGLIP.mlp_ratio(3.7362).gelu_tanh())),
    ("vit_so400m_patch16_siglip_512", vit(512, 16, 1152, 27, 16, SIGLIP.mlp_ratio(3.7362).gelu_tanh())),
    ("vit_so400m_patch16_siglip_gap_256", vit(256, 16, 1152, 27, 16, SIGLIP_GAP.mlp_ratio(3.7362).gelu_tanh())),
    ("vit_so400m_patch16_siglip_gap_384", vit(384, 16, 1152, 27, 16, SIGLIP_GAP.mlp_ratio(3.7362).gelu_tanh())),
    ("vit_so400m_patch16_siglip_gap_512", vit(512, 16, 1152, 27, 16, SIGLIP_GAP.mlp_ratio(3.7362).gelu_tanh())),
    ("vit_srelpos_medium_patch16_224", vit(224, 16, 512, 12, 8, RELPOS.no_qkv_bias().shared_rel_pos(512))),
    ("vit_srelpos_small_patch16_224", vit(224, 16, 384, 12, 6, RELPOS.no_qkv_bias().shared_rel_pos(384))),
    ("vit_tiny_patch16_224", vit(224, 16, 192, 12, 3, BASE)),
    ("vit_tiny_patch16_384", vit(384, 16, 192, 12, 3, BASE)),
    ("vit_tiny_patch16_dinov3_qkvb", vit(256, 16, 192, 12, 3, DINOV3.qkv_bias())),
    ("vit_tiny_r_s16_p8_224", vit(224, 8, 192, 12, 3, R)),
    ("vit_tiny_r_s16_p8_384", vit(384, 8, 192, 12, 3, R)),
    ("vit_wee_patch16_reg1_gap_256", vit(256, 16, 256, 14, 4, GAP.mlp_ratio(5.0).scaled(1e-05).no_embed_class().registers(1))),
    ("vit_xsmall_patch16_clip_224", vit(224, 16, 256, 10, 4, CLIP)),
];
