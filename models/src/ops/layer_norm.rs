//! `y = (x - mean) / sqrt(var + eps) * weight + bias` over the last dimension, with the biased variance.
//!
//! Ba, Kiros, Hinton, "Layer Normalization", 2016.

use candle_core::{D, Result, Tensor, bail};
use tallow_kernels::layer_norm as kernel;

use super::wide;
use crate::autograd::{Call, Function};
use crate::slices::{CpuValues, serves, tensor};

/// Normalises the last dimension of `x [.., dim]`; `weight` and `bias` are `[dim]`.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let dim = weight.dims1()?;
    if x.dims().last() != Some(&dim) || bias.dims() != [dim] || dim == 0 {
        bail!(
            "layer_norm: expected x [.., {dim}] and bias [{dim}] for weight [{dim}], got x {:?}, bias {:?}",
            x.dims(),
            bias.dims()
        )
    }
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::layer_norm(x, weight, bias, eps, composed)? {
        return Ok(y);
    }
    if serves([x, weight, bias]) { fused(x, weight, bias, eps as f32) } else { composed(x, weight, bias, eps) }
}

fn composed(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let wide_x = x.to_dtype(wide(x.dtype()))?;
    let centred = wide_x.broadcast_sub(&wide_x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    let [weight, bias] = [weight.to_dtype(x.dtype())?, bias.to_dtype(x.dtype())?];
    centred.broadcast_div(&deviation)?.to_dtype(x.dtype())?.broadcast_mul(&weight)?.broadcast_add(&bias)
}

fn fused(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let [x, weight, bias] = [x.contiguous()?, weight.contiguous()?, bias.contiguous()?];
    let y = kernel::forward(&CpuValues::of(&x)?, &CpuValues::of(&weight)?, &CpuValues::of(&bias)?, eps);
    Function::new("layer_norm", [&x, &weight, &bias]).output(y, x.shape()).backward(move |call| gradients(call, eps))
}

fn gradients(call: &Call, eps: f32) -> Result<Vec<Option<Tensor>>> {
    let (x, weight) = (&call.operands[0], &call.operands[1]);
    let (x_values, dy) = (CpuValues::of(x)?, CpuValues::of(call.gradient)?);
    let dim = weight.elem_count();
    let (dx, sums) = if call.wants(0) {
        let (dx, sums) = kernel::backward(&x_values, &CpuValues::of(weight)?, &dy, eps);
        (Some(tensor(dx, x.dims())?), sums)
    } else {
        (None, kernel::parameter_sums(&x_values, &dy, dim, eps))
    };
    let of = |index: usize, sums: &[f32]| call.wants(index).then(|| tensor(sums.to_vec(), &[dim])).transpose();
    Ok(vec![dx, of(1, &sums[..dim])?, of(2, &sums[dim..])?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for (rows, dim) in [(1, 3), (3, 17), (17, 64), (197, 40), (300, 384)] {
            check("layer_norm", &[&[rows, dim], &[dim], &[dim]], |t| layer_norm(&t[0], &t[1], &t[2], 1e-6))?;
        }
        check("layer_norm", &[&[2, 5, 24], &[24], &[24]], |t| layer_norm(&t[0], &t[1], &t[2], 1e-5))
    }

    #[test]
    fn rows_far_from_zero_keep_their_digits() -> Result<()> {
        let x = (crate::gradcheck::values(&[4, 384], 1)? + 1000.)?;
        let ones = Tensor::ones(384, x.dtype(), x.device())?;
        let y = layer_norm(&x, &ones, &ones.zeros_like()?, 1e-6)?;
        let wide = candle_core::DType::F64;
        let exact = composed(&x.to_dtype(wide)?, &ones.to_dtype(wide)?, &ones.zeros_like()?.to_dtype(wide)?, 1e-6)?;
        assert!(crate::gradcheck::distance(&y, &exact)? < 1e-4);
        Ok(())
    }
}
