//! Data sets by name: the bundled ones, folders in all layouts, limits and splits.

use std::fs;
use std::sync::Arc;

use tallow::data::{Alpha, Augment, DataOptions, Dataset, OnBadImage, Result, Samples, Statistics, open};

use crate::packed::unpacked;

fn photo() -> Vec<u8> {
    fs::read(unpacked("decode").join("rgb.jpg")).unwrap()
}

/// The photo with words after its end, which no decoder reads: another file.
fn photo_of(words: &str) -> Vec<u8> {
    [&photo(), words.as_bytes()].concat()
}

/// A folder with so many images in every class of every part: `("train/ants", 3)`.
fn folder(contents: &[(&str, usize)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (class, count) in contents {
        let path = dir.path().join(class);
        fs::create_dir_all(&path).unwrap();
        for number in 0..*count {
            fs::write(path.join(format!("{number:03}.jpg")), photo_of(&format!("{class} {number}"))).unwrap();
        }
    }
    dir
}

fn open_folder(dir: &tempfile::TempDir, options: &DataOptions) -> Result<Dataset> {
    open(&format!("folder:{}", dir.path().display()), options)
}

fn message<T>(result: Result<T>) -> String {
    result.err().expect("an error").to_string()
}

fn labels(samples: &Arc<dyn Samples>) -> Vec<u32> {
    (0..samples.len()).map(|index| samples.label(index)).collect()
}

fn names(samples: &Arc<dyn Samples>) -> Vec<String> {
    (0..samples.len()).map(|index| samples.name(index)).collect()
}

#[test]
fn bundled_mnist_is_mnist() {
    let options = DataOptions::default().with(|o| {
        o.limit = Some(100);
        o.test_limit = Some(10);
    });
    let data = open("mnist", &options).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.shape), (100, 10, Some([1, 28, 28])));
    // the first digits, as everybody knows them
    assert_eq!(labels(&data.train)[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    assert_eq!(labels(&data.test), [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]);
    let whole = open("mnist", &DataOptions::default()).unwrap();
    assert_eq!((whole.train.len(), whole.test.len()), (60_000, 10_000));
    // mean and deviation as everybody knows them
    let statistics = Statistics::of(&*whole.train, 1, Alpha::Dropped).unwrap();
    assert!((statistics.mean[0] - 0.1307).abs() < 5e-5 && (statistics.std[0] - 0.3081).abs() < 5e-5, "{statistics:?}");
    let colour = Statistics::of(&*data.train, 3, Alpha::Dropped).unwrap();
    assert_eq!(colour.mean, vec![Statistics::of(&*data.train, 1, Alpha::Dropped).unwrap().mean[0]; 3]);
    assert_eq!(data.augment, [Augment::Crop]);
}

#[test]
fn the_fingerprint_changes_with_the_test_samples_and_nothing_else() {
    let open = |options: DataOptions| open("mnist", &options).unwrap().test_fingerprint();
    let default = DataOptions::default;
    let ten = open(default().with(|o| o.test_limit = Some(10)));
    assert_eq!(ten.len(), 16);
    assert_eq!(
        ten,
        open(default().with(|o| {
            o.test_limit = Some(10);
            o.limit = Some(7);
            o.val_fraction = 0.3;
        }))
    );
    assert_ne!(ten, open(default().with(|o| o.test_limit = Some(11))));
}

#[test]
fn circles_are_two_classes_of_points_that_a_circle_separates() {
    let data = open("circles", &DataOptions::default()).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.shape), (200, 200, Some([2, 1, 1])));
    for part in [&data.train, &data.test] {
        let mut inside = 0;
        for index in 0..part.len() {
            let &[x, y] = part.point(index).unwrap() else { panic!("a point in the plane") };
            assert!(x.abs() <= 2.0 && y.abs() <= 2.0);
            let (radius, label) = (x.hypot(y), part.label(index));
            assert!(if label == 1 { radius < 1.85 } else { radius > 1.35 }, "{radius} is {label}");
            inside += label;
        }
        assert!((70..130).contains(&inside), "{inside} of 200 inside");
    }
    assert_ne!(data.train.point(0), data.test.point(0));
    assert!(data.train.image(0).is_err());
}

#[test]
fn a_folder_with_parts_gives_them_in_the_order_of_names() {
    let dir = folder(&[("train/bees", 2), ("train/ants", 3), ("val/ants", 1), ("val/bees", 1)]);
    fs::write(dir.path().join("train/ants/.hidden.jpg"), "").unwrap();
    fs::write(dir.path().join("train/ants/notes.txt"), "").unwrap();
    fs::create_dir_all(dir.path().join("train/ants/more")).unwrap();
    fs::write(dir.path().join("train/ants/more/DEEP.JPEG"), photo()).unwrap();
    let data = open_folder(&dir, &DataOptions::default()).unwrap();
    assert_eq!(data.classes, ["ants", "bees"]);
    let expected = ["ants/000", "ants/001", "ants/002", "ants/more/DEEP", "bees/000", "bees/001"];
    let got: Vec<String> = names(&data.train).iter().map(|n| n["train/".len()..n.rfind('.').unwrap()].into()).collect();
    assert_eq!(got, expected);
    assert_eq!(labels(&data.train), [0, 0, 0, 0, 1, 1]);
    assert_eq!(names(&data.test), ["val/ants/000.jpg", "val/bees/000.jpg"]);
    assert!(data.val.is_none());
    assert_eq!(data.train.image(0).unwrap().channels, 3);
    assert!(data.notes.iter().any(|note| note.ends_with("1 file that is no image: notes.txt")), "{:?}", data.notes);
    assert_eq!(data.augment, [Augment::ResizedCrop, Augment::Flip]);
}

#[test]
fn a_folder_with_three_parts_brings_its_own_validation() {
    let dir = folder(&[
        ("train/a", 2),
        ("train/b", 2),
        ("validation/a", 1),
        ("validation/b", 2),
        ("test/a", 3),
        ("test/b", 1),
    ]);
    let data = open_folder(&dir, &DataOptions::default().with(|o| o.val_fraction = 0.5)).unwrap();
    assert_eq!((data.train.len(), data.val.unwrap().len(), data.test.len()), (4, 3, 4));
    assert!(data.notes.iter().any(|note| note.contains("validation part of its own")), "{:?}", data.notes);
}

/// The names in each part: training, validation, test.
fn parts(data: &Dataset) -> [Vec<String>; 3] {
    [names(&data.train), data.val.as_ref().map_or(Vec::new(), names), names(&data.test)]
}

#[test]
fn a_folder_of_one_level_is_split_by_class_and_always_alike() {
    let dir = folder(&[("a", 100), ("b", 200)]);
    let options = DataOptions::default().with(|o| o.val_fraction = 0.25);
    let data = open_folder(&dir, &options).unwrap();
    assert!(data.test_held_out);
    let count = |part: &Arc<dyn Samples>, class| labels(part).iter().filter(|&&label| label == class).count();
    // 20 and 40 of 100 and 200 expected for testing, as many for validation; four deviations are 16 and 23.
    for part in [&data.test, data.val.as_ref().unwrap()] {
        assert!((4..36).contains(&count(part, 0)) && (17..63).contains(&count(part, 1)), "{:?}", labels(part));
        assert!(names(part).is_sorted(), "the order of the source");
    }
    assert!(names(&data.train).is_sorted());
    let mut all = parts(&data).concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 300, "no sample is in two parts, and none is lost");
    assert_eq!(parts(&open_folder(&dir, &options).unwrap()), parts(&data));
    let other = open_folder(&dir, &DataOptions::default().with(|o| o.split_seed = 1)).unwrap();
    assert_ne!(names(&other.test), names(&data.test));
}

#[test]
fn an_image_stays_in_its_part_whatever_is_added_removed_or_renamed_beside_it() {
    let dir = folder(&[("a", 60), ("b", 60)]);
    let options = DataOptions::default().with(|o| o.val_fraction = 0.25);
    let before = parts(&open_folder(&dir, &options).unwrap());
    let path = |name: &str| dir.path().join(name);
    for number in 0..5 {
        fs::write(path(&format!("a/00000{number}.jpg")), photo_of(&format!("new {number}"))).unwrap();
    }
    fs::remove_file(path("a/003.jpg")).unwrap();
    fs::remove_file(path("b/004.jpg")).unwrap();
    fs::rename(path("b/005.jpg"), path("b/zzz.jpg")).unwrap();
    let after = parts(&open_folder(&dir, &options).unwrap());
    for (before, after) in before.iter().zip(&after) {
        let gone = ["a/003.jpg", "b/004.jpg"];
        let mut kept: Vec<String> = before.iter().filter(|name| !gone.contains(&name.as_str())).cloned().collect();
        kept.iter_mut().filter(|name| *name == "b/005.jpg").for_each(|name| *name = "b/zzz.jpg".into());
        kept.sort();
        let old: Vec<String> = after.iter().filter(|name| !name.starts_with("a/0000")).cloned().collect();
        assert_eq!(kept, old);
    }
    assert_eq!(after.concat().len(), 120 + 5 - 2);
}

#[test]
fn copies_of_an_image_are_in_one_part_and_every_class_has_some_in_each() {
    let dir = folder(&[("a", 12), ("b", 2), ("c", 1)]);
    for number in 0..12 {
        let path = |name: String| dir.path().join("a").join(name);
        fs::copy(path(format!("{number:03}.jpg")), path(format!("copy-{number:03}.jpg"))).unwrap();
    }
    for split_seed in 0..20 {
        let data = open_folder(&dir, &DataOptions::default().with(|o| o.split_seed = split_seed)).unwrap();
        let [train, _, test] = parts(&data);
        for part in [&train, &test] {
            let originals: Vec<&String> = part.iter().filter(|name| name.starts_with("a/0")).collect();
            let copies: Vec<String> = originals.iter().map(|name| name.replacen("a/", "a/copy-", 1)).collect();
            assert!(!originals.is_empty() && copies.iter().all(|copy| part.contains(copy)), "{part:?}");
            assert_eq!(part.iter().filter(|name| name.starts_with("b/")).count(), 1, "seed {split_seed}");
        }
        assert!(train.contains(&"c/000.jpg".to_string()), "a single image is trained on");
    }
}

#[test]
fn a_class_of_copies_of_one_image_is_split_by_name_with_a_note() {
    let dir = folder(&[("a", 20), ("b", 0)]);
    for number in 0..20 {
        fs::write(dir.path().join(format!("b/{number:03}.jpg")), photo()).unwrap();
    }
    let data = open_folder(&dir, &DataOptions::default()).unwrap();
    let copies = labels(&data.test).iter().filter(|&&label| label == 1).count();
    assert!((1..20).contains(&copies), "{copies}");
    assert!(data.notes.iter().any(|note| note.contains("class \"b\"") && note.contains("by name")), "{:?}", data.notes);
}

#[test]
fn the_splits_of_mnist_follow_from_its_pixels() {
    let data = open("mnist", &DataOptions::default().with(|o| o.val_fraction = 0.1)).unwrap();
    let val = data.val.as_ref().unwrap();
    assert!(!data.test_held_out);
    assert_eq!(data.train.len() + val.len(), 60_000);
    assert!((5_700..6_300).contains(&val.len()), "{}", val.len());
    let fewer = open(
        "mnist",
        &DataOptions::default().with(|o| {
            o.val_fraction = 0.1;
            o.limit = Some(30_000);
        }),
    )
    .unwrap();
    let fewer = names(fewer.val.as_ref().unwrap());
    assert_eq!(names(val)[..fewer.len()], fewer, "what else is there does not matter");
}

#[test]
fn a_limit_takes_the_first_of_every_class_where_samples_are_sorted() {
    let dir = folder(&[("train/a", 8), ("train/b", 4), ("train/c", 1), ("test/a", 2), ("test/b", 2), ("test/c", 2)]);
    let options = DataOptions::default().with(|o| {
        o.limit = Some(6);
        o.test_limit = Some(3);
    });
    let data = open_folder(&dir, &options).unwrap();
    assert_eq!(labels(&data.train), [0, 0, 0, 0, 1, 1], "8, 4 and 1 of 13, times 6: 3.7, 1.8, 0.5");
    assert_eq!(names(&data.train)[4], "train/b/000.jpg");
    assert_eq!(labels(&data.test), [0, 1, 2]);
}

#[test]
fn folders_with_faults_are_refused_by_name_or_read_with_notes_on_request() {
    let skip = DataOptions::default().with(|o| o.on_bad_image = OnBadImage::Skip);
    let strict = DataOptions::default();
    // a class without images
    let dir = folder(&[("train/a", 2), ("train/b", 2), ("train/c", 0), ("test/a", 1), ("test/b", 1)]);
    let text = message(open_folder(&dir, &strict));
    assert!(text.contains("train/c: expected images of this class, got none"), "{text}");
    let data = open_folder(&dir, &skip).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (4, 2));
    assert!(data.notes.iter().any(|n| n.contains("train/c")) && data.notes.iter().any(|n| n.contains("test/c")));
    // a class that has test images only
    let dir = folder(&[("train/a", 2), ("train/b", 2), ("test/a", 1), ("test/b", 1), ("test/wasps", 1)]);
    let text = message(open_folder(&dir, &strict));
    assert!(text.contains("test/wasps: expected a class of the training part"), "{text}");
    assert_eq!(open_folder(&dir, &skip).unwrap().test.len(), 2);
    // an image that was cut: an error when it is read, left out on request
    let dir = folder(&[("train/a", 2), ("train/b", 2), ("test/a", 1), ("test/b", 1)]);
    fs::write(dir.path().join("train/b/000.jpg"), &photo()[..900]).unwrap();
    let data = open_folder(&dir, &strict).unwrap();
    let text = message(data.train.image(2));
    assert!(text.contains("train/b/000.jpg: expected a whole") && text.contains("cut"), "{text}");
    let data = open_folder(&dir, &skip).unwrap();
    assert_eq!(names(&data.train), ["train/a/000.jpg", "train/a/001.jpg", "train/b/001.jpg"]);
    let note = data.notes.iter().find(|note| note.starts_with("skipped: ")).expect("a note");
    assert!(note.contains("training part: 1 of 4 images cannot be read: train/b/000.jpg"), "{note}");
    // one class only, no training part, images without classes
    assert!(message(open_folder(&folder(&[("train/a", 2)]), &strict)).contains("at least two folders"));
    assert!(message(open_folder(&folder(&[("test/a", 2), ("test/b", 1)]), &strict)).contains("a part for training"));
    assert!(message(open_folder(&folder(&[("", 3)]), &strict)).contains("at least two folders"));
}
