//! Decoding, resizing and the evaluation transform against Pillow and torchvision (`references/data/make.py`).

use tallow::data::resize::resize;
use tallow::data::{Alpha, Decoding, Draw, Exif, Image, Transform, open_image, open_image_as};
use tallow::weights::{Preprocessing, Transparency};

use crate::packed::unpacked;
use crate::{difference, files, pictures};

#[test]
fn every_kind_of_file_is_decoded_as_pillow_does() {
    let mut count = 0;
    for (name, path) in files(&unpacked("decode")).iter().filter(|(name, _)| name.matches('.').count() == 1) {
        // Pillow's `convert` turns nothing.
        let lying = Decoding::new(Alpha::Dropped, Exif::Ignore);
        let got = open_image_as(path, lying).unwrap_or_else(|e| panic!("{e}"));
        let mut want = open_image(path.with_file_name(format!("{name}.png"))).unwrap();
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

#[test]
fn transparent_images_are_laid_on_white_as_transformers_does() {
    // Every level under every alpha; its `convert_to_rgb` gives the red of this FNV-1a hash.
    let pixels = (0..=255).flat_map(|alpha| (0..=255).flat_map(move |level| [level, level, level, alpha])).collect();
    let image = Image { width: 256, height: 256, channels: 4, pixels };
    let on_white = image.on_white();
    assert_eq!((on_white.channels, on_white.pixels.len()), (3, 3 * 65536));
    let red = on_white.pixels.iter().step_by(3);
    let hash =
        red.fold(0xcbf2_9ce4_8422_2325, |hash: u64, &level| (hash ^ u64::from(level)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(hash, 0x5546_cee1_5493_f6a7);
    // The transform does so before it resizes, or else drops alpha.
    let preprocessing = Preprocessing::new([3, 256, 256], vec![0.0], vec![1.0]);
    let shown = |preprocessing: &Preprocessing| {
        let transform = Transform::evaluation(preprocessing).unwrap();
        transform.picture(&transform.tensor(&image, Draw::default()).unwrap()).unwrap()
    };
    assert_eq!(shown(&preprocessing), image.to_rgb());
    assert_eq!(shown(&preprocessing.with(|c| c.transparency = Transparency::OnWhite)), on_white);
}

#[test]
fn images_that_are_not_resized_are_cropped_or_refused() {
    let pixels: Vec<u8> = (0..7 * 5).collect();
    let image = Image { width: 7, height: 5, channels: 1, pixels };
    let shown = |size: [usize; 2], squash: bool| {
        let preprocessing = Preprocessing::new([1, size[0], size[1]], vec![0.0], vec![1.0])
            .with(|c| (c.keep_size, c.crop_floor, c.squash) = (true, true, squash));
        let transform = Transform::evaluation(&preprocessing).unwrap();
        transform.picture(&transform.tensor(&image, Draw::default())?)
    };
    assert_eq!(shown([2, 2], false).unwrap().pixels, [9, 10, 16, 17]);
    assert_eq!(shown([7, 1], false).unwrap().pixels, [0, 3, 10, 17, 24, 31, 0], "black around it");
    assert_eq!(shown([5, 7], true).unwrap().pixels, image.pixels);
    let message = shown([4, 4], true).unwrap_err().to_string();
    assert!(message.contains("4x4") && message.contains("7x5") && message.contains("do_resize"), "{message}");
}

#[test]
fn resizing_equals_pillow_bit_for_bit() {
    let mut count = 0;
    let pictures = pictures("resize");
    for (name, want) in &pictures {
        let parts: Vec<&str> = name.split('-').collect();
        let [source, filter_name, size] = parts[..] else { continue };
        let (width, height) = size.split_once('x').unwrap();
        let source = &pictures[source];
        let got =
            resize(source, width.parse().unwrap(), height.parse().unwrap(), filter_name.parse().unwrap()).unwrap();
        assert_eq!(difference(&got, want).0, 0, "{name}");
        count += 1;
    }
    assert_eq!(count, 4 * 14);
}

#[test]
fn the_evaluation_transform_equals_timms_bit_for_bit() {
    let mut count = 0;
    let pictures = pictures("transform");
    for (name, want) in &pictures {
        let parts: Vec<&str> = name.split('-').collect();
        let [source, mode, size, percent] = parts[..] else { continue };
        let (height, width) = size.split_once('x').unwrap();
        let preprocessing =
            Preprocessing::new([3, height.parse().unwrap(), width.parse().unwrap()], vec![0.0; 3], vec![1.0; 3]).with(
                |c| {
                    c.crop_pct = percent.parse::<f64>().unwrap() / 100.0;
                    c.squash = mode == "squash";
                },
            );
        let source = &pictures[source];
        let got = Transform::evaluation(&preprocessing).unwrap().tensor(source, Draw::default()).unwrap();
        let got = got.permute((1, 2, 0)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let want: Vec<f32> = want.pixels.iter().map(|&level| f32::from(level) / 255.0).collect();
        assert_eq!(got, want, "{name}");
        count += 1;
    }
    assert_eq!(count, 5 * 7);
}

#[test]
fn a_colour_image_becomes_grey_as_in_pillow_and_a_grey_one_is_repeated() {
    let colour = pictures("resize").remove("colour").unwrap();
    let luma = |p: &[u8]| (u32::from(p[0]) * 19595 + u32::from(p[1]) * 38470 + u32::from(p[2]) * 7471 + 0x8000) >> 16;
    let preprocessing =
        |channels| Preprocessing::new([channels, 43, 61], vec![0.0], vec![1.0]).with(|c| c.squash = true);
    let values = |image: &Image, channels| {
        let transform = Transform::evaluation(&preprocessing(channels)).unwrap();
        let tensor = transform.tensor(image, Draw::default()).unwrap();
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let grey = values(&colour, 1);
    let expected: Vec<f32> = colour.pixels.chunks(3).map(|pixel| luma(pixel) as f32 / 255.0).collect();
    assert_eq!(grey, expected);
    assert_eq!(values(&colour.to_grey(), 3), [&grey[..], &grey[..], &grey[..]].concat());
    let two = Transform::evaluation(&preprocessing(2)).unwrap().tensor(&colour, Draw::default());
    assert!(two.unwrap_err().to_string().contains("1 (grey), 3 (RGB) or 4 channels"));
}

#[test]
fn an_image_of_one_line_is_resized_without_making_what_the_crop_leaves_out() {
    // resized as a whole it would have 224 by 6,720,000 pixels
    let (width, height) = (1, 30_000);
    let preprocessing = Preprocessing::new([3, 224, 224], vec![0.5; 3], vec![0.5; 3]);
    let transform = Transform::evaluation(&preprocessing).unwrap();
    for (width, height) in [(width, height), (height, width)] {
        let image = Image { width, height, channels: 1, pixels: vec![255; width * height] };
        let values =
            transform.tensor(&image, Draw::default()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(values.iter().all(|&value| value == 1.0));
    }
}
