//! What the shapes of a ViT's tensors say of its positions where they are not learned one by one: relative ones, whose tables tell
//! the grid and the heads, and rotary ones, of which most files keep nothing and which go by the family's convention.

use tallow_models::vit::{GlobalPool, GridIndexing, PosEmbed, RopeType};
use tallow_models::{ImgSize, VitConfig};

use crate::naming::{Naming, Translation};

/// What is told of positions.
pub(super) struct Positions {
    pub(super) rope_type: RopeType,
    pub(super) keys_without_bias: bool,
    pub(super) num_heads: Option<usize>,
    /// The side of a square grid of patches.
    pub(super) grid: Option<usize>,
    family: Family,
    learned: bool,
    relative: [bool; 2],
    /// Width of the MLP that a bias by relative positions comes from.
    rel_pos_dim: Option<usize>,
}

/// ViTs that have rotary positions, as far as their tensors tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    DinoV3,
    Eva02,
    /// Perception Encoder.
    Pe,
    /// Heo et al. 2024, with fixed or learned frequencies.
    RopeVit,
    /// timm's own, without a class token.
    Sbb,
    /// EVA-02-CLIP's largest, with norms behind attention and MLP.
    Enormous,
    None,
}

/// Reads it off the shapes by timm's names.
pub(super) fn read<'a>(shape: &impl Fn(&str) -> Option<&'a [usize]>, naming: Naming) -> Positions {
    let has = |name: &str| shape(name).is_some();
    let own = shape("blocks.0.attn.relative_position_bias_table");
    let shared = shape("rel_pos_bias.relative_position_bias_table");
    let table = own.or(shared);
    let own_mlp = shape("blocks.0.attn.rel_pos.mlp.fc2.weight");
    let mlp = own_mlp.or(shape("shared_rel_pos.mlp.fc2.weight"));
    let keys_without_bias = has("blocks.0.attn.q_bias");
    let plain = table.or(mlp).is_none() && naming != Naming::Jax;
    let gated = matches!(
        (shape("blocks.0.mlp.fc1.weight"), shape("blocks.0.mlp.fc2.weight")),
        (Some(&[rows, _]), Some(&[_, hidden])) if rows == 2 * hidden
    );
    let (positions, class, registers) = (has("pos_embed"), has("cls_token"), has("reg_token"));
    let keyless = keys_without_bias || !has("blocks.0.attn.qkv.bias");
    let family = match (positions, class, registers) {
        _ if has("rope.freqs") => Family::RopeVit,
        _ if !plain || !has("blocks.0.norm1.weight") => Family::None,
        (false, true, true) => Family::DinoV3,
        (false, true, false) if naming == Naming::HuggingFace => Family::DinoV3,
        (false, true, false) => Family::RopeVit,
        (false, false, _) => Family::Sbb,
        (true, ..) if has("norm_pre.weight") && (has("attn_pool.latent") || !has("norm.weight")) => Family::Pe,
        (true, true, false) if gated && keyless && naming == Naming::Timm => Family::Eva02,
        (true, true, false) if keyless && shape("cls_token").and_then(|shape| shape.last()) == Some(&1792) => {
            Family::Enormous
        }
        _ => Family::None,
    };
    Positions {
        rope_type: match family {
            Family::DinoV3 => RopeType::DinoV3,
            Family::RopeVit if has("rope.freqs") => RopeType::Mixed,
            Family::None | Family::Enormous => RopeType::None,
            _ => RopeType::Cat,
        },
        keys_without_bias: keys_without_bias || matches!(family, Family::Eva02 | Family::Sbb) && keyless,
        num_heads: match (table, shape("rope.freqs")) {
            _ if mlp.is_some() => mlp.and_then(|shape| shape.first().copied()),
            (Some(&[_, heads]), _) | (None, Some(&[_, _, heads, _])) => Some(heads),
            _ => None,
        },
        grid: table.and_then(|table| side(*table.first()?)),
        family,
        learned: positions,
        relative: [own.or(own_mlp).is_some(), shared.is_some() || mlp.is_some() && own_mlp.is_none()],
        rel_pos_dim: mlp.and_then(|shape| shape.get(1).copied()),
    }
}

/// The side of the square grid whose patches lie to each other in so many ways, with the class token's three.
fn side(distances: usize) -> Option<usize> {
    let ways = distances.checked_sub(3)?;
    let root = ways.isqrt();
    (root * root == ways && root % 2 == 1).then_some(root.div_ceil(2))
}

impl Positions {
    /// Whether no tensor tells the grid because none depends on it.
    pub(super) fn fit_any_size(&self) -> bool {
        self.rope_type != RopeType::None || self.rel_pos_dim.is_some()
    }

    /// Rows of patches where no tensor tells them: those of 224 pixels, as far as every pair of patches can have a bias.
    pub(super) fn usual_grid(&self, patch_size: usize) -> usize {
        let most = if self.rel_pos_dim.is_some() { 64 } else { usize::MAX };
        224usize.div_ceil(patch_size).min(most)
    }

    /// Sets what is known of them, and says what was assumed.
    pub(super) fn apply(&self, vit: &mut VitConfig, translation: &Translation, notes: &mut Vec<String>) {
        let Self { rope_type, family, learned, relative, .. } = *self;
        if !learned {
            vit.pos_embed = PosEmbed::None;
        }
        [vit.use_rel_pos_bias, vit.use_shared_rel_pos_bias] = relative;
        vit.rope_type = rope_type;
        if self.rel_pos_dim.is_some() {
            // Where norms come last, they take the place of LayerScale.
            (vit.rel_pos_dim, vit.use_post_norm) = (self.rel_pos_dim, vit.init_values.is_none());
        }
        let what = match family {
            Family::None => return,
            Family::DinoV3 => {
                (vit.rope_temperature, vit.rope_rotate_half, vit.norm_eps) = (100., true, 1e-5);
                // timm's pool; the authors' own files and Hugging Face's take the class token.
                if translation.naming == Naming::Timm && !translation.is_metas_dinov3() {
                    (vit.global_pool, vit.fc_norm) = (GlobalPool::Avg, Some(false));
                }
                "DINOv3's"
            }
            Family::Eva02 | Family::Sbb => {
                vit.ref_feat_shape = Some(ImgSize::square(16));
                if family == Family::Eva02 {
                    "EVA-02's, stretched onto 16×16 patches"
                } else {
                    "those of timm's own ViTs"
                }
            }
            Family::Pe => {
                (vit.rope_grid_indexing, vit.rope_grid_offset) =
                    (GridIndexing::Xy, if vit.class_token { 1. } else { 0. });
                vit.ref_feat_shape = Some(vit.grid_size().into());
                if vit.global_pool == GlobalPool::Map {
                    (vit.attn_pool_num_heads, vit.attn_pool_mlp_ratio) = (Some(8), Some(4.));
                    vit.pool_include_prefix = true;
                } else {
                    (vit.global_pool, vit.fc_norm) = (GlobalPool::Avg, Some(false));
                }
                "Perception Encoder's"
            }
            Family::RopeVit => {
                vit.rope_grid_indexing = GridIndexing::Xy;
                vit.rope_temperature = if rope_type == RopeType::Mixed { 10. } else { 100. };
                "those of RoPE-ViT"
            }
            Family::Enormous => {
                vit.use_post_norm = true;
                notes.push("norms behind attention and MLP were assumed, as in EVA-02-CLIP-E".into());
                return;
            }
        };
        notes.push(format!(
            "rotary positions were assumed to be {what}: shapes do not tell; `arch = NAME` says otherwise"
        ));
    }
}
