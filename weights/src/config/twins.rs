//! The zoo's models that have the tensors of a file: what no shape tells is theirs, as far as they agree.

use tallow_models::vit::{GlobalPool, PosEmbed, RopeType};
use tallow_models::{Architecture, ImgSize, VitConfig, zoo};

use super::inferred::Told;
use crate::naming::Translation;
use crate::{Error, Result};

/// The models of the zoo that a file may be of, by name.
#[derive(Default)]
pub(super) struct Twins(Vec<(String, VitConfig)>);

impl Twins {
    /// Those that are built as `vit`, which was read off shapes. Where the file's name holds the names of some, only the longest of
    /// these; where some have the rows of patches that positions tell, only these.
    pub(super) fn of(vit: &VitConfig, origin: &str, translation: &Translation) -> Self {
        let mut twins: Vec<(String, VitConfig)> = zoo::list("*")
            .into_iter()
            .filter_map(|entry| match entry.architecture {
                Architecture::Vit(other) if built_alike(vit, &other) => Some((entry.name.to_owned(), other)),
                _ => None,
            })
            .collect();
        if vit.layer_scale().is_some() && !vit.use_post_norm {
            // timm's classes Eva and Beit have it, and the authors' files of DeiT-III.
            let gammas = |(name, twin): &(String, VitConfig)| {
                twin.is_eva_or_beit() == translation.gammas || translation.gammas && name.starts_with("deit3")
            };
            twins.retain(gammas);
        }
        let origin = origin.to_lowercase();
        let said = |(name, _): &(String, VitConfig)| if origin.contains(name) { name.len() } else { 0 };
        if let Some(longest) = twins.iter().map(said).max().filter(|&length| length > 0) {
            twins.retain(|twin| said(twin) == longest);
        }
        let of_this_size = |(_, twin): &(String, VitConfig)| twin.grid_size() == vit.grid_size();
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

    /// The image size as these have it, where positions leave it open; what they leave open is said.
    pub(super) fn img_size(&self, vit: &VitConfig, notes: &mut Vec<String>) -> ImgSize {
        let open = |twin: &VitConfig| !has_positions(vit) || twin.grid_size() == vit.grid_size();
        if let Some(size) = self.agreed(|twin| open(twin).then_some(twin.img_size)).flatten() {
            return size;
        }
        let other = self.0.iter().find(|(_, twin)| has_positions(vit) && open(twin) && twin.img_size != vit.img_size);
        notes.extend(other.map(|(name, twin)| {
            format!(
                "images of {} pixels were assumed: {name} has the same tensors and reads {} (`arch = {name}`)",
                vit.img_size, twin.img_size
            )
        }));
        vit.img_size
    }

    /// The name of the only one.
    pub(super) fn only(&self) -> Option<&str> {
        let [(name, _)] = self.0.as_slice() else { return None };
        Some(name)
    }

    /// Refuses to choose between those that compute different things of the same tensors. What is `known` of heads and pool is told
    /// by other means.
    pub(super) fn check(&self, origin: &str, told: &Told, known: Known) -> Result<()> {
        let heads = |twin: &VitConfig| format!("num_heads = {}", twin.num_heads);
        let act = |twin: &VitConfig| format!("act = {}", twin.act.in_words());
        let norms = |twin: &VitConfig| format!("norms {}", if twin.use_post_norm { "behind" } else { "in front" });
        let pool = |twin: &VitConfig| format!("global_pool = {}", pool_in_words(twin));
        let rope = |twin: &VitConfig| format!("rope_type = {}", rope_in_words(twin));
        type Aspect<'a> = (bool, &'a dyn Fn(&VitConfig) -> String, &'a str);
        let aspects: [Aspect; 5] = [
            (known.heads, &heads, " or `set num_heads=N`"),
            (told.act.is_some(), &act, " or `set act=NAME`"),
            (false, &norms, ""),
            (known.pool, &pool, ""),
            (false, &rope, ""),
        ];
        for (_, aspect, setting) in aspects.into_iter().filter(|(known, ..)| !known) {
            let mut kinds: Vec<(String, Vec<&str>)> = Vec::new();
            for (name, twin) in &self.0 {
                let kind = aspect(twin);
                match kinds.iter_mut().find(|(other, _)| *other == kind) {
                    Some((_, names)) => names.push(name),
                    None => kinds.push((kind, vec![name])),
                }
            }
            if kinds.len() > 1 {
                let kinds: Vec<String> = kinds.iter().map(|(kind, names)| format!("{kind}: {}", some(names))).collect();
                let got =
                    format!("weights alone, whose tensors are those of models that differ ({})", kinds.join("; "));
                let expected =
                    format!("a config.json beside the weights, the model that they belong to (`arch = NAME`){setting}");
                return Err(Error::format(origin, expected, got));
            }
        }
        Ok(())
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

/// What is known though no shape tells it.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) heads: bool,
    pub(super) pool: bool,
}

/// The first names of some, and how many more there are.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 3;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

fn pool_in_words(vit: &VitConfig) -> String {
    let heads = vit.attn_pool_num_heads.map_or(String::new(), |heads| format!(" of {heads} heads"));
    let prefix = if vit.pool_include_prefix { " of all tokens" } else { "" };
    let norm = if vit.uses_fc_norm() { ", then the norm" } else { "" };
    format!("{}{heads}{prefix}{norm}", serde_json::json!(vit.global_pool).as_str().unwrap_or("none"))
}

fn rope_in_words(vit: &VitConfig) -> String {
    if vit.rope_type == RopeType::None {
        return "none".into();
    }
    let kind = serde_json::json!(vit.rope_type);
    let kind = kind.as_str().unwrap_or_default();
    let stretched = vit.ref_feat_shape.map_or(String::new(), |size| format!(", ref_feat_shape = {size}"));
    format!(
        "{kind}, rope_temperature = {}, rope_grid_indexing = {:?}, rope_grid_offset = {}{stretched}",
        vit.rope_temperature, vit.rope_grid_indexing, vit.rope_grid_offset
    )
}

/// Whether tensors tell the size of the image.
fn has_positions(vit: &VitConfig) -> bool {
    vit.pos_embed != PosEmbed::None || vit.has_relative_tables()
}

/// Whether the two have the same parameters, images and classes aside.
fn built_alike(one: &VitConfig, other: &VitConfig) -> bool {
    let stem = |vit: &VitConfig| vit.stem_layers.map(|layers| (layers, vit.stem_width));
    let sizes = |vit: &VitConfig| (vit.embed_dim, vit.depth, vit.patch_size, vit.mlp_dim(), stem(vit));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorInfo;

    /// What is read of the tensors of a model of the zoo, named as timm names them, in a file of this name.
    fn read_back(entry: &zoo::Entry, file: &str) -> Result<(VitConfig, Option<String>, Vec<String>)> {
        let Architecture::Vit(vit) = &entry.architecture else { panic!("a ViT") };
        let specs = entry.architecture.parameters()?;
        let of_eva = |name: String| match vit.is_eva_or_beit() && vit.rel_pos_dim.is_none() {
            true => name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"),
            false => name,
        };
        let info = |spec: tallow_models::ParamSpec| TensorInfo {
            name: of_eva(spec.name),
            shape: spec.shape,
            dtype: "F32".into(),
        };
        let infos: Vec<TensorInfo> = specs.into_iter().map(info).collect();
        let selection = crate::selection::select(file, &infos, &[], &Default::default())?;
        let translation = crate::naming::translate(file, &infos, selection.network.as_ref(), None)?;
        let (config, notes) = crate::config::infer(file, &translation, &Told::default(), Default::default())?;
        let Architecture::Vit(got) = config.architecture else { panic!("a ViT") };
        Ok((got, config.name, notes))
    }

    /// What no shape tells, but for the image size.
    fn untold(vit: &VitConfig) -> [String; 3] {
        let others = (vit.num_heads, vit.act, vit.norm_eps.to_bits(), vit.use_post_norm);
        [format!("{others:?}"), pool_in_words(vit), rope_in_words(vit)]
    }

    #[test]
    fn the_tensors_of_every_model_of_the_zoo_tell_it_or_are_refused_with_the_names_of_those_that_they_may_be() {
        let mut refused = Vec::new();
        for entry in zoo::list("*") {
            let Architecture::Vit(vit) = &entry.architecture else { continue };
            match read_back(&entry, "weights.safetensors") {
                Ok((got, _, notes)) => {
                    assert_eq!(untold(&got), untold(vit), "{}: {notes:?}", entry.name);
                    let told = notes.iter().any(|note| note.contains("images of") || note.contains("images it"));
                    assert!(got.img_size == vit.img_size || told, "{}: {notes:?}", entry.name);
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(error.contains("those of models that differ"), "{}: {error}", entry.name);
                    refused.push(entry.name);
                }
            }
            // A file of its name tells it.
            let (got, _, _) = read_back(&entry, &format!("/models/{}.tag/model.safetensors", entry.name)).unwrap();
            assert_eq!(untold(&got), untold(vit), "{}", entry.name);
        }
        println!("{refused:?}");
    }

    #[test]
    fn a_flexivit_is_known_by_its_tensors() {
        let entry = zoo::find("flexivit_small").unwrap();
        assert_eq!(read_back(&entry, "weights.safetensors").unwrap().1.as_deref(), Some("flexivit_small"));
    }
}
