//! The parameters that an objective has beside the model's.

use std::collections::HashMap;

use candle_core::Tensor;
use tallow_models::{Param, Params};

use crate::train::error::{Error, Result};

/// Those of a store whose names begin with a prefix.
pub(super) struct Own {
    params: Params,
    /// With a dot at its end.
    prefix: String,
}

impl Own {
    /// Those under `prefix`, as a builder was given it.
    pub fn new(params: &Params, prefix: &str) -> Self {
        Self { params: params.clone(), prefix: format!("{prefix}.") }
    }

    fn all(&self) -> impl Iterator<Item = Param> {
        self.params.all().into_iter().filter(|param| param.name.starts_with(&self.prefix))
    }

    /// Their values by name.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        self.all().map(|param| (param.name, param.var.as_detached_tensor())).collect()
    }

    /// Takes back what [`Own::state`] gave out of `state`.
    ///
    /// # Errors
    /// Names what is missing or of another shape.
    pub fn set_state(&self, state: &mut HashMap<String, Tensor>) -> Result<()> {
        self.all().try_for_each(|param| Ok(self.params.set(&param.name, &take(state, &param.name)?)?))
    }
}

/// What is called `name` out of `state`.
///
/// # Errors
/// If it is not there.
pub(super) fn take(state: &mut HashMap<String, Tensor>, name: &str) -> Result<Tensor> {
    state.remove(name).ok_or_else(|| Error::invalid("the objective's state", name, "nothing of that name"))
}

/// Checks that all of `state` was taken.
///
/// # Errors
/// Names what was not.
pub(super) fn check_taken(state: &HashMap<String, Tensor>) -> Result<()> {
    match state.keys().min() {
        Some(name) => Err(Error::invalid("the objective's state", "what this objective keeps", name)),
        None => Ok(()),
    }
}
