//! Augmentation against torchvision: for given parameters level for level (`references/data/make.py`).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use tallow::data::augment::geometry::Sampling;
use tallow::data::augment::randaugment::Operation;
use tallow::data::augment::{colour, filter, geometry};
use tallow::data::{Augment, Draw, Image, Transform};
use tallow::weights::Preprocessing;

use crate::pictures;

static PICTURES: LazyLock<BTreeMap<String, Image>> = LazyLock::new(|| pictures("augment"));

fn picture(name: &str) -> Image {
    PICTURES[name].clone()
}

fn change(image: &mut Image, operation: &str, parameter: f64) {
    match operation {
        "brightness" => colour::adjust_brightness(image, parameter),
        "contrast" => colour::adjust_contrast(image, parameter),
        "saturation" => colour::adjust_saturation(image, parameter),
        "hue" => colour::adjust_hue(image, parameter),
        "rotate" => geometry::rotate(image, parameter, Sampling::Bilinear),
        "blur3" => filter::gaussian_blur(image, 3, parameter),
        "blur5" => filter::gaussian_blur(image, 5, parameter),
        other => {
            let name = other.strip_prefix("ra_").unwrap();
            let operation = Operation::ALL.into_iter().find(|o| format!("{o:?}") == name).unwrap();
            let (magnitude, signed) = operation.magnitude(image.width, image.height);
            assert_eq!(if signed { parameter.abs() } else { parameter }, magnitude, "{name}");
            operation.apply(image, parameter);
        }
    }
}

#[test]
fn every_change_of_an_image_equals_torchvisions_level_for_level() {
    let mut count = 0;
    for (name, want) in &*PICTURES {
        let [source, operation, parameter] = name.splitn(3, '-').collect::<Vec<_>>()[..] else { continue };
        let mut got = picture(source);
        change(&mut got, operation, parameter.parse().unwrap());
        assert_eq!((got.width, got.height, got.channels), (want.width, want.height, want.channels), "{name}");
        let largest = got.pixels.iter().zip(&want.pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        // torchvision adds up a blur's products in another order, which decides ties
        let allowed = u8::from(operation.starts_with("blur"));
        assert!(largest <= allowed, "{name}: {largest} levels");
        count += 1;
    }
    assert_eq!(count, 3 * (14 + 14 + 9));
}

#[test]
fn saturation_and_hue_leave_grey_images_as_they_are() {
    let grey = picture("grey");
    let colours = Image { channels: 3, pixels: grey.pixels.iter().flat_map(|&level| [level; 3]).collect(), ..grey };
    for image in [picture("grey"), colours] {
        let mut changed = image.clone();
        colour::adjust_saturation(&mut changed, 1.4);
        colour::adjust_hue(&mut changed, 0.1);
        assert_eq!(changed, image);
    }
}

/// The input of 24 by 20 made from `image`, with black at -1 and white at 1.
fn input(image: &Image, channels: usize, augment: &[Augment], index: u64) -> Vec<f32> {
    let preprocessing = Preprocessing::new([channels, 20, 24], vec![0.5], vec![0.5]).with(|c| c.squash = true);
    let transform = Transform::training(&preprocessing, augment).unwrap();
    let tensor = transform.tensor(image, Draw { index, ..Draw::default() }).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn every_augmentation_changes_images_of_one_and_three_channels_anew_for_every_draw() {
    for augment in Augment::ALL {
        for (source, channels) in [("colour", 3), ("grey", 3), ("grey", 1), ("colour", 1)] {
            let image = picture(source);
            let plain = input(&image, channels, &[], 0);
            let inputs: Vec<_> = (0..40).map(|index| input(&image, channels, &[augment], index)).collect();
            if augment == Augment::Grey && (source == "grey" || channels == 1) {
                // What is grey, or becomes so anyway, stays as it is but for the rounding to levels.
                let near = |input: &Vec<f32>| input.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 0.02);
                assert!(inputs.iter().all(near), "{source}, {channels} channels");
                continue;
            }
            assert_eq!(inputs[7], input(&image, channels, &[augment], 7), "{augment}: not the same for the same draw");
            assert!(inputs.iter().any(|input| *input != plain), "{augment} changes nothing of {source}");
            let first = inputs.iter().find(|input| **input != plain).unwrap();
            // These have but one way to change an image.
            let one_way = matches!(augment, Augment::Flip | Augment::Grey | Augment::Solarize);
            let others = one_way || inputs.iter().any(|input| input != first && *input != plain);
            assert!(others, "{augment} always does the same");
            assert!(inputs.concat().iter().all(|value| (-1.0..=1.0).contains(value)), "{augment}");
        }
    }
}

#[test]
fn all_augmentations_together_come_in_one_order_whatever_the_lists() {
    let image = picture("colour");
    let names = Augment::parse_list("erase,blur,rotate,jitter,randaugment,flip,crop").unwrap();
    let sorted = Augment::parse_list("crop,flip,randaugment,jitter,rotate,blur,erase").unwrap();
    for index in 0..20 {
        assert_eq!(input(&image, 3, &names, index), input(&image, 3, &sorted, index));
    }
}

#[test]
fn what_is_erased_is_zero_after_normalisation() {
    // white, so that no other value is 0
    let white = Image { width: 24, height: 20, channels: 3, pixels: vec![255; 24 * 20 * 3] };
    let inputs: Vec<_> = (0..200).map(|index| input(&white, 3, &[Augment::Erase], index)).collect();
    assert!(inputs.concat().iter().all(|value| [0.0, 1.0].contains(value)));
    let erased: Vec<_> = inputs.iter().filter(|input| input.contains(&0.0)).collect();
    assert!((30..=70).contains(&erased.len()), "{} of 200, expected a quarter", erased.len());
    for input in erased {
        let [first, second, third] = [0, 1, 2].map(|channel| &input[channel * 480..(channel + 1) * 480]);
        assert!(first == second && second == third, "all channels have the same rectangle");
    }
}
