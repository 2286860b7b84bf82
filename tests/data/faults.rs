//! Data that was cut, lies about its size or is not what it should be: one clear error, and quickly.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tallow::data::{DataOptions, Dataset, Result, decode, open, open_image};

use crate::packed::unpacked;

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("expected an error"),
        Err(error) => error.to_string(),
    }
}

fn idx(magic: [u8; 4], sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
    magic.into_iter().chain(sizes).chain(data.iter().copied()).collect()
}

fn images(count: u32) -> Vec<u8> {
    idx([0, 0, 8, 3], &[count, 2, 3], &(0..count as u8 * 6).collect::<Vec<_>>())
}

fn labels(labels: &[u8]) -> Vec<u8> {
    idx([0, 0, 8, 1], &[labels.len() as u32], labels)
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Opens a folder with these idx files as its training part.
fn open_idx(images: &[u8], labels: &[u8]) -> Result<Dataset> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("train-images-idx3-ubyte"), images).unwrap();
    std::fs::write(dir.path().join("train-labels-idx1-ubyte.gz"), labels).unwrap();
    open(&format!("idx:{}", dir.path().display()), &DataOptions::default().with(|o| o.test_fraction = 0.5))
}

#[test]
fn idx_files_are_read_plain_and_compressed_and_split_where_there_is_no_test_part() {
    let data = open_idx(&images(4), &gz(&labels(&[1, 0, 0, 1]))).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.shape), (2, 2, Some([1, 2, 3])));
    assert_eq!(data.classes, ["0", "1"]);
    let mut all = vec![data.train.label(0), data.train.label(1)];
    all.sort_unstable();
    assert_eq!(all, [0, 1], "the split is by class");
    assert!(data.notes[0].contains("2 of 4 samples"), "{:?}", data.notes);
}

#[test]
fn idx_files_with_faults_are_refused_by_name() {
    let good = gz(&labels(&[1, 0, 0, 1]));
    let image_faults: &[(Vec<u8>, &str)] = &[
        (images(4)[..30].to_vec(), "24 bytes of data, as its header says ([4, 2, 3]), got 14 bytes"),
        ([images(4), vec![0]].concat(), "24 bytes of data, as its header says ([4, 2, 3]), got more"),
        (images(4)[..3].to_vec(), "an idx header of 4 bytes and more, got 3 bytes"),
        (images(4)[..9].to_vec(), "the sizes of all dimensions, got 9 bytes"),
        (Vec::new(), "got 0 bytes"),
        (idx([0, 0, 13, 3], &[4, 2, 3], &[0; 24]), "got 00 00 0d 03"),
        (idx([0, 0, 8, 3], &[u32::MAX; 3], &[0; 24]), "a header that claims [4294967295, 4294967295, 4294967295]"),
        (idx([0, 0, 8, 3], &[1000, 1000, 1000], &[0; 24]), "1000000000 bytes of data"),
        (idx([0, 0, 8, 3], &[4, 0, 3], &[]), "at least one image of one pixel, got [4, 0, 3]"),
        (labels(&[1, 0, 0, 1]), "3 dimensions"),
        (images(3), "3 labels, as many as images in"),
        (gz(&images(4))[..30].to_vec(), "the file is damaged"),
        (
            {
                let mut bytes = gz(&images(4));
                let at = bytes.len() - 8;
                bytes[at] ^= 1;
                bytes
            },
            "the file is damaged",
        ),
    ];
    for (bytes, expected) in image_faults {
        let message = message(open_idx(bytes, &good));
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
        assert!(message.contains("-ubyte"), "{message:?} does not name the file");
    }
    let message = message(open_idx(&images(4), &images(4)));
    assert!(message.contains("labels (1 dimension), got 3 dimensions"), "{message}");
}

#[test]
fn a_compressed_bomb_is_not_unpacked() {
    // 64 MB of zeros in 64 kB, under a header that claims one image of 2x3 pixels
    let bomb = gz(&[idx([0, 0, 8, 3], &[1, 2, 3], &[]), vec![0; 64 << 20]].concat());
    let message = message(open_idx(&bomb, &gz(&labels(&[0]))));
    assert!(message.contains("6 bytes of data, as its header says ([1, 2, 3]), got more"), "{message}");
}

#[test]
fn labels_beyond_the_training_classes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (part, labels_of) in [("train", [0, 1]), ("t10k", [1, 7])] {
        std::fs::write(dir.path().join(format!("{part}-images-idx3-ubyte")), images(2)).unwrap();
        std::fs::write(dir.path().join(format!("{part}-labels-idx1-ubyte")), labels(&labels_of)).unwrap();
    }
    let message = message(open(&format!("idx:{}", dir.path().display()), &DataOptions::default()));
    assert!(
        message.contains("labels of the test part: expected one of the training part's 2 labels (0, 1), got 7"),
        "{message}"
    );
}

#[test]
fn labels_that_begin_with_one_or_have_gaps_leave_no_empty_class() {
    for (of_train, classes) in [([1, 3, 2, 1], vec!["1", "2", "3"]), ([7, 0, 3, 7], vec!["0", "3", "7"])] {
        let data = open_idx(&images(4), &gz(&labels(&of_train))).unwrap();
        assert_eq!(data.classes, classes);
        for part in [&data.train, &data.test] {
            for index in 0..part.len() {
                let place: usize = part.name(index).rsplit('/').next().unwrap().parse().unwrap();
                assert_eq!(data.classes[part.label(index) as usize], of_train[place].to_string());
            }
        }
        assert!(data.notes.iter().any(|note| note.contains("each is a class")), "{:?}", data.notes);
    }
}

#[test]
fn emnists_own_names_are_idx_files_and_of_several_sets_one_has_to_be_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let write = |set: &str, of_train: &[u8]| {
        for (part, labels_of) in [("train", of_train), ("test", &[1, 2])] {
            let (name, count) = (dir.path().join(format!("emnist-{set}-{part}")), labels_of.len() as u32);
            std::fs::write(format!("{}-images-idx3-ubyte.gz", name.display()), gz(&images(count))).unwrap();
            std::fs::write(format!("{}-labels-idx1-ubyte.gz", name.display()), gz(&labels(labels_of))).unwrap();
        }
    };
    let here = |path: &str| open(&format!("idx:{}{path}", dir.path().display()), &DataOptions::default());
    write("letters", &[1, 2, 2]);
    let data = here("").unwrap();
    assert_eq!((data.classes.len(), data.train.len(), data.test.len()), (2, 3, 2));
    assert!(data.notes.iter().any(|note| note.contains("rows and columns exchanged")), "{:?}", data.notes);

    write("digits", &[0, 1, 2, 3]);
    let message = message(here(""));
    assert!(message.contains("got emnist-digits, emnist-letters") && message.contains("/emnist-digits"), "{message}");
    assert_eq!(here("/emnist-digits").unwrap().classes, ["0", "1", "2", "3"]);
    assert_eq!(here("/emnist-letters").unwrap().classes, ["1", "2"]);
    assert!(here("/emnist-balanced").is_err());
}

#[test]
fn a_limit_takes_a_share_of_each_class_where_labels_come_in_blocks_and_the_first_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let sorted: Vec<u8> = (0..40).map(|index| index / 10).collect();
    let mixed: Vec<u8> = (0..40).map(|index| index * 7 % 4).collect();
    for (part, labels_of) in [("train", &sorted), ("t10k", &mixed)] {
        std::fs::write(dir.path().join(format!("{part}-images-idx3-ubyte")), images(40)).unwrap();
        std::fs::write(dir.path().join(format!("{part}-labels-idx1-ubyte")), labels(labels_of)).unwrap();
    }
    let options = DataOptions::default().with(|o| {
        o.limit = Some(8);
        o.test_limit = Some(6);
    });
    let data = open(&format!("idx:{}", dir.path().display()), &options).unwrap();
    let of = |part: &std::sync::Arc<dyn tallow::data::Samples>| -> Vec<u32> {
        (0..part.len()).map(|i| part.label(i)).collect()
    };
    assert_eq!(of(&data.train), [0, 0, 1, 1, 2, 2, 3, 3]);
    assert_eq!(of(&data.test), [0, 3, 2, 1, 0, 3], "the first");
    assert_eq!(data.notes.iter().filter(|note| note.contains("sorted by class")).count(), 1, "{:?}", data.notes);
}

#[test]
fn images_that_were_cut_are_refused_and_named() {
    for name in [
        "rgb.png",
        "palette.png",
        "rgb.jpg",
        "progressive.jpg",
        "grey.jpg",
        "rgb.bmp",
        "lossless.webp",
        "transparent.gif",
    ] {
        let bytes = std::fs::read(unpacked("decode").join(name)).unwrap();
        for share in [0, 1, 10, 50, 90] {
            let cut = &bytes[..bytes.len() * share / 100];
            let message = message(decode(cut, name));
            assert!(message.starts_with(&format!("{name}: expected a whole PNG")), "{message}");
            assert!(message.ends_with("; replace or remove it"), "{message}");
        }
    }
    let missing = message(open_image("no/such/file.png"));
    assert!(missing.contains("no/such/file.png"), "{missing}");
    assert!(message(decode(b"<svg></svg>", "a.png")).contains("a.png"));
}

#[test]
fn images_that_claim_to_be_huge_are_refused_before_they_take_memory() {
    // the height and width of a JPEG stand in its frame header
    let mut jpeg = std::fs::read(unpacked("decode").join("rgb.jpg")).unwrap();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x2e, 0xe0, 0x2e, 0xe0]); // 12000 by 12000
    let text = message(decode(&jpeg, "a.jpg"));
    assert!(text.contains("a header that claims 12000x12000 pixels"), "{text}");
    // the same of a BMP
    let mut bmp = std::fs::read(unpacked("decode").join("rgb.bmp")).unwrap();
    bmp[18..26].copy_from_slice(&[0x00, 0x75, 0, 0, 0x00, 0x75, 0, 0]); // 29952 by 29952
    let text = message(decode(&bmp, "a.bmp"));
    assert!(text.contains("29952x29952 pixels; scale it down"), "{text}");
    bmp[18..26].copy_from_slice(&[0x00, 0x00, 0x10, 0, 0x00, 0x00, 0x10, 0]); // a million by a million
    message(decode(&bmp, "a.bmp"));
}

#[test]
fn cifar_files_are_checked_and_read_by_planes() {
    let dir = tempfile::tempdir().unwrap();
    let spec = |name: &str| format!("cifar:{}", dir.path().join(name).display());
    let mut records = vec![0; 4 * 3073];
    for (label, record) in records.chunks_exact_mut(3073).enumerate() {
        record[0] = label as u8 / 2;
        record[1 + 5] = 10; // red, green and blue of pixel 5
        record[1 + 1024 + 5] = 20;
        record[1 + 2048 + 5] = 30;
    }
    std::fs::write(dir.path().join("some.bin"), &records).unwrap();
    let options = DataOptions::default().with(|o| o.test_fraction = 0.5);
    let data = open(&spec("some.bin"), &options).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.classes.len()), (2, 2, 10));
    assert_eq!(data.train.image(0).unwrap().pixels[15..18], [10, 20, 30]);
    std::fs::write(dir.path().join("cut.bin"), &records[..5000]).unwrap();
    assert!(message(open(&spec("cut.bin"), &options)).contains("a multiple of 3073 bytes"));
    records[3073] = 10;
    std::fs::write(dir.path().join("label.bin"), &records).unwrap();
    assert!(message(open(&spec("label.bin"), &options)).contains("record 1: expected labels below 10, got 10"));
    assert!(message(open(&spec("none"), &options)).contains("none"));
}

#[test]
fn options_and_names_that_make_no_sense_are_refused() {
    let with = |options: DataOptions| message(open("circles", &options));
    let default = DataOptions::default;
    assert!(with(default().with(|o| o.limit = Some(0))).contains("limit: expected at least 1, got 0"));
    assert!(with(default().with(|o| o.val_fraction = 1.0)).contains("val_fraction"));
    assert!(with(default().with(|o| o.val_fraction = f64::NAN)).contains("val_fraction"));
    assert!(with(default().with(|o| o.test_fraction = 0.0)).contains("test_fraction"));
    assert!(message(open("minst", &default())).contains("got \"minst\""));
    assert!(message(open("zip:x", &default())).contains("folder:DIR"));
    let source = env!("CARGO_MANIFEST_DIR");
    assert!(message(open(source, &default())).contains(&format!("write folder:{source}")));
    assert!(message(open("folder:no/such", &default())).contains("no/such"));
    assert!(message(open("idx:no/such", &default())).contains("no/such"));
}
