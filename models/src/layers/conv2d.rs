//! Convolution of images with square kernels, stride 1, that keeps height and width.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::Law;
use crate::ops;

/// A convolution with parameters `weight` `[out, in, kernel, kernel]` and `bias` `[out]`.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    padding: usize,
}

/// A convolution from `in_chans` to `out_chans` channels with an odd `kernel`.
pub fn conv2d(in_chans: usize, out_chans: usize, kernel: usize, law: Law, vb: VarBuilder) -> Result<Conv2d> {
    let fan_in = in_chans * kernel * kernel;
    let weight = vb.get_with_hints((out_chans, in_chans, kernel, kernel), "weight", law.weight(fan_in))?;
    let bias = vb.get_with_hints(out_chans, "bias", law.bias(fan_in))?;
    Ok(Conv2d { weight, bias, padding: kernel / 2 })
}

impl Conv2d {
    /// `[batch, in, height, width]` to `[batch, out, height, width]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::conv2d(x, &self.weight, Some(&self.bias), 1, self.padding)
    }

    /// As [`Conv2d::forward`], then the maxima of windows of 2×2, then ReLU: half of height and width, rounded up with
    /// `ceil_mode`.
    pub fn forward_pooled(&self, x: &Tensor, ceil_mode: bool) -> Result<Tensor> {
        ops::conv_pool_relu(x, &self.weight, &self.bias, 1, self.padding, ceil_mode)
    }
}
