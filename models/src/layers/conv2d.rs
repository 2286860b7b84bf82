//! Convolution of images with square kernels, stride 1, that keeps height and width: `y = w * x + b`.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use candle_nn::Module;
//! use tallow_models::Params;
//! use tallow_models::layers::{LinearInit, conv2d};
//!
//! let layer = conv2d(3, 8, 5, LinearInit::Torch, Params::new(0, DType::F32, &Device::Cpu).builder())?;
//! let images = Tensor::zeros((2, 3, 32, 32), DType::F32, &Device::Cpu)?;
//! assert_eq!(layer.forward(&images)?.dims(), &[2, 8, 32, 32]);
//! # Ok::<(), candle_core::Error>(())
//! ```

use candle_core::{Result, Tensor};
use candle_nn::{Module, VarBuilder};

use super::LinearInit;
use crate::ops;

/// A convolution with parameters `weight` `[out, in, kernel, kernel]` and `bias` `[out]`.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    padding: usize,
}

/// A convolution from `in_chans` to `out_chans` channels with an odd `kernel`.
///
/// # Errors
/// Those of the builder.
pub fn conv2d(in_chans: usize, out_chans: usize, kernel: usize, init: LinearInit, vb: VarBuilder) -> Result<Conv2d> {
    let fan_in = in_chans * kernel * kernel;
    let weight = vb.get_with_hints((out_chans, in_chans, kernel, kernel), "weight", init.weight(fan_in))?;
    let bias = vb.get_with_hints(out_chans, "bias", init.bias(fan_in))?;
    Conv2d::new(weight, bias)
}

impl Conv2d {
    /// A convolution with this weight `[out, in, kernel, kernel]`, whose kernel is odd, and this bias `[out]`.
    ///
    /// # Errors
    /// If the weight has another number of dimensions, or a kernel that is even or not square.
    pub fn new(weight: Tensor, bias: Tensor) -> Result<Self> {
        match *weight.dims() {
            [_, _, height, width] if height == width && height % 2 == 1 => {
                Ok(Self { weight, bias, padding: height / 2 })
            }
            _ => candle_core::bail!(
                "conv2d: expected a weight [out, in, kernel, kernel], kernel odd, got {:?}",
                weight.dims()
            ),
        }
    }

    /// The weight, `[out, in, kernel, kernel]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The bias, `[out]`.
    pub fn bias(&self) -> &Tensor {
        &self.bias
    }

    /// As [`Module::forward`], then the maxima of windows of 2×2, then ReLU: half of height and width, rounded up with
    /// `ceil_mode`.
    ///
    /// # Errors
    /// If the shape of `x` does not fit.
    pub fn forward_pooled(&self, x: &Tensor, ceil_mode: bool) -> Result<Tensor> {
        ops::conv_pool_relu(x, &self.weight, &self.bias, 1, self.padding, ceil_mode)
    }
}

impl Module for Conv2d {
    /// `[batch, in, height, width]` to `[batch, out, height, width]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv2d(x, &self.weight, Some(&self.bias), 1, self.padding)
    }
}
