//! What a fuzzer does with the readers of data sets, images and runs: whatever the bytes are, an answer or an error of one line. Each says
//! whether it was an answer.
//!
//! The fuzz targets include this file, and so does the test that runs it on seeds and their mutations.
#![allow(dead_code, reason = "each user of this file needs another part of it")]

#[path = "answers.rs"]
mod answers;

use std::fs;

use tallow::data::{Alpha, DataOptions, Decoding, Exif, decode_as, open};
use tallow::report::single;
use tallow::train::RunFolder;

use answers::{in_folder, one_line};

/// The files of MNIST's format: of the images, and behind them, as long as its header says, of the labels.
pub fn idx(bytes: &[u8]) -> bool {
    let size = |at: usize| {
        bytes.get(at..at + 4).map_or(0, |size| u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize)
    };
    let end = [4, 8, 12].iter().try_fold(1, |count: usize, &at| count.checked_mul(size(at)));
    let end = end.and_then(|count| count.checked_add(16)).map_or(bytes.len() / 2, |end| end.min(bytes.len()));
    idx_files(&bytes[..end], &bytes[end..])
}

/// A compressed file of images in MNIST's format, beside labels of four.
pub fn idx_gz(bytes: &[u8]) -> bool {
    idx_files(bytes, b"\0\0\x08\x01\0\0\0\x04\0\x01\x01\0")
}

fn idx_files(images: &[u8], labels: &[u8]) -> bool {
    in_folder(|folder| {
        fs::write(folder.join("train-images-idx3-ubyte"), images).expect("a temporary file");
        fs::write(folder.join("train-labels-idx1-ubyte"), labels).expect("a temporary file");
        data(&format!("idx:{}", folder.display()))
    })
}

/// Records of CIFAR-10 of which all but the first bytes of each are zero, behind a line with the names of the classes.
pub fn cifar(bytes: &[u8]) -> bool {
    const RECORD: usize = 3073;
    let mut lines = bytes.splitn(2, |&byte| byte == 0);
    let (names, starts) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut records = Vec::new();
    for start in starts.chunks(4).take(64) {
        records.extend_from_slice(start);
        records.resize(records.len().next_multiple_of(RECORD), 0);
    }
    in_folder(|folder| {
        fs::write(folder.join("batches.meta.txt"), names).expect("a temporary file");
        fs::write(folder.join("data_batch_1.bin"), records).expect("a temporary file");
        data(&format!("cifar:{}", folder.display()))
    })
}

/// A Parquet file.
#[cfg(feature = "parquet")]
pub fn parquet(bytes: &[u8]) -> bool {
    in_folder(|folder| {
        let path = folder.join("data.parquet");
        fs::write(&path, bytes).expect("a temporary file");
        data(&format!("parquet:{}", path.display()))
    })
}

/// The card of a data set of two files in Parquet.
#[cfg(feature = "parquet")]
pub fn card(bytes: &[u8]) -> bool {
    const FILE: &[u8] = include_bytes!("../../tests/references/parquet/floats/train.parquet");
    in_folder(|folder| {
        fs::write(folder.join("README.md"), bytes).expect("a temporary file");
        fs::write(folder.join("train.parquet"), FILE).expect("a temporary file");
        fs::write(folder.join("test.parquet"), FILE).expect("a temporary file");
        data(&format!("parquet:{}", folder.display()))
    })
}

/// An image file.
pub fn decode(bytes: &[u8]) -> bool {
    let answer = |(alpha, exif)| {
        let image = one_line(decode_as(bytes, "image", Decoding::new(alpha, exif)));
        image.is_some_and(|image| {
            assert_eq!(image.pixels.len(), image.width * image.height * image.channels);
            true
        })
    };
    let [plain, with_alpha, on_white] =
        [(Alpha::Dropped, Exif::Apply), (Alpha::Kept, Exif::Ignore), (Alpha::OnWhite, Exif::Apply)].map(answer);
    plain && with_alpha && on_white
}

/// The files of a run's folder, with a zero byte between them; one that is empty is not there.
pub fn run(bytes: &[u8]) -> bool {
    const NAMES: [&str; 6] =
        ["config.toml", "metrics.jsonl", "summary.json", "predictions.json", "load.json", "data.json"];
    in_folder(|folder| {
        let mut files = bytes.split(|&byte| byte == 0);
        for name in NAMES {
            let path = folder.join(name);
            match files.next().filter(|file| !file.is_empty()) {
                Some(file) => fs::write(path, file).expect("a temporary file"),
                // There may be one from the call before.
                None => drop(fs::remove_file(path)),
            }
        }
        let run = RunFolder::new(folder);
        one_line(run.config().and_then(|config| config.validate()));
        one_line(run.exif());
        one_line(run.metrics());
        one_line(run.summary());
        one_line(run.predictions());
        one_line(run.data());
        one_line(single(&run)).is_some()
    })
}

/// Opens a data set and reads all of it, but for decoding images. Whether it could be opened.
fn data(spec: &str) -> bool {
    let options = DataOptions::default().with(|c| c.test_fraction = 0.5);
    let Some(data) = one_line(open(spec, &options)) else { return false };
    for samples in [&data.train, &data.test] {
        for index in 0..samples.len() {
            assert!((samples.label(index) as usize) < data.classes.len());
            assert!(!samples.name(index).is_empty());
            one_line(samples.digest(index));
        }
    }
    true
}
