//! The zoo's models that have the tensors of a file: what no shape tells is theirs, as far as they agree.

use tallow_models::vit::{GlobalPool, PosEmbed, RopeType};
use tallow_models::{Architecture, VitConfig, zoo};

use super::inferred::Told;

/// The models of the zoo that a file may be of, by name.
#[derive(Default)]
pub(super) struct Twins(Vec<(String, VitConfig)>);

impl Twins {
    /// Those that are built as `vit`, which was read off shapes; where some have its image size, only these.
    pub(super) fn of(vit: &VitConfig) -> Self {
        let mut twins: Vec<(String, VitConfig)> = zoo::list("*")
            .into_iter()
            .filter_map(|entry| match entry.architecture {
                Architecture::Vit(other) if built_alike(vit, &other) => Some((entry.name.to_owned(), other)),
                _ => None,
            })
            .collect();
        let of_this_size = |twin: &(String, VitConfig)| twin.1.img_size == vit.img_size;
        // Rotary positions say nothing of the size.
        if has_positions(vit) && twins.iter().any(of_this_size) {
            twins.retain(of_this_size);
        }
        Self(twins)
    }

    /// What all of them have there, if they agree.
    fn agreed<T: PartialEq>(&self, field: impl Fn(&VitConfig) -> T) -> Option<T> {
        let mut values = self.0.iter().map(|(_, twin)| field(twin));
        let first = values.next()?;
        values.all(|value| value == first).then_some(first)
    }

    /// Heads, as these have them.
    pub(super) fn num_heads(&self) -> Option<usize> {
        self.agreed(|twin| twin.num_heads)
    }

    /// Sets what no shape tells, and says whose it is.
    pub(super) fn apply(&self, vit: &mut VitConfig, told: &Told, notes: &mut Vec<String>) {
        let Some((name, _)) = self.0.first() else { return };
        let others = match self.0.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        notes.push(format!(
            "what shapes do not tell, such as {} attention heads, is as in the zoo's {name}{others}, whose tensors these are",
            vit.num_heads
        ));
        if let (Some(act), None) = (self.agreed(|twin| twin.act), told.act) {
            vit.act = act;
        }
        set(&mut vit.norm_eps, self.agreed(|twin| twin.norm_eps));
        set(&mut vit.use_post_norm, self.agreed(|twin| twin.use_post_norm));
        let pool = self.agreed(|twin| {
            let heads = (twin.attn_pool_num_heads, twin.attn_pool_mlp_ratio);
            (twin.global_pool, twin.uses_fc_norm(), twin.pool_include_prefix, heads)
        });
        if let Some((pool, fc_norm, include_prefix, (heads, mlp_ratio))) = pool {
            (vit.global_pool, vit.pool_include_prefix) = (pool, include_prefix);
            (vit.attn_pool_num_heads, vit.attn_pool_mlp_ratio) = (heads, mlp_ratio);
            vit.fc_norm = None;
            vit.fc_norm = (vit.uses_fc_norm() != fc_norm).then_some(fc_norm);
        }
        let rope = self.agreed(|twin| {
            let grid = (twin.rope_grid_offset, twin.rope_grid_indexing, twin.ref_feat_shape);
            (twin.rope_type, twin.rope_temperature, twin.rope_rotate_half, grid)
        });
        if let Some((kind, temperature, rotate_half, (offset, indexing, stretched))) = rope {
            (vit.rope_type, vit.rope_temperature, vit.rope_rotate_half) = (kind, temperature, rotate_half);
            (vit.rope_grid_offset, vit.rope_grid_indexing, vit.ref_feat_shape) = (offset, indexing, stretched);
        }
    }

    /// Whether they tell the activation of the MLP.
    pub(super) fn tell_act(&self) -> bool {
        self.agreed(|twin| twin.act).is_some()
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Whether tensors tell the size of the image.
fn has_positions(vit: &VitConfig) -> bool {
    vit.pos_embed != PosEmbed::None || vit.has_relative_tables()
}

/// Whether the two have the same parameters, images and classes aside.
fn built_alike(one: &VitConfig, other: &VitConfig) -> bool {
    let sizes = |vit: &VitConfig| (vit.embed_dim, vit.depth, vit.patch_size, vit.mlp_dim());
    let tokens = |vit: &VitConfig| {
        let apart = vit.no_embed_class && vit.num_prefix_tokens() > 0;
        (vit.class_token, vit.reg_tokens, vit.distilled, vit.pos_embed, apart)
    };
    let blocks = |vit: &VitConfig| (vit.block_fn, vit.attn_layer, vit.norm_layer, vit.proj_bias, vit.embed_norm);
    let norms = |vit: &VitConfig| {
        let scaled = vit.layer_scale().is_some() && !vit.use_post_norm;
        (vit.pre_norm, vit.final_norm, vit.uses_fc_norm(), scaled, vit.scale_attn_inner, vit.scale_mlp)
    };
    let attention = |vit: &VitConfig| {
        let biases = (vit.qkv_bias, vit.qkv_bias && vit.k_bias, vit.use_rel_pos_bias, vit.use_shared_rel_pos_bias);
        (biases, vit.rel_pos_dim, vit.qk_norm, vit.lsa, vit.rope_type == RopeType::Mixed)
    };
    let others = |vit: &VitConfig| {
        let pools = vit.global_pool == GlobalPool::Map;
        (pools, vit.swiglu_mlp, vit.spt, vit.norm_patches, vit.head_proj)
    };
    sizes(one) == sizes(other)
        && blocks(one) == blocks(other)
        && tokens(one) == tokens(other)
        && norms(one) == norms(other)
        && attention(one) == attention(other)
        && others(one) == others(other)
}
