//! Hybrid ViTs in the names and files of timm, transformers and the original repository give what those compute.
//! `references/make_hybrids.py` made them.

#[path = "../../models/tests/pytorch/mixed.rs"]
mod mixed;
#[path = "support/references.rs"]
mod references;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use mixed::mixed;
use references::references;
use serde_json::Value;
use tallow_models::{Architecture, Mode, Model, Params, VitConfig};
use tallow_weights::{Checkpoint, LoadOptions, OpenOptions, Source, load, open, save};

fn facts(case: &str) -> Value {
    let text = fs::read_to_string(references().join("hybrids.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[case].clone()
}

fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// A checkpoint of the case in this folder: its weights, and its config.
fn written(case: &str, folder: &Path) -> Checkpoint {
    let facts = facts(case);
    let tensors = facts["tensors"].as_object().unwrap().iter().enumerate();
    let made: HashMap<String, Tensor> = tensors
        .map(|(seed, (name, shape))| {
            let shape: Vec<usize> = serde_json::from_value(shape.clone()).unwrap();
            let fan: usize = shape[1..].iter().product();
            let value = match shape.len() {
                1 => (mixed(&shape, seed as u64, 1.) + if name.ends_with("weight") { 1. } else { 0. }).unwrap(),
                _ => mixed(&shape, seed as u64, 3. / (fan as f64).sqrt()),
            };
            (name.clone(), value)
        })
        .collect();
    let path = folder.join("model.safetensors");
    candle_core::safetensors::save(&made, &path).unwrap();
    fs::write(folder.join("config.json"), facts["config"].to_string()).unwrap();
    open(&Source::File(path), &OpenOptions::default()).unwrap()
}

/// Checks the logits for the reference's images in the model's size and channels. All parameters have to come from the checkpoint.
fn check(checkpoint: &Checkpoint, architecture: &Architecture, expected: &Value) -> Params {
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let account = load(checkpoint, architecture, &LoadOptions::default(), &params).unwrap();
    assert_eq!(account.initialised().count(), 0);
    let model = architecture.build(params.builder()).unwrap();
    let [channels, height, width] = architecture.input_size();
    let images = mixed(&[2, 3, height, width], 250, 4.).narrow(1, 0, channels).unwrap().contiguous().unwrap();
    let got = model.forward(&images, Mode::Eval).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let expected = numbers(expected);
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    let error = got.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / scale;
    assert!(error <= 2e-5, "relative error {error:e}");
    params
}

fn vit(architecture: &Architecture) -> &VitConfig {
    let Architecture::Vit(vit) = architecture else { panic!("no ViT") };
    vit
}

#[test]
fn transformers_hybrids_give_what_its_parts_compute() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = written("transformers", folder.path());
    let (config, _) = checkpoint.config_or_inferred().unwrap();
    let vit = vit(&config.architecture);
    assert_eq!((vit.reduction(), vit.patch_pixels(), vit.grid_size()), (8, 8, [5, 3]));
    check(&checkpoint, &config.architecture, &facts("transformers")["logits"]);
}

#[test]
fn timms_hybrids_give_what_it_computes_in_colour_and_in_grey_and_are_written_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = written("timm", folder.path());
    let (config, _) = checkpoint.config_or_inferred().unwrap();
    let params = check(&checkpoint, &config.architecture, &facts("timm")["logits"]);
    let grey = config.architecture.clone().with_in_chans(1);
    check(&checkpoint, &grey, &facts("timm")["grey"]);

    let again = tempfile::tempdir().unwrap();
    save::check_timm(&config).unwrap();
    save::timm(again.path(), &params, &config).unwrap();
    let said: Value = serde_json::from_str(&fs::read_to_string(again.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(said["architecture"], "vit_tiny_r_s16_p8_224");
    assert_eq!(said["pretrained_cfg"]["first_conv"], "patch_embed.backbone.conv");
    assert!(said.get("tallow").is_none(), "timm's words say all of it");
    let tensors =
        |folder: &Path| candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu).unwrap();
    let (before, after) = (tensors(folder.path()), tensors(again.path()));
    assert_eq!(before.len(), after.len());
    for (name, tensor) in before {
        let same = (tensor - &after[&name]).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        assert_eq!(same.to_scalar::<f32>().unwrap(), 0., "{name}");
    }

    // A stem that none of timm's hybrids has.
    let mut other = config.clone();
    other.architecture.set("stem_layers", "1").unwrap();
    let error = save::check_timm(&other).unwrap_err().to_string();
    assert!(error.contains("a stem of other stages"), "{error}");
}

#[test]
fn the_originals_npz_tells_the_stem_and_gives_what_timm_makes_of_it() {
    let checkpoint =
        open(&Source::File(references().join("hybrid.npz")), &OpenOptions::default().with(|c| c.num_heads = Some(2)));
    let checkpoint = checkpoint.unwrap();
    let (config, _) = checkpoint.config_or_inferred().unwrap();
    let vit = vit(&config.architecture);
    assert_eq!((vit.stem_layers.unwrap().stages(), vit.stem_width, vit.grid_size()), (&[2][..], 32, [2, 2]));
    check(&checkpoint, &config.architecture, &facts("original")["logits"]);
}

#[test]
fn weights_of_another_stem_are_an_error_that_names_the_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = written("timm", folder.path());
    let (config, _) = checkpoint.config_or_inferred().unwrap();
    for (field, value) in [("stem_layers", "none"), ("stem_layers", "1"), ("stem_width", "32")] {
        let mut other = config.architecture.clone();
        other.set(field, value).unwrap();
        let params = Params::new(0, DType::F32, &Device::Cpu);
        let error = load(&checkpoint, &other, &LoadOptions::default(), &params).unwrap_err().to_string();
        assert!(error.contains("patch_embed."), "{field} {value}: {error}");
    }
}
