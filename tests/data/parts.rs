//! Which folder or file of a data set is which part: every layout that people have, and what is said about it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tallow::data::{DataOptions, Dataset, Result, Role, Samples, open};

use crate::packed::unpacked;

const REFERENCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/references");

/// A folder with two images in every one of these folders, separated by spaces.
fn folder(folders: &str) -> tempfile::TempDir {
    let photo = fs::read(unpacked("decode").join("rgb.jpg")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for folder in folders.split(' ') {
        let path = dir.path().join(folder);
        fs::create_dir_all(&path).unwrap();
        for number in 0..2 {
            fs::write(path.join(format!("{number}.jpg")), &photo).unwrap();
        }
    }
    dir
}

fn read(folders: &str, options: &DataOptions) -> Result<Dataset> {
    let dir = folder(folders);
    open(&format!("folder:{}", dir.path().display()), options)
}

fn chosen(train: Option<&str>, test: Option<&str>) -> DataOptions {
    let owned = |name: &str| name.to_string();
    DataOptions::default().with(|o| {
        o.train_split = train.map(owned);
        o.test_split = test.map(owned);
    })
}

fn message<T>(result: Result<T>) -> String {
    result.err().expect("an error").to_string()
}

/// The folders that the samples of a part are in.
fn folders(samples: &Arc<dyn Samples>) -> String {
    let mut folders: Vec<String> = (0..samples.len())
        .map(|index| samples.name(index).rsplit_once('/').map(|(folder, _)| folder.to_string()).unwrap())
        .collect();
    folders.sort();
    folders.dedup();
    folders.join(" ")
}

/// The folders of the training, validation and test part.
fn found(data: &Dataset) -> [String; 3] {
    [folders(&data.train), data.val.as_ref().map_or_else(String::new, folders), folders(&data.test)]
}

#[test]
fn folders_that_are_called_like_parts_in_any_usual_way_are_parts() {
    for [train, val, test] in [
        ["Training", "", "Testing"],
        ["Train", "", "Test"],
        ["TRAIN", "VAL", "TEST"],
        ["traindata", "valdata", "testdata"],
        ["seg_train", "", "seg_test"],
        ["training_set", "", "test_set"],
        ["train_images", "", "test_images"],
        ["train", "dev", "testing"],
        ["train", "Val", "eval"],
        ["train", "valid", "evaluation"],
        ["trn", "validation", "tst"],
        ["images_train", "images_val", "images_test"],
        ["01_train", "02_val", "03_test"],
        ["TrainSet", "", "TestSet"],
    ] {
        let of = |part: &str| if part.is_empty() { String::new() } else { format!("{part}/a {part}/b") };
        let all = [train, val, test].map(of);
        let data = read(all.join(" ").replace("  ", " ").trim(), &DataOptions::default()).unwrap();
        assert_eq!((data.classes.join(" "), found(&data)), ("a b".into(), all));
    }
    // A lone validation part is what results are reported on.
    let data = read("Train2017/a Train2017/b Val2017/a Val2017/b", &DataOptions::default()).unwrap();
    assert_eq!(found(&data), ["Train2017/a Train2017/b", "", "Val2017/a Val2017/b"]);
    let said = "training is Train2017, test is Val2017";
    assert!(data.notes.iter().any(|note| note.contains(said)), "{:?}", data.notes);
}

#[test]
fn every_part_is_told_with_its_folder_role_reason_and_samples() {
    let data = read("train/a train/b test/a test/b contrast/a contrast/b", &DataOptions::default()).unwrap();
    let parts: Vec<_> =
        data.parts.iter().map(|part| (part.name.as_str(), part.role, part.source.as_str(), part.samples)).collect();
    assert_eq!(
        parts,
        [
            ("train", Role::Train, "train", Some(4)),
            ("test", Role::Test, "test", Some(4)),
            ("contrast", Role::LeftOut, "contrast", Some(4))
        ]
    );
    assert!(data.parts.iter().all(|part| !part.why.is_empty()));
    assert!(data.notes.iter().any(|note| note.contains("contrast is not used")), "{:?}", data.notes);
    // What is held out is a part as well.
    let data = read("a b c", &DataOptions::default().with(|o| o.test_fraction = 0.5)).unwrap();
    let parts: Vec<_> = data.parts.iter().map(|part| (part.role, part.samples)).collect();
    assert_eq!(parts, [(Role::Train, Some(3)), (Role::Test, Some(3))]);
}

#[test]
fn a_class_that_is_called_like_a_part_is_a_class_and_a_note_says_so() {
    for (folders, classes, word) in [
        ("bus car train", "bus car train", "train"),
        ("essay quiz test", "essay quiz test", "test"),
        ("bus car train train/more", "bus car train", "train"),
        ("Dev Ops Sales", "Dev Ops Sales", "Dev"),
    ] {
        let data = read(folders, &DataOptions::default().with(|o| o.whole = true)).unwrap();
        assert_eq!(data.classes.join(" "), classes);
        assert_eq!(found(&data)[2], folders);
        let said = format!("{word} is taken for a class");
        assert!(data.notes.iter().any(|note| note.contains(&said)), "{:?}", data.notes);
    }
    // Among the classes of parts a word means nothing.
    let data = read("train/test train/quiz test/test test/quiz", &DataOptions::default()).unwrap();
    assert_eq!(data.classes, ["quiz", "test"]);
}

#[test]
fn an_unlabelled_test_folder_is_left_out_with_a_note() {
    let data = read("train/a train/b test", &DataOptions::default().with(|o| o.test_fraction = 0.5)).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (2, 2));
    assert!(folders(&data.test).starts_with("train/"));
    assert!(data.notes.iter().any(|note| note.contains("test is left out")), "{:?}", data.notes);
    assert!(data.parts.iter().any(|part| part.name == "test" && part.role == Role::LeftOut && part.samples == Some(2)));
    let data = read("train/a train/b val/a val/b test", &DataOptions::default()).unwrap();
    assert_eq!(found(&data)[2], "val/a val/b");
    for test in ["test/images", "test/test", "test/unknown"] {
        let data = read(&format!("train/a train/b {test}"), &DataOptions::default()).unwrap();
        assert!(data.notes.iter().any(|note| note.contains("test is left out")), "{:?}", data.notes);
    }
}

#[test]
fn wrapping_folders_are_followed_and_told() {
    for (folders, parts) in [
        (
            "photos/dataset/train/a photos/dataset/train/b photos/dataset/test/a photos/dataset/test/b",
            ["photos/dataset/train/a photos/dataset/train/b", "", "photos/dataset/test/a photos/dataset/test/b"],
        ),
        (
            "seg_train/seg_train/a seg_train/seg_train/b seg_test/seg_test/a seg_test/seg_test/b seg_pred/seg_pred",
            ["seg_train/seg_train/a seg_train/seg_train/b", "", "seg_test/seg_test/a seg_test/seg_test/b"],
        ),
        (
            "archive archive/train/a archive/train/b archive/test/a archive/test/b",
            ["archive/train/a archive/train/b", "", "archive/test/a archive/test/b"],
        ),
        (
            "test_task/train/a test_task/train/b test_task/val/a test_task/val/b",
            ["test_task/train/a test_task/train/b", "", "test_task/val/a test_task/val/b"],
        ),
    ] {
        let data = read(folders, &DataOptions::default()).unwrap();
        assert_eq!(data.classes, ["a", "b"], "{folders}");
        assert_eq!(found(&data), parts);
        assert!(data.notes.iter().any(|note| note.contains("in its folder")), "{:?}", data.notes);
    }
    let data = read("photos/a photos/b", &DataOptions::default().with(|o| o.whole = true)).unwrap();
    assert_eq!(data.classes, ["a", "b"]);
    // Images beside the classes of a part.
    let data = read("train train/a train/b", &DataOptions::default()).unwrap();
    assert_eq!((&data.classes[..], data.train.len() + data.test.len()), (&["a", "b"].map(String::from)[..], 4));
    assert!(data.notes.iter().any(|note| note.contains("outside of the folders of classes")), "{:?}", data.notes);
    // A folder that is a part is no wrapper.
    assert_eq!(read("train/a train/b", &DataOptions::default()).unwrap().parts[0].name, "train");
}

#[test]
fn a_data_set_beside_other_folders_of_images_is_found_and_its_folder_is_no_class() {
    let default = DataOptions::default();
    for beside in ["figures", "test", "test/test", "figures/large src/icons"] {
        let data =
            read(&format!("photos/train/a photos/train/b photos/val/a photos/val/b {beside}"), &default).unwrap();
        assert_eq!(data.classes, ["a", "b"], "{beside}");
        assert_eq!(found(&data), ["photos/train/a photos/train/b", "", "photos/val/a photos/val/b"]);
        assert!(data.notes.iter().any(|note| note.contains("in its folder photos") && note.contains("left out")));
    }
    let several = "fold1/train/a fold1/train/b fold1/test/a fold2/train/a fold2/train/b fold2/test/a";
    let text = message(read(several, &default));
    assert!(text.contains("several, each with parts of its own: fold1, fold2"), "{text}");
    assert_eq!(read(several, &chosen(Some("."), None)).unwrap().classes, ["fold1", "fold2"]);
    // A labelled test part beside it is not dropped.
    assert!(read("photos/train/a photos/train/b test/a test/b", &default).is_err());
}

#[test]
fn a_folder_with_the_classes_again_is_no_class() {
    for again in ["flowers/a flowers/b", "holdout/a holdout/b"] {
        let data = read(&format!("a b c {again}"), &DataOptions::default().with(|o| o.test_fraction = 0.5)).unwrap();
        assert_eq!(
            (&data.classes[..], data.train.len() + data.test.len()),
            (&["a", "b", "c"].map(String::from)[..], 6)
        );
        assert!(
            data.parts.iter().any(|part| part.role == Role::LeftOut && part.samples == Some(4)),
            "{:?}",
            data.parts
        );
    }
    let data = read("a b holdout/a holdout/b", &chosen(Some("."), Some("holdout"))).unwrap();
    assert_eq!(found(&data), ["a b", "", "holdout/a holdout/b"]);
    let data = read("a b/x b/y", &DataOptions::default()).unwrap();
    assert_eq!(data.classes, ["a", "b"]);
    assert!(data.notes.iter().any(|note| note.contains("images in the folders of a class are of that class: b (x, y")));
}

#[test]
#[cfg(unix)]
fn parts_and_classes_may_be_links_also_in_a_circle() {
    use std::os::unix::fs::symlink;
    let dir = folder("elsewhere/cats elsewhere/dogs photos/test/cats photos/test/dogs");
    let place = |name: &str| dir.path().join(name);
    fs::create_dir(place("photos/train")).unwrap();
    for class in ["cats", "dogs"] {
        symlink(place(&format!("elsewhere/{class}")), place(&format!("photos/train/{class}"))).unwrap();
    }
    symlink(place("photos"), place("photos/train/cats/again")).unwrap();
    let read = || open(&format!("folder:{}", place("photos").display()), &DataOptions::default()).unwrap();
    assert_eq!(found(&read()), ["train/cats train/dogs", "", "test/cats test/dogs"]);
    // The part itself as a link.
    fs::rename(place("photos/train"), place("linked")).unwrap();
    symlink(place("linked"), place("photos/train")).unwrap();
    assert_eq!(found(&read()), ["train/cats train/dogs", "", "test/cats test/dogs"]);
}

#[test]
fn parts_inside_of_classes_and_classes_beside_parts_are_understood() {
    let data = read("cat/train cat/test dog/train dog/test", &DataOptions::default()).unwrap();
    assert_eq!(data.classes, ["cat", "dog"]);
    assert_eq!(found(&data), ["cat/train dog/train", "", "cat/test dog/test"]);
    let data = read("cat dog test/cat test/dog", &DataOptions::default()).unwrap();
    assert_eq!(found(&data), ["cat dog", "", "test/cat test/dog"]);
}

#[test]
fn where_parts_and_classes_cannot_be_told_apart_it_is_an_error_with_the_ways_out() {
    for (folders, says) in [
        ("bus car train/steam train/diesel", "`train_split = .`"),
        ("Entrenamiento/a Entrenamiento/b Prueba/a Prueba/b", "`train_split = Entrenamiento` `test_split = Prueba`"),
        ("train test", "images without classes in test, train"),
        ("train_clean/a train_clean/b train_noisy/a train_noisy/b", "`train_split"),
        ("images/a images/b test/a test/b", "a part for training"),
        ("test/a test/b", "a part for training"),
        ("train/a train/b test/a test/wasps", "test/wasps: expected a class of the training part"),
    ] {
        let text = message(read(folders, &DataOptions::default()));
        assert!(text.contains(says) && !text.contains('\n'), "{folders}: {text}");
    }
    // The ways out.
    let data = read("bus car train/steam train/diesel", &chosen(Some("."), None)).unwrap();
    assert_eq!(data.classes, ["bus", "car", "train"]);
    let data = read("bus car train/steam train/diesel", &chosen(Some("train"), None)).unwrap();
    assert_eq!(data.classes, ["diesel", "steam"]);
    let data = read("Prueba/a Prueba/b E/a E/b", &chosen(Some("E"), Some("prueba"))).unwrap();
    assert_eq!(found(&data), ["E/a E/b", "", "Prueba/a Prueba/b"]);
    let data = read("images/a images/b test/a test/b", &chosen(Some("images"), None)).unwrap();
    assert_eq!(found(&data), ["images/a images/b", "", "test/a test/b"]);
}

#[test]
fn parts_are_chosen_by_name_and_a_name_that_is_not_there_is_refused_with_those_that_are() {
    let all = "train/a train/b more/a more/b test/a test/b noise/a noise/b";
    let data = read(all, &chosen(Some("train,more"), Some("noise"))).unwrap();
    assert_eq!(found(&data), ["more/a more/b train/a train/b", "", "noise/a noise/b"]);
    let text = message(read(all, &chosen(None, Some("nose"))));
    assert!(text.contains("`test_split`: expected one of more, noise, test, train, got \"nose\""), "{text}");
    assert!(message(read(all, &chosen(Some("train"), Some("train")))).contains("different parts"));
    assert!(message(open("mnist", &chosen(None, Some("extra")))).contains("train and test"));
}

#[test]
fn a_class_that_a_test_part_lacks_is_noted() {
    let data = read("train/a train/b train/c test/a test/b", &DataOptions::default()).unwrap();
    assert_eq!((data.classes.len(), data.test.len()), (3, 4));
    assert!(data.notes.iter().any(|note| note.contains("test/c: no such folder")), "{:?}", data.notes);
}

#[test]
fn data_that_is_only_measured_is_not_split() {
    let whole = DataOptions::default().with(|o| o.whole = true);
    let data = read("a b c", &whole).unwrap();
    assert_eq!(data.test.len(), 6);
    assert!(data.notes.iter().any(|note| note.contains("all 6 samples")), "{:?}", data.notes);
    assert_eq!(read("train/a train/b test/a test/b", &whole).unwrap().test.len(), 4);
    assert_eq!(found(&read("test/a test/b", &whole).unwrap())[2], "test/a test/b", "nothing has to be trained on");
    assert_eq!(read("a", &whole).unwrap().test.len(), 2, "nor told apart");
}

/// A folder with copies of one Parquet file of images under these names, and a card.
#[cfg(feature = "parquet")]
fn parquet(names: &str, card: Option<&str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names.split(' ') {
        let path = dir.path().join(format!("{name}.parquet"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(Path::new(REFERENCES).join("parquet/mapped/train.parquet"), path).unwrap();
    }
    if let Some(card) = card {
        fs::write(dir.path().join("README.md"), card).unwrap();
    }
    dir
}

/// The sources of the training and the test part and of what is left out.
#[cfg(feature = "parquet")]
fn sources(names: &str, card: Option<&str>, options: &DataOptions) -> Result<[String; 3]> {
    let dir = parquet(names, card);
    let data = open(&format!("parquet:{}", dir.path().display()), options)?;
    Ok([Role::Train, Role::Test, Role::LeftOut].map(|role| {
        let of = data.parts.iter().filter(|part| part.role == role);
        of.map(|part| part.source.replace(".parquet", "")).collect::<Vec<_>>().join(" ")
    }))
}

#[test]
#[cfg(feature = "parquet")]
fn of_parquet_files_only_the_training_split_is_trained_on() {
    let default = DataOptions::default();
    let sources = |names| sources(names, None, &default).unwrap();
    assert_eq!(
        sources("data/train-00000-of-00001 data/test-00000-of-00001 data/contrast-00000-of-00001"),
        ["data/train-00000-of-00001", "data/test-00000-of-00001", "data/contrast-00000-of-00001"]
    );
    assert_eq!(sources("train1 train2 test1"), ["train1 and 1 more", "test1", ""]);
    assert_eq!(sources("train2017 val2017"), ["train2017", "val2017", ""]);
    assert_eq!(sources("train holdout extra unsupervised test"), ["train", "test", "extra holdout unsupervised"]);
    assert_eq!(sources("data/train/0 data/test/0 data/pixelate/0"), ["data/train/0", "data/test/0", "data/pixelate/0"]);
    // Without a word it is all for training, and a share is held out.
    assert_eq!(sources("images"), ["images", "the training part", ""]);
}

#[test]
#[cfg(feature = "parquet")]
fn the_card_of_a_parquet_folder_and_the_user_choose_before_all_names() {
    let names = "train test clean";
    let card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: clean.parquet\n  \
                - split: test\n    path: tra*.parquet\n---\n# Photos\n";
    let default = DataOptions::default();
    assert_eq!(sources(names, Some(card), &default).unwrap(), ["clean", "tra*", ""]);
    assert_eq!(sources(names, None, &chosen(Some("clean"), None)).unwrap(), ["clean", "test", "train"]);
    assert_eq!(sources(names, None, &chosen(None, Some("clean"))).unwrap(), ["train", "clean", "test"]);
    assert_eq!(sources("train1 train2 test", None, &chosen(Some("train2"), None)).unwrap()[0], "train2");
    let text = message(sources(names, None, &chosen(None, Some("noise"))));
    assert!(text.contains("`test_split`: expected one of clean, test, train"), "{text}");
    // Endings in capital letters, and a folder that is a link.
    #[cfg(unix)]
    {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), parquet("train test", None));
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join("data")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).unwrap();
        for name in ["train", "test"] {
            let place = |ending: &str| elsewhere.path().join(format!("{name}.{ending}"));
            fs::rename(place("parquet"), place("PARQUET")).unwrap();
        }
        let data = open(&format!("parquet:{}", dir.path().display()), &default).unwrap();
        let mut sources: Vec<&str> = data.parts.iter().map(|part| part.source.as_str()).collect();
        sources.sort_unstable();
        assert_eq!(sources, ["data/test.PARQUET", "data/train.PARQUET"]);
    }
    // What the card names and is not there is told.
    let card = card.replace("clean.parquet", "gone-*");
    let text = message(sources(names, Some(&card), &default));
    assert!(text.contains("gone-*"), "{text}");
    let card = card.replace("gone-*", "clean.parquet").replace("tra*.parquet", "lost-*");
    let dir = parquet(names, Some(&card));
    let data = open(&format!("parquet:{}", dir.path().display()), &default).unwrap();
    assert!(data.notes.iter().any(|note| note.contains("names lost-* for test")), "{:?}", data.notes);
    let text = message(sources("test-00000-of-00001", None, &default));
    assert!(text.contains("a part for training") && text.contains("`train_split"), "{text}");
}
