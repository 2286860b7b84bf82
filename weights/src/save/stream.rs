//! A safetensors file whose values come piece by piece, so that they need not fit into memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, View};
use serde_json::Value;

use super::replace;
use crate::{Error, Result};

/// Writes a safetensors file of `tensors` (name, type and shape), whose values `write` gives in this order. Readers that do not
/// copy expect larger types first.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use tallow_weights::{Error, save};
///
/// let path = std::env::temp_dir().join(format!("stream-{}.safetensors", std::process::id()));
/// save::stream(&path, &[("features", DType::F32, vec![3, 2])], Default::default(), |stream| {
///     stream.write(&Tensor::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?)?;
///     stream.write(&Tensor::new(&[[5f32, 6.]], &Device::Cpu)?)
/// })?;
/// let read = candle_core::safetensors::load(&path, &Device::Cpu)?;
/// assert_eq!(read["features"].to_vec2::<f32>()?, [[1., 2.], [3., 4.], [5., 6.]]);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// What `write` gives; and if values are missing, the file cannot be written, or safetensors does not hold such tensors.
pub fn stream<E: From<Error>>(
    path: &Path,
    tensors: &[(&str, DType, Vec<usize>)],
    metadata: HashMap<String, String>,
    write: impl FnOnce(&mut Stream) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    replace(path, |temporary| {
        let file = File::create(temporary).map_err(Error::io(path))?;
        let mut stream = Stream::begin(file, path, tensors, metadata)?;
        write(&mut stream)?;
        Ok(stream.finish()?)
    })
}

/// A safetensors file that is being written, by [`stream`].
#[derive(Debug)]
pub struct Stream {
    file: BufWriter<File>,
    path: PathBuf,
    /// The tensors whose values are to come, the next one last: its name, type and bytes.
    left: Vec<(String, DType, usize)>,
}

impl Stream {
    /// Writes the header.
    fn begin(
        file: File,
        path: &Path,
        tensors: &[(&str, DType, Vec<usize>)],
        metadata: HashMap<String, String>,
    ) -> Result<Self> {
        let cannot = |got: &dyn std::fmt::Display| {
            Error::format(&path.display().to_string(), "tensors that safetensors can hold", got)
        };
        let (mut infos, mut left, mut end) = (Vec::new(), Vec::new(), 0usize);
        for (name, dtype, shape) in tensors {
            let count = shape.iter().try_fold(dtype.size_in_bytes(), |count, &dim| count.checked_mul(dim));
            let bytes = count.ok_or_else(|| cannot(&format!("shape {shape:?}")))?;
            let start = end;
            end = start.checked_add(bytes).ok_or_else(|| cannot(&format!("shape {shape:?}")))?;
            let info = TensorInfo { dtype: Dtype::from(*dtype), shape: shape.clone(), data_offsets: (start, end) };
            infos.push((name.to_string(), info));
            left.push((name.to_string(), *dtype, bytes));
        }
        left.reverse();
        let header = Metadata::new(Some(metadata), infos).map_err(|e| cannot(&e))?;
        let mut header = serde_json::to_value(&header).map_err(|e| cannot(&e))?;
        // The same contents give the same bytes, whatever the order of a hash map.
        if let Some(metadata) = header.get_mut("__metadata__").and_then(Value::as_object_mut) {
            metadata.sort_keys();
        }
        let mut header = header.to_string().into_bytes();
        // The values begin at a multiple of eight bytes.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = BufWriter::new(file);
        let written = file.write_all(&(header.len() as u64).to_le_bytes()).and_then(|()| file.write_all(&header));
        written.map_err(Error::io(path))?;
        Ok(Self { file, path: path.into(), left })
    }

    /// Writes the next values of the tensor whose turn it is, as many as `values` has.
    ///
    /// # Errors
    /// If they are of another type or more than are left of it, or the file cannot be written.
    pub fn write(&mut self, values: &Tensor) -> Result<()> {
        while self.left.last().is_some_and(|(_, _, left)| *left == 0) {
            self.left.pop();
        }
        let bytes = values.elem_count() * values.dtype().size_in_bytes();
        if bytes == 0 {
            return Ok(());
        }
        match self.left.last_mut() {
            Some((_, dtype, left)) if *dtype == values.dtype() && bytes <= *left => *left -= bytes,
            next => {
                let next =
                    next.map_or("no values".into(), |(name, dtype, left)| format!("{left} bytes of {name}, {dtype:?}"));
                let got = format!("{bytes} bytes, {:?}", values.dtype());
                return Err(Error::format(&self.path.display().to_string(), next, got));
            }
        }
        let values = values.to_device(&Device::Cpu)?.contiguous()?;
        self.file.write_all(&View::data(&values)).map_err(Error::io(&self.path))
    }

    fn finish(mut self) -> Result<()> {
        if let Some((name, _, left)) = self.left.iter().rev().find(|(_, _, left)| *left > 0) {
            let expected = format!("all values of {name}");
            return Err(Error::format(&self.path.display().to_string(), expected, format!("{left} bytes too few")));
        }
        self.file.flush().map_err(Error::io(&self.path))
    }
}
