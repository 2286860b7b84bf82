//! npz: a zip archive of npy files, as NumPy writes them and as the original ViT repository publishes its weights.
//!
//! <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>

use candle_core::{DType, Tensor};

use super::archive::Archive;
use super::{Format, ReadTensor, TensorFile, TensorInfo, byte_count, from_bytes};
use crate::{Error, Result};

/// Longer npy headers than this are refused; real ones have about 100 bytes.
const MAX_HEADER: usize = 1 << 16;

struct Npz {
    archive: Archive,
    entries: Vec<Entry>,
}

struct Entry {
    index: usize,
    name: String,
    header: Header,
}

/// Where the values of an npy file start, and what they are.
#[derive(Debug, PartialEq)]
struct Header {
    /// None for a type that no weights have, such as a text: it only matters where it is asked for.
    dtype: Option<DType>,
    /// As NumPy writes it.
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
    start: usize,
}

/// Opens an archive of npy files and reads their headers.
pub(super) fn open(archive: Archive) -> Result<TensorFile> {
    let mut entries = Vec::new();
    for (index, entry) in archive.entries().iter().enumerate() {
        let Some(name) = entry.name.strip_suffix(".npy") else {
            let got = format!("an archive with {:?}", entry.name);
            return Err(Error::format(&archive.origin, "an npz archive or a PyTorch file", got));
        };
        let origin = format!("{}: {name}", archive.origin);
        let header = parse(&archive.read(index, 0, MAX_HEADER as u64)?, &origin)?;
        let expected = |dtype| byte_count(&header.shape, dtype).and_then(|bytes| bytes.checked_add(header.start));
        if let Some(dtype) = header.dtype.filter(|&dtype| expected(dtype).map(|bytes| bytes as u64) != Some(entry.size))
        {
            let expected = format!("the {dtype:?} values that shape {:?} asks for", header.shape);
            return Err(Error::format(&origin, expected, format!("an entry of {} bytes", entry.size)));
        }
        entries.push(Entry { index, name: name.into(), header });
    }
    let tensors = entries
        .iter()
        .map(|Entry { name, header, .. }| TensorInfo {
            name: name.clone(),
            shape: header.shape.clone(),
            dtype: header.dtype.map_or_else(|| header.descr.clone(), |dtype| format!("{dtype:?}")),
        })
        .collect();
    let reader = Box::new(Npz { archive, entries });
    Ok(TensorFile { format: Format::Npz, tensors, reader, dictionaries: Vec::new(), config: None })
}

impl ReadTensor for Npz {
    fn read(&self, index: usize) -> Result<Tensor> {
        let Entry { index, name, header } = &self.entries[index];
        let Some(dtype) = header.dtype else {
            let what = format!("the type {} of {name}", header.descr);
            return Err(Error::unsupported(&self.archive.origin, what, "save the weights in float32 or float16"));
        };
        let Some(length) = byte_count(&header.shape, dtype) else {
            return Err(Error::format(
                &self.archive.origin,
                "a shape that can be counted",
                format!("{:?}", header.shape),
            ));
        };
        let bytes = self.archive.read(*index, header.start as u64, length as u64)?;
        if bytes.len() != length {
            let got = format!("{} bytes", bytes.len());
            return Err(Error::format(&format!("{}: {name}", self.archive.origin), format!("{length} bytes"), got));
        }
        if !header.fortran_order {
            return from_bytes(&bytes, dtype, &header.shape);
        }
        let reversed: Vec<usize> = header.shape.iter().rev().copied().collect();
        let axes: Vec<usize> = (0..reversed.len()).rev().collect();
        Ok(from_bytes(&bytes, dtype, &reversed)?.permute(axes)?.contiguous()?)
    }
}

/// Parses the magic, the version and the dictionary `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
fn parse(bytes: &[u8], origin: &str) -> Result<Header> {
    let bad = |expected: &str, got: &dyn std::fmt::Display| Error::format(origin, expected, got);
    let (length, text_start) = match bytes {
        [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => (usize::from(u16::from_le_bytes([*a, *b])), 10),
        [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d, ..] => {
            (u32::from_le_bytes([*a, *b, *c, *d]) as usize, 12)
        }
        _ => return Err(bad("an npy header", &"something else")),
    };
    let start = text_start + length;
    let text = bytes.get(text_start..start).ok_or_else(|| bad("an npy header", &format!("one of {length} bytes")))?;
    let text = std::str::from_utf8(text).map_err(|e| bad("an npy header in UTF-8", &e))?;
    let value = |key: &str| {
        let after = text.split_once(&format!("'{key}':")).map(|(_, after)| after.trim_start());
        after.ok_or_else(|| bad(&format!("an npy header with {key}"), &text.trim_end()))
    };
    let descr = value("descr")?;
    let code = descr.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).map_or(descr, |(code, _)| code);
    let dtype = match code {
        "<f4" => Some(DType::F32),
        "<f2" => Some(DType::F16),
        "<f8" => Some(DType::F64),
        "<i8" => Some(DType::I64),
        "<i4" => Some(DType::I32),
        "<i2" => Some(DType::I16),
        "<u4" => Some(DType::U32),
        "|u1" | "|b1" => Some(DType::U8),
        // JAX writes bfloat16 as two opaque bytes.
        "|V2" | "<V2" => Some(DType::BF16),
        // Counters and texts beside the weights.
        "|i1" | "<u2" | "<u8" => None,
        text if text.starts_with("<U") || text.starts_with("|S") => None,
        other => return Err(bad("values of type <f4, <f2, <f8, |V2, or whole numbers", &other)),
    };
    let order = value("fortran_order")?;
    let fortran_order = match () {
        () if order.starts_with("True") => true,
        () if order.starts_with("False") => false,
        () => return Err(bad("fortran_order True or False", &order)),
    };
    let shape = value("shape")?;
    let inside = shape.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside);
    let inside = inside.ok_or_else(|| bad("a shape such as (3, 4)", &shape))?;
    let dims = inside.split(',').map(str::trim).filter(|dim| !dim.is_empty()).map(str::parse);
    let shape =
        dims.collect::<std::result::Result<Vec<usize>, _>>().map_err(|_| bad("a shape such as (3, 4)", &inside))?;
    Ok(Header { dtype, descr: code.into(), fortran_order, shape, start })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(dictionary: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((dictionary.len() as u16).to_le_bytes());
        bytes.extend(dictionary.bytes());
        bytes
    }

    #[test]
    fn a_header_of_numpy_is_understood() {
        let header = parse(&npy("{'descr': '<f2', 'fortran_order': True, 'shape': (3, 4), }\n"), "x").unwrap();
        assert_eq!(
            header,
            Header { dtype: Some(DType::F16), descr: "<f2".into(), fortran_order: true, shape: vec![3, 4], start: 69 }
        );
        let scalar = parse(&npy("{'descr': '<f4', 'fortran_order': False, 'shape': (), }"), "x").unwrap();
        assert_eq!(scalar.shape, Vec::<usize>::new());
    }

    #[test]
    fn headers_that_lie_are_errors() {
        for text in [
            "",
            "{}",
            "{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}",
            "{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}",
        ] {
            assert!(parse(&npy(text), "x").is_err(), "{text}");
        }
        for shape in ["(-1,)", "(1", "(99999999999999999999999,)"] {
            assert!(
                parse(&npy(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}")), "x").is_err()
            );
        }
        assert!(parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "x").is_err());
    }
}
