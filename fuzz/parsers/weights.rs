//! What a fuzzer does with the readers of checkpoints: whatever the bytes are, an answer or an error of one line. Each says whether it was
//! an answer.
//!
//! The fuzz targets include this file, and so does the test that runs it on seeds and their mutations.
#![allow(dead_code, reason = "each user of this file needs another part of it")]

#[path = "answers.rs"]
mod answers;

use std::fs;
use std::io::{Cursor, Write};

use candle_core::{DType, Device};
use serde_json::{Map, Value, json};
use tallow_models::{Architecture, Params};
use tallow_weights::{Checkpoint, CheckpointConfig, LoadOptions, OpenOptions, Source, load, open};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use answers::{in_folder, one_line};

/// Tensors with more values are not read: what repeats a value may well be larger than its file.
const MAX_VALUES: usize = 1 << 20;
/// Models with more parameters are not loaded.
const MAX_PARAMETERS: usize = 1 << 18;

/// A zip archive: npz or PyTorch.
pub fn archive(bytes: &[u8]) -> bool {
    file(bytes)
}

/// A file of PyTorch from before 1.6.
pub fn legacy(bytes: &[u8]) -> bool {
    file(bytes)
}

/// A GGUF file.
pub fn gguf(bytes: &[u8]) -> bool {
    file(bytes)
}

/// A safetensors file.
pub fn safetensors(bytes: &[u8]) -> bool {
    file(bytes)
}

/// A pickle, as the object of a file of PyTorch with a storage of eight values.
pub fn pickle(bytes: &[u8]) -> bool {
    file(&zipped(&[("m/data.pkl", bytes), ("m/data/0", &[0; 32])]))
}

/// An npy file, as the only one of an npz archive.
pub fn npy(bytes: &[u8]) -> bool {
    file(&zipped(&[("a.npy", bytes)]))
}

/// A checkpoint of zeros: a line is a name and a shape, such as `norm.bias 8`; behind a first zero byte its `config.json`.
pub fn networks(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (text, config) = text.split_once('\0').map_or((&*text, None), |(text, config)| (text, Some(config)));
    let (mut header, mut end) = (Map::new(), 0);
    for line in text.lines() {
        let mut words = line.split(' ');
        let name = words.next().unwrap_or_default();
        let shape: Vec<usize> = words.map_while(|word| word.parse().ok()).collect();
        let count = shape.iter().try_fold(1, |count: usize, &size| count.checked_mul(size));
        let Some(count) = count.filter(|&count| count <= MAX_PARAMETERS - end / 4) else { continue };
        if !header.contains_key(name) {
            let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [end, end + 4 * count]});
            header.insert(name.into(), entry);
            end += 4 * count;
        }
    }
    let header = Value::Object(header).to_string();
    let weights = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; end]].concat();
    match config {
        None => file(&weights),
        Some(config) => in_folder(|folder| {
            fs::write(folder.join("config.json"), config).expect("a temporary file");
            fs::write(folder.join("model.safetensors"), weights).expect("a temporary file");
            let is_read = read(&Source::Folder(folder.into()));
            fs::remove_file(folder.join("config.json")).expect("a temporary file");
            fs::remove_file(folder.join("model.safetensors")).expect("a temporary file");
            is_read
        }),
    }
}

/// A `config.json`; behind a first zero byte what lies beside it, as `preprocessor_config.json`.
pub fn config(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (config, processor) = text.split_once('\0').map_or((&*text, None), |(a, b)| (a, Some(b)));
    let processor = processor.map(|text| (text, "preprocessor_config.json"));
    let parsed = one_line(CheckpointConfig::parse_noting(config, processor, "config.json"));
    let Some((config, notes)) = parsed else { return false };
    assert!(notes.iter().all(|note| !note.contains('\n')), "{notes:?}");
    describe(&config.architecture);
    // What is saved is read back.
    let text = serde_json::to_string(&config).expect("a config is JSON");
    serde_json::from_str::<CheckpointConfig>(&text).expect("a config is read back");
    true
}

/// The index of a checkpoint in parts, beside one part.
pub fn index(bytes: &[u8]) -> bool {
    in_folder(|folder| {
        fs::write(folder.join("model.safetensors.index.json"), bytes).expect("a temporary file");
        let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
        let part = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
        fs::write(folder.join("part.safetensors"), part).expect("a temporary file");
        read(&Source::Folder(folder.into()))
    })
}

/// Opens a file with these bytes, in any format.
fn file(bytes: &[u8]) -> bool {
    in_folder(|folder| {
        let path = folder.join("weights");
        fs::write(&path, bytes).expect("a temporary file");
        read(&Source::File(path))
    })
}

/// Reads all that a checkpoint holds, and loads it where it is small. Whether it could be opened.
fn read(source: &Source) -> bool {
    let Some(checkpoint) = one_line(open(source, &OpenOptions::default())) else { return false };
    for info in checkpoint.tensors() {
        let count = info.shape.iter().try_fold(1, |count: usize, &size| count.checked_mul(size));
        if count.is_none_or(|count| count <= MAX_VALUES)
            && let Some(tensor) = one_line(checkpoint.tensor(&info.name))
        {
            assert_eq!(tensor.dims(), info.shape);
        }
    }
    load_into_a_model(&checkpoint);
    true
}

fn load_into_a_model(checkpoint: &Checkpoint) {
    let Some((config, _notes)) = one_line(checkpoint.config_or_inferred()) else { return };
    if describe(&config.architecture).is_some_and(|count| count <= MAX_PARAMETERS) {
        let params = Params::new(0, DType::F32, &Device::Cpu);
        if let Some(account) = one_line(load(checkpoint, &config.architecture, &LoadOptions::default(), &params)) {
            let _ = account.to_string();
        }
    }
}

/// Counts a model's parameters, and its operations.
fn describe(architecture: &Architecture) -> Option<usize> {
    let _ = architecture.flops();
    one_line(architecture.num_parameters())
}

/// An archive of these files, as they are.
pub fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in files {
        zip.start_file(*name, options).expect("a name");
        zip.write_all(bytes).expect("memory");
    }
    zip.finish().expect("memory").into_inner()
}
