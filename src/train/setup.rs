//! From a configuration to what the loop needs: the model over its parameters, and the data.

use tallow_models::{Architecture, Params};
use tallow_weights::{Account, Preprocessing};

use super::config::TrainConfig;
use super::error::Result;
use crate::data::Dataset;

/// Everything that a run needs, in memory. [`Setup::new`] makes it from a configuration; a program that has a model or data
/// of its own fills it by hand.
pub struct Setup {
    /// The settings.
    pub config: TrainConfig,
    /// The model.
    pub architecture: Architecture,
    /// Its parameters: the values to start from are provided, the rule for freezing is set.
    pub params: Params,
    /// How images become the model's input.
    pub preprocessing: Preprocessing,
    /// The data set, limits applied.
    pub dataset: Dataset,
    /// The account of the load, where weights were loaded.
    pub account: Option<Account>,
}

impl Setup {
    /// Resolves the model, opens the data, loads the weights.
    ///
    /// # Errors
    /// If a setting makes no sense, the model or the data cannot be found, or the weights do not fit.
    pub fn new(config: &TrainConfig) -> Result<Self> {
        config.validate()?;
        Err(super::Error::config("train", "a later commit", "this one"))
    }
}
