//! What the shapes of a ViT's tensors say about it, for files that come without a config, and what is said of them from outside.

use std::collections::HashSet;

use tallow_models::layers::SHIFTS;
use tallow_models::vit::{Act, BlockFn, GlobalPool, NormLayer};
use tallow_models::{Architecture, ModelConfig, VitConfig, zoo};

use super::processor::{self, share};
use super::twins::{Known, Twins};
use super::{
    CLIP, CheckpointConfig, IMAGENET_MEAN, IMAGENET_STD, Interpolation, Preprocessing, Resizing, Transparency, blocks,
    positions, stem,
};
use crate::naming::{Naming, Translation};
use crate::{Error, Result};

/// What is said of weights from outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// A name of the zoo.
    pub(crate) arch: Option<String>,
    pub(crate) num_heads: Option<usize>,
    pub(crate) act: Option<Act>,
}

/// The config that the shapes imply and what is told says, and what had to be assumed because neither says it.
///
/// # Errors
/// If shapes contradict each other, or the number of heads cannot be told.
pub(crate) fn infer(
    origin: &str,
    translation: &Translation,
    told: &Told,
    beside: Beside,
) -> Result<(CheckpointConfig, Vec<String>)> {
    match &told.arch {
        Some(name) => of_name(origin, name, translation, told, beside),
        None => of_shapes(origin, translation, told, beside.processor),
    }
}

/// What lies beside weights whose architecture it does not say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beside<'a> {
    /// A config of another architecture than the one that is told.
    pub(crate) config: Option<&'a CheckpointConfig>,
    /// The text and the path of Hugging Face's `preprocessor_config.json`.
    pub(crate) processor: Option<(&'a str, &'a str)>,
}

/// The architecture of a name of the zoo.
///
/// # Errors
/// If there is none of that name.
pub(crate) fn named(name: &str) -> Result<Architecture> {
    Ok(zoo::find(name)?.architecture)
}

/// The zoo's architecture, with what the tensors say of images and classes.
fn of_name(
    origin: &str,
    name: &str,
    translation: &Translation,
    told: &Told,
    beside: Beside,
) -> Result<(CheckpointConfig, Vec<String>)> {
    let entry = zoo::find(name)?;
    let mut architecture = entry.architecture.clone();
    if let Architecture::Vit(vit) = &mut architecture {
        let shape = |name: &str| translation.get(name).map(|mapped| mapped.shape.as_slice());
        match (stem::read(origin, translation)?, shape("patch_embed.proj.weight")) {
            (Some(stem), _) => vit.in_chans = stem.in_chans,
            (None, Some(&[_, channels, _, _])) => {
                vit.in_chans = if vit.spt { channels / (1 + SHIFTS) } else { channels }
            }
            _ => {}
        }
        if let Some(grid) = positions::read(&shape, translation.naming).grid.filter(|_| vit.has_relative_positions()) {
            vit.img_size = (grid * vit.patch_pixels()).into();
        } else if let Some(&[.., count, _]) = shape("pos_embed") {
            let grids = [count.checked_sub(vit.num_prefix_tokens()), Some(count)];
            if let Some(grid) = grids.into_iter().flatten().find_map(square_root) {
                vit.img_size = (grid * vit.patch_pixels()).into();
            }
        }
        vit.num_classes = shape("head.weight").map_or(0, |shape| shape.first().copied().unwrap_or(0));
        vit.num_heads = told.num_heads.unwrap_or(vit.num_heads);
        vit.act = told.act.unwrap_or(vit.act);
    }
    super::check_architecture(&architecture, origin)?;
    let mut notes = vec![format!(
        "the architecture is {}, as was told; image size, channels and classes are those of the tensors",
        entry.name
    )];
    let mut preprocessing = match (beside, &mut architecture) {
        (Beside { config: Some(config), .. }, _) => config.preprocessing.clone(),
        (Beside { processor: Some(file), .. }, Architecture::Vit(vit)) => {
            notes.push(format!("images become the input as {} says", file.1));
            processor::beside(file, kind(translation, vit), vit, &mut notes)?
        }
        _ => of_weights(&entry, name.contains('.'), &mut notes),
    };
    preprocessing.input_size = architecture.input_size();
    let classes = architecture.num_classes();
    Ok((
        CheckpointConfig {
            name: Some(entry.name.into()),
            tag: None,
            preprocessing,
            whitening: None,
            projection: translation.projects,
            projection_bias: false,
            head_fault: None,
            labels: beside.config.and_then(|beside| beside.labels.clone()).filter(|labels| labels.len() == classes),
            license: beside.config.and_then(|beside| beside.license.clone()),
            architecture,
        },
        notes,
    ))
}

/// How the input was made of the weights that the name has in the zoo: those of its tag, or what all of them have in common.
fn of_weights(entry: &zoo::Entry, tagged: bool, notes: &mut Vec<String>) -> Preprocessing {
    let made = |weights: &zoo::Pretrained| {
        let of_images = Preprocessing::new(entry.architecture.input_size(), weights.mean.into(), weights.std.into());
        of_images.with(|c| {
            c.interpolation = weights.interpolation.parse().unwrap_or_default();
            (c.crop_pct, c.squash) = (weights.crop_pct, weights.squash);
        })
    };
    let all: Vec<Preprocessing> = match entry.pretrained.filter(|_| tagged) {
        Some(weights) => vec![made(weights)],
        None => entry.weights.iter().map(|weights| made(weights)).collect(),
    };
    match all.split_first() {
        Some((first, others)) if others.iter().all(|other| other == first) => first.clone(),
        _ => {
            notes.push(format!(
                "the centre of images (a share of 0.875), normalised with ImageNet's mean and deviation, was assumed; {} with a tag says how (tallow list {0})",
                entry.name
            ));
            assumed(entry.architecture.input_size())
        }
    }
}

/// How images become the input where nothing says it: by ImageNet's mean and deviation.
fn assumed(input_size: [usize; 3]) -> Preprocessing {
    // Of a grey image the luma, or of more channels something of the kind.
    let fit = |values: [f64; 3]| match input_size[0] {
        3 => values.to_vec(),
        channels => vec![values.iter().sum::<f64>() / 3.; channels],
    };
    Preprocessing::new(input_size, fit(IMAGENET_MEAN), fit(IMAGENET_STD)).with(|c| c.crop_pct = 0.875)
}

/// The kind of model by whose image processor images become the input, where its file does not say.
fn kind(translation: &Translation, vit: &VitConfig) -> &'static str {
    match translation.naming {
        Naming::Clip if !vit.class_token => "siglip",
        Naming::Clip | Naming::OpenClip => "clip",
        _ => "vit",
    }
}

fn of_shapes(
    origin: &str,
    translation: &Translation,
    told: &Told,
    processor: Option<(&str, &str)>,
) -> Result<(CheckpointConfig, Vec<String>)> {
    let shape = |name: &str| translation.get(name).map(|mapped| mapped.shape.as_slice());
    let has = |name: &str| shape(name).is_some();
    let ask = |expected: &str, got: String| {
        Error::format(origin, format!("{expected}; name the model that the weights belong to (`arch = NAME`)"), got)
    };
    let Some(&[embed_dim, in_chans, patch_size, width]) = shape("patch_embed.proj.weight") else {
        let got = format!("{:?}", shape("patch_embed.proj.weight"));
        return Err(ask("patch_embed.proj.weight of shape [dim, channels, height, width]", got));
    };
    if patch_size != width || patch_size == 0 || embed_dim == 0 {
        return Err(ask("square patches", format!("{patch_size}×{width}")));
    }
    let numbers: HashSet<&str> = translation
        .mapped
        .iter()
        .filter_map(|mapped| Some(mapped.name.strip_prefix("blocks.")?.split_once('.')?.0))
        .collect();
    refuse(origin, translation)?;
    if numbers.is_empty() {
        let got = "none, but a patch embedding: its blocks have names of another model, such as CaiT";
        return Err(Error::format(origin, "the blocks of a ViT", got));
    }
    let stem = stem::read(origin, translation)?;
    let act = act(origin, translation, told)?;
    let mut notes = Vec::new();
    let of_patches = [has("patch_embed.patch_norm.weight"), has("patch_embed.norm.weight")];
    let spt = of_patches == [true, false];
    let in_chans = if spt { in_chans / (1 + SHIFTS) } else { in_chans };
    let positions = positions::read(&shape, translation.naming);
    let of_blocks = blocks::read(translation);
    let act = if of_blocks.gated { told.act.unwrap_or(Act::Silu) } else { act };
    let known = match (of_blocks.head_dim.or(translation.head_dim()), of_blocks.scales.or(positions.num_heads)) {
        _ if told.num_heads.is_some() => told.num_heads,
        (Some(head), _) if head > 0 && embed_dim % head == 0 => Some(embed_dim / head),
        (_, heads) => heads,
    };
    let class_token = has("cls_token");
    let reg_tokens = shape("reg_token").and_then(|shape| shape.get(1).copied()).unwrap_or(0);
    let distilled = has("dist_token");
    let prefix = usize::from(class_token) + usize::from(distilled) + reg_tokens;
    let (grid, no_embed_class) = match (shape("pos_embed"), positions.grid) {
        // Registers have no positions, as far as that can be.
        (Some(&[_, count, _]), _) => match (square_root(count.wrapping_sub(prefix)), square_root(count)) {
            (_, Some(grid)) if reg_tokens > 0 => (grid, true),
            (Some(grid), _) => (grid, false),
            (None, Some(grid)) => (grid, true),
            (None, None) => return Err(ask(&format!("{prefix} positions and a square of them"), count.to_string())),
        },
        (None, Some(grid)) => (grid, false),
        (None, None) if positions.fit_any_size() => (positions.usual_grid(patch_size), false),
        (other, _) => return Err(ask("pos_embed of shape [1, positions, dim]", format!("{other:?}"))),
    };
    let (num_classes, head_width) = match shape("head.weight") {
        Some(&[classes, width]) => (classes, width),
        _ => (0, embed_dim),
    };
    let fc_norm = has("fc_norm.weight");
    let global_pool = pool(has("attn_pool.latent"), head_width == 2 * embed_dim, fc_norm || !class_token);
    let mut vit = VitConfig::default().with(|c| {
        c.patch_size = patch_size;
        c.in_chans = in_chans;
        stem.iter().for_each(|stem| stem.apply(c));
        c.img_size = (grid * c.patch_pixels()).into();
        c.spt = spt;
        c.norm_patches = of_patches == [true, true];
        c.embed_norm = of_patches == [false, true];
        c.num_classes = num_classes;
        c.embed_dim = embed_dim;
        c.depth = numbers.len();
        of_blocks.apply(c);
        c.k_bias = !positions.keys_without_bias;
        c.class_token = class_token;
        c.reg_tokens = reg_tokens;
        c.distilled = distilled;
        c.no_embed_class = no_embed_class && prefix > 0;
        c.pre_norm = has("norm_pre.weight");
        // timm's `vit_base_patch16_rpn_224`: no other of its ViTs with a norm behind the pool does without all of these.
        let bare = !class_token && reg_tokens == 0 && !c.qkv_bias && c.proj_bias && c.init_values.is_none();
        c.use_post_norm = bare && fc_norm && translation.naming == Naming::Timm && c.block_fn == BlockFn::Block;
        c.global_pool = global_pool;
        c.fc_norm = (global_pool == GlobalPool::Avg && !fc_norm).then_some(false);
        c.final_norm = fc_norm || has("norm.weight");
        c.act = act;
        c.norm_eps = match translation.naming {
            Naming::HuggingFace => 1e-12,
            Naming::OpenClip | Naming::VitPytorch => 1e-5,
            // CLIP's ViTs begin with a norm; AIMv2's have one of every patch, BEiT-3's some inside.
            _ if c.norm_layer == NormLayer::LayerNorm && has("norm_pre.weight") || c.embed_norm => 1e-5,
            _ if c.scale_attn_inner && c.scale_mlp && !c.swiglu_mlp => 1e-5,
            _ => 1e-6,
        };
    });
    positions.apply(&mut vit, translation, &mut notes);
    let name = settle(origin, translation, told, known, &mut vit, &mut notes)?;
    if shape("pos_embed").is_none() && positions.grid.is_none() {
        notes.push(format!("images of {} pixels were assumed: the positions fit any size", vit.img_size));
    }
    let (preprocessing, images) = match processor {
        Some(file) => {
            let made = processor::beside(file, kind(translation, &vit), &mut vit, &mut notes)?;
            (made, format!(" were assumed; images become the input as {} says", file.1))
        }
        None => {
            let (made, words) = images(origin, translation, &vit);
            (made, format!(", and {words}, were assumed"))
        }
    };
    let act = if told.act.is_some() { String::new() } else { format!("{}, ", vit.act.in_words()) };
    notes.push(format!(
        "no config.json: the architecture was read off the tensors' shapes; {act}norms with eps {:e}{images}",
        vit.norm_eps
    ));
    let architecture = Architecture::Vit(vit);
    super::check_architecture(&architecture, origin)?;
    let config = CheckpointConfig::new(architecture, preprocessing)
        .with(|c| (c.name, c.projection) = (name, translation.projects));
    Ok((config, notes))
}

/// Refuses what no tensor tells and nothing can be assumed of.
fn refuse(origin: &str, translation: &Translation) -> Result<()> {
    let has = |name: &str| translation.get(name).is_some();
    let ask = |expected: &str, got: &str| {
        Error::format(origin, format!("{expected}; name the model that the weights belong to (`arch = NAME`)"), got)
    };
    if translation.naming == Naming::OpenClip && !has("norm_pre.weight") {
        let got = "a CLIP without a norm before its blocks (CLIPA), whose pool no tensor tells";
        return Err(ask("open_clip_config.json beside the weights", got));
    }
    if translation.naming == Naming::VitPytorch && !has("pos_embed") {
        let what = "fixed positions of sines and cosines in two dimensions (vit-pytorch's SimpleViT)";
        return Err(Error::unsupported(origin, what, "choose its ViT"));
    }
    if has("head_proj.weight") {
        let got = "weights alone of a classifier that was made of words (`head_proj`), of which no tensor tells how its head reads";
        return Err(Error::format(origin, "the config.json that was written with them", got));
    }
    Ok(())
}

/// Sets what no tensor tells: as the zoo's models with the same tensors have it, else by convention. `heads` are known. Gives the name of
/// a FlexiViT, by which timm resamples positions.
fn settle(
    origin: &str,
    translation: &Translation,
    told: &Told,
    heads: Option<usize>,
    vit: &mut VitConfig,
    notes: &mut Vec<String>,
) -> Result<Option<String>> {
    if vit.use_post_norm {
        notes.push("norms behind attention and MLP were assumed, as in timm's vit_base_patch16_rpn_224".into());
    }
    // Others' names are those of models that differ from timm's in what shapes do not tell.
    let twins = if translation.naming == Naming::Timm { Twins::of(vit, origin, translation) } else { Twins::default() };
    // Meta's own DINOv3 takes the class token.
    let metas = translation.is_metas_dinov3();
    twins.check(origin, told, Known { heads: heads.is_some(), pool: metas })?;
    vit.num_heads = match heads.or(twins.num_heads()) {
        Some(heads) => heads,
        None => usual_heads(origin, vit, notes)?,
    };
    let own = (vit.global_pool, vit.fc_norm);
    twins.apply(vit, told, notes);
    if metas {
        (vit.global_pool, vit.fc_norm) = own;
    } else {
        vit.img_size = twins.img_size(vit, notes);
        vit.trim |= vit.stem_layers.is_none() && !vit.divides_evenly();
    }
    if translation.naming == Naming::Timm && told.act.is_none() && !twins.tell_act() {
        let quick = "CLIPs of OpenAI, MetaCLIP and DFN have QuickGELU, which no tensor tells (`set act=quick_gelu`)";
        let tanh = "most SigLIPs 2 have GELU by tanh, which no tensor tells (`set act=gelu_tanh`)";
        let pools = vit.global_pool == GlobalPool::Map;
        notes.extend(vit.pre_norm.then_some(quick).or(pools.then_some(tanh)).map(str::to_owned));
    }
    Ok(twins.only().filter(|name| name.contains("flexi")).map(str::to_owned))
}

/// The pool, by whether there is an attention pool, a head for class token and mean, or a sign of the mean alone.
fn pool(attention: bool, both: bool, mean: bool) -> GlobalPool {
    match (attention, both, mean) {
        (true, ..) => GlobalPool::Map,
        (_, true, _) => GlobalPool::TokenAvg,
        (.., true) => GlobalPool::Avg,
        _ => GlobalPool::Token,
    }
}

/// The activation of the MLPs, which no tensor tells.
fn act(origin: &str, translation: &Translation, told: &Told) -> Result<Act> {
    let siglip = translation.get("attn_pool.latent").is_some();
    match translation.naming {
        _ if told.act.is_some() => Ok(told.act.unwrap_or_default()),
        Naming::Clip if siglip => Ok(Act::GeluTanh),
        // What OpenAI's own files hold beside the towers.
        Naming::Clip | Naming::OpenClip if translation.is_openai => Ok(Act::QuickGelu),
        Naming::Clip | Naming::OpenClip => Err(act_unknown(origin)),
        _ => Ok(Act::Gelu),
    }
}

/// A CLIP of which nobody knows the activation.
pub(crate) fn act_unknown(origin: &str) -> Error {
    Error::format(
        origin,
        "a config beside the weights (config.json, open_clip_config.json), the model that they belong to (`arch = NAME`), \
         `set act=quick_gelu` (CLIP of OpenAI, MetaCLIP, DFN) or `set act=gelu` (LAION's, DataComp's)",
        "weights of a CLIP alone, whose activation no tensor tells, and a wrong one gives wrong features",
    )
}

/// How images become the input of weights without a config, and the same in words.
fn images(origin: &str, translation: &Translation, vit: &VitConfig) -> (Preprocessing, String) {
    let input_size = vit.input_size();
    let imagenet = assumed(input_size);
    let centre = "of images, the centre (a share of 0.875), normalised with ImageNet's mean and deviation";
    let colour = input_size[0] == 3;
    let whole = |mean: [f64; 3], std: [f64; 3]| Preprocessing::new(input_size, mean.into(), std.into());
    match translation.naming {
        Naming::Clip if colour && !vit.class_token => (
            whole([0.5; 3], [0.5; 3]).with(|c| {
                (c.squash, c.resizing, c.transparency) = (true, Resizing::Torchvision, Transparency::OnWhite)
            }),
            "images resized whole, normalised with 0.5, as SigLIP's".into(),
        ),
        Naming::Clip | Naming::OpenClip if colour => {
            let mut made = whole(CLIP[0], CLIP[1]).with(|c| c.transparency = Transparency::Resized);
            if translation.naming == Naming::Clip {
                (made.crop_floor, made.resizing, made.transparency) =
                    (true, Resizing::Torchvision, Transparency::OnWhite);
            }
            (made, "of images, the centre (all of the shorter side), normalised with CLIP's mean and deviation".into())
        }
        Naming::Torchvision if colour => torchvision(origin, vit, imagenet),
        _ => (imagenet, centre.into()),
    }
}

/// As the presets of torchvision's weights have it: SWAG's are told by the name of the file, or by an image size that the others
/// have not.
fn torchvision(origin: &str, vit: &VitConfig, imagenet: Preprocessing) -> (Preprocessing, String) {
    let file = origin.rsplit(['/', '\\']).next().unwrap_or(origin).to_lowercase();
    let side = vit.img_size.sides()[0];
    if file.contains("swag") || side > 256 {
        let made = imagenet.with(|c| (c.crop_pct, c.interpolation) = (1., Interpolation::Bicubic));
        return (
            made,
            "of images, the centre (all of the shorter side, bicubic), as torchvision's presets of SWAG have it".into(),
        );
    }
    // Of ViT-L/16 alone, images are resized to 242.
    let resized = if (vit.embed_dim, vit.patch_size, side) == (1024, 16, 224) { 242 } else { 256 };
    let crop_pct = if side == 224 { share(side, resized) } else { 0.875 };
    let made = imagenet.with(|c| (c.crop_pct, c.interpolation) = (crop_pct, Interpolation::Bilinear));
    let words = format!(
        "of images, the centre (a share of {crop_pct:.3}, bilinear), as torchvision's presets of IMAGENET1K_V1 have it"
    );
    (made, words)
}

/// The number of heads, which shapes do not tell: what the zoo's models agree on that are alike, else the field's convention for the
/// width. It is said.
fn usual_heads(origin: &str, vit: &VitConfig, notes: &mut Vec<String>) -> Result<usize> {
    let embed_dim = vit.embed_dim;
    let kind = |vit: &VitConfig| (vit.embed_dim, vit.depth, vit.rope_type, vit.swiglu_mlp);
    let known: HashSet<usize> = zoo::list("*")
        .iter()
        .filter_map(|entry| match &entry.architecture {
            Architecture::Vit(other) if kind(other) == kind(vit) => Some(other.num_heads),
            _ => None,
        })
        .collect();
    let usual = match embed_dim {
        // ViT-H, So400m, g, bigG, and DINOv2's giant.
        1152 | 1280 | 1408 | 1664 => Some(16),
        1536 => Some(24),
        _ if embed_dim.is_multiple_of(64) => Some(embed_dim / 64),
        _ => None,
    };
    let mut of_zoo = known.iter();
    let heads = match (of_zoo.next(), of_zoo.next()) {
        (Some(&heads), None) => Some(heads),
        _ => usual,
    };
    let Some(heads) = heads else {
        return Err(Error::format(
            origin,
            "a config.json beside the weights, the model that they belong to (`arch = NAME`), or `set num_heads=N`",
            format!("weights alone, {embed_dim} wide, whose number of attention heads shapes do not tell"),
        ));
    };
    notes.push(format!(
        "{heads} attention heads were assumed, {} wide each: shapes do not tell; `set num_heads=N` or `arch = NAME` says otherwise",
        embed_dim / heads.max(1)
    ));
    Ok(heads)
}

fn square_root(count: usize) -> Option<usize> {
    let root = count.isqrt();
    (root > 0 && root * root == count).then_some(root)
}
