//! `y = (x - mean) / sqrt(var + eps) * weight + bias` with the mean and the biased variance of a group of channels of one image.
//!
//! Wu, He, "Group Normalization", 2018.

use candle_core::{Result, Tensor, bail};
use tallow_kernels::batch_norm::Planes;
use tallow_kernels::group_norm::GroupNorm;

use super::wide;
use crate::autograd::{Call, Function};
use crate::slices::{CpuValues, serves, tensor};

/// Normalises every one of `groups` groups of channels of `x [batch, channels, height, width]`; `weight` and `bias` are `[channels]`.
/// On devices other than the CPU it is a composition of Candle's operations.
///
/// # Errors
/// If the shapes do not fit each other, or the groups do not divide the channels.
pub fn group_norm(x: &Tensor, groups: usize, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let (_, channels, height, width) = x.dims4()?;
    if weight.dims() != [channels] || bias.dims() != [channels] {
        let (weight, bias) = (weight.dims(), bias.dims());
        bail!("group_norm: expected weight and bias [{channels}] for x {:?}, got {weight:?} and {bias:?}", x.dims())
    }
    if groups == 0 || !channels.is_multiple_of(groups) || channels * height * width == 0 {
        bail!("group_norm: expected groups that divide the channels of x {:?}, got {groups}", x.dims())
    }
    if serves([x, weight, bias]) {
        fused(x, groups, weight, bias, eps as f32)
    } else {
        composed(x, groups, weight, bias, eps)
    }
}

fn composed(x: &Tensor, groups: usize, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let (batch, channels, _, _) = x.dims4()?;
    let rows = x.to_dtype(wide(x.dtype()))?.reshape((batch * groups, ()))?;
    let centred = rows.broadcast_sub(&rows.mean_keepdim(1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(1)? + eps)?.sqrt()?;
    let normal = centred.broadcast_div(&deviation)?.reshape(x.dims())?;
    let of_channels = |t: &Tensor| t.to_dtype(normal.dtype())?.reshape((1, channels, 1, 1));
    normal.broadcast_mul(&of_channels(weight)?)?.broadcast_add(&of_channels(bias)?)?.to_dtype(x.dtype())
}

fn fused(x: &Tensor, groups: usize, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let [x, weight, bias] = [x.contiguous()?, weight.contiguous()?, bias.contiguous()?];
    let (batch, channels, height, width) = x.dims4()?;
    let planes = Planes { batch, channels, pixels: height * width };
    let norm = GroupNorm::new(planes, groups, eps, &CpuValues::of(&x)?);
    let y = norm.forward(&CpuValues::of(&x)?, &CpuValues::of(&weight)?, &CpuValues::of(&bias)?);
    let function = Function::new("group_norm", [&x, &weight, &bias]).output(y, x.shape());
    function.backward(move |call| gradients(&norm, call))
}

fn gradients(norm: &GroupNorm, call: &Call) -> Result<Vec<Option<Tensor>>> {
    let (x, weight) = (CpuValues::of(&call.operands[0])?, CpuValues::of(&call.operands[1])?);
    let [dx, dweight, dbias] = norm.gradients(&x, &CpuValues::of(call.gradient)?, &weight, call.wants(0));
    let dx = call.wants(0).then(|| tensor(dx, call.operands[0].dims())).transpose()?;
    let channels = call.operands[1].dims();
    Ok(vec![dx, Some(tensor(dweight, channels)?), Some(tensor(dbias, channels)?)])
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for (dims, groups) in [([1, 4, 3, 5], 2), ([3, 6, 7, 1], 6), ([2, 8, 9, 8], 1), ([2, 64, 3, 3], 32)] {
            let channels = [dims[1]];
            check("group_norm", &[&dims, &channels, &channels], |t| group_norm(&t[0], groups, &t[1], &t[2], 1e-5))?;
        }
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        let norm = |channels: usize, groups: usize| {
            let channels = zeros(&[channels])?;
            group_norm(&zeros(&[1, 6, 2, 2])?, groups, &channels, &channels, 1e-5)
        };
        assert!(norm(6, 3).is_ok());
        assert!(norm(6, 4).is_err() && norm(6, 0).is_err() && norm(5, 3).is_err());
        Ok(())
    }
}
