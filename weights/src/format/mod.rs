//! File formats: safetensors, GGUF, npz, PyTorch. Told apart by their first bytes, never by the file's name.
//!
//! Opening a file reads its header only and checks every length in it against the size of the file; tensors are read one at
//! a time. Nothing that a file claims is allocated before it was found to be there.

mod archive;
mod gguf;
mod npz;
mod pickle;
mod pytorch;
mod safetensors;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};

use crate::{Error, Result};

/// The metadata key under which GGUF and safetensors carry the text of a `config.json` in timm's layout.
pub(crate) const CONFIG_KEY: &str = "tallow.config";

/// Name, shape and stored type of a tensor, without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// The shape.
    pub shape: Vec<usize>,
    /// The type as the format calls it: `F32`, `Q8_0`, …
    pub dtype: String,
}

impl TensorInfo {
    /// Whether it is a single value, whatever its dimensions.
    pub(crate) fn is_one_value(&self) -> bool {
        self.shape.iter().all(|&size| size == 1)
    }
}

/// An opened file.
pub(crate) struct TensorFile {
    pub(crate) format: Format,
    /// The tensors, in the file's order; in a PyTorch file with the path through its dictionaries in front.
    pub(crate) tensors: Vec<TensorInfo>,
    /// Where the file has dictionaries in dictionaries (PyTorch): for every tensor the path of the one that it is in.
    pub(crate) dictionaries: Vec<String>,
    pub(crate) reader: Box<dyn ReadTensor>,
    /// The text of a config.json that the file carries (GGUF, safetensors).
    pub(crate) config: Option<String>,
}

/// Reads the values of one tensor onto the CPU, in the type in which they are stored (quantised ones as float32).
pub(crate) trait ReadTensor: Send + Sync {
    /// `index` counts in [`TensorFile::tensors`].
    fn read(&self, index: usize) -> Result<Tensor>;

    /// Says why a tensor cannot be read, as far as that is known without reading it.
    fn check(&self, _index: usize) -> Result<()> {
        Ok(())
    }
}

/// The known formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Safetensors,
    Gguf,
    Npz,
    PyTorch,
}

/// Tensors of more dimensions than this are refused.
const MAX_DIMS: usize = 8;
/// Longer names of tensors than this are refused, in bytes.
const MAX_NAME: usize = 4096;

/// Opens a file in any of the formats.
pub(crate) fn open(path: &Path) -> Result<TensorFile> {
    let file = open_unchecked(path)?;
    let unusual = |info: &&TensorInfo| info.name.len() > MAX_NAME || info.name.contains(char::is_control);
    match file.tensors.iter().find(unusual) {
        None => Ok(file),
        Some(info) => {
            let expected = format!("names of at most {MAX_NAME} bytes without control characters");
            Err(Error::format(&path.display().to_string(), expected, format!("{:?}", info.name)))
        }
    }
}

fn open_unchecked(path: &Path) -> Result<TensorFile> {
    let origin = path.display().to_string();
    let mut file = File::open(path).map_err(Error::io(path))?;
    if file.metadata().map_err(Error::io(path))?.is_dir() {
        return Err(Error::format(&origin, "a file with weights", "a folder"));
    }
    let mut head = Vec::new();
    file.by_ref().take(16).read_to_end(&mut head).map_err(Error::io(path))?;
    match head.as_slice() {
        // Before any magic number, as the length of a header may have the bytes of one: 640 has those of a pickle. No other format
        // has zeros and a brace there.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => safetensors::open(path),
        [b'G', b'G', b'U', b'F', ..] => gguf::open(path),
        [b'P', b'K', 3 | 5, 4 | 6, ..] => {
            let archive = archive::Archive::open(path)?;
            if archive.names().any(|name| name.ends_with("/data.pkl") || name == "data.pkl") {
                pytorch::open(archive)
            } else {
                npz::open(archive)
            }
        }
        [0x80, 1..=5, ..] => pytorch::open_legacy(path),
        [_, _, _, _, _, _, _, _, b'{', ..] => safetensors::open(path),
        [] => Err(Error::format(&origin, "safetensors, GGUF, npz or a PyTorch file", "an empty file")),
        _ if head.starts_with(b"version https://") => {
            Err(Error::format(&origin, "weights", "a Git LFS pointer; fetch the file itself with `git lfs pull`"))
        }
        _ => Err(Error::format(
            &origin,
            "safetensors, GGUF, npz or a PyTorch file",
            format!("a file that starts with {:?}", String::from_utf8_lossy(&head[..head.len().min(8)])),
        )),
    }
}

/// Opens GGUF that lies in memory, aligned to at least 8 bytes.
#[cfg(feature = "bundled")]
pub(crate) fn open_bytes(origin: &str, bytes: &'static [u8]) -> Result<TensorFile> {
    gguf::open_bytes(origin, bytes)
}

/// How many values a shape has, or nothing where it is larger than any of ours, or that overflows. Where there is a 0 among the
/// sizes, the others may say what they like without a value in the file: they are checked too, as strides are products of them.
fn value_count(shape: &[usize]) -> Option<usize> {
    if shape.len() > MAX_DIMS || shape.iter().any(|&size| u32::try_from(size).is_err()) {
        return None;
    }
    let count = shape.iter().filter(|size| **size > 0).try_fold(1usize, |count, &size| count.checked_mul(size))?;
    Some(if shape.contains(&0) { 0 } else { count })
}

/// The size in bytes of `shape` values of `dtype`, or nothing as in [`value_count`].
fn byte_count(shape: &[usize], dtype: DType) -> Option<usize> {
    value_count(shape)?.checked_mul(dtype.size_in_bytes())
}

/// Little-endian bytes as a tensor. The caller has checked that `bytes` has the length that the shape asks for.
fn from_bytes(bytes: &[u8], dtype: DType, shape: &[usize]) -> Result<Tensor> {
    if dtype == DType::F32 {
        // A variable: parameters take one over as it is, where they copy any other tensor.
        let values = bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect();
        return Ok(Var::from_vec(values, shape, &Device::Cpu)?.into_inner());
    }
    Ok(Tensor::from_raw_buffer(bytes, dtype, shape, &Device::Cpu)?)
}

/// A memory map of a file, with its size checked to be at least one byte.
fn map(path: &Path) -> Result<memmap2::Mmap> {
    let file = File::open(path).map_err(Error::io(path))?;
    // SAFETY: the map is read only. Weights are replaced by renaming, here and in every tool that writes them, so the file
    // under the map does not change.
    unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io(path))
}
