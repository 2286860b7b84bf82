//! `y = (x - mean) / sqrt(var + eps) * weight + bias` for every channel, over the batch and the image.
//!
//! Ioffe, Szegedy, "Batch Normalization", 2015; the running statistics are PyTorch's.

use candle_core::{Result, Tensor, bail};
use tallow_kernels::batch_norm::{BatchNorm, Planes};

use super::wide;
use crate::autograd::{Call, Function};
use crate::slices::{CpuValues, serves, tensor};

/// The running statistics of a norm, `[channels]` each.
#[derive(Debug, Clone, Copy)]
pub struct Running<'a> {
    /// The mean.
    pub mean: &'a Tensor,
    /// The unbiased variance.
    pub var: &'a Tensor,
    /// How far they move towards those of a batch; PyTorch's default is 0.1.
    pub momentum: f64,
}

/// Normalises every channel of `x [batch, channels, ..]`; `weight` and `bias` are `[channels]`.
///
/// With `train` the statistics are those of the batch, and the running ones move towards them in their own storage by
/// `momentum`: `running = (1 - momentum) running + momentum batch`, the variance unbiased there
/// and biased in the output. Without it the running statistics normalise.
///
/// # Errors
/// If the shapes do not fit each other, or a training batch has one value a channel.
pub fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    running: Running,
    eps: f64,
    train: bool,
) -> Result<Tensor> {
    let Running { mean: running_mean, var: running_var, momentum } = running;
    if x.rank() < 2 {
        bail!("batch_norm: expected x [batch, channels, ..], got {:?}", x.dims())
    }
    let channels = x.dims()[1];
    for (name, t) in [("weight", weight), ("bias", bias), ("running_mean", running_mean), ("running_var", running_var)]
    {
        if t.dims() != [channels] {
            bail!("batch_norm: expected {name} [{channels}] for x {:?}, got {:?}", x.dims(), t.dims())
        }
    }
    let count = x.elem_count() / channels.max(1);
    if train && count < 2 {
        bail!("batch_norm: expected more than one value a channel to train on, got x {:?}", x.dims())
    }
    let given = if train { None } else { Some((running_mean.detach(), running_var.detach())) };
    let (y, batch) = if serves([x, weight, bias, running_mean, running_var]) {
        fused(x, weight, bias, given, eps)?
    } else {
        composed(x, weight, bias, given, eps)?
    };
    if let Some((mean, var)) = batch {
        let unbiased = (var * (count as f64 / (count - 1) as f64))?;
        for (running, now) in [(running_mean, mean), (running_var, unbiased)] {
            let moved = ((running.detach() * (1. - momentum))? + (now.to_dtype(running.dtype())? * momentum)?)?;
            running.slice_set(&moved, 0, 0)?;
        }
    }
    Ok(y)
}

/// Mean and biased variance of every channel.
type Statistics = (Tensor, Tensor);

/// The output, and the statistics of the batch if none were given.
fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    given: Option<Statistics>,
    eps: f64,
) -> Result<(Tensor, Option<Statistics>)> {
    // Rows of one channel: `[channels, batch * pixels]`.
    let wide_x = x.to_dtype(wide(x.dtype()))?.transpose(0, 1)?;
    let rows = wide_x.flatten_from(1)?;
    let column = |t: &Tensor| t.to_dtype(rows.dtype())?.unsqueeze(1);
    let (mean, var) = match &given {
        Some((mean, var)) => (column(mean)?, column(var)?),
        None => {
            let mean = rows.mean_keepdim(1)?;
            let var = rows.broadcast_sub(&mean)?.sqr()?.mean_keepdim(1)?;
            (mean, var)
        }
    };
    let normal = rows.broadcast_sub(&mean)?.broadcast_div(&(&var + eps)?.sqrt()?)?;
    let y = normal.broadcast_mul(&column(weight)?)?.broadcast_add(&column(bias)?)?;
    let y = y.reshape(wide_x.dims())?.transpose(0, 1)?.contiguous()?.to_dtype(x.dtype())?;
    let batch = match given {
        Some(_) => None,
        None => Some((mean.detach().squeeze(1)?, var.detach().squeeze(1)?)),
    };
    Ok((y, batch))
}

/// As [`composed`].
fn fused(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    given: Option<Statistics>,
    eps: f64,
) -> Result<(Tensor, Option<Statistics>)> {
    let [x, weight, bias] = [x.contiguous()?, weight.contiguous()?, bias.contiguous()?];
    let (batch, channels) = (x.dims()[0], x.dims()[1]);
    let planes = Planes { batch, channels, pixels: x.elem_count() / (batch * channels).max(1) };
    let train = given.is_none();
    let (mean, var) = match &given {
        Some((mean, var)) => (mean.to_vec1()?, var.to_vec1()?),
        None => planes.statistics(&CpuValues::of(&x)?),
    };
    let batch =
        if train { Some((tensor(mean.clone(), &[channels])?, tensor(var.clone(), &[channels])?)) } else { None };
    let scale = var.iter().map(|&var| 1. / (var + eps as f32).sqrt()).collect();
    let norm = BatchNorm { planes, mean, scale, train };
    let y = norm.forward(&CpuValues::of(&x)?, &CpuValues::of(&weight)?, &CpuValues::of(&bias)?);
    let function = Function::new("batch_norm", [&x, &weight, &bias]).output(y, x.shape());
    Ok((function.backward(move |call| gradients(&norm, call))?, batch))
}

fn gradients(norm: &BatchNorm, call: &Call) -> Result<Vec<Option<Tensor>>> {
    let (x, dy) = (CpuValues::of(&call.operands[0])?, CpuValues::of(call.gradient)?);
    let (dweight, dbias) = norm.parameter_gradients(&x, &dy);
    let dx = match call.wants(0) {
        true => {
            let weight = CpuValues::of(&call.operands[1])?;
            let dx = norm.input_gradient((&x, &dy), &weight, (&dweight, &dbias));
            Some(tensor(dx, call.operands[0].dims())?)
        }
        false => None,
    };
    let channels = [norm.planes.channels];
    Ok(vec![dx, Some(tensor(dweight, &channels)?), Some(tensor(dbias, &channels)?)])
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::gradcheck::{check, distance, values as random};

    fn running(channels: usize, dtype: DType) -> Result<Statistics> {
        let mean = random(&[channels], 5)?.to_dtype(dtype)?;
        let var = (random(&[channels], 6)?.abs()? + 0.5)?.to_dtype(dtype)?;
        Ok((mean, var))
    }

    #[test]
    fn kernel_agrees_with_the_composition_and_both_move_the_running_statistics() -> Result<()> {
        for dims in [&[5, 1][..], &[9, 5], &[2, 3, 7, 5], &[4, 40, 3, 3]] {
            let channels = dims[1];
            for train in [true, false] {
                check("batch_norm", &[dims, &[channels], &[channels]], |t| {
                    let (mean, var) = running(channels, t[0].dtype())?;
                    batch_norm(&t[0], &t[1], &t[2], Running { mean: &mean, var: &var, momentum: 0.1 }, 1e-5, train)
                })?;
            }
            let moved = |dtype| -> Result<Statistics> {
                let (mean, var) = running(channels, dtype)?;
                let ones = Tensor::ones(channels, dtype, &Device::Cpu)?;
                batch_norm(
                    &random(dims, 1)?.to_dtype(dtype)?,
                    &ones,
                    &ones,
                    Running { mean: &mean, var: &var, momentum: 0.1 },
                    1e-5,
                    true,
                )?;
                Ok((mean, var))
            };
            let (got, exact) = (moved(DType::F32)?, moved(DType::F64)?);
            assert!(distance(&got.0, &exact.0)? < 1e-6 && distance(&got.1, &exact.1)? < 1e-6);
            assert!(distance(&got.0, &running(channels, DType::F32)?.0)? > 1e-3, "the running mean is to move");
        }
        Ok(())
    }

    #[test]
    fn a_batch_of_one_value_a_channel_cannot_train() -> Result<()> {
        let (mean, var) = running(3, DType::F32)?;
        let ones = Tensor::ones(3, DType::F32, &Device::Cpu)?;
        let x = random(&[1, 3, 1, 1], 1)?;
        assert!(batch_norm(&x, &ones, &ones, Running { mean: &mean, var: &var, momentum: 0.1 }, 1e-5, true).is_err());
        assert!(batch_norm(&x, &ones, &ones, Running { mean: &mean, var: &var, momentum: 0.1 }, 1e-5, false).is_ok());
        Ok(())
    }
}
