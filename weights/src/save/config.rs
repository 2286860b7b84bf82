//! The `config.json` that timm reads, with a section of Tallow's own for what timm has no words for.

use std::borrow::Cow;

use serde_json::{Map, Value, json};
use tallow_models::layers::Gate;
use tallow_models::vit::{Act, AttnLayer, BlockFn, GlobalPool, NormLayer, PosEmbed, RopeType, StemLayers};
use tallow_models::{Architecture, VitConfig, zoo};

use crate::{CheckpointConfig, Error, Interpolation, Preprocessing, Result, Whitening};

/// timm's nested layout: `architecture`, `model_args` that state every number, `pretrained_cfg`, `label_names`. Where these do
/// not say everything, a section `tallow` is added, which Tallow reads in place of the first two.
///
/// # Errors
/// If a number in the config is not finite.
pub fn config_json(config: &CheckpointConfig) -> Result<Value> {
    let mut root = timm_json(config);
    let understood = CheckpointConfig::parse(&root.to_string(), None, "config.json");
    let understood = understood.is_ok_and(|read| read.name == config.name && read.architecture == config.architecture);
    let fault = config.head_fault.as_ref().filter(|_| config.architecture.num_classes() > 0);
    let projection = config.projection && config.architecture.num_classes() > 0;
    let images = !config.preprocessing.is_timms();
    if !understood || config.whitening.is_some() || fault.is_some() || projection || images {
        let own = serde_json::to_value(&config.architecture)
            .map_err(|e| Error::format("config.json", "numbers that JSON can hold", e))?;
        root["tallow"] = json!({ "name": config.name, "architecture": own });
        if config.whitening.is_some() {
            root["tallow"]["whitening"] = Whitening::FILE.into();
        }
        if images {
            root["tallow"]["preprocessing"] = own_images(&config.preprocessing);
        }
        if projection {
            root["tallow"]["projection"] = true.into();
        }
        if let Some(why) = fault {
            root["tallow"]["head"] = "untrained".into();
            root["tallow"]["head_why"] = why.as_str().into();
        }
    }
    Ok(root)
}

/// What timm has no words for in how images become the input.
fn own_images(preprocessing: &Preprocessing) -> Value {
    let mut own = json!(preprocessing);
    if let Some(own) = own.as_object_mut() {
        own.retain(|field, _| ["crop_floor", "resizing", "keep_size", "transparency"].contains(&field.as_str()));
    }
    own
}

/// What timm reads.
fn timm_json(config: &CheckpointConfig) -> Value {
    let mut root = Map::new();
    root.insert("architecture".into(), timm_name(config).into_owned().into());
    root.insert("num_classes".into(), config.architecture.num_classes().into());
    root.insert("num_features".into(), config.architecture.num_features().into());
    if let Architecture::Vit(vit) = &config.architecture {
        root.insert("global_pool".into(), vit.global_pool.name().into());
        root.insert("model_args".into(), model_args(vit, &timm_name(config)));
    }
    root.insert("pretrained_cfg".into(), pretrained_cfg(config));
    if let Some(labels) = &config.labels {
        root.insert("label_names".into(), labels.clone().into());
    }
    Value::Object(root)
}

/// Whether timm can build the model from what [`config_json`] gives.
///
/// # Errors
/// [`Error::Unsupported`] names what timm has no word for.
pub fn check_timm(config: &CheckpointConfig) -> Result<()> {
    let refuse = |what: &str, remedy: &str| Err(Error::unsupported("timm", what, remedy));
    if config.whitening.is_some() {
        return refuse("whitening of the input", "train with `normalize = standard` for timm");
    }
    let Architecture::Vit(vit) = &config.architecture else {
        return refuse("a model that is no ViT", "export it as GGUF, or use the run's checkpoint with Tallow");
    };
    match vit {
        VitConfig { pos_embed: PosEmbed::Sinusoidal, .. } => {
            refuse("sinusoidal position encoding in its ViT", "train with pos_embed learned, or export as GGUF")
        }
        VitConfig { global_pool: GlobalPool::TokenAvg, num_classes, .. } if *num_classes > 0 => refuse(
            "a head over class token and mean (Hugging Face's DINOv2 classifier)",
            "fine-tune with the pool token or avg, or export as GGUF",
        ),
        VitConfig { spt: true, .. } => {
            refuse("shifted patch tokenisation in its ViT", "train without spt, or export as GGUF")
        }
        VitConfig { stem_layers: Some(_), .. } if hybrid(vit).is_none() => {
            refuse("a stem of other stages than its hybrids have", "export as GGUF")
        }
        VitConfig { norm_patches: true, .. } => refuse("norms around its patch embedding", "export as GGUF"),
        VitConfig { lsa: true, .. } => {
            refuse("locality self-attention in its ViT", "train without lsa, or export as GGUF")
        }
        VitConfig { head_norm: true, .. } | VitConfig { head_proj: Some(_), .. } => refuse(
            "a head that reads projected features of length one (zero-shot)",
            "fine-tune with a new head, or export as GGUF",
        ),
        VitConfig { distilled: true, .. } if !known_name(config).is_some_and(|name| name.contains("distilled")) => {
            refuse("a distillation token outside of its distilled DeiTs", "export as GGUF")
        }
        _ => check_read_back(config),
    }
}

/// What timm would build is what Tallow reads without its own section: both begin with the architecture's name and change it by
/// the arguments.
fn check_read_back(config: &CheckpointConfig) -> Result<()> {
    let fields = |architecture: &Architecture| {
        let value = serde_json::to_value(architecture);
        value.map_err(|e| Error::format("config.json", "numbers that JSON can hold", e))
    };
    let (text, origin) = (timm_json(config).to_string(), "config.json");
    let read = fields(&CheckpointConfig::parse(&text, None, origin)?.architecture)?;
    let own = fields(&config.architecture)?;
    let Some(own) = own.as_object() else { return Ok(()) };
    // It is computed with the same tensors where these differ.
    // timm trims images wherever that is needed.
    let same = |field: &str| {
        field == "trim" || matches!(field, "fc_norm" | "init_values") && same_meaning(field, &read, config)
    };
    match own.iter().find(|(field, value)| read.get(field.as_str()) != Some(*value) && !same(field)) {
        None => Ok(()),
        Some((field, value)) => {
            let of = timm_name(config);
            let base = read.get(field.as_str()).cloned().unwrap_or_default();
            let what = format!("{field} = {value} (its {of} has {base}, and no argument changes that)");
            Err(Error::unsupported("timm", what, "export as GGUF"))
        }
    }
}

/// Whether a field that differs says the same: `fc_norm` none and what that comes to, LayerScale of 0 and none.
fn same_meaning(field: &str, read: &Value, config: &CheckpointConfig) -> bool {
    let Ok(Architecture::Vit(read)) = serde_json::from_value(read.clone()) else { return false };
    let Architecture::Vit(own) = &config.architecture else { return false };
    match field {
        "fc_norm" => read.uses_fc_norm() == own.uses_fc_norm(),
        _ => read.layer_scale().is_some() == own.layer_scale().is_some(),
    }
}

/// The config's name if it is one of the zoo's ViTs, which carry timm's names.
fn known_name(config: &CheckpointConfig) -> Option<&str> {
    let name = config.name.as_deref()?;
    let entry = zoo::find(name).ok()?;
    // Tallow's own, unknown to timm.
    (matches!(entry.architecture, Architecture::Vit(_)) && name != "vit_mnist").then_some(name)
}

/// A name under which timm builds the model: its own, or that of a plain ViT whose every number `model_args` overrides. The
/// epsilon of its norms, which no argument says, goes with the name.
fn timm_name(config: &CheckpointConfig) -> Cow<'_, str> {
    match (&config.architecture, known_name(config)) {
        (Architecture::Vit(vit), Some(name))
            if vit.distilled || same_class(vit, name) && norm_eps_of(name) == Some(vit.norm_eps) =>
        {
            name.into()
        }
        (Architecture::Vit(vit), _) if has_no_words(vit) => "tallow_vit".into(),
        (Architecture::Vit(vit), known) => {
            let names = if let Some(name) = hybrid(vit) {
                [name; 2]
            } else if vit.rel_pos_dim.is_some() && !vit.is_eva_or_beit() {
                [if vit.use_post_norm { RELPOS_LAST } else { RELPOS }; 2]
            } else if vit.has_relative_tables() {
                [BEIT; 2]
            } else if vit.is_eva_or_beit() {
                [EVA, DINOV3]
            } else {
                match (vit.block_fn, vit.gate(), vit.norm_layer) {
                    (BlockFn::ParallelScaling, ..) if vit.attn_layer == AttnLayer::Diff => [DIFF_PARALLEL; 2],
                    (BlockFn::ParallelScaling, ..) => [PARALLEL_SCALING; 2],
                    (BlockFn::ParallelThings, ..) => [PARALLEL_THINGS; 2],
                    (_, Gate::Packed, _) => [GIANT; 2],
                    (_, Gate::Apart, _) => [AIMV2; 2],
                    (.., NormLayer::RmsNorm) => [RMS_NORM; 2],
                    _ if vit.use_post_norm => [POST_NORM; 2],
                    _ => [PLAIN, CLIP],
                }
            };
            let fitting = names.into_iter().find(|name| norm_eps_of(name) == Some(vit.norm_eps));
            fitting.or(known).unwrap_or(names[0]).into()
        }
        (other, _) => match config.name.as_deref() {
            Some(name) => name.into(),
            None => format!("tallow_{}", other.family()).into(),
        },
    }
}

/// A ViT of timm's.
const PLAIN: &str = "vit_base_patch16_224";
/// The same with the norms of CLIP.
const CLIP: &str = "vit_base_patch16_clip_224";
/// The same with a gate, and with a gate from a layer of its own.
const GIANT: &str = "vit_giant_patch14_dinov2";
const AIMV2: &str = "aimv2_large_patch14_224";
/// The same with other blocks, and with other norms.
const PARALLEL_SCALING: &str = "vit_pwee_patch16_reg1_gap_256";
const DIFF_PARALLEL: &str = "vit_dpwee_patch16_reg1_gap_256";
const PARALLEL_THINGS: &str = "vit_small_patch16_18x2_224";
const POST_NORM: &str = "vit_base_patch16_rpn_224";
const RMS_NORM: &str = "test_vit4";
/// One of timm's class `Eva`, and one with DINOv3's norms.
const EVA: &str = "eva_giant_patch14_224";
const DINOV3: &str = "vit_base_patch16_dinov3";
/// One of timm's class `Beit`.
const BEIT: &str = "beit_base_patch16_224";

/// One of timm's class `VisionTransformerRelPos`, and one with the norms last.
const RELPOS: &str = "vit_relpos_base_patch16_plus_240";
const RELPOS_LAST: &str = "vit_relpos_base_patch16_rpn_224";

/// timm's hybrid with the same stem.
fn hybrid(vit: &VitConfig) -> Option<&'static str> {
    const HYBRIDS: [&str; 4] =
        ["vit_tiny_r_s16_p8_224", "vit_small_r26_s32_224", "vit_base_r50_s16_224", "vit_large_r50_s32_224"];
    let same = |name: &str| match zoo::find(name).map(|entry| entry.architecture) {
        Ok(Architecture::Vit(base)) => stem(&base) == stem(vit),
        _ => false,
    };
    vit.stem_layers.and_then(|_| HYBRIDS.into_iter().find(|name| same(name)))
}

fn stem(vit: &VitConfig) -> Option<(StemLayers, usize)> {
    vit.stem_layers.map(|layers| (layers, vit.stem_width))
}

/// Whether timm builds both with the same class, after whose parameters those of the ViT are called.
fn same_class(vit: &VitConfig, name: &str) -> bool {
    let class = |vit: &VitConfig| {
        let relative = vit.rel_pos_dim.is_some();
        // Of Eva arguments say it.
        let at_once = (vit.block_fn == BlockFn::ParallelScaling).then_some(vit.attn_layer);
        let blocks = (!vit.is_eva_or_beit()).then(|| (vit.block_fn, at_once, vit.use_post_norm, vit.gate()));
        (vit.is_eva_or_beit(), vit.has_relative_tables(), relative, blocks, stem(vit))
    };
    match zoo::find(name).map(|entry| entry.architecture) {
        Ok(Architecture::Vit(base)) => class(&base) == class(vit),
        _ => false,
    }
}

fn norm_eps_of(name: &str) -> Option<f64> {
    match zoo::find(name).ok()?.architecture {
        Architecture::Vit(vit) => Some(vit.norm_eps),
        _ => None,
    }
}

/// Whether a ViT has a part for which timm has no words at all.
fn has_no_words(vit: &VitConfig) -> bool {
    let concatenates = vit.global_pool == GlobalPool::TokenAvg && vit.num_classes > 0;
    vit.pos_embed == PosEmbed::Sinusoidal
        || vit.spt
        || vit.norm_patches
        || vit.lsa
        || vit.distilled
        || concatenates
        || vit.head_norm
        || vit.head_proj.is_some()
        || vit.stem_layers.is_some() && hybrid(vit).is_none()
}

/// Keyword arguments of timm's constructor. Where timm's default says the same, newer ones are left out, so that versions that
/// do not know them yet build the model too.
///
/// `name` is the architecture that they change: what it says otherwise is stated too.
fn model_args(vit: &VitConfig, name: &str) -> Value {
    let base = match zoo::find(name).map(|entry| entry.architecture) {
        Ok(Architecture::Vit(base)) => base,
        _ => VitConfig::default(),
    };
    let mut args = json!({
        "img_size": vit.img_size,
        "patch_size": vit.patch_size,
        "in_chans": vit.in_chans,
        "embed_dim": vit.embed_dim,
        "depth": vit.depth,
        "num_heads": vit.num_heads,
        "mlp_ratio": vit.mlp_ratio,
        "qkv_bias": vit.qkv_bias,
        "init_values": vit.init_values,
        "global_pool": vit.global_pool.name(),
        "drop_rate": vit.drop_rate,
        "pos_drop_rate": vit.pos_drop_rate,
        "proj_drop_rate": vit.proj_drop_rate,
        "attn_drop_rate": vit.attn_drop_rate,
        "drop_path_rate": vit.drop_path_rate,
    });
    if vit.is_eva_or_beit() {
        eva_args(vit, &mut args);
        return args;
    }
    if let Some(width) = vit.rel_pos_dim {
        relative_args(vit, width, &mut args);
        return args;
    }
    if vit.gate() == Gate::Packed {
        // timm counts the gate.
        args["mlp_ratio"] = (2. * vit.mlp_ratio).into();
    }
    for (name, value) in [
        ("qk_norm", json!(vit.qk_norm)),
        ("class_token", vit.class_token.into()),
        ("reg_tokens", vit.reg_tokens.into()),
        ("no_embed_class", vit.no_embed_class.into()),
        ("pre_norm", vit.pre_norm.into()),
    ] {
        args[name] = value;
    }
    match vit.fc_norm {
        Some(fc_norm) => args["fc_norm"] = fc_norm.into(),
        None if base.fc_norm.is_some() => args["fc_norm"] = vit.uses_fc_norm().into(),
        None => {}
    }
    if vit.pool_include_prefix || base.pool_include_prefix {
        args["pool_include_prefix"] = vit.pool_include_prefix.into();
    }
    if !vit.final_norm || !base.final_norm {
        args["final_norm"] = vit.final_norm.into();
    }
    for (name, value, usual) in [
        ("proj_bias", vit.proj_bias, true),
        ("scale_attn_norm", vit.scale_attn_inner, false),
        ("scale_mlp_norm", vit.scale_mlp, false),
    ] {
        if value != usual || base.scale_mlp || !base.proj_bias {
            args[name] = value.into();
        }
    }
    if vit.attn_layer != base.attn_layer {
        args["attn_layer"] = if vit.attn_layer == AttnLayer::Diff { "diff" } else { "attn" }.into();
    }
    if vit.norm_layer != base.norm_layer {
        args["norm_layer"] = vit.norm_layer.name().into();
    }
    if vit.spt {
        args["spt"] = true.into();
    }
    if vit.lsa {
        args["lsa"] = true.into();
    }
    match vit.pos_embed {
        PosEmbed::Learned if base.pos_embed == PosEmbed::Learned => {}
        PosEmbed::Learned => args["pos_embed"] = "learn".into(),
        other => args["pos_embed"] = other.name().into(),
    }
    match vit.act {
        // It comes with the gate, and that with the name.
        _ if vit.swiglu_mlp => {}
        Act::Gelu if base.act == Act::Gelu => {}
        act => args["act_layer"] = act.name().into(),
    }
    args
}

/// Keyword arguments of timm's class `VisionTransformerRelPos`.
fn relative_args(vit: &VitConfig, width: usize, args: &mut Value) {
    if let Some(args) = args.as_object_mut() {
        args.remove("pos_drop_rate");
    }
    for (name, value) in [
        ("qk_norm", json!(vit.qk_norm)),
        ("class_token", vit.class_token.into()),
        ("fc_norm", vit.uses_fc_norm().into()),
        ("rel_pos_dim", width.into()),
        ("shared_rel_pos", vit.use_shared_rel_pos_bias.into()),
    ] {
        args[name] = value;
    }
}

/// Keyword arguments of timm's classes `Eva` and `Beit`.
fn eva_args(vit: &VitConfig, args: &mut Value) {
    let mut add = |name: &str, value: Value| args[name] = value;
    add("swiglu_mlp", vit.swiglu_mlp.into());
    add("scale_mlp", vit.scale_mlp.into());
    add("use_abs_pos_emb", (vit.pos_embed == PosEmbed::Learned).into());
    add("use_fc_norm", (vit.final_norm && vit.uses_fc_norm()).into());
    if vit.has_relative_tables() {
        add("use_rel_pos_bias", vit.use_rel_pos_bias.into());
        add("use_shared_rel_pos_bias", vit.use_shared_rel_pos_bias.into());
        return;
    }
    add("use_post_transformer_norm", (vit.final_norm && !vit.uses_fc_norm()).into());
    add("use_pre_transformer_norm", vit.pre_norm.into());
    add("attn_type", if vit.k_bias { "rope" } else { "eva" }.into());
    add("qkv_fused", vit.qkv_fused.into());
    add("qk_norm", vit.qk_norm.into());
    add("scale_attn_inner", vit.scale_attn_inner.into());
    add("swiglu_align_to", vit.swiglu_align_to.into());
    add("class_token", vit.class_token.into());
    add("num_reg_tokens", vit.reg_tokens.into());
    add("no_embed_class", vit.no_embed_class.into());
    add("use_post_norm", vit.use_post_norm.into());
    add("use_rot_pos_emb", (vit.rope_type != RopeType::None).into());
    if vit.rope_type != RopeType::None {
        add("rope_type", vit.rope_type.name().into());
    }
    add("rope_grid_offset", vit.rope_grid_offset.into());
    add("rope_grid_indexing", vit.rope_grid_indexing.name().into());
    add("rope_temperature", vit.rope_temperature.into());
    add("rope_rotate_half", vit.rope_rotate_half.into());
    add("ref_feat_shape", vit.ref_feat_shape.map_or(Value::Null, |shape| json!(shape.sides())));
    if let Some(heads) = vit.attn_pool_num_heads {
        add("attn_pool_num_heads", heads.into());
    }
    if let Some(ratio) = vit.attn_pool_mlp_ratio {
        add("attn_pool_mlp_ratio", ratio.into());
    }
}

fn pretrained_cfg(config: &CheckpointConfig) -> Value {
    // timm repeats a lone value itself.
    let preprocessing = match &config.preprocessing {
        lone if lone.mean.len() == 1 => lone.clone(),
        other => other.clone().per_channel(),
    };
    let mut cfg = json!({
        "input_size": preprocessing.input_size,
        "fixed_input_size": true,
        "interpolation": match preprocessing.interpolation {
            Interpolation::Nearest => "nearest",
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
            Interpolation::Lanczos => "lanczos",
        },
        "crop_pct": preprocessing.crop_pct,
        "crop_mode": if preprocessing.squash { "squash" } else { "center" },
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "num_classes": config.architecture.num_classes(),
        "pool_size": null,
    });
    if let Architecture::Vit(vit) = &config.architecture {
        let first = config.architecture.filters().and_then(|(name, _)| name.strip_suffix(".weight"));
        cfg["first_conv"] = first.unwrap_or("patch_embed.proj").into();
        cfg["classifier"] = if vit.distilled { json!(["head", "head_dist"]) } else { "head".into() };
    }
    if let Some(tag) = &config.tag {
        cfg["tag"] = tag.as_str().into();
    }
    if let Some(license) = &config.license {
        cfg["license"] = license.as_str().into();
    }
    cfg
}
