//! What Hugging Face's image processors and a DINOv2 make of an image, against transformers
//! (`references/hugging_face/make.py`).

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use tallow::data::{Draw, Transform, open_image};
use tallow::models::{Architecture, Mode, Params};
use tallow::weights::{CheckpointConfig, LoadOptions, OpenOptions, Source};

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/hugging_face").join(case)
}

/// The config of a case and the notes on it.
fn config(case: &str) -> (CheckpointConfig, Vec<String>) {
    let read = |name: &str| std::fs::read_to_string(folder(case).join(name));
    let processor = ["preprocessor_config.json", "processor_config.json"].into_iter();
    let (text, name) = processor.filter_map(|name| Some((read(name).ok()?, name))).next().unwrap();
    CheckpointConfig::parse_noting(&read("config.json").unwrap(), Some((&text, name)), "config.json").unwrap()
}

fn expected(case: &str, name: &str) -> Tensor {
    let path = folder(case).join("expected.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap().remove(name).unwrap()
}

/// The model's input made of an image, `[1, channels, height, width]`.
fn input(config: &CheckpointConfig, image: &Path) -> Tensor {
    let image = open_image(image).unwrap();
    Transform::of(config).unwrap().tensor(&image, Draw::default()).unwrap().unsqueeze(0).unwrap()
}

fn largest(difference: &Tensor) -> f32 {
    difference.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

#[test]
fn images_become_what_transformers_makes_of_them_to_a_grey_level() {
    for (case, image, notes) in [
        ("vit-squash", "picture.png", 0),
        ("vit-rectangle", "picture.png", 0),
        ("deit-squash-and-crop", "picture.png", 0),
        ("no-center-crop", "picture.png", 0),
        ("dinov2-crop-below", "picture.png", 1),
        ("dinov2-nested", "picture.png", 1),
        ("dinov2-unsaid", "picture.png", 0),
        ("dinov2-shortest-edge-no-crop", "square.png", 2),
        ("no-normalize", "picture.png", 0),
        ("no-rescale", "picture.png", 0),
        ("rescale-to-one", "picture.png", 0),
        ("no-resize", "no-resize/picture.png", 1),
    ] {
        let (config, told) = config(case);
        assert_eq!(told.len(), notes, "{case}: {told:?}");
        let mut made = input(&config, &folder(image));
        let want = expected(case, "pixel_values");
        if made.dim(3).unwrap() > 100 {
            let every: Vec<u32> = (0..made.dim(3).unwrap() as u32).step_by(8).collect();
            let every = Tensor::new(every, &Device::Cpu).unwrap();
            made = made.index_select(&every, 2).unwrap().index_select(&every, 3).unwrap();
        }
        assert_eq!(made.dims(), want.dims(), "{case}");
        // A level of the least deviation; transformers rounds once, Pillow after each side.
        let std = config.preprocessing.std.iter().copied().fold(f64::MAX, f64::min);
        let off = f64::from(largest(&(&made - &want).unwrap()));
        assert!(off <= 1.01 / 255. / std, "{case}: {off}, a level is {}", 1. / 255. / std);
    }
}

#[test]
fn a_dinov2_reads_images_of_the_size_that_its_processor_makes_and_says_so() {
    let (config, notes) = config("dinov2");
    assert_eq!(config.architecture.input_size(), [3, 28, 28]);
    assert!(notes[0].contains("makes images of 28 pixels, and the config says 42"), "{notes:?}");
    assert!(notes[0].contains("`img_size = 42`"), "{notes:?}");

    let checkpoint = tallow::weights::open(&Source::Folder(folder("dinov2")), &OpenOptions::default()).unwrap();
    assert!(checkpoint.notes().iter().any(|note| note.contains("makes images of 28")), "{:?}", checkpoint.notes());
    let Architecture::Vit(vit) = &config.architecture else { panic!("a ViT") };
    let params = Params::new(0, DType::F32, &Device::Cpu);
    tallow::weights::load(&checkpoint, &config.architecture, &LoadOptions::default(), &params).unwrap();
    let model = tallow::models::Vit::new(vit, params.builder()).unwrap();
    // Of its own input, so that only the model and its positions are compared.
    let features = model.forward_features(&expected("dinov2", "pixel_values"), Mode::Eval).unwrap();
    let off = largest(&(features - expected("dinov2", "features")).unwrap());
    assert!(off < 1e-5, "{off}");
}

#[test]
fn a_vit_that_was_built_for_one_size_keeps_it() {
    let processor = r#"{"image_processor_type": "ViTImageProcessor", "size": {"height": 28, "width": 28}}"#;
    let text = r#"{"model_type": "vit", "image_size": 42, "patch_size": 14}"#;
    let (config, notes) =
        CheckpointConfig::parse_noting(text, Some((processor, "preprocessor_config.json")), "config.json").unwrap();
    assert_eq!(config.preprocessing.input_size, [3, 42, 42]);
    assert!(notes[0].contains("the model reads 42"), "{notes:?}");
}

#[test]
fn a_processor_of_a_class_that_is_not_known_is_told() {
    let text = r#"{"model_type": "vit", "image_size": 28, "patch_size": 14}"#;
    let notes = |class: &str| {
        let processor = format!(r#"{{{class} "size": {{"height": 28, "width": 28}}, "crop_size": 28}}"#);
        let processor = Some((processor.as_str(), "preprocessor_config.json"));
        CheckpointConfig::parse_noting(text, processor, "config.json").unwrap().1
    };
    for known in
        ["ViTImageProcessor", "ViTImageProcessorFast", "ViTFeatureExtractor", "BitImageProcessor", "DeiTImageProcessor"]
    {
        assert_eq!(notes(&format!(r#""image_processor_type": "{known}","#)), [""; 0], "{known}");
    }
    assert_eq!(notes(""), [""; 0]);
    let told = notes(r#""image_processor_type": "EfficientNetImageProcessor","#);
    assert!(told[0].contains("EfficientNetImageProcessor is no image processor of these models"), "{told:?}");
}
