//! GGUF: metadata, tensor headers, then the values, plain or quantised in blocks. Memory-mapped.
//!
//! <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. The header is parsed here and not by Candle, which allocates
//! what arrays of metadata claim and divides by an alignment of zero.

use std::path::Path;

use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
use candle_core::{DType, Device, Tensor};
use memmap2::Mmap;

use super::{CONFIG_KEY, Format, ReadTensor, TensorFile, TensorInfo, from_bytes, map, value_count};
use crate::{Error, Result};

/// Arrays of arrays deeper than this are refused.
const MAX_DEPTH: usize = 8;
const MAX_DIMS: u32 = 4;

struct Gguf {
    origin: String,
    bytes: Bytes,
    entries: Vec<Entry>,
}

enum Bytes {
    Mapped(Mmap),
    #[cfg(feature = "bundled")]
    Static(&'static [u8]),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            #[cfg(feature = "bundled")]
            Self::Static(bytes) => bytes,
        }
    }
}

struct Entry {
    name: String,
    shape: Vec<usize>,
    dtype: GgmlDType,
    start: usize,
    end: usize,
}

/// Opens a GGUF file and checks that every tensor lies inside it.
pub(super) fn open(path: &Path) -> Result<TensorFile> {
    let origin = path.display().to_string();
    parse(origin, Bytes::Mapped(map(path)?))
}

/// Opens GGUF that lies in memory, aligned to at least 8 bytes.
#[cfg(feature = "bundled")]
pub(super) fn open_bytes(origin: &str, bytes: &'static [u8]) -> Result<TensorFile> {
    parse(origin.into(), Bytes::Static(bytes))
}

fn parse(origin: String, bytes: Bytes) -> Result<TensorFile> {
    let file = bytes.get();
    let mut cursor = Cursor { origin: &origin, bytes: file, at: 4, wide: true };
    let version = cursor.u32()?;
    if !(1..=3).contains(&version) {
        return Err(Error::format(&origin, "GGUF of version 1 to 3 in little-endian", format!("version {version}")));
    }
    cursor.wide = version > 1;
    let (tensor_count, metadata_count) = (cursor.length()?, cursor.length()?);
    let (mut config, mut alignment) = (None, 32);
    for _ in 0..metadata_count {
        let key = cursor.string()?;
        let kind = cursor.u32()?;
        match (key.as_str(), kind) {
            (CONFIG_KEY, STRING) => config = Some(cursor.string()?),
            ("general.alignment", UINT32) => alignment = cursor.u32()? as usize,
            _ => cursor.skip_value(kind, 0)?,
        }
    }
    if alignment == 0 || alignment % 8 != 0 {
        return Err(Error::format(&origin, "an alignment that is a multiple of 8", alignment));
    }
    let mut headers = Vec::new();
    for _ in 0..tensor_count {
        headers.push(cursor.tensor_header()?);
    }
    let data = cursor.at.checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
    let mut entries = Vec::with_capacity(headers.len());
    for (name, shape, kind, offset) in headers {
        let place = format!("{origin}: {name}");
        let dtype = dtype(kind).ok_or_else(|| {
            let remedy = "known are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K";
            Error::unsupported(&place, format!("the quantisation number {kind}"), remedy)
        })?;
        let (block, last) = (dtype.block_size(), shape.last().copied().unwrap_or(1));
        if last % block != 0 {
            return Err(Error::format(&place, format!("a last dimension divisible by {block}"), format!("{shape:?}")));
        }
        if offset % alignment as u64 != 0 {
            return Err(Error::format(&place, format!("an offset divisible by {alignment}"), offset));
        }
        let count = value_count(&shape);
        let start = usize::try_from(offset).ok().and_then(|offset| data.checked_add(offset));
        let end = count
            .and_then(|count| (count / block).checked_mul(dtype.type_size()))
            .and_then(|length| length.checked_add(start?))
            .filter(|&end| end <= file.len());
        let (Some(start), Some(end)) = (start, end) else {
            let got = format!("shape {shape:?} in {dtype:?} at offset {offset}");
            return Err(Error::format(&place, format!("values inside the file of {} bytes", file.len()), got));
        };
        entries.push(Entry { name, shape, dtype, start, end });
    }
    let mut ranges: Vec<_> = entries.iter().filter(|e| e.start < e.end).map(|e| (e.start, e.end, &e.name)).collect();
    ranges.sort_unstable();
    if let Some(pair) = ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        let got = format!("{} and {} overlap", pair[0].2, pair[1].2);
        return Err(Error::format(&origin, "tensors that lie apart", got));
    }
    let tensors = entries
        .iter()
        .map(|e| TensorInfo { name: e.name.clone(), shape: e.shape.clone(), dtype: format!("{:?}", e.dtype) })
        .collect();
    let reader = Box::new(Gguf { origin, bytes, entries });
    Ok(TensorFile { format: Format::Gguf, tensors, dictionaries: Vec::new(), reader, config })
}

/// The quantisations that Candle can undo, by ggml's number.
fn dtype(kind: u32) -> Option<GgmlDType> {
    Some(match kind {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

impl ReadTensor for Gguf {
    fn read(&self, index: usize) -> Result<Tensor> {
        let Entry { name, shape, dtype, start, end } = &self.entries[index];
        let bytes = &self.bytes.get()[*start..*end];
        match dtype {
            GgmlDType::F32 => from_bytes(bytes, DType::F32, shape),
            GgmlDType::F16 => from_bytes(bytes, DType::F16, shape),
            GgmlDType::BF16 => from_bytes(bytes, DType::BF16, shape),
            // The offset is a multiple of 8 in a page-aligned map, so the blocks are aligned.
            _ => qtensor_from_ggml(*dtype, bytes, shape.clone(), &Device::Cpu)
                .and_then(|tensor| tensor.dequantize(&Device::Cpu))
                .map_err(|e| Error::format(&format!("{}: {name}", self.origin), format!("blocks of {dtype:?}"), e)),
        }
    }
}

const UINT32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// The size in bytes of a scalar of metadata.
fn scalar_size(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        UINT32 | 5 | 6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Reads the header, never past the end of the file.
struct Cursor<'a> {
    origin: &'a str,
    bytes: &'a [u8],
    at: usize,
    /// Whether lengths have 64 bits; 32 in version 1.
    wide: bool,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            let got = format!("{} bytes, {length} more wanted at {}", self.bytes.len(), self.at);
            return Err(Error::format(self.origin, "a whole GGUF header", got));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn length(&mut self) -> Result<u64> {
        if self.wide { Ok(u64::from_le_bytes(self.array()?)) } else { Ok(self.u32()?.into()) }
    }

    fn size(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.length()?).unwrap_or(usize::MAX))
    }

    fn string(&mut self) -> Result<String> {
        let length = self.size()?;
        let text = self.take(length)?;
        String::from_utf8(text.to_vec()).map_err(|e| Error::format(self.origin, "names in UTF-8", e))
    }

    fn skip_value(&mut self, kind: u32, depth: usize) -> Result<()> {
        let unknown = || Error::format(self.origin, "a known type of metadata", format!("number {kind}"));
        match kind {
            STRING => {
                let length = self.size()?;
                self.take(length)?;
            }
            ARRAY if depth < MAX_DEPTH => {
                let (kind, count) = (self.u32()?, self.size()?);
                match scalar_size(kind) {
                    Some(size) => drop(self.take(count.saturating_mul(size))?),
                    // Each takes bytes from the file, so a count that lies runs into its end.
                    None => (0..count).try_for_each(|_| self.skip_value(kind, depth + 1))?,
                }
            }
            _ => drop(self.take(scalar_size(kind).ok_or_else(unknown)?)?),
        }
        Ok(())
    }

    /// Name, shape (outermost dimension first), type and offset.
    fn tensor_header(&mut self) -> Result<(String, Vec<usize>, u32, u64)> {
        let name = self.string()?;
        let rank = self.u32()?;
        if rank > MAX_DIMS {
            let origin = format!("{}: {name}", self.origin);
            return Err(Error::format(&origin, format!("at most {MAX_DIMS} dimensions"), rank));
        }
        let mut shape = (0..rank).map(|_| self.size()).collect::<Result<Vec<_>>>()?;
        shape.reverse();
        Ok((name, shape, self.u32()?, u64::from_le_bytes(self.array()?)))
    }
}
