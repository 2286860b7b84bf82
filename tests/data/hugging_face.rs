//! What Hugging Face's image processors and a DINOv2 make of an image, against transformers
//! (`references/hugging_face/make.py`).

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use tallow::data::{Alpha, Decoding, Draw, Exif, Image, Transform, decode_as, open_image};
use tallow::models::{Architecture, Mode, Params};
use tallow::weights::{CheckpointConfig, LoadOptions, OpenOptions, Resizing, Source, Transparency};

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

/// Values that a model's input may differ by.
const CLOSE: f32 = 2e-5;

#[test]
fn images_become_what_transformers_makes_of_them() {
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
        ("no-resize", "no-resize/picture.png", 0),
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
        let off = largest(&(&made - &want).unwrap());
        assert!(off <= CLOSE, "{case}: {off}");
    }
}

/// The pattern of `references/hugging_face/make.py`.
fn pattern(width: usize, height: usize) -> Image {
    let level = |at: usize| {
        let (x, y, channel) = (at / 3 % width, at / 3 / width, at % 3);
        (x * x * 7 + y * 31 + x * y * 3 + channel * 83) as u8
    };
    Image { width, height, channels: 3, pixels: (0..width * height * 3).map(level).collect() }
}

#[test]
fn every_processor_resizes_as_its_class_does_it() {
    let file = folder("processors.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let made = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    assert_eq!(made.len(), 14);
    for (case, want) in made {
        let about = header["__metadata__"][&case].as_str().unwrap();
        let about: serde_json::Value = serde_json::from_str(about).unwrap();
        let kind = about["kind"].as_str().unwrap();
        let config = format!(
            r#"{{"model_type": "{kind}", "image_size": 7, "patch_size": 7, "hidden_size": 16, "num_attention_heads": 2}}"#
        );
        let mut processor = about["processor"].clone();
        if case == "DINOv3, cropped" {
            // The reference leaves out what is true.
            processor["do_center_crop"] = true.into();
        }
        let processor = processor.to_string();
        let (mut config, notes) =
            CheckpointConfig::parse_noting(&config, Some((&processor, "preprocessor_config.json")), "config.json")
                .unwrap();
        if case == "ViT, Pillow" {
            // The class itself, in whose place AutoImageProcessor takes torchvision's.
            assert_eq!(config.preprocessing.resizing, Resizing::Torchvision);
            config.preprocessing.resizing = Resizing::Pillow;
        }
        let side = |at: usize| about["image"][at].as_u64().unwrap() as usize;
        let image = pattern(side(0), side(1));
        let got = Transform::of(&config).unwrap().tensor(&image, Draw::default()).unwrap().unsqueeze(0).unwrap();
        assert_eq!(got.dims(), want.dims(), "{case}: {notes:?}");
        let off = largest(&(got - want).unwrap());
        // Of levels that are not made smaller, as much of the largest.
        let scale = if case.ends_with("levels") { 255. } else { 1. };
        assert!(off <= CLOSE * scale, "{case}: {off}");
    }
}

#[test]
fn transparent_images_become_what_the_library_makes_of_them() {
    let made = candle_core::safetensors::load(folder("transparent.safetensors"), &Device::Cpu).unwrap();
    let parsed = |text: &str, processor: Option<&str>| {
        let processor = processor.map(|processor| (processor, "preprocessor_config.json"));
        CheckpointConfig::parse_noting(text, processor, "config.json").unwrap().0
    };
    let hugging_face = |kind: &str, processor: &str| {
        let text = format!(
            r#"{{"model_type": "{kind}", "image_size": 7, "patch_size": 7, "hidden_size": 16, "num_attention_heads": 2}}"#
        );
        parsed(&text, Some(processor))
    };
    let clip = r#""image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 10}, "crop_size": 7"#;
    let vit = r#""image_processor_type": "ViTImageProcessor", "size": {"height": 7, "width": 7}, "resample": 2"#;
    let open_clip = r#"{"model_cfg": {"embed_dim": 4, "vision_cfg": {"image_size": 7, "patch_size": 7, "width": 64}}, "preprocess_cfg": {}}"#;
    let clips = |said: &str| hugging_face("clip_vision_model", &format!("{{{clip}{said}}}"));
    // Of transformers 5, a null that is stated is no.
    for (said, laid) in [("", true), (r#", "do_convert_rgb": true"#, true), (r#", "do_convert_rgb": null"#, false)] {
        assert_eq!(clips(said).preprocessing.transparency == Transparency::OnWhite, laid, "{said}");
    }
    let mut compared = 0;
    for (name, want) in &made {
        let Some((way, kind)) = name.split_once(' ') else { continue };
        let config = match way {
            "white" => clips(""),
            "dropped" => hugging_face("vit", &format!("{{{vit}}}")),
            _ => parsed(open_clip, None),
        };
        let bytes = made[&format!("{kind}.png")].to_vec1::<u8>().unwrap();
        let read = |alpha| decode_as(&bytes, kind, Decoding::new(alpha, Exif::Apply)).unwrap();
        // As it is read for the model, and as a program may hand it over.
        for alpha in [Alpha::of(&config.preprocessing), Alpha::Kept] {
            if (way, kind, alpha) == ("resized", "key", Alpha::Kept) {
                // Pillow does not multiply by what is no channel.
                continue;
            }
            let got =
                Transform::of(&config).unwrap().tensor(&read(alpha), Draw::default()).unwrap().unsqueeze(0).unwrap();
            let off = largest(&(got - want).unwrap());
            assert!(off <= CLOSE, "{name}, {alpha:?}: {off}");
        }
        compared += 1;
    }
    assert_eq!(compared, 11);
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
