//! The orientation that cameras note, against Pillow's `exif_transpose` (`references/data/make_exif.py`).

use std::collections::BTreeMap;
use std::path::Path;

use tallow::data::{
    Alpha, Checked, DataOptions, Decoding, Exif, Image, Statistics, decode, decode_as, look_at_file, open, open_image,
    open_image_as,
};

use crate::packed::unpacked;

const IGNORE: Decoding = Decoding::new(Alpha::Dropped, Exif::Ignore);

/// The files by their names, with the orientation that counts in each.
fn files() -> BTreeMap<String, u8> {
    let names = crate::files(&unpacked("exif")).into_keys();
    let value = |name: &str| name.rsplit_once('.')?.0.rsplit_once('-')?.1.parse().ok();
    names.filter_map(|name| value(&name).map(|value| (name, value))).collect()
}

fn turned_by_pillow(value: u8) -> Image {
    open_image(unpacked("exif").join(format!("{value}.png"))).unwrap()
}

/// Whether two images are the same, apart from what JPEG changes about the picture.
fn same(name: &str, a: &Image, b: &Image) -> bool {
    let allowed = if name.ends_with(".jpg") { 12 } else { 0 };
    (a.width, a.height, a.channels) == (b.width, b.height, b.channels)
        && a.pixels.iter().zip(&b.pixels).all(|(a, b)| a.abs_diff(*b) <= allowed)
}

/// A JPEG with an orientation noted in it.
fn with_exif(jpeg: &[u8], value: u8) -> Vec<u8> {
    let field = [1, 0x12, 0, 3, 0, 0, 0, 1, 0, value, 0, 0];
    let exif = [b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01", &field[..], &[0; 4]].concat();
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

#[test]
fn every_orientation_in_every_kind_of_file_is_applied_as_pillow_does() {
    let files = files();
    for kind in ["jpg", "png", "webp", "tif"] {
        for value in 1..=8 {
            assert!(files.iter().any(|(name, v)| name.ends_with(kind) && *v == value), "{value} in {kind}");
        }
    }
    assert_eq!(files.len(), 72);
    for (name, value) in files {
        let path = unpacked("exif").join(&name);
        let got = open_image(&path).unwrap();
        assert!(same(&name, &got, &turned_by_pillow(value)), "{name}: {}x{}", got.width, got.height);
        for exif in Exif::ALL {
            let look = look_at_file(&path, Decoding::new(Alpha::Dropped, exif)).unwrap();
            assert_eq!((look.odd, look.orientation_noted), (None, value > 1), "{name}");
        }
        let opaque = open_image_as(&path, Decoding::new(Alpha::Kept, Exif::Apply)).unwrap();
        assert_eq!((opaque.width, opaque.channels, opaque.to_rgb()), (got.width, 4, got), "{name}");
    }
}

#[test]
fn the_eight_orientations_are_eight_pictures() {
    let all: Vec<Image> = (1..=8).map(turned_by_pillow).collect();
    for (i, one) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|other| other != one), "{}", i + 1);
    }
}

#[test]
fn ignored_orientations_leave_the_pixels_as_they_lie_in_the_file() {
    let upright = turned_by_pillow(1);
    for (name, _) in files() {
        let got = open_image_as(unpacked("exif").join(&name), IGNORE).unwrap();
        assert!(same(&name, &got, &upright), "{name}");
    }
}

#[test]
fn jpegs_of_the_other_decoder_grey_ones_and_those_without_an_end_are_turned_too() {
    let files = ["read/scans-420.jpg", "read/cmyk-scans.jpg", "whole/bare.jpg", "whole/padded.jpg"];
    let of = |archive| move |name| (unpacked(archive).join(name), name);
    for (path, name) in files.map(of("files")).into_iter().chain(["grey.jpg", "progressive.jpg"].map(of("decode"))) {
        let plain = std::fs::read(path).unwrap();
        let image = decode(&plain, name).unwrap();
        let channels = image.channels;
        for value in 1..=8 {
            let noted = with_exif(&plain, value);
            assert_eq!(decode_as(&noted, name, IGNORE).unwrap(), image, "{name} {value}");
            let got = decode(&noted, name).unwrap();
            let size = if value < 5 { (image.width, image.height) } else { (image.height, image.width) };
            assert_eq!((got.width, got.height), size, "{name} {value}");
            // Where the first pixel of the file goes.
            let (right, bottom) = ([2, 3, 6, 7].contains(&value), [3, 4, 7, 8].contains(&value));
            let at = if bottom { got.height - 1 } else { 0 } * got.width + if right { got.width - 1 } else { 0 };
            assert_eq!(got.pixels[at * channels..][..channels], image.pixels[..channels], "{name} {value}");
        }
    }
}

#[test]
fn every_cut_of_a_noted_orientation_is_an_image_all_the_same() {
    let plain = std::fs::read(unpacked("exif").join("little-1.jpg")).unwrap();
    let exif =
        b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x02\x01\x0f\0\x02\0\0\0\x08\0\0\0\x20\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut turned = 0;
    for length in 0..exif.len() {
        for changed in [None, Some(0), Some(0xff)] {
            let mut content = exif[..length].to_vec();
            if let (Some(byte), Some(last)) = (changed, content.last_mut()) {
                *last = byte;
            }
            let segment = [b"\xff\xe1", &(content.len() as u16 + 2).to_be_bytes()[..], &content].concat();
            let image = decode(&[&plain[..2], &segment, &plain[2..]].concat(), "cut.jpg").unwrap();
            assert_eq!(image.width * image.height, 24 * 16);
            turned += usize::from(image.width == 16);
        }
    }
    // Where the value is whole, although what should follow is not.
    assert!(turned > 0);
}

/// `train/{a,b}` and `test/{a,b}` with the picture in all orientations.
fn photos(folder: &Path) {
    for (part, class, kind) in
        [("train", "a", "jpg"), ("train", "b", "png"), ("test", "a", "webp"), ("test", "b", "tif")]
    {
        let class = folder.join(part).join(class);
        std::fs::create_dir_all(&class).unwrap();
        for (name, _) in files().iter().filter(|(name, _)| {
            name.ends_with(kind) && ["big", "chunk", "tag"].iter().any(|start| name.starts_with(start))
        }) {
            std::fs::copy(unpacked("exif").join(name), class.join(name)).unwrap();
        }
    }
}

#[test]
fn a_folder_is_read_counted_and_measured_as_its_options_say() {
    let folder = tempfile::tempdir().unwrap();
    photos(folder.path());
    let spec = format!("folder:{}", folder.path().display());
    let apply = open(&spec, &DataOptions::default()).unwrap();
    let ignore = open(&spec, &DataOptions::default().with(|o| o.exif = Exif::Ignore)).unwrap();
    for (samples, lying) in [(&apply.train, 24), (&ignore.train, 24)] {
        assert_eq!(samples.len(), 16);
        assert_eq!(Checked::of(&**samples, Alpha::Dropped, &|| {}).orientation_noted, 14);
        assert_eq!(samples.image(0).unwrap().width, lying);
    }
    let sizes = |dataset: &tallow::data::Dataset| {
        let Statistics { width, height, .. } = Statistics::of(&*dataset.train, 3, Alpha::Dropped).unwrap();
        [width, height]
    };
    assert_eq!(sizes(&apply), [[16, 24], [16, 24]], "those of the turned images");
    assert_eq!(sizes(&ignore), [[24, 24], [16, 16]]);
    for index in 0..16 {
        let value = index as u8 % 8 + 1;
        let name = apply.test.name(index);
        assert!(name.contains(&format!("-{value}.")), "{name}");
        assert_eq!(apply.test.image(index).unwrap(), turned_by_pillow(value), "{name}");
        assert_eq!(ignore.test.image(index).unwrap(), turned_by_pillow(1), "{name}");
        assert_eq!(apply.test.image_as(index, Alpha::Kept).unwrap().to_rgb(), turned_by_pillow(value), "{name}");
    }
}

/// Row i has orientation i + 1.
#[cfg(feature = "parquet")]
#[test]
fn the_rows_of_a_parquet_file_are_turned_as_files_are() {
    let spec = format!("parquet:{}/tests/references/data/turned_rows.parquet", env!("CARGO_MANIFEST_DIR"));
    for exif in Exif::ALL {
        let data = open(
            &spec,
            &DataOptions::default().with(|o| {
                o.exif = exif;
                o.test_fraction = 0.25;
            }),
        )
        .unwrap();
        let (mut rows, mut noted) = (0, 0);
        for part in [&data.train, &data.test] {
            noted += Checked::of(&**part, Alpha::Dropped, &|| {}).orientation_noted;
            for index in 0..part.len() {
                let row: u8 = part.name(index).rsplit_once(' ').unwrap().1.parse().unwrap();
                let want = turned_by_pillow(if exif == Exif::Apply { row + 1 } else { 1 });
                assert_eq!(part.image(index).unwrap(), want, "{exif}, row {row}");
                assert_eq!(part.image_as(index, Alpha::Kept).unwrap().to_rgb(), want, "{exif}, row {row}");
                rows += 1;
            }
        }
        assert_eq!((rows, noted), (8, 7));
    }
}
