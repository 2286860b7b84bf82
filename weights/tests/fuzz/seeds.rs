//! Small files that reach far into the readers of checkpoints, and some that lie.

use std::fs;
use std::path::Path;

use tallow_weights::{OpenOptions, Source, TensorInfo, open};
use zip::ZipArchive;

use crate::weights::zipped;

fn reference(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references").join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The files of an archive whose names end so.
fn inside(archive: &str, end: &str) -> Vec<Vec<u8>> {
    let mut zip = ZipArchive::new(std::io::Cursor::new(reference(archive))).expect("an archive");
    let indices: Vec<usize> = (0..zip.len())
        .filter(|&index| zip.by_index_data(index).is_ok_and(|entry| entry.name().is_ok_and(|name| name.ends_with(end))))
        .collect();
    let read = |index| {
        let mut bytes = Vec::new();
        std::io::copy(&mut zip.by_index(index).expect("an entry"), &mut bytes).expect("a whole entry");
        bytes
    };
    indices.into_iter().map(read).collect()
}

pub fn text(text: &str) -> Vec<u8> {
    [&b"X"[..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn int(value: i32) -> Vec<u8> {
    [&b"J"[..], &value.to_le_bytes()].concat()
}

/// The tensor `name` of this shape and these strides over the storage `key`.
pub fn tensor(name: &str, key: &str, shape: &[i32], stride: &[i32]) -> Vec<u8> {
    let tuple =
        |sizes: &[i32]| [b"(".to_vec(), sizes.iter().flat_map(|&size| int(size)).collect(), b"t".to_vec()].concat();
    [
        text(name),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text(key),
        text("cpu"),
        int(8),
        b"tQ".to_vec(),
        int(0),
        tuple(shape),
        tuple(stride),
        b"\x89}tRs".to_vec(),
    ]
    .concat()
}

/// A dictionary of what these opcodes set in it.
pub fn dictionary(items: &[Vec<u8>]) -> Vec<u8> {
    [b"\x80\x02}".to_vec(), items.concat(), b".".to_vec()].concat()
}

pub fn pickles() -> Vec<Vec<u8>> {
    let good = tensor("w", "0", &[2, 4], &[4, 1]);
    let mut seeds = vec![
        dictionary(std::slice::from_ref(&good)),
        dictionary(&[tensor("w", "0", &[8, 2], &[1, 0])]),
        dictionary(&[tensor("w", "0", &[0, i32::MAX], &[1, i32::MAX])]),
        dictionary(&[tensor("w", "7", &[1], &[1]), tensor("w", "0", &[-1], &[1])]),
        dictionary(&[
            text("state_dict"),
            b"}".to_vec(),
            good.clone(),
            b"s".to_vec(),
            text("epoch"),
            int(3),
            b"s".to_vec(),
        ]),
        // Not executed, named, of every protocol.
        b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.".to_vec(),
        b"(lp0\n(dp1\nS'a'\nI01\nsL5L\naF1.5\naVtext\na.".to_vec(),
        b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x01a\x8c\x01b\x93\x94)\x81}\x8c\x02_m}sb.".to_vec(),
        // Lists that hold themselves, and a tuple that doubles.
        b"\x80\x02]q\x00h\x00a.".to_vec(),
        b"\x80\x02)q\x00h\x00\x86q\x01h\x01\x86q\x02h\x02\x86.".to_vec(),
    ];
    for file in ["types.pth", "types_protocol_4.pth", "torch_objects.pth"] {
        seeds.extend(inside(file, "data.pkl"));
    }
    seeds
}

pub fn archives() -> Vec<Vec<u8>> {
    let npy = npy().swap_remove(0);
    vec![
        reference("types.pth"),
        reference("torch_objects.pth"),
        reference("types.npz"),
        zipped(&[("m/data.pkl", &pickles()[0]), ("m/byteorder", b"little"), ("m/data/0", &[0; 32])]),
        zipped(&[("a.npy", &npy), ("b.npy", &npy)]),
        zipped(&[("readme.txt", b"hello")]),
        zipped(&[]),
    ]
}

/// A file from before PyTorch 1.6 with this object and a storage of eight values.
fn legacy_of(object: &[u8]) -> Vec<u8> {
    let start = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";
    let storage = [&8u64.to_le_bytes()[..], &[0; 32]].concat();
    [start, object, b"\x80\x02](X\x01\0\0\x000e.", &storage].concat()
}

pub fn legacy() -> Vec<Vec<u8>> {
    vec![reference("types_legacy.pth"), legacy_of(&dictionary(&[tensor("w", "0", &[2, 4], &[4, 1])]))]
}

/// GGUF of these numbers of tensors and notes, whose headers follow, and then the values.
pub fn gguf_of(tensors: u64, notes: u64, headers: &[u8], values: usize) -> Vec<u8> {
    let mut bytes = [b"GGUF\x03\0\0\0", &tensors.to_le_bytes()[..], &notes.to_le_bytes(), headers].concat();
    bytes.resize(bytes.len().next_multiple_of(32) + values, 0);
    bytes
}

fn word(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// What says a tensor's name, dimensions, type and place.
pub fn gguf_tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).chain(kind.to_le_bytes()).collect();
    [word(name), (dims.len() as u32 / 8).to_le_bytes().to_vec(), dims, offset.to_le_bytes().to_vec()].concat()
}

pub fn gguf() -> Vec<Vec<u8>> {
    let note = |key: &str, kind: u32, value: &[u8]| [&word(key)[..], &kind.to_le_bytes(), value].concat();
    let config = note("tallow.config", 8, &word(r#"{"architecture": "vit_tiny_patch16_224"}"#));
    let alignment = note("general.alignment", 4, &8u32.to_le_bytes());
    let array = note("k", 9, &[&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &word("a"), &word("b")].concat());
    let nested = note("k", 9, &[&9u32.to_le_bytes()[..], &1u64.to_le_bytes(), &0u32.to_le_bytes(), &[0; 8]].concat());
    vec![
        reference("quantised.gguf"),
        gguf_of(1, 0, &gguf_tensor("a", &[32, 2], 8, 0), 68),
        gguf_of(
            2,
            2,
            &[&alignment[..], &config, &gguf_tensor("a", &[8], 0, 0), &gguf_tensor("b", &[8], 1, 32)].concat(),
            64,
        ),
        gguf_of(1, 2, &[&array[..], &nested, &gguf_tensor("a", &[0, u64::MAX], 0, 0)].concat(), 0),
        gguf_of(1, 0, &gguf_tensor("a", &[u64::MAX / 2, 4], 0, 0), 64),
        gguf_of(u64::MAX / 2, u64::MAX, &[], 64),
    ]
}

pub fn npy() -> Vec<Vec<u8>> {
    let of = |descr: &str, order: &str, shape: &str, values: usize| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), &vec![0; values]].concat()
    };
    let mut seeds = vec![
        of("<f4", "False", "(2,)", 8),
        of("<f8", "True", "(2, 3)", 48),
        of("|V2", "False", "()", 2),
        of("<U3", "False", "(1,)", 12),
        of("<f4", "True", "(0, 18446744073709551615)", 0),
        of("<f4", "False", "(4294967296, 4294967296, 4)", 8),
    ];
    seeds.extend(inside("types.npz", ".npy"));
    seeds
}

pub fn safetensors() -> Vec<Vec<u8>> {
    let of = |header: &str, values: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; values]].concat()
    };
    let entry = |name: &str, dtype: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    vec![
        reference("expected/types.safetensors"),
        of(&format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}"#, entry("a", "F32", "[2]", "[0,8]")), 8),
        of(&format!("{{{},{}}}", entry("a", "BF16", "[2]", "[0,4]"), entry("b", "F8_E5M2", "[4]", "[4,8]")), 8),
        of(&format!("{{{}}}", entry("a", "I64", "[0,18446744073709551615]", "[0,0]")), 0),
        of(&format!("{{{}}}", entry("a", "F32", "[4294967296,4294967296,4]", "[0,8]")), 8),
        [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
    ]
}

/// The names and shapes of a reference.
fn listed(names: &str) -> Vec<u8> {
    let bytes = reference(names);
    let (_, metadata) = ::safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
    let mut lines: Vec<String> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| info.shape.iter().fold(name, |line, size| format!("{line} {size}")))
        .collect();
    lines.sort();
    lines.join("\n").into_bytes()
}

/// The names and shapes of an npz file's float tensors.
fn listed_npz(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references").join(name);
    let checkpoint = open(&Source::File(path), &OpenOptions::default()).expect("a checkpoint");
    let line = |info: &TensorInfo| info.shape.iter().fold(info.name.clone(), |line, size| format!("{line} {size}"));
    checkpoint.tensors().iter().map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

pub fn networks() -> Vec<Vec<u8>> {
    let files = ["timm", "timm_full", "hf_vit_classifier", "hf_dinov2_registers", "hf_mae", "hf_deit_teacher"];
    let alone = files.iter().map(|name| listed(&format!("{name}/model.safetensors")));
    let configured = files
        .iter()
        .map(|name| [listed(&format!("{name}/model.safetensors")), reference(&format!("{name}/config.json"))].join(&0));
    // All blocks stacked, in the names of JAX.
    let stacked = b"embedding/kernel 4 4 3 8\nembedding/bias 8\ncls 1 1 8\n\
        Transformer/posembed_input/pos_embedding 1 5 8\nTransformer/encoderblock/LayerNorm_0/scale 2 8\n\
        Transformer/encoderblock/LayerNorm_0/bias 2 8\n\
        Transformer/encoderblock/MultiHeadDotProductAttention_0/query/kernel 2 8 2 4\nhead/kernel 8 5\nhead/bias 5";
    alone.chain(configured).chain([stacked.to_vec(), listed_npz("jax.npz")]).collect()
}

pub fn configs() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> =
        ["timm", "timm_full", "hf_deit_classifier", "hf_dinov2_registers", "hf_mae", "hf_vit_v5"]
            .iter()
            .map(|name| reference(&format!("{name}/config.json")))
            .collect();
    for name in ["hf_vit_classifier", "hf_dinov2_classifier"] {
        let both = [format!("{name}/config.json"), format!("{name}/preprocessor_config.json")];
        seeds.push(both.map(|name| reference(&name)).join(&0));
    }
    seeds.extend([
        br#"{"architecture": "vit_tiny_patch16_224", "num_classes": 3, "label_names": ["a", "b", "c"]}"#.to_vec(),
        br#"{"architecture": "x", "tallow": {"architecture": {"family": "mlp"}, "head": "untrained"}}"#.to_vec(),
        br#"{"architecture": "x", "tallow": {"architecture": {"family": "cnn", "num_classes": 7}}}"#.to_vec(),
        br#"{"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 40000, "img_size": [224, 8]}}"#.to_vec(),
    ]);
    seeds
}

pub fn indices() -> Vec<Vec<u8>> {
    vec![
        br#"{"metadata": {"total_size": 4}, "weight_map": {"a": "part.safetensors"}}"#.to_vec(),
        br#"{"weight_map": {"a": "../secret.safetensors"}}"#.to_vec(),
        br#"{"weight_map": {"b": "part.safetensors"}}"#.to_vec(),
        br#"{"weight_map": {"a": "model.safetensors.index.json"}}"#.to_vec(),
    ]
}
