//! Data sets in Parquet, on files that pyarrow wrote (`tests/references/parquet/make.py`), and on what is left of them after
//! they were cut or changed.

use std::{error::Error, fs, path::Path};

use tallow::data::{DataOptions, Dataset, Samples, open};

type Outcome = Result<(), Box<dyn Error>>;

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/references/parquet");

fn opened(spec: &str) -> tallow::data::Result<Dataset> {
    open(&format!("parquet:{FILES}/{spec}"), &DataOptions::default())
}

/// Fails unless `spec` cannot be opened, and the reason is one line with all of `parts`.
fn assert_refused(spec: &str, parts: &[&str]) {
    match opened(spec) {
        Ok(data) => panic!("expected an error, got {data:?}"),
        Err(error) => {
            let message = error.to_string();
            assert_eq!(message.lines().count(), 1, "{message}");
            for part in parts {
                assert!(message.contains(part), "expected {part:?} in {message:?}");
            }
        }
    }
}

fn labels(samples: &dyn Samples) -> Vec<u32> {
    (0..samples.len()).map(|index| samples.label(index)).collect()
}

#[test]
fn rows_and_columns_of_images_are_not_exchanged() -> Outcome {
    let data = opened("named")?;
    for index in 0..data.train.len() {
        let image = data.train.image(index)?;
        assert_eq!((image.width, image.height, image.channels), (5, 3, 3));
        for (at, pixel) in image.pixels.chunks(3).enumerate() {
            let (x, y) = (at % 5, at / 5);
            assert_eq!(pixel, [(40 * index + 10 * y + x) as u8, (100 + x) as u8, (200 + y) as u8]);
        }
    }
    Ok(())
}

#[test]
fn declared_class_names_splits_and_labels_are_kept() -> Outcome {
    let data = opened("named")?;
    assert_eq!(data.classes, ["cat", "dog", "newt"]);
    assert_eq!(labels(&*data.train), [2, 0, 1, 0, 2]);
    // The test part is unlabelled, so the validation part takes its place.
    assert_eq!(labels(&*data.test), [1]);
    assert_eq!(data.test.image(0)?.pixels[0], 200);
    assert!(data.notes.iter().any(|note| note.contains("test part has no labels")), "{:?}", data.notes);
    assert!(data.train.name(3).contains("row 3"), "{}", data.train.name(3));
    Ok(())
}

#[test]
fn undeclared_columns_are_found_by_name_and_labels_by_value() -> Outcome {
    let data = opened("plain.parquet")?;
    assert_eq!(data.classes, ["3", "7", "11"]);
    assert_eq!(data.train.len() + data.test.len(), 6);
    let image = data.train.image(0)?;
    assert_eq!((image.width, image.height, image.channels), (5, 3, 1));
    assert_eq!(opened("plain.parquet?label=coarse_label")?.classes, ["a", "b"]);
    Ok(())
}

#[test]
fn samples_can_be_read_by_many_threads() -> Outcome {
    let data = opened("named")?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..50).all(|i| data.train.image(i % 5).is_ok_and(|m| m.pixels[0] as usize == i % 5 * 40))
                })
            })
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().is_ok_and(|right| right)));
    });
    Ok(())
}

#[test]
fn what_cannot_be_used_is_refused_with_the_reason() {
    assert_refused("no_images.parquet", &["no_images.parquet", "image", "label, text", "?image=COLUMN"]);
    assert_refused("plain.parquet?label=fine", &["\"fine\"", "coarse_label, fine_label, id, img", "?label=COLUMN"]);
    assert_refused("plain.parquet?labels=x", &["?label=COLUMN", "labels=x"]);
    assert_refused("wrong_label.parquet", &["train row 1", "3 classes", "got 3"]);
    assert_refused("zstd.parquet", &["zstd", "Snappy"]);
    assert_refused("nowhere", &["nowhere"]);
    assert_refused("make.py", &["make.py", "Parquet"]);
    assert_refused("named?config=other", &["other", "default"]);
}

#[test]
fn images_outside_of_the_file_are_an_error_when_they_are_asked_for() -> Outcome {
    let data = opened("linked.parquet")?;
    let error = data.train.image(0).expect_err("only a path is there").to_string();
    assert!(error.contains("embedded"), "{error}");
    Ok(())
}

#[test]
fn a_row_without_a_label_is_an_error_when_it_is_asked_for() -> Outcome {
    let data = opened("unlabelled_row.parquet")?;
    let parts = [&data.train, &data.test];
    let errors: Vec<String> = parts
        .iter()
        .flat_map(|part| (0..part.len()).filter_map(|index| part.image(index).err()))
        .map(|error| error.to_string())
        .collect();
    assert!(matches!(&errors[..], [one] if one.contains("train row 1: expected a label, got none")), "{errors:?}");
    Ok(())
}

/// Opens a file and reads all of it. Whether that works is not the point; that it ends, soon and without a panic, is.
fn read_all(path: &Path) -> bool {
    let Ok(data) = open(&format!("parquet:{}", path.display()), &DataOptions::default()) else { return false };
    let parts = [&data.train, &data.test];
    parts.iter().all(|part| (0..part.len()).all(|index| part.image(index).is_ok()))
}

#[test]
fn files_that_were_cut_are_errors() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("cut.parquet");
    let whole = fs::read(format!("{FILES}/plain.parquet"))?;
    for length in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..length])?;
        assert!(!read_all(&path), "{length} of {} bytes", whole.len());
    }
    Ok(())
}

#[test]
fn files_with_wrong_bytes_do_not_crash() -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("changed.parquet");
    for file in ["plain.parquet", "named/data/train-00000-of-00002.parquet"] {
        let whole = fs::read(format!("{FILES}/{file}"))?;
        for (at, byte) in whole.iter().enumerate().step_by(2) {
            let mut changed = whole.clone();
            changed[at] = [0xff, 0x00, byte ^ 0x10][at % 3];
            fs::write(&path, &changed)?;
            read_all(&path);
        }
    }
    Ok(())
}

/// The class names of a part's samples, in order.
fn named(data: &Dataset, samples: &dyn Samples) -> Vec<String> {
    labels(samples).into_iter().map(|label| data.classes[label as usize].clone()).collect()
}

#[test]
fn a_test_part_that_names_its_classes_in_another_order_is_mapped_by_name() -> Outcome {
    let data = opened("mapped")?;
    assert_eq!(data.classes, ["cat", "dog", "newt"]);
    assert_eq!(named(&data, &*data.train), ["newt", "cat", "dog", "cat", "newt"]);
    assert_eq!(named(&data, &*data.test), ["newt", "cat", "dog"]);
    assert!(data.notes.iter().any(|note| note.contains("mapped by name")), "{:?}", data.notes);
    let data = opened("text_test")?;
    assert_eq!(named(&data, &*data.test), ["newt", "cat", "dog"], "text is looked up among the names");
    assert_refused("further", &["test row 1", "3 classes", "\"wasp\""]);
    Ok(())
}

#[test]
fn labels_of_another_kind_than_trainings_are_refused() {
    assert_refused(
        "two_kinds",
        &["labels of the test part", "numbers, as in the train part", "text (\"0\")", "?label="],
    );
}

#[test]
fn floats_are_labels_if_they_are_whole() -> Outcome {
    let data = opened("floats")?;
    assert_eq!(named(&data, &*data.train), ["newt", "cat", "dog"], "32 bits");
    assert_eq!(named(&data, &*data.test), ["dog", "newt"], "64 bits");
    assert_refused("fraction.parquet", &["column label", "whole numbers", "got 0.5"]);
    Ok(())
}

#[test]
fn a_test_part_without_a_column_of_labels_is_left_out() -> Outcome {
    let data = opened("no_labels")?;
    assert_eq!(data.train.len() + data.test.len(), 5);
    assert!(data.notes.iter().any(|note| note.contains("no column of labels")), "{:?}", data.notes);
    Ok(())
}
