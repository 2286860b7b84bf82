//! `y = (x - mean) / sqrt(var + eps) * weight + bias` over the last dimension, with the biased variance.
//!
//! Ba, Kiros, Hinton, "Layer Normalization", 2016.

use candle_core::{D, Result, Tensor, bail};

use super::wide;

/// Normalises the last dimension of `x [.., dim]`; `weight` and `bias` are `[dim]`.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dim = weight.dims1()?;
    if x.dims().last() != Some(&dim) || bias.dims() != [dim] {
        bail!(
            "layer_norm: expected x [.., {dim}] and bias [{dim}] for weight [{dim}], got x {:?}, bias {:?}",
            x.dims(),
            bias.dims()
        )
    }
    composed(x, weight, bias, eps)
}

fn composed(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let wide_x = x.to_dtype(wide(x.dtype()))?;
    let centred = wide_x.broadcast_sub(&wide_x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    centred.broadcast_div(&deviation)?.to_dtype(x.dtype())?.broadcast_mul(weight)?.broadcast_add(bias)
}
