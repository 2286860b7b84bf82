//! Checkpoints that timm, transformers and the original repositories write give the tokens, pooled features and logits that
//! those libraries compute. `references/make.py` made them.

#[path = "forward/blocks.rs"]
mod blocks;
#[path = "support/references.rs"]
mod references;

use candle_core::{DType, Device, Tensor};
use tallow_models::{AnyModel, Architecture, Mode, Model, Params};
use tallow_weights::{Account, Checkpoint, Head, LoadOptions, OpenOptions, Source, load, open};

use references::{reference, references, vit};

fn expected(case: &str) -> Checkpoint {
    reference(&format!("expected/{case}.safetensors"))
}

/// The largest difference over the largest value.
fn relative_error(got: &Tensor, expected: &Tensor) -> f32 {
    assert_eq!(got.dims(), expected.dims());
    let values = |t: &Tensor| t.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
    let (got, expected) = (values(got), values(expected));
    let scale = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(scale > 0.);
    got.iter().zip(&expected).fold(0f32, |m, (a, b)| if a.is_finite() { m.max((a - b).abs()) } else { f32::INFINITY })
        / scale
}

fn build(checkpoint: &Checkpoint, architecture: &Architecture) -> (AnyModel, Account) {
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let account = load(checkpoint, architecture, &LoadOptions::default(), &params).unwrap();
    (architecture.build(params.builder()).unwrap(), account)
}

/// Compares everything that the reference holds.
fn check(case: &str, checkpoint: &Checkpoint, architecture: &Architecture) -> Account {
    let (model, account) = build(checkpoint, architecture);
    let AnyModel::Vit(vit) = &model else { panic!("{case}: no ViT") };
    let expected = expected(case);
    let images = expected.tensor("images").unwrap();
    for name in expected.names().filter(|name| *name != "images") {
        let got = match name {
            "tokens" => vit.forward_features(&images, Mode::Eval),
            "pooled" => model.pooled(&images, Mode::Eval),
            "logits" => model.forward(&images, Mode::Eval),
            other => panic!("{case}: {other}"),
        };
        let error = relative_error(&got.unwrap(), &expected.tensor(name).unwrap());
        assert!(error <= 2e-5, "{case}: {name}: relative error {error:e}");
    }
    account
}

/// Opens the folder and checks it with what its config says.
fn check_folder(case: &str) -> Account {
    let checkpoint = reference(case);
    let architecture = checkpoint.config().unwrap().architecture.clone();
    check(case, &checkpoint, &architecture)
}

#[test]
fn timm_classic_equals_timm() {
    let account = check_folder("timm");
    assert_eq!(account.initialised().count() + account.left_out().count() + account.adapted().count(), 0);
}

#[test]
fn timm_with_layer_scale_qk_norm_registers_and_average_pool_equals_timm() {
    check_folder("timm_full");
}

#[test]
fn another_image_size_equals_timm() {
    for (case, img_size) in [("timm_img_24", 24), ("timm_img_8", 8)] {
        let checkpoint = reference("timm");
        let architecture = checkpoint.config().unwrap().architecture.clone().with_img_size(img_size);
        let account = check(case, &checkpoint, &architecture);
        assert_eq!(account.adapted().map(|(name, _)| name).collect::<Vec<_>>(), ["pos_embed"]);
        assert_eq!(account.notes.iter().any(|note| note.contains("costs accuracy")), img_size == 8);
    }
}

#[test]
fn another_patch_size_equals_timm() {
    for (case, patch_size, img_size) in [("timm_patch_8", 8, 32), ("timm_patch_2", 2, 8)] {
        let mut architecture = reference("timm").config().unwrap().architecture.clone().with_img_size(img_size);
        architecture.set("patch_size", &patch_size.to_string()).unwrap();
        let account = check(case, &reference("timm"), &architecture);
        assert_eq!(account.adapted().map(|(name, _)| name).collect::<Vec<_>>(), ["patch_embed.proj.weight"]);
    }
}

#[test]
fn other_input_channels_equal_timm() {
    for (case, channels) in [("timm_in_chans_1", 1), ("timm_in_chans_4", 4)] {
        let architecture = reference("timm").config().unwrap().architecture.clone().with_in_chans(channels);
        check(case, &reference("timm"), &architecture);
    }
}

#[test]
fn hugging_face_models_equal_transformers() {
    for case in [
        "hf_vit",
        "hf_vit_classifier",
        "hf_dinov2",
        "hf_dinov2_classifier",
        "hf_dinov2_registers",
        "hf_deit_teacher",
        "hf_mae",
    ] {
        check_folder(case);
    }
}

#[test]
fn deit_without_its_second_head_classifies_by_the_class_token_alone() {
    check_folder("hf_deit_classifier");
}

#[test]
fn the_names_of_transformers_5_in_a_bin_file_equal_transformers() {
    check_folder("hf_vit_v5");
}

#[test]
fn sharded_safetensors_equal_transformers() {
    check_folder("hf_sharded");
}

#[test]
fn deit3_names_equal_timm() {
    let vit = vit().with(|c| {
        c.no_embed_class = true;
        c.init_values = Some(1e-6);
    });
    check("deit3", &reference("deit3.pth"), &Architecture::Vit(vit));
}

#[test]
fn original_dinov2_with_registers_in_chunks_equals_timm() {
    let vit = vit().with(|c| {
        c.num_classes = 0;
        c.init_values = Some(1e-5);
        c.reg_tokens = 4;
        c.no_embed_class = true;
    });
    let account = check("dinov2", &reference("dinov2.pth"), &Architecture::Vit(vit));
    let left_out: Vec<&str> = account.left_out().map(|(name, _)| name).collect();
    assert_eq!(
        left_out,
        [
            "module.backbone.mask_token",
            "module.dino_head.mlp.0.weight",
            "student.module.backbone.patch_embed.proj.weight"
        ]
    );
    assert!(
        account.notes.iter().any(|note| note.contains("teacher") && note.contains("student")),
        "{:?}",
        account.notes
    );
}

#[test]
fn npz_of_the_original_repository_and_of_big_vision_equals_timm() {
    let account = check("jax", &reference("jax.npz"), &Architecture::Vit(vit()));
    assert_eq!(account.left_out().map(|(name, _)| name).collect::<Vec<_>>(), ["pre_logits/kernel", "pre_logits/bias"]);
    check("big_vision", &reference("big_vision.npz"), &Architecture::Vit(vit()));
}

#[test]
fn npz_files_are_resampled_as_timm_resamples_them_bilinearly() {
    let sized = |img_size: usize, patch_size: &str| {
        let mut architecture = Architecture::Vit(vit()).with_img_size(img_size);
        architecture.set("patch_size", patch_size).unwrap();
        architecture
    };
    let account = check("jax_img_8", &reference("jax.npz"), &sized(8, "4"));
    let (_, how) = account.adapted().next().unwrap();
    assert!(how.contains("from 4×4 to 2×2 (bilinear, as timm)"), "{how}");
    check("big_vision_patch_8", &reference("big_vision.npz"), &sized(16, "8"));
}

#[test]
fn an_architecture_is_read_off_the_shapes_where_they_tell() {
    // Head norms tell the number of heads.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    std::fs::copy(references().join("timm_full/model.safetensors"), &file).unwrap();
    let checkpoint = open(&Source::File(file), &OpenOptions::default()).unwrap();
    assert!(checkpoint.config().is_none());
    let (config, notes) = checkpoint.config_or_inferred().unwrap();
    assert_eq!(config.architecture.input_size(), [3, 16, 16]);
    assert!(notes.iter().any(|note| note.contains("assumed")));
    check("timm_full", &checkpoint, &config.architecture);

    // Nothing tells it here: 24 is no multiple of 64.
    let error = reference("deit3.pth").config_or_inferred().unwrap_err().to_string();
    assert!(error.contains("number of attention heads"), "{error}");
}

#[test]
fn a_new_head_is_the_only_thing_that_is_new() {
    let checkpoint = reference("timm");
    let architecture = checkpoint.config().unwrap().architecture.clone().with_num_classes(7);
    let (model, account) = build(&checkpoint, &architecture);
    assert_eq!(account.initialised().map(|(name, _)| name).collect::<Vec<_>>(), ["head.weight", "head.bias"]);
    // In the file's order.
    assert_eq!(account.left_out().map(|(name, _)| name).collect::<Vec<_>>(), ["head.bias", "head.weight"]);
    let expected = expected("timm");
    let images = expected.tensor("images").unwrap();
    assert_eq!(model.forward(&images, Mode::Eval).unwrap().dims(), [2, 7]);
    let pooled = model.pooled(&images, Mode::Eval).unwrap();
    assert!(relative_error(&pooled, &expected.tensor("pooled").unwrap()) <= 2e-5);
}

#[test]
fn a_head_is_kept_made_anew_or_refused_as_asked() {
    let checkpoint = reference("timm");
    let architecture = checkpoint.config().unwrap().architecture.clone();
    let attempt = |architecture: &Architecture, head: Head| {
        load(
            &checkpoint,
            architecture,
            &LoadOptions::default().with(|c| c.head = head),
            &Params::new(0, DType::F32, &Device::Cpu),
        )
    };
    assert_eq!(attempt(&architecture, Head::Keep).unwrap().initialised().count(), 0);
    assert_eq!(attempt(&architecture, Head::New).unwrap().initialised().count(), 2);
    let seven = architecture.clone().with_num_classes(7);
    assert_eq!(attempt(&seven, Head::New).unwrap().initialised().count(), 2);
    let error = attempt(&seven, Head::Keep).unwrap_err().to_string();
    assert!(error.contains("expected 7 classes, got 5"), "{error}");
    let none = architecture.with_num_classes(0);
    assert_eq!(attempt(&none, Head::Auto).unwrap().left_out().count(), 2);
}

#[test]
fn a_model_that_is_built_for_evaluation_alone_has_the_loaded_values_and_a_new_head_where_the_load_says_so() {
    let checkpoint = reference("timm");
    let architecture = checkpoint.config().unwrap().architecture.clone();
    let expected = expected("timm");
    let images = expected.tensor("images").unwrap();
    let params = Params::new(0, DType::F32, &Device::Cpu);
    load(&checkpoint, &architecture, &LoadOptions::default(), &params).unwrap();
    let model = architecture.build(params.eval_builder()).unwrap();
    let logits = model.forward(&images, Mode::Eval).unwrap();
    assert!(!logits.track_op());
    assert!(relative_error(&logits, &expected.tensor("logits").unwrap()) <= 2e-5);
    params.check_taken().unwrap();

    let seven = architecture.with_num_classes(7);
    let (trained, evaluated) = (Params::new(5, DType::F32, &Device::Cpu), Params::new(5, DType::F32, &Device::Cpu));
    for params in [&trained, &evaluated] {
        load(&checkpoint, &seven, &LoadOptions::default(), params).unwrap();
    }
    let of_trained = seven.build(trained.builder()).unwrap().forward(&images, Mode::Eval).unwrap();
    let of_evaluated = seven.build(evaluated.eval_builder()).unwrap().forward(&images, Mode::Eval).unwrap();
    assert_eq!(of_trained.to_vec2::<f32>().unwrap(), of_evaluated.to_vec2::<f32>().unwrap());
}

#[test]
fn a_model_inside_another_is_loaded_under_its_prefix_and_a_forgotten_prefix_is_an_error() {
    let checkpoint = reference("timm");
    let architecture = checkpoint.config().unwrap().architecture.clone();
    let expected = expected("timm");
    let images = expected.tensor("images").unwrap();
    let prefixed = LoadOptions::default().with(|options| options.prefix = Some("encoder.vit".into()));
    let params = Params::new(0, DType::F32, &Device::Cpu);
    load(&checkpoint, &architecture, &prefixed, &params).unwrap();
    let model = architecture.build(params.builder().pp("encoder").pp("vit")).unwrap();
    let logits = model.forward(&images, Mode::Eval).unwrap();
    assert!(relative_error(&logits, &expected.tensor("logits").unwrap()) <= 2e-5);
    assert!(params.names().iter().all(|name| name.starts_with("encoder.vit.")));
    params.check_taken().unwrap();

    for eval in [false, true] {
        let params = Params::new(0, DType::F32, &Device::Cpu);
        load(&checkpoint, &architecture, &LoadOptions::default(), &params).unwrap();
        let vb = if eval { params.eval_builder() } else { params.builder() };
        let error = architecture.build(vb.pp("vit")).unwrap_err().to_string();
        assert!(error.contains("vit.cls_token") && error.contains("load with the prefix \"vit\""), "{error}");
    }

    // Nor is anything loaded beside a model that was built before, under a prefix that the load does not know.
    let params = Params::new(0, DType::F32, &Device::Cpu);
    architecture.build(params.builder().pp("vit")).unwrap();
    let error = load(&checkpoint, &architecture, &LoadOptions::default(), &params).unwrap_err().to_string();
    assert!(error.contains("vit.") && error.contains("load with the prefix \"vit\""), "{error}");

    // Nor does a model start from random values that is built without the prefix, or under another one.
    for vb in [|params: &Params| params.builder(), |params: &Params| params.builder().pp("decoder")] {
        let params = Params::new(0, DType::F32, &Device::Cpu);
        load(&checkpoint, &architecture, &prefixed, &params).unwrap();
        let error = architecture.build(vb(&params)).unwrap_err().to_string();
        assert!(error.contains("load with the prefix that the model is built under"), "{error}");
    }

    // A model with fewer blocks than were loaded takes a part of the values: neither trained nor saved.
    let AnyModel::Vit(vit) = &model else { panic!("no ViT") };
    let mut shallow = vit.config().clone();
    shallow.depth -= 1;
    let params = Params::new(0, DType::F32, &Device::Cpu);
    load(&checkpoint, &architecture, &LoadOptions::default(), &params).unwrap();
    let model = Architecture::Vit(shallow).build(params.builder()).unwrap();
    let loss = model.forward(&images, Mode::Eval).unwrap().sum_all().unwrap();
    let left_over = format!("blocks.{}.", vit.config().depth - 1);
    let error = params.backward(&loss).unwrap_err().to_string();
    assert!(error.contains(&left_over) && error.contains("belong to no parameter of the model"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let error = tallow_weights::save::timm(folder.path(), &params, checkpoint.config().unwrap()).unwrap_err();
    assert!(error.to_string().contains(&left_over), "{error}");
}

#[test]
fn loading_into_a_built_model_changes_it() {
    let checkpoint = reference("timm");
    let architecture = checkpoint.config().unwrap().architecture.clone();
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let model = architecture.build(params.builder()).unwrap();
    load(&checkpoint, &architecture, &LoadOptions::default(), &params).unwrap();
    let expected = expected("timm");
    let logits = model.forward(&expected.tensor("images").unwrap(), Mode::Eval).unwrap();
    assert!(relative_error(&logits, &expected.tensor("logits").unwrap()) <= 2e-5);
}

#[test]
fn labels_and_preprocessing_come_from_the_config() {
    let checkpoint = reference("timm");
    let config = checkpoint.config().unwrap();
    assert_eq!(config.labels.as_deref().unwrap(), ["ant", "bee", "cat", "dog", "elk"]);
    assert_eq!((config.name.as_deref(), config.tag.as_deref()), (Some("vit_tiny_patch16_224"), Some("made")));
    let checkpoint = reference("hf_vit_classifier");
    let config = checkpoint.config().unwrap();
    assert_eq!(config.labels.as_deref().unwrap(), ["ant", "bee", "cat", "dog", "elk"]);
    assert_eq!(config.preprocessing.mean, [0.4, 0.5, 0.6]);
    assert!(config.preprocessing.squash);
    let checkpoint = reference("hf_dinov2_classifier");
    let config = checkpoint.config().unwrap();
    assert!(!config.preprocessing.squash);
    assert_eq!(config.preprocessing.crop_pct, 0.8);
}

#[test]
fn the_flat_layout_of_timm_says_the_same_as_the_nested_one() {
    let text = std::fs::read_to_string(references().join("timm/config.json")).unwrap();
    let mut root: serde_json::Value = serde_json::from_str(&text).unwrap();
    let nested = root.as_object_mut().unwrap().remove("pretrained_cfg").unwrap();
    root.as_object_mut().unwrap().extend(nested.as_object().unwrap().clone());
    let flat = tallow_weights::CheckpointConfig::parse(&root.to_string(), None, "config.json").unwrap();
    assert_eq!(Some(&flat), reference("timm").config());
}

#[test]
fn an_account_is_short_in_print_and_whole_in_json() {
    let architecture = reference("timm").config().unwrap().architecture.clone().with_img_size(8).with_num_classes(7);
    let (_, account) = build(&reference("timm"), &architecture);
    let text = account.to_string();
    assert!(text.lines().count() <= 6, "{text}");
    for word in ["30 of 32 parameters", "adapted: pos_embed", "4×4 to 2×2", "left out: head.", "new: head."] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    let json = serde_json::to_value(&account).unwrap();
    assert_eq!(json["tensors"].as_array().unwrap().len(), 32);
    assert_eq!(json["parameters"].as_array().unwrap().len(), 32);
    let back: Account = serde_json::from_value(json).unwrap();
    assert_eq!(back, account);
}

#[cfg(feature = "bundled")]
#[test]
fn the_bundled_weights_give_what_pytorch_computes_from_them() {
    let source = Source::parse("vit_small_patch14_dinov2.saliency").unwrap();
    assert_eq!(source, Source::Bundled("vit_small_patch14_dinov2.saliency".into()));
    let checkpoint = open(&source, &OpenOptions::default()).unwrap();
    let config = checkpoint.config().unwrap();
    assert_eq!(config.tag.as_deref(), Some("saliency"));
    let (model, _) = build(&checkpoint, &config.architecture.clone().with_img_size(56));
    let AnyModel::Vit(vit) = &model else { panic!("no ViT") };
    let expected = expected("bundled");
    let images = expected.tensor("images").unwrap();
    let tokens = vit.forward_features(&images, Mode::Eval).unwrap();
    let every_fourth = Tensor::arange_step(0u32, 17, 4, &Device::Cpu).unwrap();
    let tokens = tokens.index_select(&every_fourth, 1).unwrap();
    assert!(relative_error(&tokens, &expected.tensor("tokens").unwrap()) <= 2e-5);
    let pooled = model.pooled(&images, Mode::Eval).unwrap();
    assert!(relative_error(&pooled, &expected.tensor("pooled").unwrap()) <= 2e-5);
}
