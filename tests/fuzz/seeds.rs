//! Small files that reach far into the readers of data sets, images and runs, and some that lie.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use tallow::train::TrainConfig;

use crate::fake_run::FakeRun;
use crate::packed::unpacked;

/// The files of a folder and of those in it, in order, up to a size that is quickly read.
fn files_of(folder: PathBuf) -> Vec<Vec<u8>> {
    const LARGEST: u64 = 4000;
    let mut files = Vec::new();
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of references") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= LARGEST)
                && path.extension().is_none_or(|ending| ending != "py")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    files.iter().map(|path| fs::read(path).expect("a reference")).collect()
}

fn header(kind: u8, sizes: &[u32]) -> Vec<u8> {
    [&[0, 0, kind, sizes.len() as u8][..], &sizes.iter().flat_map(|size| size.to_be_bytes()).collect::<Vec<_>>()]
        .concat()
}

fn images() -> Vec<u8> {
    [header(8, &[4, 2, 3]), (0..24).collect()].concat()
}

pub fn idx() -> Vec<Vec<u8>> {
    let labels = |labels: &[u8]| [header(8, &[labels.len() as u32]), labels.to_vec()].concat();
    vec![
        [images(), labels(&[1, 0, 0, 1])].concat(),
        [images(), labels(&[3, 7, 7, 255])].concat(),
        [images(), labels(&[1, 0, 0])].concat(),
        [header(8, &[0, 2, 3]), labels(&[])].concat(),
        [header(8, &[u32::MAX, u32::MAX, u32::MAX]), labels(&[1])].concat(),
        [header(13, &[1, 1, 1]), vec![0; 4], labels(&[1])].concat(),
    ]
}

pub fn idx_gz() -> Vec<Vec<u8>> {
    let packed = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).expect("memory");
        encoder.finish().expect("memory")
    };
    let large = [header(8, &[4, 500, 500]), vec![0; 1_000_000]].concat();
    vec![packed(&images()), packed(&large), [packed(&images()[..7]), packed(&images()[7..])].concat(), images()]
}

pub fn cifar() -> Vec<Vec<u8>> {
    let usual = "airplane\nautomobile\nbird\ncat\n\0";
    vec![
        [usual.as_bytes(), &[0, 9, 9, 9, 3, 9, 9, 9, 3, 9, 9, 9, 0]].concat(),
        b"\0\x02\x01".to_vec(),
        b"one\ntwo\n\0\x09".to_vec(),
    ]
}

pub fn parquet() -> Vec<Vec<u8>> {
    let references = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/references/parquet"));
    let mut seeds = vec![fs::read(references.join("plain.parquet")).expect("a reference")];
    seeds.extend(files_of(references.to_owned()));
    seeds
}

pub fn cards() -> Vec<Vec<u8>> {
    [
        "# A card\n",
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: train.parquet\n  \
         - split: test\n    path: [\"te*\", test.parquet]\n---\n# Card\n",
        "---\nlicense: mit\nconfigs:\n- config_name: a\n  default: true\n  data_files: '*.parquet'\n- config_name: b\n  \
         data_dir: folder\n---\n",
        "---\nconfigs:\n- data_files:\n    train: train.parquet\n    test:\n    - test.parquet\n---\n",
        "---\nconfigs: [{data_files: [train.parquet, {split: x}]}]\n---\n",
        "---\nconfigs: [{data_files: *x, config_name: &x \"a\\nb\"}]\n---\n",
        "---\nconfigs: [[[[[[[[[[[[[[[[[[[[[[\n",
        "---\nconfigs: |\n  text\n---\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

pub fn decoded() -> Vec<Vec<u8>> {
    ["decode", "exif", "files"].into_iter().flat_map(|name| files_of(unpacked(name))).collect()
}

pub fn runs() -> Vec<Vec<u8>> {
    const DATA: &str = "{\n\"version\": 1,\n\"data\": \"folder:photos\",\n\"place\": \"folder:photos\",\n\"classes\": [\"a\"],\n\
        \"test_held_out\": false,\n\"train\": [],\n\"val\": [],\n\"test\": []\n}\n";
    const ACCOUNT: &str =
        "{\"source\": \"here\", \"naming\": \"timm's\", \"tensors\": [], \"parameters\": [], \"notes\": []}";
    const NAMES: [&str; 4] = ["config.toml", "metrics.jsonl", "summary.json", "predictions.json"];
    let small = |classes: usize| FakeRun {
        classes: (0..classes).map(|class| format!("class {class}")).collect(),
        steps_per_epoch: 2,
        epochs: 2,
        test_samples: 5,
        picture: 4,
        ..FakeRun::default()
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut seeds = Vec::new();
    for (run, set) in [(small(2), ""), (small(3), "depth = 2")] {
        FakeRun { set: set.into(), validation: true, ..run }.write(folder.path());
        let mut files = NAMES.map(|name| fs::read(folder.path().join(name)).expect("a file of the run")).to_vec();
        seeds.push(files.join(&0));
        files.extend([ACCOUNT.as_bytes().to_vec(), DATA.as_bytes().to_vec()]);
        files[0] = TrainConfig::default().to_toml().expect("a configuration").into_bytes();
        seeds.push(files.join(&0));
        seeds.push(files[..2].join(&0));
    }
    let settings = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/quickstart.toml");
    seeds.push(fs::read(settings).expect("a recipe"));
    seeds
}
