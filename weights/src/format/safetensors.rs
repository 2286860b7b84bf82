//! safetensors: a JSON header with names, types, shapes and offsets, then the values. Memory-mapped.
//!
//! <https://github.com/huggingface/safetensors#format>

use std::path::Path;

use candle_core::{DType, Tensor};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::{CONFIG_KEY, Format, ReadTensor, TensorFile, TensorInfo, from_bytes, map, value_count};
use crate::{Error, Result};

struct Mapped {
    origin: String,
    map: Mmap,
    entries: Vec<Entry>,
}

struct Entry {
    info: TensorInfo,
    dtype: Option<DType>,
    start: usize,
    end: usize,
}

/// Opens a safetensors file. Its header must describe the file without gaps, overlaps or bytes left over.
pub(super) fn open(path: &Path) -> Result<TensorFile> {
    let origin = path.display().to_string();
    let map = map(path)?;
    let (header, metadata) = SafeTensors::read_metadata(&map)
        .map_err(|e| Error::format(&origin, format!("a whole safetensors file ({} bytes)", map.len()), e))?;
    let data = header + 8;
    let mut entries: Vec<Entry> = metadata
        .tensors()
        .into_iter()
        .map(|(name, info)| Entry {
            info: TensorInfo { name, shape: info.shape.clone(), dtype: format!("{:?}", info.dtype) },
            dtype: dtype(info.dtype),
            start: data + info.data_offsets.0,
            end: data + info.data_offsets.1,
        })
        .collect();
    if let Some(entry) = entries.iter().find(|entry| value_count(&entry.info.shape).is_none()) {
        let place = format!("{origin}: {}", entry.info.name);
        return Err(Error::format(&place, "a shape that can be counted", format!("{:?}", entry.info.shape)));
    }
    // An order that does not depend on a hash.
    entries.sort_by(|a, b| (a.start, &a.info.name).cmp(&(b.start, &b.info.name)));
    let tensors = entries.iter().map(|entry| entry.info.clone()).collect();
    let config = metadata.metadata().as_ref().and_then(|texts| texts.get(CONFIG_KEY)).cloned();
    let reader = Box::new(Mapped { origin, map, entries });
    Ok(TensorFile { format: Format::Safetensors, tensors, reader, dictionaries: Vec::new(), config })
}

fn dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F64 => DType::F64,
        Dtype::U8 => DType::U8,
        Dtype::U32 => DType::U32,
        Dtype::I64 => DType::I64,
        _ => return None,
    })
}

impl ReadTensor for Mapped {
    fn read(&self, index: usize) -> Result<Tensor> {
        let Entry { info, dtype, start, end } = &self.entries[index];
        let dtype = dtype.ok_or_else(|| {
            Error::unsupported(
                &self.origin,
                format!("the type {} of {}", info.dtype, info.name),
                "save the weights in float32, float16 or bfloat16",
            )
        })?;
        from_bytes(&self.map[*start..*end], dtype, &info.shape)
    }
}
