//! Files as people have them, against Pillow (`references/data/make_files.py`): those that decoders disagree about, those without an
//! end, and those that are refused.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tallow::data::resize::resize;
use tallow::data::{
    Alpha, Augment, Decoding, Draw, Exif, Image, Transform, look_at_file, open_image, open_image_with_alpha,
};
use tallow::weights::Preprocessing;

use crate::difference;
use crate::packed::unpacked;

fn references(path: &str) -> PathBuf {
    unpacked("files").join(path)
}

/// The files of a folder by name, without what Pillow makes of them.
fn files(folder: &str) -> BTreeMap<String, PathBuf> {
    crate::files(&references(folder)).into_iter().filter(|(name, _)| name.matches('.').count() == 1).collect()
}

#[test]
fn jpegs_in_several_scans_or_with_fine_chroma_tiffs_pnms_and_small_gif_frames_are_read_as_pillow_does() {
    let read = files("read");
    assert_eq!(read.len(), 27, "{:?}", read.keys());
    for (name, path) in read {
        let got = open_image(&path).unwrap_or_else(|error| panic!("{error}"));
        let mut want = open_image(path.with_file_name(format!("{name}.png"))).unwrap();
        if got.channels == 3 && want.channels == 1 {
            want.pixels = want.pixels.iter().flat_map(|&level| [level; 3]).collect();
            want.channels = 3;
        }
        let (largest, mean) = difference(&got, &want);
        // Decoders round differently where colours are coarser than brightness.
        let allowed = if name.ends_with(".jpg") { (5, 0.6) } else { (0, 0.) };
        assert!(largest <= allowed.0 && mean <= allowed.1, "{name}: {largest} levels, {mean} on average");
    }
}

#[test]
fn ordinary_jpegs_have_the_bits_of_the_decoder_that_read_them_always() {
    let others = unpacked("decode");
    for path in ["ordinary-420.jpg", "ordinary-progressive.jpg"]
        .map(|name| references("read").join(name))
        .into_iter()
        .chain(["rgb.jpg", "rgb-444.jpg", "progressive.jpg", "cmyk.jpg"].map(|name| others.join(name)))
    {
        let want = image::open(&path).unwrap().into_rgb8().into_raw();
        assert_eq!(open_image(&path).unwrap().pixels, want, "{}", path.display());
    }
}

#[test]
fn a_file_without_its_end_is_whole_where_no_pixel_is_missing_and_that_is_told() {
    let mut whole = files("whole");
    let [baseline, progressive] = ["baseline.png", "progressive.png"].map(|name| whole.remove(name).unwrap());
    let rgb = references("read/rgb.tif.png");
    assert_eq!(whole.len(), 8, "{:?}", whole.keys());
    for (name, path) in whole {
        let got = open_image(&path).unwrap_or_else(|error| panic!("{error}"));
        let (want, allowed) = match name.as_str() {
            "progressive.jpg" => (&progressive, (4, 0.6)),
            name if name.ends_with(".jpg") => (&baseline, (4, 0.6)),
            // The same picture without loss.
            _ => (&rgb, (0, 0.)),
        };
        let (largest, mean) = difference(&got, &open_image(want).unwrap());
        assert!(largest <= allowed.0 && mean <= allowed.1, "{name}: {largest} levels, {mean} on average");
        assert_eq!(
            look_at_file(&path, Decoding::default()).unwrap().odd,
            Some("without an end marker, but whole"),
            "{name}"
        );
    }
    assert_eq!(look_at_file(baseline, Decoding::default()).unwrap().odd, None);
}

#[test]
fn what_was_cut_or_is_of_another_kind_is_refused_by_name() {
    let mut refused = files("refused");
    for (name, what) in [
        ("cut.jpg", "a JPEG that was cut"),
        ("cut-and-padded.jpg", "a JPEG that was cut"),
        ("cut-late.jpg", "a JPEG that was cut"),
        ("cut-progressive.jpg", "a JPEG that was cut"),
        ("cut.png", "unexpected end of file"),
        ("cut-piece.png", "unexpected end of file"),
        ("between.jpg", "sampled 4x1, 2x1, 2x1, which this build does not read; convert it"),
        ("arithmetic.jpg", "a JPEG with arithmetic coding, which this build does not read; convert it"),
        ("float.tif", "one of a kind that this build does not read"),
        ("camera.nef", "a camera's raw file, which this build does not read; convert it"),
        ("picture.heic", "an HEIC image, which this build does not read; convert it"),
        ("picture.avif", "an AVIF image, which this build does not read; convert it"),
        ("page.jpg", "a web page"),
        ("pointer.png", "a pointer of Git LFS"),
    ] {
        let error = open_image(refused.remove(name).unwrap()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(what) && !error.contains('\n'), "{name}: {error}");
    }
    assert!(refused.is_empty(), "{refused:?}");
}

#[test]
fn an_image_with_alpha_is_resized_as_pillow_does_and_what_is_transparent_does_not_shine_through() {
    let source = open_image_with_alpha(references("alpha/rgba.png")).unwrap();
    assert_eq!(source.channels, 4);
    let mut count = 0;
    for (name, path) in files("alpha") {
        let parts: Vec<&str> = name.trim_end_matches(".png").split('-').collect();
        let [_, filter_name, size] = parts[..] else { continue };
        let (width, height) = size.split_once('x').unwrap();
        let got =
            resize(&source, width.parse().unwrap(), height.parse().unwrap(), filter_name.parse().unwrap()).unwrap();
        assert_eq!(difference(&got, &open_image_with_alpha(path).unwrap()).0, 0, "{name}");
        count += 1;
    }
    assert_eq!(count, 16);
}

fn four_channels(side: usize) -> Preprocessing {
    Preprocessing::new([4, side, side], vec![0.0; 3], vec![1.0; 3]).with(|c| c.squash = true)
}

#[test]
fn a_model_of_four_channels_reads_alpha_and_takes_what_has_none_as_opaque() {
    let values = |image: &Image| {
        let transform = Transform::evaluation(&four_channels(2)).unwrap();
        transform.tensor(image, Draw::default()).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let rgba =
        Image { width: 2, height: 2, channels: 4, pixels: [[255, 0, 51, 0], [0, 255, 51, 255]].repeat(2).concat() };
    // Alpha, which the three means say nothing about, goes from -1 to 1.
    assert_eq!(values(&rgba), [1., 0., 1., 0., 0., 1., 0., 1., 0.2, 0.2, 0.2, 0.2, -1., 1., -1., 1.]);
    let grey = Image { width: 2, height: 2, channels: 1, pixels: vec![51; 4] };
    assert_eq!(values(&grey), [[0.2; 12].as_slice(), &[1.; 4]].concat());
    let odd = look_at_file(references("read/rgb.tif"), Decoding::new(Alpha::Kept, Exif::Apply)).unwrap().odd;
    assert_eq!(odd, Some("without an alpha channel, read as opaque"));
    let five = four_channels(2).with(|c| {
        c.input_size = [5, 2, 2];
        c.mean = vec![0.; 5];
        c.std = vec![1.; 5];
    });
    let error = Transform::evaluation(&five).unwrap().tensor(&grey, Draw::default()).unwrap_err().to_string();
    assert!(error.contains("1 (grey), 3 (RGB) or 4 channels (RGBA), got one that reads 5"), "{error}");
}

#[test]
fn what_changes_colours_leaves_alpha_and_what_moves_an_image_moves_it_too() {
    let side = 16;
    // Transparent on the left.
    let alpha = |at: usize| if at % side < 8 { 0 } else { 255 };
    let pixels = (0..side * side).flat_map(|at| [(at % 251) as u8, (at * 7 % 251) as u8, 90, alpha(at)]).collect();
    let image = Image { width: side, height: side, channels: 4, pixels };
    let preprocessing = four_channels(side).with(|c| {
        c.mean = vec![0.; 4];
        c.std = vec![1.; 4];
    });
    let alpha_after = |augment: &[Augment], epoch: u64| {
        let transform = Transform::training(&preprocessing, augment).unwrap();
        let values = transform.tensor(&image, Draw { seed: 1, epoch, index: 0 }).unwrap();
        let values = values.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (values[..3 * side * side].to_vec(), values[3 * side * side..].to_vec())
    };
    let before = alpha_after(&[], 0);
    let mut flipped = before.1.clone();
    flipped.chunks_mut(side).for_each(<[f32]>::reverse);
    for epoch in 0..20 {
        let (colours, alpha) = alpha_after(&[Augment::Jitter], epoch);
        assert_eq!(alpha, before.1, "jitter");
        assert_ne!(colours, before.0);
        let (_, alpha) = alpha_after(&[Augment::Flip], epoch);
        assert!(alpha == before.1 || alpha == flipped);
        let (_, alpha) = alpha_after(&[Augment::Randaugment], epoch);
        assert!(alpha.iter().all(|&value| value == 0. || value == 1.), "nearest pixels, and no change of colours");
    }
    assert!((0..20).any(|epoch| alpha_after(&[Augment::Rotate], epoch).1 != before.1));
}

/// Row 1 of eight has no label, and row 6 neither label nor image (`references/data/make_bad_rows.py`).
#[cfg(feature = "parquet")]
#[test]
fn rows_without_a_label_are_bad_rows_as_those_without_an_image() {
    use tallow::data::{Checked, DataOptions, OnBadImage, open};

    let spec = format!("parquet:{}/tests/references/data/unlabelled_rows.parquet", env!("CARGO_MANIFEST_DIR"));
    let options = DataOptions::default().with(|o| o.test_fraction = 0.25);
    let data = open(&spec, &options).unwrap();
    assert_eq!(data.classes, ["0", "1"]);
    let mut bad = Vec::new();
    for part in [&data.train, &data.test] {
        bad.extend(Checked::of(&**part, Alpha::Dropped, &|| {}).bad.into_iter().map(|bad| bad.error.to_string()));
    }
    bad.sort();
    assert_eq!(bad.len(), 2, "{bad:?}");
    for (message, row) in bad.iter().zip(["row 1", "row 6"]) {
        assert!(message.contains(row) && message.contains("expected a label, got none"), "{bad:?}");
    }

    let data = open(&spec, &options.with(|o| o.on_bad_image = OnBadImage::Skip)).unwrap();
    let mut labels: Vec<(String, u32)> = Vec::new();
    for part in [&data.train, &data.test] {
        labels.extend((0..part.len()).map(|index| (part.name(index), part.label(index))));
    }
    labels.sort();
    let right = [(0, 0), (2, 0), (3, 1), (4, 0), (5, 1), (7, 1)];
    for ((name, label), (row, expected)) in labels.iter().zip(right) {
        assert!(name.ends_with(&format!("row {row}")) && *label == expected, "{labels:?}");
    }
    assert_eq!(labels.len(), right.len());
}

/// Row 2 of eight has no image, and row 5 bytes that are none (`references/data/make_bad_rows.py`).
#[cfg(feature = "parquet")]
#[test]
fn rows_without_an_image_are_bad_images_and_their_neighbours_are_not() {
    use tallow::data::{Checked, DataOptions, OnBadImage, open};

    let spec = format!("parquet:{}/tests/references/data/bad_rows.parquet", env!("CARGO_MANIFEST_DIR"));
    let options = DataOptions::default().with(|o| o.test_fraction = 0.25);
    let data = open(&spec, &options).unwrap();
    let mut bad = Vec::new();
    for part in [&data.train, &data.test] {
        bad.extend(Checked::of(&**part, Alpha::Dropped, &|| {}).bad.into_iter().map(|bad| bad.error.to_string()));
    }
    bad.sort();
    assert_eq!(bad.len(), 2, "{bad:?}");
    assert!(bad[0].contains("row 2") && bad[0].contains("expected an image, got none"), "{bad:?}");
    assert!(bad[1].contains("row 5") && bad[1].contains("got something else"), "{bad:?}");

    let data = open(&spec, &options.with(|o| o.on_bad_image = OnBadImage::Skip)).unwrap();
    assert_eq!(data.train.len() + data.test.len(), 6);
    for part in [&data.train, &data.test] {
        for index in 0..part.len() {
            part.image(index).unwrap();
        }
    }
    let skipped: Vec<&String> = data.notes.iter().filter(|note| note.starts_with("skipped: ")).collect();
    assert!(!skipped.is_empty() && skipped.iter().all(|note| note.contains("images cannot be read")), "{skipped:?}");
}
