//! The same of ViTs with other blocks: rotary and relative positions, gates, keys without a bias, norms behind. `make_blocks.py` made
//! the references.

use std::collections::BTreeSet;

use tallow_models::{Architecture, Error, ModelConfig, VitConfig};
use tallow_weights::save;

use super::*;

const TIMM: [&str; 13] = [
    "timm_dinov3",
    "timm_eva02",
    "timm_beit",
    "timm_rope_mixed",
    "timm_pe",
    "timm_post_norm",
    "timm_relpos",
    "timm_pwee",
    "timm_dpwee",
    "timm_xp",
    "timm_things",
    "timm_aimv2",
    "timm_beit3",
];

/// A case's checkpoint without the config beside it.
fn weights_alone(case: &str) -> (tempfile::TempDir, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weights.safetensors");
    std::fs::copy(references().join(case).join("model.safetensors"), &file).unwrap();
    let checkpoint = open(&Source::File(file), &OpenOptions::default()).unwrap();
    assert!(checkpoint.config().is_none());
    (folder, checkpoint)
}

#[test]
fn timms_eva_and_beit_equal_timm() {
    for case in TIMM {
        let account = check_folder(case);
        assert_eq!(account.initialised().count() + account.left_out().count() + account.adapted().count(), 0, "{case}");
    }
}

#[test]
fn another_image_size_that_is_no_square_equals_timm() {
    let adapted = |case: &str, size: [usize; 2]| {
        let checkpoint = reference(case);
        let architecture = checkpoint.config().unwrap().architecture.clone().with_img_size(size);
        let account = check(&format!("{case}_other"), &checkpoint, &architecture);
        account.adapted().map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>()
    };
    assert!(adapted("timm_dinov3", [4, 10]).is_empty(), "rotary positions fit any size");
    assert!(adapted("timm_relpos", [4, 8]).is_empty(), "an MLP reads any distance");
    assert_eq!(adapted("timm_eva02", [8, 4]), ["pos_embed".to_owned()].into());
    assert_eq!(adapted("timm_pwee", [8, 4]), ["pos_embed".to_owned()].into());
    assert_eq!(adapted("timm_rope_mixed", [4, 8]), ["pos_embed".to_owned()].into());
    let tables = ["blocks.0.attn.", "blocks.1.attn.", "rel_pos_bias."];
    assert_eq!(adapted("timm_beit", [10, 4]), tables.map(|of| format!("{of}relative_position_bias_table")).into());
}

#[test]
fn transformers_dinov3_beit_data2vec_and_dinov2_giant_equal_transformers() {
    for case in ["hf_dinov3", "hf_beit_classifier", "hf_data2vec", "hf_dinov2_giant"] {
        check_folder(case);
    }
}

#[test]
fn the_original_dinov3_equals_timm_by_names_alone_and_its_mask_takes_the_bias_of_keys_away() {
    let checkpoint = reference("dinov3.pth");
    let (config, notes) = checkpoint.config_or_inferred().unwrap();
    assert_eq!(config.architecture.input_size(), [3, 224, 224]);
    assert!(notes.iter().any(|note| note.contains("DINOv3's")), "{notes:?}");
    let account = check("dinov3", &checkpoint, &config.architecture.clone().with_img_size(6));
    let left_out: Vec<&str> = account.left_out().map(|(name, _)| name).collect();
    assert_eq!(left_out, ["blocks.0.attn.qkv.bias_mask", "rope_embed.periods", "mask_token"]);
}

#[test]
fn positions_heads_and_gates_are_read_off_the_names_where_they_tell() {
    for case in ["timm_beit", "hf_beit_classifier", "timm_rope_mixed", "timm_dpwee"] {
        let (_folder, checkpoint) = weights_alone(case);
        let (config, notes) = checkpoint.config_or_inferred().unwrap();
        let Architecture::Vit(vit) = &config.architecture else { panic!("{case}") };
        assert_eq!((vit.num_heads, vit.img_size), (2, 6.into()), "{case}: {notes:?}");
        check(case, &checkpoint, &config.architecture);
    }
    let options = OpenOptions::default().with(|options| options.num_heads = Some(2));
    let folder = tempfile::tempdir().unwrap();
    // timm_pwee pools as no tensor tells: registers and no class token mean the mean of the patches.
    for case in [
        "timm_eva02",
        "timm_dinov3",
        "hf_dinov3",
        "timm_relpos",
        "timm_pwee",
        "timm_xp",
        "timm_things",
        "timm_aimv2",
        "timm_beit3",
    ] {
        let file = folder.path().join(format!("{case}.safetensors"));
        std::fs::copy(references().join(case).join("model.safetensors"), &file).unwrap();
        let checkpoint = open(&Source::File(file), &options).unwrap();
        let (config, _) = checkpoint.config_or_inferred().unwrap();
        let Architecture::Vit(vit) = config.architecture.with_img_size(6) else { panic!("{case}") };
        check(case, &checkpoint, &Architecture::Vit(vit));
    }
}

#[test]
fn what_is_written_has_timms_names_and_is_read_back() {
    for case in TIMM {
        let checkpoint = reference(case);
        let config = checkpoint.config().unwrap();
        save::check_timm(config).unwrap_or_else(|e| panic!("{case}: {e}"));
        let params = Params::new(0, DType::F32, &Device::Cpu);
        load(&checkpoint, &config.architecture, &LoadOptions::default(), &params).unwrap();
        config.architecture.build(params.builder()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        save::timm(folder.path(), &params, config).unwrap();
        let written = open(&Source::Folder(folder.path().into()), &OpenOptions::default()).unwrap();
        let names = |checkpoint: &Checkpoint| checkpoint.names().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(names(&written), names(&checkpoint), "{case}");
        assert_eq!(written.config().unwrap().architecture, config.architecture, "{case}");
        check(case, &written, &config.architecture);
    }
}

#[test]
fn positions_that_do_not_fit_the_model_are_an_error() {
    let heads = |c: &mut VitConfig| c.num_heads = 4;
    let odd = VitConfig::default().with(|c| {
        (c.embed_dim, c.num_heads) = (12, 2);
        c.rope_type = tallow_models::vit::RopeType::Cat;
    });
    let Err(Error::Config { field, expected, .. }) = odd.validate() else { panic!("6 is no multiple of 4") };
    assert!(field == "rope_type" && expected.contains('6'), "{expected}");
    for (case, change, word) in [
        ("timm_beit", heads as fn(&mut VitConfig), "heads"),
        ("timm_beit", |c| c.use_shared_rel_pos_bias = false, "use_shared_rel_pos_bias"),
        ("timm_dinov3", |c| c.qkv_bias = false, "qkv_bias"),
        ("timm_eva02", |c| c.scale_mlp = false, "mlp.norm"),
    ] {
        let Architecture::Vit(vit) = reference(case).config().unwrap().architecture.clone() else { panic!("{case}") };
        let params = Params::new(0, DType::F32, &Device::Cpu);
        let error = load(&reference(case), &Architecture::Vit(vit.with(change)), &LoadOptions::default(), &params);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(word), "{case}: {error}");
    }
}
