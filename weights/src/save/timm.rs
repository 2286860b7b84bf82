//! timm's layout: `model.safetensors` and `config.json` in a folder.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device};
use tallow_models::Params;

use super::config::config_json;
use super::{safetensors, write_text};
use crate::format::CONFIG_KEY;
use crate::{CheckpointConfig, Error, Result};

/// Writes `model.safetensors` and `config.json` into the folder `dir`, which is created where it is not there, and the
/// whitening of the input where there is one. Any model of Tallow's can be saved and opened again; [`super::check_timm`] says
/// whether timm can build it too (`local-dir:DIR`).
///
/// # Errors
/// If the folder cannot be written, or a loaded value has not been asked for by a model.
pub fn timm(dir: &Path, params: &Params, config: &CheckpointConfig) -> Result<()> {
    params.check_taken()?;
    fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let said = config_json(config)?;
    let json = serde_json::to_string_pretty(&said)
        .map_err(|e| Error::format(&dir.display().to_string(), "a config that JSON can hold", e))?;
    let mut tensors = Vec::new();
    for param in params.all() {
        // On the CPU, in float32: half precision in training is for speed, not for keeping.
        let value = param.var.as_detached_tensor().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous()?;
        tensors.push((param.name, value));
    }
    // PyTorch's readers ask for this.
    let mut metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    // What neither shapes nor timm's words tell goes with the file where it is taken out of its folder.
    if said.get("tallow").is_some() {
        metadata.insert(CONFIG_KEY.to_owned(), said.to_string());
    }
    safetensors(&dir.join("model.safetensors"), &tensors, metadata)?;
    if let Some(whitening) = &config.whitening {
        whitening.write(dir)?;
    }
    // Last, as it is small: where the disk is full, an older pair of files stays as it was.
    write_text(&dir.join("config.json"), &json)
}
