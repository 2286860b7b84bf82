//! `y = exp(x) / sum(exp(x))` over the last dimension.

use candle_core::{D, Result, Tensor};

use super::wide;

/// Softmax over the last dimension. Rows of any magnitude stay finite.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    composed(x)
}

pub(super) fn composed(x: &Tensor) -> Result<Tensor> {
    let wide_x = x.to_dtype(wide(x.dtype()))?;
    // The maximum cancels out of the result, and so out of the gradient.
    let exp = wide_x.broadcast_sub(&wide_x.detach().max_keepdim(D::Minus1)?)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?.to_dtype(x.dtype())
}
