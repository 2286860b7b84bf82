//! A perceptron whose training is written out by hand ([`Implementation`]), as an objective of the loop; and the settings and models
//! for which it is.

use candle_core::DType;
use tallow_models::mlp::{self, Implementation, Perceptron};
use tallow_models::optim::Clip;
use tallow_models::{AnyModel, Architecture, Gradients, Params};

use crate::data::Batch;
use crate::train::config::{OptimizerKind, Precision, TrainConfig};
use crate::train::error::{Error, Result};
use crate::train::features::ModelInput;
use crate::train::objectives::{Objective, Pass, Place};
use crate::train::optimizer::Optimizer;

/// The mean cross-entropy of a perceptron, its gradients, and SGD along them, without the run's own model and optimiser.
pub(in crate::train) struct ByHand(Perceptron);

impl ByHand {
    /// Over `params`, where the configuration asks for it.
    ///
    /// # Errors
    /// If the model is no perceptron.
    pub fn of(config: &TrainConfig, architecture: &Architecture, params: &Params) -> Result<Option<Self>> {
        check(config, architecture)?;
        match architecture {
            Architecture::Mlp(mlp) if config.optimizer.implementation != Implementation::Optimizer => {
                Ok(Some(Self(Perceptron::new(mlp, params, config.optimizer.implementation)?)))
            }
            _ => Ok(None),
        }
    }
}

impl Objective for ByHand {
    fn loss(&mut self, _: &AnyModel, _: &ModelInput, batch: Batch, _: Place) -> Result<Pass> {
        let labels = batch.labels.to_device(batch.images.device())?;
        let mlp::Pass { loss, logits, gradients } = self.0.pass(&batch.images, &labels)?;
        let correct = logits.detach().argmax(1)?.eq(&labels)?.to_dtype(DType::U32)?.sum_all()?;
        Ok(Pass { loss, correct, samples: batch.indices.len(), gradients: Some(gradients) })
    }

    fn step(&mut self, _: &mut Optimizer, gradients: &Gradients, _: Clip, lr: f64) -> Result<()> {
        Ok(self.0.step(gradients, lr)?)
    }
}

/// Checks that no setting asks for what the implementations by hand do not do: they are plain SGD on the mean cross-entropy.
///
/// # Errors
/// [`Error::Config`] names the first setting that does.
pub(in crate::train) fn check_settings(config: &TrainConfig) -> Result<()> {
    if config.optimizer.implementation == Implementation::Optimizer {
        return Ok(());
    }
    let name = name(config.optimizer.implementation);
    let check = |field: &str, holds: bool, expected: &str, got: &dyn std::fmt::Display| match holds {
        true => Ok(()),
        false => Err(Error::config(field, format!("{expected} with the implementation {name}"), got)),
    };
    let sgd = config.optimizer.optimizer == OptimizerKind::Sgd;
    check("optimizer", sgd, "sgd", &format!("{:?}", config.optimizer).to_lowercase())?;
    check("momentum", config.optimizer.momentum == 0., "0", &config.optimizer.momentum)?;
    check("weight_decay", config.optimizer.weight_decay == 0., "0", &config.optimizer.weight_decay)?;
    check("clip_grad", config.regularization.clip_grad == 0., "0", &config.regularization.clip_grad)?;
    check("accumulate", config.length.accumulate == 1, "1", &config.length.accumulate)?;
    check("label_smoothing", config.regularization.label_smoothing == 0., "0", &config.regularization.label_smoothing)?;
    check("mixup", config.data.mixup == 0., "0", &config.data.mixup)?;
    check("cutmix", config.data.cutmix == 0., "0", &config.data.cutmix)?;
    check(
        "layer_decay",
        config.regularization.layer_decay.is_none(),
        "none",
        &config.regularization.layer_decay.unwrap_or_default(),
    )?;
    let freeze = config.model.freeze.as_deref().unwrap_or("none");
    check("freeze", freeze.trim() == "none", "none", &freeze)?;
    check("dtype", config.compute.dtype == Precision::F32, "f32", &config.compute.dtype.name())
}

/// Checks that settings and model are such as the configuration's implementation is written for.
///
/// # Errors
/// If the implementation is one by hand, and the model is no perceptron or a setting asks for what is not written out.
pub fn check(config: &TrainConfig, architecture: &Architecture) -> Result<()> {
    check_settings(config)?;
    match architecture {
        _ if config.optimizer.implementation == Implementation::Optimizer => Ok(()),
        Architecture::Mlp(mlp) => Ok(mlp.check_perceptron()?),
        _ => Err(Error::config(
            "implementation",
            format!("optimizer, as {} is no perceptron (mlp_circles is one)", config.model.model),
            name(config.optimizer.implementation),
        )),
    }
}

/// The name in settings.
fn name(implementation: Implementation) -> String {
    format!("{implementation:?}").to_lowercase()
}
