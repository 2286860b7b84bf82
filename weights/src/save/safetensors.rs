//! Tensors in one safetensors file.

use std::collections::HashMap;
use std::path::Path;

use ::safetensors::Dtype;
use candle_core::Tensor;

use super::stream;
use crate::Result;

/// Writes tensors into one safetensors file with `metadata` in its header, in the order of the `safetensors` crate: by type and name. The same
/// contents give the same bytes.
///
/// # Errors
/// If the file cannot be written.
pub fn safetensors(path: &Path, tensors: &[(String, Tensor)], metadata: HashMap<String, String>) -> Result<()> {
    let mut tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    tensors.sort_by_key(|&(name, tensor)| (std::cmp::Reverse(Dtype::from(tensor.dtype())), name));
    let shapes: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor.dtype(), tensor.dims().to_vec())).collect();
    stream(path, &shapes, metadata, |stream| tensors.iter().try_for_each(|(_, tensor)| stream.write(tensor)))
}
