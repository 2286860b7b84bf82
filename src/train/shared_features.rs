//! Kept features on disk, for runs of a recipe that have the same backbone read the same samples: computed by the first of them.
//!
//! They lie beside the runs, in `features/` where `tallow run` has made that folder: a safetensors file for each part of a data set,
//! named by a hash of all that they follow from, with the hash of its values inside.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use tallow_models::Params;
use tallow_models::Stage;
use tallow_weights::{CheckpointConfig, save};

use super::config::TrainConfig;
use super::error::Result;
use super::run_folder::RunFolder;
use crate::data::{Digest, Samples};

/// The name of the tensor.
const FEATURES: &str = "features";

/// Where features of a run's backbone may be.
#[derive(Debug)]
pub(super) struct SharedFeatures {
    folder: PathBuf,
    /// All that features follow from, but for the samples and the sizes of batches.
    backbone: String,
}

/// Where the features of a part are, or would be.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// All that they follow from.
    key: String,
}

impl SharedFeatures {
    /// None where runs beside `folder` share nothing, or the input is whitened by what was fitted for the run.
    ///
    /// # Errors
    /// If the values of a parameter cannot be had.
    pub fn of(
        config: &TrainConfig,
        checkpoint: &CheckpointConfig,
        params: &Params,
        folder: &RunFolder,
    ) -> Result<Option<Self>> {
        let path = folder.shared_features_path();
        if !path.is_dir() || checkpoint.whitening.is_some() {
            return Ok(None);
        }
        let mut weights = String::new();
        for param in params.all() {
            if checkpoint.architecture.stage_of(&param.name) != Stage::Head {
                weights += &format!("{} {}\n", param.name, of_values(param.var.as_tensor())?);
            }
        }
        let backbone = format!(
            "tallow {}\narchitecture {}\npreprocessing {:?}\nexif {}\nweights {}\ndtype {:?}\ndevice {}\nthreads {}\nkernels {:?}\n",
            env!("CARGO_PKG_VERSION"),
            serde_json::to_string(&checkpoint.architecture).unwrap_or_default(),
            checkpoint.preprocessing,
            config.data.exif.unwrap_or_default(),
            Digest::of(weights.as_bytes()),
            config.compute.dtype,
            config.compute.device,
            config.compute.threads,
            config.compute.kernels,
        );
        Ok(Some(Self { folder: path, backbone }))
    }

    /// The place of the features of `samples`, computed in batches of `batch_size`, filled up to `at_least`.
    ///
    /// # Errors
    /// If a sample cannot be read.
    pub fn place(&self, samples: &dyn Samples, batch_size: usize, at_least: usize) -> Result<Place> {
        let mut contents = String::new();
        for index in 0..samples.len() {
            contents += &samples.digest(index)?.to_string();
        }
        let contents = Digest::of(contents.as_bytes());
        let samples = samples.len();
        let key = format!("{}samples {samples} {contents}\nbatches {batch_size} {at_least}\n", self.backbone);
        Ok(Place { path: self.folder.join(format!("{}.safetensors", Digest::of(key.as_bytes()))), key })
    }
}

impl Place {
    /// The features of so many samples, and the seconds in which they were computed; none where there are none that are whole.
    pub fn read(&self, samples: usize, device: &Device) -> Option<(Tensor, f64)> {
        let bytes = std::fs::read(&self.path).ok()?;
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).ok()?;
        let metadata = header.metadata().as_ref()?;
        let features = candle_core::safetensors::load_buffer(&bytes, device).ok()?.remove(FEATURES)?;
        let whole = metadata.get("key") == Some(&self.key)
            && features.dim(0).ok() == Some(samples)
            && metadata.get("hash") == of_values(&features).ok().as_ref();
        let seconds = metadata.get("seconds")?.parse().ok().filter(|seconds: &f64| seconds.is_finite())?;
        whole.then_some((features, seconds))
    }

    /// Writes features for the runs that come.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, features: &Tensor, seconds: f64) -> Result<()> {
        let metadata = HashMap::from([
            ("key".to_string(), self.key.clone()),
            ("hash".to_string(), of_values(features)?),
            ("seconds".to_string(), seconds.to_string()),
        ]);
        let features = features.to_device(&Device::Cpu)?.contiguous()?;
        Ok(save::safetensors(&self.path, &[(FEATURES.to_string(), features)], metadata)?)
    }
}

/// The hash of a tensor's values and shape.
fn of_values(tensor: &Tensor) -> Result<String> {
    let values = tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(format!("{:?} {:?} {}", tensor.dtype(), tensor.dims(), Digest::of(&bytes)))
}
