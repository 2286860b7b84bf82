//! The front door: models by name, images in every form, several threads at once.

#[path = "data/packed.rs"]
mod packed;

use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Tensor};
use tallow::data::{Draw, Exif, open_image};
use tallow::inference::HeadFault;
use tallow::weights::bundled;
use tallow::{Class, Classifier, Embedder, Error, Features, ImageInput, Pretrained};

/// A ViT of 16 pixels with five classes, as timm wrote it.
fn model() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/tests/references/timm");
    path.display().to_string()
}

fn photo(name: &str) -> PathBuf {
    packed::unpacked("decode").join(name)
}

fn photos() -> Vec<PathBuf> {
    ["rgb.png", "grey.jpg", "turned.jpg", "palette.bmp", "lossy.webp"].map(photo).to_vec()
}

fn classifier() -> Classifier {
    Classifier::from_pretrained(model()).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn an_image_is_the_same_in_every_form() {
    let (path, classifier) = (photo("rgb.png"), classifier());
    let expected: Vec<Class> = classifier.predict(&path).unwrap().remove(0).classes;
    assert_eq!(expected.len(), 5);
    assert!((expected.iter().map(|class| class.probability).sum::<f32>() - 1.).abs() < 1e-6);
    assert!(["ant", "bee", "cat", "dog", "elk"].contains(&expected[0].label.as_str()));

    let bytes = std::fs::read(&path).unwrap();
    let decoded = image::open(&path).unwrap();
    let pixels = decoded.to_rgb8();
    let (width, height) = (pixels.width() as usize, pixels.height() as usize);
    let pixels = Tensor::from_vec(pixels.into_raw(), (height, width, 3), &Device::Cpu).unwrap();
    let pixels = pixels.permute((2, 0, 1)).unwrap();
    let transform = classifier.pretrained().transform().unwrap();
    let input = transform.tensor(&open_image(&path).unwrap(), Draw::default()).unwrap();
    let one = |predicted: tallow::Result<Vec<tallow::Prediction>>| predicted.unwrap().remove(0).classes;
    assert_eq!(one(classifier.predict(path.to_str().unwrap())), expected, "a path as text");
    assert_eq!(one(classifier.predict(&[path.display().to_string()])), expected, "paths as texts");
    assert_eq!(one(classifier.predict(&bytes)), expected, "bytes");
    assert_eq!(one(classifier.predict(&[bytes.as_slice()])), expected, "a list of bytes");
    assert_eq!(one(classifier.predict(&decoded)), expected, "a decoded image");
    assert_eq!(
        one(classifier.predict(&image::DynamicImage::from(decoded.to_rgba8()))),
        expected,
        "a decoded image with an alpha channel"
    );
    assert_eq!(one(classifier.predict(&open_image(&path).unwrap())), expected, "an image of this crate");
    assert_eq!(one(classifier.predict(&pixels)), expected, "pixels as a tensor");
    assert_eq!(one(classifier.predict(&pixels.unsqueeze(0).unwrap())), expected, "a batch of pixels");
    assert_eq!(one(classifier.predict(&input)), expected, "what the model reads");
}

#[test]
fn many_images_come_back_in_their_order_whatever_the_batches() {
    let classifier = classifier();
    let mut images: Vec<ImageInput> = photos().into_iter().map(ImageInput::Path).collect();
    let transform = classifier.pretrained().transform().unwrap();
    let input = transform.tensor(&open_image(photo("rgb.png")).unwrap(), Draw::default()).unwrap();
    images.insert(1, ImageInput::Tensor(input));
    let alone: Vec<_> = images.iter().map(|image| classifier.predict(image).unwrap().remove(0).classes).collect();
    assert_eq!(alone[0], alone[1]);
    for batch_size in [1, 2, 5, 32] {
        let together = classifier.clone().batch_size(batch_size).predict(&images).unwrap();
        assert!(together[2].image.ends_with("grey.jpg") && together[1].image == "image 2", "{together:?}");
        for (together, alone) in together.iter().zip(&alone) {
            for (a, b) in together.classes.iter().zip(alone) {
                assert_eq!(a.label, b.label);
                assert!((a.probability - b.probability).abs() < 1e-5, "{a:?} {b:?}");
            }
        }
    }
    assert_eq!(classifier.predict(&Vec::<PathBuf>::new()).unwrap(), []);
}

#[test]
fn threads_share_a_classifier_and_an_embedder() {
    fn shared<T: Send + Sync + Clone + 'static>(_: &T) {}
    let (classifier, embedder) = (classifier(), Embedder::from_pretrained(model()).unwrap());
    shared(&classifier);
    shared(&embedder);
    let expected = (classifier.predict(&photos()).unwrap(), values(&embedder.embed(&photos()).unwrap()));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (classifier, embedder) = (classifier.clone(), embedder.clone());
            std::thread::spawn(move || {
                let run = || (classifier.predict(&photos()).unwrap(), values(&embedder.embed(&photos()).unwrap()));
                (0..5).map(|_| run()).collect::<Vec<_>>()
            })
        })
        .collect();
    for thread in threads {
        assert!(thread.join().unwrap().into_iter().all(|found| found == expected));
    }
}

#[test]
fn vectors_have_no_history_and_the_length_that_was_asked_for() {
    let embedder = Embedder::from_pretrained(model()).unwrap();
    let plain = embedder.embed(&photos()).unwrap();
    assert_eq!((plain.dims(), plain.dtype()), (&[5, 24][..], DType::F32));
    assert!(!plain.track_op(), "no gradient leads back from it");
    let unit = embedder.clone().normalised(true).embed(&photos()).unwrap();
    let lengths = unit.sqr().unwrap().sum(D::Minus1).unwrap();
    assert!(values(&lengths).iter().all(|length| (length - 1.).abs() < 1e-5), "{lengths}");
    let cosine = values(&(&plain * &unit).unwrap().sum(D::Minus1).unwrap());
    let norms = values(&plain.sqr().unwrap().sum(D::Minus1).unwrap().sqrt().unwrap());
    assert!(cosine.iter().zip(&norms).all(|(a, b)| (a - b).abs() < 1e-3), "{cosine:?} {norms:?}");
    let tokens = embedder.clone().features(Features::Tokens).unwrap().embed(&photos()).unwrap();
    assert_eq!(tokens.dims(), [5, 17, 24]);
    let logits = embedder.features(Features::Logits).unwrap().embed("no such image.jpg").unwrap_err().to_string();
    assert!(logits.starts_with("no such image.jpg: "), "{logits}");
}

#[test]
fn options_change_the_model_and_a_head_that_is_new_names_nothing() {
    let larger = Embedder::builder(model()).img_size(32).embedder().unwrap();
    assert_eq!(larger.pretrained().config().architecture.input_size(), [3, 32, 32]);
    assert_eq!(larger.features(Features::Tokens).unwrap().embed(&photo("rgb.png")).unwrap().dims(), [1, 65, 24]);
    let three = classifier().top_k(3).predict(&photo("rgb.png")).unwrap().remove(0);
    assert_eq!(three.classes.len(), 3);
    assert!(three.classes.is_sorted_by(|a, b| a.probability >= b.probability), "{three:?}");
    assert!(three.to_string().ends_with(" %)"), "{three}");

    let error = Classifier::builder(model()).set("num_classes", 7).classifier().unwrap_err();
    assert!(matches!(error, Error::Head { fault: HeadFault::New { .. }, .. }), "{error}");
    let error = Classifier::builder(model()).set("num_classes", 0).classifier().unwrap_err();
    assert!(matches!(error, Error::Head { fault: HeadFault::LeftOut, .. }), "{error}");
    for dtype in [DType::U8, DType::U32, DType::I64, DType::F8E4M3] {
        let error = Classifier::builder(model()).dtype(dtype).classifier().unwrap_err().to_string();
        assert_eq!(error, format!("dtype: expected F32, BF16, F16 or F64, got {dtype:?}"));
    }
    let error = Classifier::builder(model()).set("num_clases", 7).classifier().unwrap_err().to_string();
    assert!(error.contains("num_classes"), "the nearest name is told: {error}");
    let error = Classifier::from_pretrained("no_such_model").unwrap_err().to_string();
    assert!(error.contains("no_such_model"), "{error}");
}

#[test]
fn a_model_without_a_head_says_what_it_is_for() {
    let pretrained = Pretrained::builder(bundled::NAME).img_size(56).load().unwrap();
    let error = Classifier::new(pretrained.clone()).unwrap_err();
    assert!(matches!(error, Error::Head { fault: HeadFault::Absent, .. }), "{error}");
    assert!(error.to_string().contains("embed images instead"), "{error}");
    assert_eq!(Embedder::new(pretrained).embed(&photo("rgb.png")).unwrap().dims(), [1, 384]);
}

#[test]
fn an_image_that_cannot_be_read_is_an_error_or_a_result_of_its_own() {
    let classifier = classifier();
    let images = [photo("rgb.png"), photo("none.png"), photo("grey.jpg")];
    let error = classifier.predict(&images).unwrap_err().to_string();
    assert!(error.contains("none.png"), "{error}");
    let each = classifier.predict_each(&images).unwrap();
    assert!(each[0].is_ok() && each[2].is_ok());
    assert!(each[1].as_ref().unwrap_err().to_string().contains("none.png"));
    let error = classifier.predict(&[&b"no image"[..]]).unwrap_err().to_string();
    assert!(error.starts_with("image 1: expected a whole PNG"), "{error}");
}

#[test]
fn tensors_that_are_no_images_are_refused_with_what_was_expected() {
    let (classifier, cpu) = (classifier(), Device::Cpu);
    let refused = |shape: &[usize], dtype: DType| {
        let tensor = Tensor::zeros(shape, dtype, &cpu).unwrap();
        classifier.predict(&tensor).unwrap_err().to_string()
    };
    assert!(refused(&[3, 8, 8], DType::F32).contains("[3, 16, 16]"), "another size");
    assert!(refused(&[16, 16], DType::U8).contains("[channels, height, width]"), "no channels");
    assert!(refused(&[5, 16, 16], DType::U8).contains("1 channel"), "five channels");
    assert!(refused(&[3, 0, 16], DType::U8).contains("at least one"), "no pixels");
    assert!(refused(&[3, 16, 16], DType::I64).contains("u8"), "whole numbers");
    let values = |value: f32| Tensor::full(value, (3, 16, 16), &cpu).unwrap();
    for value in [f32::NAN, f32::INFINITY] {
        let images = [values(0.), values(value)];
        let error = classifier.predict(&images).unwrap_err().to_string();
        assert_eq!(error, "image 2: expected finite values, got NaN or infinity among them");
        let embedder = Embedder::new(classifier.pretrained().clone());
        assert_eq!(embedder.embed(&images).unwrap_err().to_string(), error);
    }
    let each = [values(0.), values(f32::NAN), Tensor::zeros((3, 8, 8), DType::F32, &cpu).unwrap(), values(1.)];
    let each = classifier.predict_each(&each).unwrap();
    assert_eq!(each.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true], "{each:?}");
    let image = tallow::data::Image { width: 4, height: 4, channels: 3, pixels: vec![0; 47] };
    assert!(classifier.predict(&image).unwrap_err().to_string().contains("got 47"));
}

#[test]
fn a_run_is_opened_by_its_folder_and_turns_images_as_it_was_trained() {
    let run = tempfile::tempdir().unwrap();
    let best = run.path().join("checkpoints/best");
    std::fs::create_dir_all(&best).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(Path::new(&model()).join(file), best.join(file)).unwrap();
    }
    let exif_of = |config: &str| {
        std::fs::write(run.path().join("config.toml"), format!("model = \"vit_mnist\"\n{config}")).unwrap();
        Pretrained::from_pretrained(run.path().display().to_string()).map(|pretrained| pretrained.exif())
    };
    assert_eq!(exif_of("exif = \"apply\"\n").unwrap(), Exif::Apply);
    assert_eq!(exif_of("exif = \"ignore\"\n").unwrap(), Exif::Ignore);
    assert_eq!(exif_of("seed = 1\n").unwrap(), Exif::Ignore, "a version that turned no image");
    assert!(exif_of("exif = 7\n").unwrap_err().to_string().contains("exif apply or ignore"));
    std::fs::write(run.path().join("config.toml"), "").unwrap();
    let empty = Pretrained::from_pretrained(run.path().display().to_string()).err().unwrap();
    assert!(empty.to_string().contains("config.toml: expected a run's configuration"), "{empty}");
    assert_eq!(exif_of("exif = \"ignore\"\n").unwrap(), Exif::Ignore);
    let run = run.path().display().to_string();
    let of = |exif| Classifier::builder(&run).exif(exif).classifier().unwrap().predict(&photo("turned.jpg")).unwrap();
    assert_eq!(Classifier::from_pretrained(&run).unwrap().predict(&photo("turned.jpg")).unwrap(), of(Exif::Ignore));
    assert_ne!(of(Exif::Apply), of(Exif::Ignore));
}
