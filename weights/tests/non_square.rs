//! Images that are no squares, against timm (`references/non_square/make.py`).

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use tallow_models::{Architecture, ImgSize, Mode, Model, Params};
use tallow_weights::save::config_json;
use tallow_weights::{CheckpointConfig, LoadOptions, OpenOptions, Source};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/non_square")
}

#[test]
fn a_vit_of_rectangles_computes_what_timm_does_in_its_own_size_and_in_another() {
    let expected = candle_core::safetensors::load(folder().join("expected.safetensors"), &Device::Cpu).unwrap();
    let checkpoint = tallow_weights::open(&Source::Folder(folder()), &OpenOptions::default()).unwrap();
    let own = checkpoint.config().unwrap().architecture.clone();
    assert_eq!(own.input_size(), [3, 32, 24]);
    for size in ["32x24", "16x40"] {
        let mut architecture = own.clone();
        architecture.set("img_size", size).unwrap();
        let params = Params::new(0, DType::F32, &Device::Cpu);
        tallow_weights::load(&checkpoint, &architecture, &LoadOptions::default(), &params).unwrap();
        let model = architecture.build(params.builder()).unwrap();
        let logits = model.forward(&expected[&format!("input_{size}")], Mode::Eval).unwrap();
        let off: Tensor = (logits - &expected[&format!("logits_{size}")]).unwrap().abs().unwrap();
        let off = off.max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(off < 1e-5, "{size}: {off}");
    }
}

#[test]
fn a_rectangle_is_written_as_timm_writes_it_and_a_square_as_before() {
    let text = std::fs::read_to_string(folder().join("config.json")).unwrap();
    let config = CheckpointConfig::parse(&text, None, "config.json").unwrap();
    let written = config_json(&config).unwrap();
    assert_eq!(written["model_args"]["img_size"], serde_json::json!([32, 24]));
    assert_eq!(written["pretrained_cfg"]["input_size"], serde_json::json!([3, 32, 24]));
    assert!(written.get("tallow").is_none(), "timm's words are enough: {written}");
    let again = CheckpointConfig::parse(&written.to_string(), None, "config.json").unwrap();
    assert_eq!(again.architecture, config.architecture);
    let square = config.with(|c| c.architecture = c.architecture.clone().with_img_size(32));
    assert_eq!(config_json(&square).unwrap()["model_args"]["img_size"], 32);
}

#[test]
fn a_model_of_one_channel_is_written_with_one_mean_and_deviation() {
    let text = std::fs::read_to_string(folder().join("config.json")).unwrap();
    let mut config = CheckpointConfig::parse(&text, None, "config.json").unwrap();
    config.preprocessing.mean = vec![0.4, 0.5, 0.6];
    config.architecture = config.architecture.with_in_chans(1);
    config.preprocessing.input_size = config.architecture.input_size();
    let written = &config_json(&config).unwrap()["pretrained_cfg"];
    assert_eq!((&written["mean"], &written["std"]), (&serde_json::json!([0.5]), &serde_json::json!([0.5])));
}

#[test]
fn sides_that_the_patches_do_not_divide_and_words_that_are_no_size_are_refused() {
    let mut vit = Architecture::Vit(Default::default());
    vit.set("img_size", "224x150").unwrap();
    let error = vit.validate().unwrap_err().to_string();
    assert!(error.contains("a divisor of img_size 224x150 (or an img_size of 224x144 or 224x160), got 16"), "{error}");
    let error = vit.set("img_size", "wide").unwrap_err().to_string();
    assert!(error.contains("HEIGHTxWIDTH"), "{error}");
    vit.set("img_size", "[224, 160]").unwrap();
    assert_eq!(vit.input_size(), [3, 224, 160]);
    vit.validate().unwrap();
    vit.set("img_size", "224").unwrap();
    assert_eq!(vit.with_img_size(ImgSize::square(32)).input_size(), [3, 32, 32]);
}
