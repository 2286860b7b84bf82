//! Whose names a checkpoint uses, and what they are in timm's.
//!
//! A naming is told by the name of the patch embedding, which every ViT has; what stands before it (`teacher.backbone.`, `vit.`,
//! `params/img/`, …) is a prefix, and what stands beside it under that or a shorter prefix may be its classifier.

pub(crate) mod around;
mod clip;
mod hugging_face;
mod jax;
mod mmpretrain;
mod network;
mod open_clip;
mod text;
mod timm;
mod torchvision;
mod vit_pytorch;

use std::collections::{HashMap, HashSet};

use candle_core::{D, Tensor};
use tallow_models::ParamSpec;

use crate::format::TensorInfo;
use crate::{Error, Result};
use around::Around;

pub(crate) use network::{Network, Wrappers, words};
pub(crate) use text::{TextFate, TextNaming, TextNetwork, networks as text_networks};

/// The known namings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// timm's, which the original DINO, DINOv2, DeiT and MAE share.
    Timm,
    /// Hugging Face transformers' ViT, DeiT, ViT-MAE and DINOv2, in the names of version 4 and 5.
    HuggingFace,
    /// Hugging Face transformers' CLIP and SigLIP.
    Clip,
    /// OpenAI's CLIP and open_clip, where the tower is their own and not timm's.
    OpenClip,
    /// torchvision's, and those of SWAG's repository.
    Torchvision,
    /// mmpretrain's, mmcls' and mmseg's.
    MmPretrain,
    /// vit-pytorch's.
    VitPytorch,
    /// The original ViT repository's and Big Vision's, in JAX.
    Jax,
    /// Names that are no ViT's: taken as they are.
    Plain,
}

impl std::fmt::Display for Naming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Timm => "timm's",
            Self::HuggingFace => "Hugging Face's",
            Self::Clip => "Hugging Face's (CLIP, SigLIP)",
            Self::OpenClip => "open_clip's",
            Self::Torchvision => "torchvision's",
            Self::MmPretrain => "mmpretrain's",
            Self::VitPytorch => "vit-pytorch's",
            Self::Jax => "the original ViT's (JAX)",
            Self::Plain => "Tallow's own",
        })
    }
}

/// How a tensor in timm's naming is made of tensors of the checkpoint: its parts, one below the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mapped {
    /// timm's name.
    pub(crate) name: String,
    pub(crate) parts: Vec<Part>,
    /// The shape of what is made.
    pub(crate) shape: Vec<usize>,
}

/// One tensor of the checkpoint, rearranged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// The position in the checkpoint.
    pub(crate) index: usize,
    /// Which one of a stack over layers (Big Vision's scanned blocks).
    pub(crate) layer: Option<usize>,
    pub(crate) turn: Turn,
}

/// Rearrangements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Same,
    /// `[in, out]` → `[out, in]`
    Transposed,
    /// `[height, width, in, out]` → `[out, in, height, width]`
    ConvKernel,
    /// `[in, heads, width]` → `[heads * width, in]`
    FromHeads,
    /// `[heads, width, out]` → `[out, heads * width]`
    ToHeads,
    /// To one dimension.
    Flat,
    /// `[dim]` → `[1, 1, dim]`, `[n, dim]` and `[n, 1, dim]` → `[1, n, dim]`
    Batched,
    /// Values of a patch, pixel by pixel, to channel by channel: `[size * size * channels]`
    Pixels,
    /// The same of kernels: `[out, size * size * channels]` → `[out, channels, size, size]`
    KernelOfPixels,
    /// Of queries, keys and values, the queries: `[3 * dim, …]` → `[dim, …]`
    Queries,
    /// Of queries, keys and values, the keys and values: `[3 * dim, …]` → `[2 * dim, …]`
    KeysAndValues,
    /// The rows of this part of three: queries, keys, values.
    Third(usize),
    /// The rows of this part of two: gate, values.
    Half(usize),
    /// Positions without the class token's: `[1, 1 + n, dim]` → `[1, n, dim]`
    WithoutFirst,
    /// The class token with its position, which is the first of the tensor at this place, added.
    PlusFirstOf(usize),
}

/// A checkpoint in timm's names.
#[derive(Debug)]
pub(crate) struct Translation {
    pub(crate) naming: Naming,
    pub(crate) mapped: Vec<Mapped>,
    /// Tensors of the checkpoint that no model of ours has a place for, and why.
    pub(crate) left_out: Vec<(usize, String)>,
    /// Those of them that are only known to lie outside of the ViT.
    pub(crate) outside: Vec<usize>,
    /// Whether the head is the projection into a space that images share with texts, and no classifier.
    pub(crate) projects: bool,
    /// Whether the file holds the three numbers that OpenAI's own files of CLIP have beside the towers.
    pub(crate) is_openai: bool,
    /// The periods of rotary positions that lie beside the weights: where, and how many.
    pub(crate) periods: Option<(usize, usize)>,
    /// Whether registers are `storage_tokens`, as the authors of DINOv3 call them.
    pub(crate) storage_tokens: bool,
    /// Whether LayerScale is `gamma_1`, and not `ls1.gamma`, in timm's names.
    pub(crate) gammas: bool,
    /// What a reader should know.
    pub(crate) notes: Vec<String>,
}

/// What becomes of one tensor.
enum Fate {
    /// It is the tensor of this name.
    Is(String),
    /// It is all of these, each turned.
    Turned(Vec<(String, Turn)>),
    /// It is this part of the rows of the tensor of this name.
    Rows(String, usize),
    /// It is left out, and why.
    Out(&'static str),
}

impl Translation {
    fn new(naming: Naming) -> Self {
        Self {
            naming,
            mapped: Vec::new(),
            left_out: Vec::new(),
            outside: Vec::new(),
            projects: false,
            is_openai: false,
            periods: None,
            storage_tokens: false,
            gammas: false,
            notes: Vec::new(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Mapped> {
        self.mapped.iter().find(|mapped| mapped.name == name)
    }

    /// Whether it is a DINOv3 of its authors' own files, which have periods of rotary positions beside the weights or registers of another name.
    pub(crate) fn is_metas_dinov3(&self) -> bool {
        self.periods.is_some() || self.storage_tokens
    }

    /// The width of a head, where periods tell it: each turns a pair of values by rows and one by columns.
    pub(crate) fn head_dim(&self) -> Option<usize> {
        self.periods.map(|(_, count)| 4 * count)
    }
}

/// Translates the tensors of a checkpoint in which `network` was chosen; none means that no tensor is a ViT's. `classes` is how
/// many the config says.
///
/// # Errors
/// If two tensors would get the same name, or q, k and v are not all there.
pub(crate) fn translate(
    origin: &str,
    infos: &[TensorInfo],
    network: Option<&Network>,
    classes: Option<usize>,
) -> Result<Translation> {
    let Some(network) = network else { return Ok(plain(infos)) };
    let naming = network.naming;
    let mut translation = Translation::new(naming);
    let names: Vec<String> = infos.iter().map(|info| network.wrappers.without(&info.name)).collect();
    let (mut inside, mut around) = (Vec::new(), Around::new(infos, naming, &network.prefix));
    // transformers 5 writes the blocks of a ViT-MSN that classifies beside the rest of it, without a prefix.
    let is_block = |name: &str| naming == Naming::HuggingFace && naming.block_of(name).is_some();
    let strays = !names.iter().any(|name| name.strip_prefix(network.prefix.as_str()).is_some_and(is_block));
    let mut width = 0;
    for (index, name) in names.iter().enumerate() {
        let info = &infos[index];
        // Without a class token, vit-pytorch has one of no values.
        if naming == Naming::VitPytorch && info.shape.contains(&0) {
            translation.left_out.push((index, "it has no values".into()));
            continue;
        }
        if let Some(other) = network.owner(name) {
            translation.left_out.push((index, around::another(other)));
            continue;
        }
        match name.strip_prefix(network.prefix.as_str()) {
            // transformers writes the registers of a model that has none.
            Some("embeddings.register_tokens") if info.shape.contains(&0) => {
                translation.left_out.push((index, "registers, of which there are none".into()));
            }
            Some(rest)
                if naming.knows(rest) || around::could_be_of_the_vit(rest, info) && naming.head_of(rest).is_none() =>
            {
                inside.push((index, rest));
                if let ("rope_embed.periods", &[periods]) = (rest, info.shape.as_slice()) {
                    translation.periods = Some((index, periods));
                }
                translation.storage_tokens |= rest == "storage_tokens";
                translation.gammas |= naming == Naming::Timm && rest.ends_with(".gamma_1");
                if anchor(name, &info.shape).is_some() {
                    width = info.shape[0];
                }
            }
            None if strays && is_block(name) => inside.push((index, name)),
            _ => around.add(index, name),
        }
    }
    // open_clip's projection is a tensor of the tower itself.
    let projected = naming == Naming::OpenClip && inside.iter().any(|(_, name)| *name == "proj");
    let settled = around.settle(width, classes, projected);
    translation.projects = projected || settled.projects;
    let has = |number: &str| names.iter().any(|name| name.rsplit('.').next() == Some(number));
    translation.is_openai = ["input_resolution", "context_length", "vocab_size"].into_iter().all(has);
    match naming {
        Naming::Timm => assemble(origin, infos, &inside, timm::fate, &mut translation)?,
        Naming::Clip => assemble(origin, infos, &inside, clip::fate, &mut translation)?,
        Naming::OpenClip => assemble(origin, infos, &inside, open_clip::fate, &mut translation)?,
        Naming::Torchvision => assemble(origin, infos, &inside, torchvision::fate, &mut translation)?,
        Naming::MmPretrain => assemble(origin, infos, &inside, mmpretrain::fate, &mut translation)?,
        Naming::HuggingFace => {
            // DeiT without the distillation head: its second token is an extra token as any register.
            let distilled = settled.heads.iter().any(|(name, _)| name.starts_with("head_dist."));
            assemble(origin, infos, &inside, |name| Ok(hugging_face::fate(name, distilled)), &mut translation)?;
        }
        Naming::VitPytorch => assemble(origin, infos, &inside, vit_pytorch::fate, &mut translation)?,
        Naming::Jax => jax::assemble(origin, infos, &inside, &mut translation)?,
        Naming::Plain => {}
    }
    let heads = settled.heads.into_iter();
    translation.mapped.extend(heads.map(|(name, index)| Mapped::whole(name, index, &infos[index])));
    translation.outside.extend(settled.out.iter().map(|(index, _)| *index));
    translation.left_out.extend(settled.out);
    translation.notes.extend(settled.notes);
    if naming != Naming::Jax {
        positions_without_class(infos, &mut translation);
        bias_without_keys(&inside, &mut translation);
    }
    let mut seen = HashSet::new();
    if let Some(twice) = translation.mapped.iter().find(|mapped| !seen.insert(mapped.name.as_str())) {
        return Err(Error::format(origin, "names that are unique", format!("two tensors for {}", twice.name)));
    }
    Ok(translation)
}

/// The naming of a ViT whose patch embedding this tensor is (of open_clip's, whose class token), and what stands before its names.
pub(crate) fn anchor<'a>(name: &'a str, shape: &[usize]) -> Option<(Naming, &'a str)> {
    const ANCHORS: [(&str, Naming, &[usize]); 9] = [
        // Patches may come from a linear layer, and a text's embedding is no convolution.
        ("patch_embed.proj.weight", Naming::Timm, &[2, 4]),
        ("embeddings.patch_embeddings.projection.weight", Naming::HuggingFace, &[4]),
        ("embeddings.patch_embeddings.weight", Naming::HuggingFace, &[4]),
        ("embeddings.patch_embedding.weight", Naming::Clip, &[4]),
        // CLIP's ResNets begin with a `conv1`, too, and have no class token.
        ("class_embedding", Naming::OpenClip, &[1]),
        ("conv_proj.weight", Naming::Torchvision, &[4]),
        ("patch_embed.projection.weight", Naming::MmPretrain, &[4]),
        // Behind a norm of the patches.
        ("to_patch_embedding.2.weight", Naming::VitPytorch, &[2]),
        ("embedding/kernel", Naming::Jax, &[4]),
    ];
    ANCHORS.iter().find_map(|(anchor, naming, dims)| {
        let prefix = name.strip_suffix(anchor).filter(|prefix| prefix.is_empty() || prefix.ends_with(['.', '/']))?;
        let other = *naming == Naming::OpenClip && prefix.ends_with("embeddings.");
        (dims.contains(&shape.len()) && !other).then_some((*naming, prefix))
    })
}

impl Naming {
    /// Whether a name, its prefix removed, is one of the ViT's own, the head aside.
    fn knows(self, name: &str) -> bool {
        const TIMM: &str = "cls_token pos_embed reg_token register_tokens dist_token mask_token masked_embed patch_embed norm_pre \
                            blocks norm fc_norm attn_pool pre_logits head_proj storage_tokens rope rope_embed rel_pos_bias shared_rel_pos \
                            local_cls_norm";
        const HUGGING_FACE: &str =
            "embeddings encoder layers layer layernorm norm pooler rope_embeddings shared_position_bias";
        let first = name.split('.').next().unwrap_or(name);
        let among = |list: &str| list.split(' ').any(|known| known == first);
        match self {
            Self::Timm => among(TIMM),
            Self::HuggingFace => among(HUGGING_FACE) || name.starts_with("model.layer."),
            Self::Clip => among(clip::MODULES),
            Self::OpenClip => among(open_clip::MODULES),
            Self::Torchvision => among(torchvision::MODULES),
            Self::MmPretrain => among(mmpretrain::MODULES),
            Self::VitPytorch => among(vit_pytorch::MODULES),
            Self::Jax | Self::Plain => true,
        }
    }

    /// timm's name of the head that a module of this name is.
    pub(crate) fn head(self, module: &str) -> Option<&'static str> {
        match (self, module) {
            (Self::Timm, "head")
            | (Self::HuggingFace, "classifier" | "cls_classifier")
            | (Self::Clip, clip::PROJECTION | "classifier")
            | (Self::Torchvision, "heads" | "head")
            | (Self::MmPretrain, "head" | "head.layers.head")
            | (Self::VitPytorch, "mlp_head") => Some("head"),
            (Self::Timm, "head_dist")
            | (Self::HuggingFace, "distillation_classifier")
            | (Self::MmPretrain, "head.layers.head_dist") => Some("head_dist"),
            _ => None,
        }
    }

    /// Whether a head of this name projects into a space that images share with texts, and is no classifier.
    pub(crate) fn projects(self, module: &str) -> bool {
        self == Self::Clip && module == clip::PROJECTION
    }

    /// The same as [`Naming::head`] for a tensor, its prefix removed.
    pub(crate) fn head_of(self, name: &str) -> Option<&'static str> {
        self.head(self.module_of(name).0)
    }

    /// The module that a tensor belongs to, and what it is called inside of that.
    pub(crate) fn module_of(self, name: &str) -> (&str, &str) {
        // mmpretrain's heads are lists of layers.
        let list = if self == Self::MmPretrain && name.starts_with("head.layers.") { "head.layers.".len() } else { 0 };
        match name[list..].find('.') {
            Some(dot) => (&name[..list + dot], &name[list + dot + 1..]),
            None => (name, ""),
        }
    }

    /// The number of the block that a tensor belongs to.
    pub(crate) fn block_of(self, name: &str) -> Option<usize> {
        let number = match self {
            Self::Timm => {
                let mut parts = name.strip_prefix("blocks.")?.split('.');
                let first = parts.next()?.parse().ok()?;
                // DINOv2 numbers blocks in chunks.
                return Some(parts.next().and_then(|second| second.parse().ok()).unwrap_or(first));
            }
            Self::HuggingFace | Self::Clip => hugging_face::block_of(name)?.0,
            Self::OpenClip => open_clip::block_of(name)?.0,
            Self::Torchvision => torchvision::block_of(name)?.0,
            Self::MmPretrain => mmpretrain::block_of(name)?.0,
            Self::VitPytorch => vit_pytorch::block_of(name)?.0,
            Self::Jax => name.strip_prefix("Transformer/encoderblock_")?.split('/').next()?,
            Self::Plain => return None,
        };
        number.parse().ok()
    }

    /// Whether positions that fall together are averaged where they are resampled, as all but transformers and mmpretrain do.
    pub(crate) fn antialiases(self) -> bool {
        !matches!(self, Self::HuggingFace | Self::Clip | Self::MmPretrain)
    }

    /// Whether the norm after the blocks has one name, wherever it stands: before the pool or after it.
    pub(crate) fn has_one_norm(self) -> bool {
        matches!(self, Self::Clip | Self::OpenClip)
    }
}

/// Channels, height and width of a patch with so many values: grey or RGB, and square.
fn patch_of(values: usize) -> Option<[usize; 3]> {
    [3, 1].into_iter().find_map(|channels| {
        let size = (values / channels).isqrt();
        (size > 0 && size * size * channels == values).then_some([channels, size, size])
    })
}

/// A name with its beginning replaced, if it begins with one of those of `table`.
fn renamed(name: &str, table: &[(&str, &str)]) -> Option<String> {
    let (from, to) = table.iter().find(|(from, _)| name.starts_with(from))?;
    Some(format!("{to}{}", &name[from.len()..]))
}

/// The error for names that are no ViT's.
pub(crate) fn unknown(origin: &str, infos: &[TensorInfo]) -> Error {
    if let Some(info) = infos.iter().find(|info| info.name.contains("to_patch_embedding.")) {
        let place = format!("{origin}: {}", info.name);
        return Error::unsupported(
            &place,
            "the layout of an older vit-pytorch, or another of its models than ViT",
            "choose a plain ViT",
        );
    }
    if let Some(tower) = text_networks(infos).first() {
        let called = if tower.prefix.is_empty() { String::new() } else { format!(" ({}…)", tower.prefix) };
        let what = format!("a text tower{called} without a vision tower");
        return Error::unsupported(origin, what, "images need a checkpoint with both, or with the vision tower alone");
    }
    let count = |words: &[&str]| infos.iter().filter(|info| words.iter().any(|word| info.name.contains(word))).count();
    let scores = [
        (
            count(&["blocks.", "patch_embed", "pos_embed", "norm.", "head."]),
            "timm (patch_embed.proj.weight, blocks.0.attn.qkv.weight)",
        ),
        (
            count(&["encoder.layer", "embeddings.", "layernorm", "attention.", "classifier."]),
            "Hugging Face (embeddings.patch_embeddings.projection.weight, encoder.layer.0.attention.attention.query.weight)",
        ),
        (
            count(&["visual.", "resblocks.", "vision_model."]),
            "CLIP (visual.conv1.weight, or vision_model.embeddings.patch_embedding.weight)",
        ),
        (count(&["/"]), "the original ViT's npz (embedding/kernel, Transformer/encoderblock_0/LayerNorm_0/scale)"),
    ];
    let nearest = scores.iter().max_by_key(|(score, _)| *score).map_or("", |(_, name)| name);
    Error::Naming {
        origin: origin.into(),
        names: infos.iter().map(|info| info.name.clone()).collect(),
        nearest: nearest.into(),
    }
}

/// Names that are no ViT's, without the prefix that wrappers put before all of them.
fn plain(infos: &[TensorInfo]) -> Translation {
    let counts = |info: &TensorInfo| info.name == "n_averaged";
    let mut prefix = 0;
    for wrapper in ["module.", "_orig_mod.", "model."] {
        let mut weights = infos.iter().filter(|info| !counts(info)).peekable();
        if weights.peek().is_some() && weights.all(|info| info.name[prefix..].starts_with(wrapper)) {
            prefix += wrapper.len();
        }
    }
    let mut translation = Translation::new(Naming::Plain);
    for (index, info) in infos.iter().enumerate() {
        if counts(info) {
            translation.left_out.push((index, around::reason(&info.name, info)));
        } else if info.name.ends_with(".num_batches_tracked") {
            translation.left_out.push((index, "a counter of batches, which nothing reads".into()));
        } else {
            translation.mapped.push(Mapped::whole(info.name[prefix..].to_owned(), index, info));
        }
    }
    translation
}

/// Puts the parts of every tensor together in the order of their rows.
fn assemble(
    origin: &str,
    infos: &[TensorInfo],
    inside: &[(usize, &str)],
    fate: impl Fn(&str) -> std::result::Result<Fate, String>,
    translation: &mut Translation,
) -> Result<()> {
    let mut rows: Vec<(String, [Option<usize>; 3])> = Vec::new();
    for &(index, name) in inside {
        let place = format!("{origin}: {}", infos[index].name);
        match fate(name).map_err(|what| Error::unsupported(&place, what, "choose a plain ViT"))? {
            Fate::Is(name) => translation.mapped.push(Mapped::whole(name, index, &infos[index])),
            Fate::Turned(names) => {
                for (name, turn) in names {
                    let part = Part { index, layer: None, turn };
                    translation.mapped.push(Mapped::new(origin, name, vec![part], infos)?);
                }
            }
            Fate::Out(why) => translation.left_out.push((index, why.into())),
            Fate::Rows(name, part) => {
                let at = rows.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
                    rows.push((name, [None; 3]));
                    rows.len() - 1
                });
                if rows[at].1[part].replace(index).is_some() {
                    return Err(Error::format(&place, "names that are unique", "a second tensor for the same rows"));
                }
            }
        }
    }
    for (name, indices) in rows {
        let part = |index| Part { index, layer: None, turn: Turn::Same };
        let parts = match (indices, name.strip_suffix("attn.qkv.bias")) {
            // A gate and values, or an MLP that has no gate.
            ([gate, Some(values), None], _) if name.contains(".mlp.fc1.") => gate.into_iter().chain([values]).collect(),
            ([Some(q), Some(k), Some(v)], _) => vec![q, k, v],
            // Keys may do without a bias.
            ([Some(q), None, Some(v)], Some(block)) => {
                for (name, index) in [("q_bias", q), ("v_bias", v)] {
                    translation.mapped.push(Mapped::whole(format!("{block}attn.{name}"), index, &infos[index]));
                }
                continue;
            }
            _ => {
                let got: Vec<&str> = indices.iter().flatten().map(|&index| infos[index].name.as_str()).collect();
                let of = if name.contains(".mlp.") { "gate and values" } else { "query, key and value" };
                return Err(Error::format(origin, format!("{of} for {name}"), format!("only {got:?}")));
            }
        };
        let parts = parts.into_iter().map(part).collect();
        translation.mapped.push(Mapped::new(origin, name, parts, infos)?);
    }
    Ok(())
}

/// DINOv3 keeps a bias for keys that a mask of zeros takes away again.
fn bias_without_keys(inside: &[(usize, &str)], translation: &mut Translation) {
    for (_, name) in inside.iter().filter(|(_, name)| name.ends_with(".attn.qkv.bias_mask")) {
        let bias = name.trim_end_matches("_mask");
        let Some(at) = translation.mapped.iter().position(|mapped| mapped.name == bias) else { continue };
        let whole = translation.mapped.swap_remove(at);
        let block = bias.trim_end_matches("qkv.bias");
        translation.mapped.extend(
            ["q_bias", "v_bias"]
                .into_iter()
                .zip([0, 2])
                .map(|(name, third)| whole.part_of(format!("{block}{name}"), third, 3)),
        );
    }
}

impl Translation {
    /// The same for a model of these parameters, which may have apart what is one here, under timm's names for it: queries, keys
    /// and values, the gate of an MLP, the factors of LayerScale.
    pub(crate) fn fitted(mut self, parameters: &[ParamSpec]) -> Self {
        let here: HashMap<&str, usize> =
            self.mapped.iter().enumerate().map(|(at, mapped)| (mapped.name.as_str(), at)).collect();
        let (mut taken, mut made) = (HashSet::new(), Vec::new());
        for name in parameters.iter().map(|spec| spec.name.as_str()).filter(|name| !here.contains_key(name)) {
            let whole = apart(name).and_then(|wholes| {
                wholes.into_iter().find_map(|(whole, part)| Some((*here.get(whole.as_str())?, part)))
            });
            let Some((at, part)) = whole else { continue };
            taken.insert(at);
            let whole = &self.mapped[at];
            made.push(match part {
                Some((part, of)) => whole.part_of(name.to_owned(), part, of),
                None => Mapped { name: name.to_owned(), ..whole.clone() },
            });
        }
        let mut at = 0..;
        self.mapped.retain(|_| at.next().is_none_or(|at| !taken.contains(&at)));
        self.mapped.extend(made);
        self
    }
}

/// The name of a whole, and which part of how many; or another name for the same.
type PartOf = (String, Option<(usize, usize)>);

/// What a parameter may be a part of.
fn apart(name: &str) -> Option<Vec<PartOf>> {
    let (block, inner) = name.strip_prefix("blocks.")?.split_once('.')?;
    let of = |inner: String, part| (format!("blocks.{block}.{inner}"), part);
    Some(match inner {
        "gamma_1" => vec![of("ls1.gamma".into(), None)],
        "gamma_2" => vec![of("ls2.gamma".into(), None)],
        _ => {
            const PARTS: [(&str, &str, usize, usize); 5] = [
                ("attn.q_proj.", "attn.qkv.", 0, 3),
                ("attn.k_proj.", "attn.qkv.", 1, 3),
                ("attn.v_proj.", "attn.qkv.", 2, 3),
                ("mlp.fc1_g.", "mlp.fc1.", 0, 2),
                ("mlp.fc1_x.", "mlp.fc1.", 1, 2),
            ];
            let (kind, (_, whole, part, count)) =
                PARTS.iter().find_map(|parts| Some((inner.strip_prefix(parts.0)?, parts)))?;
            let mut wholes = vec![of(format!("{whole}{kind}"), Some((*part, *count)))];
            if let ("bias", Some(letter)) = (kind, ["q", "k", "v"].get(*part).filter(|_| *count == 3)) {
                wholes.push(of(format!("attn.{letter}_bias"), None));
            }
            wholes
        }
    })
}

/// DINOv2 with registers adds positions to the class token and the patches, then inserts the registers; timm keeps positions for
/// the patches alone. The class token's position is constant, so it goes into the class token.
fn positions_without_class(infos: &[TensorInfo], translation: &mut Translation) {
    let find = |name: &str| translation.mapped.iter().position(|mapped| mapped.name == name);
    let registers = translation.get("reg_token").and_then(|mapped| mapped.parts.first());
    let registers = registers.is_some_and(|part| infos[part.index].name.ends_with("register_tokens"));
    let (true, Some(class), Some(positions)) = (registers, find("cls_token"), find("pos_embed")) else { return };
    let place = translation.mapped[positions].parts[0].index;
    let [1, count, dim] = infos[place].shape[..] else { return };
    if count == 0 {
        return;
    }
    translation.mapped[class].parts[0].turn = Turn::PlusFirstOf(place);
    translation.mapped[positions].parts[0].turn = Turn::WithoutFirst;
    translation.mapped[positions].shape = vec![1, count - 1, dim];
}

impl Mapped {
    fn whole(name: String, index: usize, info: &TensorInfo) -> Self {
        Self { name, parts: vec![Part { index, layer: None, turn: Turn::Same }], shape: info.shape.clone() }
    }

    fn new(origin: &str, name: String, parts: Vec<Part>, infos: &[TensorInfo]) -> Result<Self> {
        let mut shape: Option<Vec<usize>> = None;
        for part in &parts {
            let info = &infos[part.index];
            let bad = |expected: &str| {
                let place = format!("{origin}: {}", info.name);
                Error::format(&place, expected, format!("shape {:?}", info.shape))
            };
            let turned = part.shape(&info.shape).ok_or_else(|| bad("a shape of the naming"))?;
            match &mut shape {
                None => shape = Some(turned),
                Some(shape) if shape[1..] == turned[1..] && !turned.is_empty() => shape[0] += turned[0],
                Some(_) => return Err(bad("the width of its neighbours")),
            }
        }
        Ok(Self { name, parts, shape: shape.unwrap_or_default() })
    }

    /// Part `part` of `of` equal ones.
    fn part_of(&self, name: String, part: usize, of: usize) -> Self {
        let mut shape = self.shape.clone();
        let rows = shape.first().copied().unwrap_or(0);
        let parts = match self.parts.as_slice() {
            parts if parts.len() == of => vec![parts[part].clone()],
            [one] if one.turn == Turn::Same && rows % of == 0 => {
                let turn = if of == 3 { Turn::Third(part) } else { Turn::Half(part) };
                vec![Part { turn, ..one.clone() }]
            }
            // Another number of parts, which has another shape than the parameter: an error that names it.
            _ => {
                return Self { name, ..self.clone() };
            }
        };
        shape[0] = rows / of;
        Self { name, parts, shape }
    }

    /// Makes the tensor out of the checkpoint's, which `read` gives in float32.
    pub(crate) fn make(&self, read: impl Fn(usize) -> Result<Tensor>) -> Result<Tensor> {
        let parts = self.parts.iter().map(|part| part.make(&read)).collect::<Result<Vec<_>>>()?;
        match parts.as_slice() {
            [one] => Ok(one.contiguous()?),
            all => Ok(Tensor::cat(all, 0)?),
        }
    }
}

impl Part {
    /// The shape after turning, or nothing where the turn does not apply.
    fn shape(&self, shape: &[usize]) -> Option<Vec<usize>> {
        let shape = match self.layer {
            None => shape,
            Some(layer) => {
                shape.first().filter(|&&layers| layer < layers)?;
                &shape[1..]
            }
        };
        Some(match (self.turn, shape) {
            (Turn::Same | Turn::PlusFirstOf(_), shape) if !shape.is_empty() => shape.to_vec(),
            (Turn::Transposed, &[i, o]) => vec![o, i],
            (Turn::ConvKernel, &[h, w, i, o]) => vec![o, i, h, w],
            (Turn::FromHeads, &[i, h, w]) => vec![h.checked_mul(w)?, i],
            (Turn::ToHeads, &[h, w, o]) => vec![o, h.checked_mul(w)?],
            (Turn::Flat, shape) => vec![shape.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim))?],
            (Turn::Batched, &[dim]) => vec![1, 1, dim],
            (Turn::Batched, &[count, dim] | &[1, count, dim] | &[count, 1, dim]) => vec![1, count, dim],
            (Turn::Pixels, &[values]) => vec![patch_of(values)?.iter().product()],
            (Turn::KernelOfPixels, &[out, values]) => [&[out], &patch_of(values)?[..]].concat(),
            (Turn::Queries, &[rows, ..]) if rows % 3 == 0 => [&[rows / 3], &shape[1..]].concat(),
            (Turn::KeysAndValues, &[rows, ..]) if rows % 3 == 0 => [&[rows / 3 * 2], &shape[1..]].concat(),
            (Turn::Third(_), &[rows, ..]) if rows % 3 == 0 => [&[rows / 3], &shape[1..]].concat(),
            (Turn::Half(_), &[rows, ..]) if rows % 2 == 0 => [&[rows / 2], &shape[1..]].concat(),
            (Turn::WithoutFirst, &[1, count, dim]) if count > 0 => vec![1, count - 1, dim],
            _ => return None,
        })
    }

    fn make(&self, read: &impl Fn(usize) -> Result<Tensor>) -> Result<Tensor> {
        let mut tensor = read(self.index)?;
        if let Some(layer) = self.layer {
            tensor = tensor.get(layer)?;
        }
        Ok(match self.turn {
            Turn::Same => tensor,
            Turn::Transposed => tensor.t()?,
            Turn::ConvKernel => tensor.permute((3, 2, 0, 1))?,
            Turn::FromHeads => tensor.flatten_from(1)?.t()?,
            Turn::ToHeads => tensor.flatten_to(1)?.t()?,
            Turn::Flat => tensor.flatten_all()?,
            Turn::Batched => {
                let dim = tensor.dim(D::Minus1)?;
                tensor.reshape((1, (), dim))?
            }
            Turn::Pixels | Turn::KernelOfPixels => {
                let rows = tensor.reshape(((), tensor.dim(D::Minus1)?))?;
                let Some([channels, size, _]) = patch_of(rows.dim(1)?) else { return Ok(tensor) };
                let kernels = rows.reshape(((), size, size, channels))?.permute((0, 3, 1, 2))?;
                if self.turn == Turn::Pixels { kernels.flatten_all()? } else { kernels }
            }
            Turn::Queries => tensor.narrow(0, 0, tensor.dim(0)? / 3)?,
            Turn::KeysAndValues => tensor.narrow(0, tensor.dim(0)? / 3, tensor.dim(0)? / 3 * 2)?,
            Turn::Third(part) => tensor.chunk(3, 0)?.swap_remove(part),
            Turn::Half(part) => tensor.chunk(2, 0)?.swap_remove(part),
            Turn::WithoutFirst => tensor.narrow(1, 1, tensor.dim(1)? - 1)?,
            Turn::PlusFirstOf(positions) => (tensor + read(positions)?.narrow(1, 0, 1)?)?,
        })
    }
}
