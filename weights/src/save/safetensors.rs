//! Tensors in one safetensors file.

use std::collections::HashMap;
use std::path::Path;

use ::safetensors::{SafeTensorError, serialize_to_file};
use candle_core::Tensor;

use super::replace;
use crate::{Error, Result};

/// Writes tensors, which have to be contiguous, into one safetensors file with `metadata` in its header.
///
/// # Errors
/// If the file cannot be written.
pub fn safetensors(path: &Path, tensors: &[(String, Tensor)], metadata: HashMap<String, String>) -> Result<()> {
    replace(path, |temporary| {
        let tensors = tensors.iter().map(|(name, tensor)| (name, tensor));
        serialize_to_file(tensors, Some(metadata), temporary).map_err(|e| match e {
            SafeTensorError::IoError(source) => Error::Io { path: path.into(), source },
            other => Error::format(&path.display().to_string(), "tensors that safetensors can hold", other),
        })
    })
}
