//! Convolution whose filters are standardised, with TensorFlow's "same" padding and without a bias: `y = ((w - mean) / sqrt(var + eps)) * x`.
//!
//! Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019; as in Big Transfer's ResNets.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use tallow_models::Params;
//! use tallow_models::layers::std_conv2d;
//!
//! let layer = std_conv2d([3, 8], 7, 2, Params::new(0, DType::F32, &Device::Cpu).builder())?;
//! let images = Tensor::zeros((2, 3, 33, 32), DType::F32, &Device::Cpu)?;
//! assert_eq!(layer.forward(&images)?.dims(), &[2, 8, 17, 16]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::LinearInit;
use crate::ops;

/// That of timm's hybrids.
const EPS: f64 = 1e-8;

/// A convolution with the parameter `weight` `[out, in, kernel, kernel]`.
#[derive(Debug, Clone)]
pub struct StdConv2d {
    weight: Tensor,
    stride: usize,
}

/// A convolution from some to some channels, `[in, out]`. Its filters start normal, by He's law of what they write.
///
/// # Errors
/// Those of the builder.
pub fn std_conv2d([from, to]: [usize; 2], kernel: usize, stride: usize, vb: VarBuilder) -> Result<StdConv2d> {
    let fan_out = (to * kernel * kernel).max(1);
    let init = LinearInit::Normal((2. / fan_out as f64).sqrt());
    let weight = vb.get_with_hints((to, from, kernel, kernel), "weight", init.weight(fan_out))?;
    Ok(StdConv2d { weight, stride })
}

impl StdConv2d {
    /// The weight, `[out, in, kernel, kernel]`, before it is standardised.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

impl Module for StdConv2d {
    /// `[batch, in, height, width]` to `[batch, out, height / stride, width / stride]`, rounded up.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv2d_same(x, &ops::standardized(&self.weight, EPS)?, None, self.stride)
    }
}
