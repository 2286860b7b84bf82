//! Decoding, resizing and the evaluation transform against Pillow and torchvision (`references/data/make.py`).

use std::path::{Path, PathBuf};

use tallow::data::resize::resize;
use tallow::data::{Draw, Image, Transform, open_image};
use tallow::weights::{Interpolation, Preprocessing};

fn references(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/data").join(folder)
}

fn files(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(references(folder)).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The largest and the mean absolute difference in levels.
fn difference(a: &Image, b: &Image) -> (u8, f64) {
    assert_eq!((a.width, a.height, a.channels), (b.width, b.height, b.channels));
    let differences = || a.pixels.iter().zip(&b.pixels).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap(), sum / a.pixels.len() as f64)
}

#[test]
fn every_kind_of_file_is_decoded_as_pillow_does() {
    let mut count = 0;
    for name in files("decode").iter().filter(|name| name.matches('.').count() == 1) {
        let got = open_image(references("decode").join(name)).unwrap_or_else(|e| panic!("{e}"));
        let mut want = open_image(references("decode").join(format!("{name}.png"))).unwrap();
        if name == "grey.bmp" {
            // a palette of greys, which we do not look at: the same in three channels
            want.pixels = want.pixels.iter().flat_map(|&level| [level; 3]).collect();
            want.channels = 3;
        }
        let (largest, mean) = difference(&got, &want);
        // decoders of lossy formats round differently where colours are coarser than brightness
        let allowed = match name.as_str() {
            "lossy.webp" => (2, 0.5),
            name if name.ends_with(".jpg") => (4, 0.6),
            _ => (0, 0.0),
        };
        println!("{name}: {largest} {mean}");
        assert!(largest <= allowed.0 && mean <= allowed.1, "{name}: {largest} levels, {mean} on average");
        count += 1;
    }
    assert_eq!(count, 25);
}

fn filter(name: &str) -> Interpolation {
    match name {
        "nearest" => Interpolation::Nearest,
        "bilinear" => Interpolation::Bilinear,
        "bicubic" => Interpolation::Bicubic,
        "lanczos" => Interpolation::Lanczos,
        other => panic!("{other}"),
    }
}

#[test]
fn resizing_equals_pillow_bit_for_bit() {
    let mut count = 0;
    for name in files("resize") {
        let parts: Vec<&str> = name.trim_end_matches(".png").split('-').collect();
        let [source, filter_name, size] = parts[..] else { continue };
        let (width, height) = size.split_once('x').unwrap();
        let source = open_image(references("resize").join(format!("{source}.png"))).unwrap();
        let got = resize(&source, width.parse().unwrap(), height.parse().unwrap(), filter(filter_name)).unwrap();
        let want = open_image(references("resize").join(&name)).unwrap();
        assert_eq!(difference(&got, &want).0, 0, "{name}");
        count += 1;
    }
    assert_eq!(count, 4 * 14);
}

#[test]
fn the_evaluation_transform_equals_torchvisions_bit_for_bit() {
    let mut count = 0;
    for name in files("transform") {
        let parts: Vec<&str> = name.trim_end_matches(".png").split('-').collect();
        let [source, scaled, size] = parts[..] else { continue };
        let (scaled, size): (f64, usize) = (scaled.parse().unwrap(), size.parse().unwrap());
        let preprocessing = Preprocessing {
            input_size: [3, size, size],
            interpolation: Interpolation::Bicubic,
            crop_pct: size as f64 / (scaled + 0.5),
            squash: false,
            mean: vec![0.0; 3],
            std: vec![1.0; 3],
        };
        let source = open_image(references("transform").join(format!("{source}.png"))).unwrap();
        let want = open_image(references("transform").join(&name)).unwrap();
        let got = Transform::evaluation(&preprocessing).unwrap().tensor(&source, Draw::default()).unwrap();
        let got = got.permute((1, 2, 0)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let want: Vec<f32> = want.pixels.iter().map(|&level| f32::from(level) / 255.0).collect();
        assert_eq!(got, want, "{name}");
        count += 1;
    }
    assert_eq!(count, 20);
}
