//! GGUF: one file with the quantised weights and the text of `config.json` inside.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use tallow_models::Params;

use super::{config_json, replace};
use crate::format::CONFIG_KEY;
use crate::{CheckpointConfig, Error, Result};

/// How the large weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Quantisation {
    /// Blocks of 32 values with 8 bits each and a common scale: 8.5 bits a value.
    #[default]
    Q8_0,
    /// Half precision.
    F16,
    /// Single precision.
    F32,
}

/// Writes all parameters into one GGUF file, under timm's names, with the text of `config.json` as metadata.
///
/// Matrices whose rows are a multiple of 32 values long are quantised. Other tensors of more than one dimension (positions,
/// patch kernels) are stored in half precision, vectors and tokens in single: they are small, and features depend on them most.
///
/// # Errors
/// If the file cannot be written, or a loaded value has not been asked for by a model.
pub fn gguf(path: &Path, params: &Params, config: &CheckpointConfig, quantisation: Quantisation) -> Result<()> {
    params.check_taken()?;
    if config.whitening.is_some() {
        let remedy = "export in timm's layout, which Tallow reads, or train with `normalize = standard`";
        return Err(Error::unsupported("GGUF", "whitening of the input", remedy));
    }
    let json = config_json(config)?.to_string();
    let mut tensors = Vec::new();
    for param in params.all() {
        let value = param.var.as_detached_tensor().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
        let dtype = match (quantisation, value.dims()) {
            (Quantisation::Q8_0, [_, columns]) if columns % GgmlDType::Q8_0.block_size() == 0 => GgmlDType::Q8_0,
            (Quantisation::Q8_0 | Quantisation::F16, [_, _, ..]) if fits_half(&value)? => GgmlDType::F16,
            _ => GgmlDType::F32,
        };
        tensors.push((param.name, QTensor::quantize(&value, dtype)?));
    }
    let mut metadata = vec![
        ("general.architecture", Value::String("vit".into())),
        ("general.alignment", Value::U32(32)),
        ("general.quantization_version", Value::U32(2)),
        (CONFIG_KEY, Value::String(json)),
    ];
    if let Some(name) = &config.name {
        metadata.push(("general.name", Value::String(name.clone())));
    }
    if let Some(license) = &config.license {
        metadata.push(("general.license", Value::String(license.clone())));
    }
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    replace(path, |temporary| {
        let mut file = BufWriter::new(File::create(temporary).map_err(Error::io(path))?);
        gguf_file::write(&mut file, &metadata, &tensors).map_err(|e| match e {
            candle_core::Error::Io(source) => Error::Io { path: path.into(), source },
            other => other.into(),
        })?;
        file.flush().map_err(Error::io(path))
    })
}

/// Whether half precision is worth it (a class token is not) and holds the largest value.
fn fits_half(value: &Tensor) -> Result<bool> {
    let large = value.elem_count() > 4096;
    Ok(large && value.abs()?.max_all()?.to_scalar::<f32>()? <= f32::from(half::f16::MAX))
}
