//! Where a perceptron's training is written out by hand ([`Implementation`]): the settings and models for which it is.

use tallow_models::mlp::{Implementation, Perceptron};
use tallow_models::{Architecture, Params};

use super::config::{OptimizerKind, Precision, TrainConfig};
use super::error::{Error, Result};

/// Checks that no setting asks for what the implementations by hand do not do: they are plain SGD on the mean cross-entropy.
///
/// # Errors
/// [`Error::Config`] names the first setting that does.
pub(super) fn check_settings(config: &TrainConfig) -> Result<()> {
    if config.implementation == Implementation::Optimizer {
        return Ok(());
    }
    let name = name(config.implementation);
    let check = |field: &str, holds: bool, expected: &str, got: &dyn std::fmt::Display| match holds {
        true => Ok(()),
        false => Err(Error::config(field, format!("{expected} with the implementation {name}"), got)),
    };
    let sgd = config.optimizer == OptimizerKind::Sgd;
    check("optimizer", sgd, "sgd", &format!("{:?}", config.optimizer).to_lowercase())?;
    check("momentum", config.momentum == 0., "0", &config.momentum)?;
    check("weight_decay", config.weight_decay == 0., "0", &config.weight_decay)?;
    check("clip_grad", config.clip_grad == 0., "0", &config.clip_grad)?;
    check("accumulate", config.accumulate == 1, "1", &config.accumulate)?;
    check("label_smoothing", config.label_smoothing == 0., "0", &config.label_smoothing)?;
    check("mixup", config.mixup == 0., "0", &config.mixup)?;
    check("cutmix", config.cutmix == 0., "0", &config.cutmix)?;
    check("layer_decay", config.layer_decay.is_none(), "none", &config.layer_decay.unwrap_or_default())?;
    let freeze = config.freeze.as_deref().unwrap_or("none");
    check("freeze", freeze.trim() == "none", "none", &freeze)?;
    check("dtype", config.dtype == Precision::F32, "f32", &"bf16")
}

/// Checks that the model is one that the configuration's implementation is written for.
///
/// # Errors
/// If it is another than a perceptron, and the implementation is one by hand.
pub fn check_model(config: &TrainConfig, architecture: &Architecture) -> Result<()> {
    match architecture {
        _ if config.implementation == Implementation::Optimizer => Ok(()),
        Architecture::Mlp(mlp) => Ok(mlp.check_perceptron()?),
        _ => Err(Error::config(
            "implementation",
            format!("optimizer, as {} is no perceptron (mlp_circles is one)", config.model),
            name(config.implementation),
        )),
    }
}

/// The perceptron over `params` that the loop trains by hand, where the configuration asks for it.
///
/// # Errors
/// If the model is none.
pub(super) fn perceptron(
    config: &TrainConfig,
    architecture: &Architecture,
    params: &Params,
) -> Result<Option<Perceptron>> {
    check_model(config, architecture)?;
    match architecture {
        Architecture::Mlp(mlp) if config.implementation != Implementation::Optimizer => {
            Ok(Some(Perceptron::new(mlp, params, config.implementation)?))
        }
        _ => Ok(None),
    }
}

/// The name in settings.
fn name(implementation: Implementation) -> String {
    format!("{implementation:?}").to_lowercase()
}
