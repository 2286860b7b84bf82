//! LayerScale: `y = x * gamma`, one factor per channel.
//!
//! Touvron et al., "Going deeper with Image Transformers", 2021.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// A LayerScale with the parameter `gamma` `[dim]`.
#[derive(Debug, Clone)]
pub struct LayerScale {
    gamma: Tensor,
}

/// A LayerScale of `dim` channels that starts at `init_values`.
pub fn layer_scale(dim: usize, init_values: f64, vb: VarBuilder) -> Result<LayerScale> {
    Ok(LayerScale { gamma: vb.get_with_hints(dim, "gamma", Init::Const(init_values))? })
}

impl LayerScale {
    /// The factors `[dim]`. A residual connection applies them as it adds the branch: see [`crate::ops::scale_add`].
    pub fn gamma(&self) -> &Tensor {
        &self.gamma
    }
}
