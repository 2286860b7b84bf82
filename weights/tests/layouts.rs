//! ViTs in the names and files of CLIP, SigLIP, open_clip, torchvision, mmpretrain and others give what those libraries compute.
//! `references/make_layouts.py` made them.

#[path = "support/references.rs"]
mod references;

use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use tallow_models::vit::{Act, GlobalPool};
use tallow_models::{AnyModel, Architecture, Mode, Model, Params, VitConfig};
use tallow_weights::{
    Account, Checkpoint, CheckpointConfig, Head, Interpolation, LoadOptions, OpenOptions, Source, load, open, save,
};

use references::{reference, references};

/// The largest difference over the largest value.
fn relative_error(got: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(got.dims(), expected.dims());
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (got, expected) = (values(got), values(expected));
    let scale = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(scale > 0.);
    got.iter().zip(&expected).fold(0f32, |m, (a, b)| if a.is_finite() { m.max((a - b).abs()) } else { f32::INFINITY })
        / scale
}

/// Opens one of the cases as a folder: its weights, and a config where it has one.
fn layout(case: &str) -> Checkpoint {
    open_layout(case, &OpenOptions::default()).unwrap()
}

fn open_layout(case: &str, options: &OpenOptions) -> tallow_weights::Result<Checkpoint> {
    let folder = references().join("layouts").join(case);
    let weights = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name != "expected.safetensors" && !name.ends_with(".json")
    });
    open(&Source::File(weights.unwrap()), options)
}

/// The weights of a case alone, in another folder.
fn alone(case: &str, folder: &Path, options: &OpenOptions) -> tallow_weights::Result<Checkpoint> {
    let own = references().join("layouts").join(case);
    let path = fs::read_dir(own).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
        path.extension().is_some_and(|ending| ending != "json") && !path.ends_with("expected.safetensors")
    });
    let target = folder.join(format!("{case}.safetensors"));
    fs::copy(path.unwrap(), &target).unwrap();
    open(&Source::File(target), options)
}

fn told(change: impl FnOnce(&mut OpenOptions)) -> OpenOptions {
    OpenOptions::default().with(|c| c.num_heads = Some(2)).with(change)
}

/// Compares everything that the reference holds with the model that the checkpoint says.
fn check(case: &str, checkpoint: &Checkpoint) -> (CheckpointConfig, Account) {
    let (config, _) = checkpoint.config_or_inferred().unwrap();
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let account = load(checkpoint, &config.architecture, &LoadOptions::default(), &params).unwrap();
    let model = config.architecture.build(params.builder()).unwrap();
    compare(case, &model);
    assert_eq!(account.initialised().count(), 0, "{case}");
    (config, account)
}

fn compare(case: &str, model: &AnyModel) {
    let expected = reference(&format!("layouts/{case}/expected.safetensors"));
    let images = expected.tensor("images").unwrap();
    for name in expected.names().filter(|name| *name != "images") {
        let got = match name {
            "pooled" => model.pooled(&images, Mode::Eval),
            "logits" => model.forward(&images, Mode::Eval),
            other => panic!("{case}: {other}"),
        };
        let error = relative_error(&got.unwrap(), &expected.tensor(name).unwrap());
        assert!(error <= 2e-5, "{case}: {name}: relative error {error:e}");
    }
}

fn vit(config: &CheckpointConfig) -> &VitConfig {
    match &config.architecture {
        Architecture::Vit(vit) => vit,
        other => panic!("{other:?}"),
    }
}

fn left_out<'a>(account: &'a Account, name: &str) -> &'a str {
    account.left_out().find(|(tensor, _)| *tensor == name).unwrap_or_else(|| panic!("{name} was not left out")).1
}

#[test]
fn clip_of_transformers_projects_and_leaves_its_text_tower_out() {
    let (config, account) = check("clip", &layout("clip"));
    assert!(config.projection);
    assert_eq!((vit(&config).act, config.architecture.num_classes()), (Act::Gelu, 6));
    assert!(left_out(&account, "text_model.final_layer_norm.weight").contains("text tower"));
    let images = &config.preprocessing;
    assert_eq!((images.crop_pct, images.squash, images.interpolation), (0.8, false, Interpolation::Bicubic));
    assert_eq!(images.mean, [0.48145466, 0.4578275, 0.40821073]);
    let (config, _) = check("clip_vision", &layout("clip_vision"));
    assert_eq!(vit(&config).act, Act::QuickGelu);
}

#[test]
fn classifiers_of_transformers_read_the_mean_of_the_patch_tokens() {
    for (case, norm) in [("clip_classifier", false), ("siglip_classifier", true)] {
        let (config, _) = check(case, &layout(case));
        assert!(!config.projection);
        assert_eq!((vit(&config).global_pool, vit(&config).final_norm), (GlobalPool::Avg, norm));
    }
}

#[test]
fn siglip_pools_by_attention() {
    let (config, _) = check("siglip", &layout("siglip"));
    assert_eq!((vit(&config).global_pool, vit(&config).act), (GlobalPool::Map, Act::GeluTanh));
    assert!(config.preprocessing.squash && !config.projection);
    assert_eq!(config.preprocessing.interpolation, Interpolation::Bicubic);
}

#[test]
fn open_clip_is_built_as_its_own_config_says() {
    let (config, account) = check("open_clip", &layout("open_clip"));
    assert_eq!((vit(&config).act, config.projection), (Act::QuickGelu, true));
    assert!(left_out(&account, "transformer.resblocks.0.ln_1.weight").contains("text tower"));
    assert!(config.preprocessing.squash);
    assert_eq!(config.preprocessing.std, [0.4, 0.5, 0.6]);
    let (config, account) = check("clipa", &layout("clipa"));
    assert_eq!((vit(&config).global_pool, vit(&config).uses_fc_norm()), (GlobalPool::Avg, true));
    assert!(account.notes.iter().any(|note| note.contains("the patch embedding has no bias")), "{:?}", account.notes);
}

#[test]
fn a_tower_of_timm_inside_of_open_clip_is_projected_by_the_head_beside_it() {
    let checkpoint = open_layout("trunk", &told(|_| ())).unwrap();
    let (config, account) = check("trunk", &checkpoint);
    assert!(config.projection);
    assert!(left_out(&account, "text.ln_final.weight").contains("text tower"));
}

#[test]
fn names_alone_are_enough_where_they_tell_everything_and_else_ask() {
    let temporary = tempfile::tempdir().unwrap();
    for (case, act) in [("clip", Act::Gelu), ("clip_vision", Act::QuickGelu), ("open_clip", Act::QuickGelu)] {
        let checkpoint = alone(case, temporary.path(), &told(|c| c.act = Some(act))).unwrap();
        let (config, _) = check(case, &checkpoint);
        assert!(config.projection && vit(&config).norm_eps == 1e-5, "{case}");
        // Which activation it has no tensor tells, and a wrong one would give wrong features.
        let checkpoint = alone(case, temporary.path(), &told(|_| ())).unwrap();
        let error = checkpoint.config_or_inferred().unwrap_err().to_string();
        assert!(error.contains("act=quick_gelu") && error.contains("act=gelu") && !error.contains('\n'), "{error}");
    }
    for case in ["siglip", "ijepa"] {
        check(case, &alone(case, temporary.path(), &told(|_| ())).unwrap());
    }
    let checkpoint = alone("clipa", temporary.path(), &told(|c| c.act = Some(Act::Gelu))).unwrap();
    let error = checkpoint.config_or_inferred().unwrap_err().to_string();
    assert!(error.contains("open_clip_config.json") && error.contains("CLIPA"), "{error}");
}

#[test]
fn torchvision_and_swag_equal_torchvision() {
    let checkpoint = open_layout("torchvision", &told(|_| ())).unwrap();
    let (config, _) = check("torchvision", &checkpoint);
    assert_eq!((config.preprocessing.interpolation, config.preprocessing.crop_pct), (Interpolation::Bilinear, 0.875));
    check("swag", &open_layout("swag", &told(|_| ())).unwrap());
}

#[test]
fn mmpretrain_and_mmseg_equal_timm() {
    for case in ["mmpretrain", "mmseg"] {
        check(case, &open_layout(case, &told(|_| ())).unwrap());
    }
}

#[test]
fn vit_pytorch_normalises_patches_before_and_behind() {
    for (case, pool) in [("vit_pytorch", GlobalPool::Token), ("vit_pytorch_mean", GlobalPool::Avg)] {
        let (config, _) = check(case, &open_layout(case, &told(|_| ())).unwrap());
        assert_eq!((vit(&config).global_pool, vit(&config).norm_patches, vit(&config).spt), (pool, true, false));
        assert!(save::check_timm(&config).unwrap_err().to_string().contains("norms around its patch embedding"));
    }
}

#[test]
fn ijepa_and_msn_equal_transformers() {
    let (config, _) = check("ijepa", &layout("ijepa"));
    assert_eq!((vit(&config).global_pool, vit(&config).uses_fc_norm()), (GlobalPool::Avg, false));
    let (config, _) = check("msn_classifier", &layout("msn_classifier"));
    assert_eq!(vit(&config).norm_eps, 1e-6);
}

#[test]
fn a_projection_is_no_classifier_and_is_never_drawn_anew_in_silence() {
    let checkpoint = layout("clip");
    let config = checkpoint.config().unwrap();
    let names = |count: usize| (0..count).map(|class| format!("class {class}")).collect::<Vec<_>>();
    let params = Params::new(0, DType::F32, &Device::Cpu);
    // As many classes as the projection has rows.
    let options = LoadOptions::default().with(|c| c.labels = Some(names(6)));
    let account = load(&checkpoint, &config.architecture, &options, &params).unwrap();
    let (_, why) = account.initialised().find(|(name, _)| *name == "head.weight").unwrap();
    assert!(why.contains("space shared with texts"), "{why}");
    let keep = options.with(|c| c.head = Head::Keep);
    assert!(load(&checkpoint, &config.architecture, &keep, &params).is_err());
    // A config that says a projection that the weights have not, or another.
    let own = references().join("layouts/clip");
    let mut tensors = candle_core::safetensors::load(own.join("model.safetensors"), &Device::Cpu).unwrap();
    let projection = tensors.remove("visual_projection.weight").unwrap();
    let narrow = projection.narrow(0, 0, 5).unwrap();
    for (projection, got) in [(None, "no projection at all"), (Some(narrow), "one to 5 values")] {
        let temporary = tempfile::tempdir().unwrap();
        fs::copy(own.join("config.json"), temporary.path().join("config.json")).unwrap();
        let mut tensors = tensors.clone();
        tensors.extend(projection.map(|projection| ("visual_projection.weight".to_owned(), projection)));
        candle_core::safetensors::save(&tensors, temporary.path().join("model.safetensors")).unwrap();
        let checkpoint = open(&Source::Folder(temporary.path().into()), &OpenOptions::default()).unwrap();
        let architecture = &checkpoint.config().unwrap().architecture;
        let error = load(&checkpoint, architecture, &LoadOptions::default(), &params).unwrap_err().to_string();
        assert!(error.contains(got) && error.contains("projection_dim") && !error.contains('\n'), "{error}");
        // Without its head it is a tower like any other.
        let without = architecture.clone().with_num_classes(0);
        let params = Params::new(0, DType::F32, &Device::Cpu);
        load(&checkpoint, &without, &LoadOptions::default(), &params).unwrap();
    }
}

#[test]
fn a_projection_stays_one_in_what_is_written_for_timm() {
    let checkpoint = layout("clip");
    let config = checkpoint.config().unwrap();
    let params = Params::new(0, DType::F32, &Device::Cpu);
    load(&checkpoint, &config.architecture, &LoadOptions::default(), &params).unwrap();
    config.architecture.build(params.builder()).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    save::timm(temporary.path(), &params, config).unwrap();
    save::check_timm(config).unwrap();
    let written = open(&Source::Folder(temporary.path().into()), &OpenOptions::default()).unwrap();
    assert!(written.config().unwrap().projection);
    check("clip", &written);
}

#[test]
fn names_of_vits_that_are_not_plain_are_refused_with_what_they_have() {
    let temporary = tempfile::tempdir().unwrap();
    let tensor = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let sam = [
        ("image_encoder.patch_embed.proj.weight", tensor(&[8, 3, 4, 4])),
        ("image_encoder.blocks.0.attn.rel_pos_h", tensor(&[3, 4])),
    ];
    let older = [("to_patch_embedding.1.weight", tensor(&[8, 48])), ("cls_token", tensor(&[1, 1, 8]))];
    for (tensors, what) in [(sam, "SAM"), (older, "older vit-pytorch")] {
        let path = temporary.path().join("model.safetensors");
        candle_core::safetensors::save(&std::collections::HashMap::from(tensors), &path).unwrap();
        let checkpoint = open(&Source::File(path), &OpenOptions::default()).unwrap();
        let error = checkpoint.config_or_inferred().unwrap_err().to_string();
        assert!(error.contains(what) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn what_is_no_plain_vit_is_refused_by_name() {
    for (text, word) in [
        (r#"{"model_type": "siglip2", "vision_config": {}}"#, "NaFlex"),
        (r#"{"model_type": "clip_text_model"}"#, "text tower alone"),
        (r#"{"model_type": "clip"}"#, "vision_config"),
        (r#"{"model_type": "clip_vision_model", "hidden_act": "relu"}"#, "hidden_act"),
        (r#"{"model_cfg": {"embed_dim": 4, "vision_cfg": {"layers": [1, 2, 3, 4]}}}"#, "ResNet"),
        (r#"{"model_cfg": {"embed_dim": 4, "vision_cfg": {"attentional_pool": true}}}"#, "attentional_pool"),
        (r#"{"model_cfg": {"embed_dim": 4, "vision_cfg": {"timm_model_name": "convnext_base"}}}"#, "convnext_base"),
        (r#"{"model_cfg": {"vision_cfg": {}}}"#, "embed_dim"),
        (r#"{"model_cfg": {"embed_dim": 4, "vision_cfg": {"head_width": 0}}}"#, "head_width"),
    ] {
        let error = CheckpointConfig::parse(text, None, "config.json").unwrap_err().to_string();
        assert!(error.contains(word) && !error.contains('\n'), "{error}");
    }
}
