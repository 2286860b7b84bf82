//! LayerScale: `y = x * gamma`, one factor per channel.
//!
//! Touvron et al., "Going deeper with Image Transformers", 2021.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use tallow_models::Params;
//! use tallow_models::layers::layer_scale;
//!
//! let scale = layer_scale(2, 0.5, Params::new(0, DType::F32, &Device::Cpu).builder())?;
//! assert_eq!(scale.forward(&Tensor::new(&[[1f32, 3.]], &Device::Cpu)?)?.to_vec2::<f32>()?, [[0.5, 1.5]]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

/// A LayerScale with the parameter `gamma` `[dim]`.
#[derive(Debug, Clone)]
pub struct LayerScale {
    gamma: Tensor,
}

/// A LayerScale of `dim` channels that starts at `init_values`.
///
/// # Errors
/// Those of the builder.
pub fn layer_scale(dim: usize, init_values: f64, vb: VarBuilder) -> Result<LayerScale> {
    Ok(LayerScale::new(vb.get_with_hints(dim, "gamma", Init::Const(init_values))?))
}

impl LayerScale {
    /// A LayerScale with these factors `[dim]`.
    pub fn new(gamma: Tensor) -> Self {
        Self { gamma }
    }

    /// The factors `[dim]`. A residual branch applies them as it joins the trunk: see [`crate::ops::scale_add`].
    pub fn gamma(&self) -> &Tensor {
        &self.gamma
    }
}

impl Module for LayerScale {
    /// `[.., dim]` to `[.., dim]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.broadcast_mul(&self.gamma.to_dtype(x.dtype())?)
    }
}
