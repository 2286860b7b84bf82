//! Placeholder of the Mlp.
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use crate::{Mode, Model};

/// Configuration.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Height and width of the input image in pixels.
    pub img_size: usize,
    /// Input channels.
    pub in_chans: usize,
    /// Classes.
    pub num_classes: usize,
}

impl MlpConfig {
    /// The width of what the head reads.
    pub fn num_features(&self) -> usize {
        0
    }
}

/// The model.
#[derive(Debug, Clone)]
pub struct Mlp {}

impl Mlp {
    /// Builds the model.
    pub fn new(_config: &MlpConfig, _vb: VarBuilder) -> Result<Self> {
        Ok(Self {})
    }
}

impl Model for Mlp {
    fn forward(&self, images: &Tensor, _mode: Mode) -> Result<Tensor> {
        Ok(images.clone())
    }

    fn pooled(&self, images: &Tensor, _mode: Mode) -> Result<Tensor> {
        Ok(images.clone())
    }
}
