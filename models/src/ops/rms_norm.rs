//! `y = x / sqrt(mean(x²) + eps) * weight` over the last dimension.
//!
//! Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.

use candle_core::{D, Result, Tensor, bail};
use tallow_kernels::rms_norm as kernel;

use super::wide;
use crate::autograd::{Call, Function};
use crate::slices::{CpuValues, serves, tensor};

/// Normalises the last dimension of `x [.., dim]`; `weight` is `[dim]`.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let dim = weight.dims1()?;
    if x.dims().last() != Some(&dim) || dim == 0 {
        bail!("rms_norm: expected x [.., {dim}] for weight [{dim}], got x {:?}", x.dims())
    }
    if serves([x, weight]) { fused(x, weight, eps as f32) } else { composed(x, weight, eps) }
}

fn composed(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let wide_x = x.to_dtype(wide(x.dtype()))?;
    let deviation = (wide_x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    wide_x.broadcast_div(&deviation)?.to_dtype(x.dtype())?.broadcast_mul(&weight.to_dtype(x.dtype())?)
}

fn fused(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let [x, weight] = [x.contiguous()?, weight.contiguous()?];
    let y = kernel::forward(&CpuValues::of(&x)?, &CpuValues::of(&weight)?, eps);
    Function::new("rms_norm", [&x, &weight]).output(y, x.shape()).backward(move |call| gradients(call, eps))
}

fn gradients(call: &Call, eps: f32) -> Result<Vec<Option<Tensor>>> {
    let (x, weight) = (&call.operands[0], &call.operands[1]);
    let dy = CpuValues::of(call.gradient)?;
    let (dx, dweight) = kernel::backward(&CpuValues::of(x)?, &CpuValues::of(weight)?, &dy, eps);
    Ok(vec![
        call.wants(0).then(|| tensor(dx, x.dims())).transpose()?,
        call.wants(1).then(|| tensor(dweight, weight.dims())).transpose()?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for (rows, dim) in [(1, 3), (3, 17), (17, 64), (197, 40), (300, 384)] {
            check("rms_norm", &[&[rows, dim], &[dim]], |t| rms_norm(&t[0], &t[1], 1e-6))?;
        }
        check("rms_norm", &[&[2, 5, 24], &[24]], |t| rms_norm(&t[0], &t[1], 1e-5))
    }
}
