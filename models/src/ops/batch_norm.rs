//! `y = (x - mean) / sqrt(var + eps) * weight + bias` for every channel, over the batch and the image.
//!
//! Ioffe, Szegedy, "Batch Normalization", 2015; the running statistics are PyTorch's.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::kernel::{filled, rows_per_task, serves, tensor};
use super::simd::{sum, sum2, vectorised};
use super::wide;
use crate::autograd::{Call, Function};
use crate::slices::CpuValues;

/// Normalises every channel of `x [batch, channels, ..]`; the other tensors are `[channels]`.
///
/// With `train` the statistics are those of the batch, and the running ones move towards them in their own storage by
/// `momentum` (PyTorch's, 0.1 by default): `running = (1 - momentum) running + momentum batch`, the variance unbiased there
/// and biased in the output. Without it the running statistics normalise.
///
/// # Errors
/// If the shapes do not fit each other, or a training batch has one value a channel.
#[allow(clippy::too_many_arguments, reason = "PyTorch's list, which everyone knows")]
pub fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    momentum: f64,
    eps: f64,
    train: bool,
) -> Result<Tensor> {
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
    let (y, batch) = if serves(&[x, weight, bias, running_mean, running_var]) {
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
    Ok((function.backward(move |call| norm.gradients(call))?, batch))
}

/// `[batch, channels, pixels]`.
#[derive(Clone, Copy)]
struct Planes {
    batch: usize,
    channels: usize,
    pixels: usize,
}

impl Planes {
    /// Mean and biased variance of every channel.
    fn statistics(self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let count = (self.batch * self.pixels) as f64;
        let channel = |channel| {
            vectorised(
                #[inline(always)]
                || {
                    let mean = self.of(x, channel).map(|x| f64::from(sum(x, |x| x))).sum::<f64>() / count;
                    let centre = mean as f32;
                    let square = |x: f32| (x - centre) * (x - centre);
                    let var = self.of(x, channel).map(|x| f64::from(sum(x, square))).sum::<f64>() / count;
                    (centre, var as f32)
                },
            )
        };
        (0..self.channels).into_par_iter().map(channel).unzip()
    }

    /// The planes of one channel.
    fn of(self, x: &[f32], channel: usize) -> impl Iterator<Item = &[f32]> {
        (0..self.batch).map(move |b| &x[(b * self.channels + channel) * self.pixels..][..self.pixels])
    }
}

struct BatchNorm {
    planes: Planes,
    mean: Vec<f32>,
    /// `1 / sqrt(var + eps)`.
    scale: Vec<f32>,
    /// Whether the statistics depend on the input.
    train: bool,
}

impl BatchNorm {
    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        self.map(x, None, |channel| {
            let (mean, scale, weight, bias) = (self.mean[channel], self.scale[channel], weight[channel], bias[channel]);
            #[inline(always)]
            move |x, _| (x - mean) * scale * weight + bias
        })
    }

    fn gradients(&self, call: &Call) -> Result<Vec<Option<Tensor>>> {
        let (x, dy) = (CpuValues::of(&call.operands[0])?, CpuValues::of(call.gradient)?);
        let (dweight, dbias) = self.parameter_gradients(&x, &dy);
        let dx = match call.wants(0) {
            true => {
                let weight = CpuValues::of(&call.operands[1])?;
                let dx = self.input_gradient(&x, &weight, &dy, &dweight, &dbias);
                Some(tensor(dx, call.operands[0].dims())?)
            }
            false => None,
        };
        let channels = [self.planes.channels];
        Ok(vec![dx, Some(tensor(dweight, &channels)?), Some(tensor(dbias, &channels)?)])
    }

    /// `f(channel)(x, dy)` for every value; without `dy`, its argument is `x` again.
    fn map<F>(&self, x: &[f32], dy: Option<&[f32]>, f: impl Fn(usize) -> F + Sync) -> Vec<f32>
    where
        F: Fn(f32, f32) -> f32,
    {
        let Planes { channels, pixels, .. } = self.planes;
        let task = rows_per_task(x.len() / pixels.max(1), pixels);
        let dy = dy.unwrap_or(x);
        // SAFETY: the tasks cover the output, and every value of every plane is written.
        unsafe {
            filled(x.len(), |out| {
                out.par_chunks_mut((task * pixels).max(1)).enumerate().for_each(|(i, out)| {
                    vectorised(
                        #[inline(always)]
                        || {
                            for (plane, out) in (i * task..).zip(out.chunks_exact_mut(pixels)) {
                                let (x, dy) = (&x[plane * pixels..][..pixels], &dy[plane * pixels..][..pixels]);
                                let f = f(plane % channels);
                                for ((out, &x), &dy) in out.iter_mut().zip(x).zip(dy) {
                                    out.write(f(x, dy));
                                }
                            }
                        },
                    )
                })
            })
        }
    }

    fn parameter_gradients(&self, x: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let channel = |channel| {
            vectorised(
                #[inline(always)]
                || {
                    let (mean, scale) = (self.mean[channel], self.scale[channel]);
                    let (mut dweight, mut dbias) = (0f64, 0f64);
                    for (x, dy) in self.planes.of(x, channel).zip(self.planes.of(dy, channel)) {
                        dweight += f64::from(sum2(x, dy, |x, dy| (x - mean) * dy));
                        dbias += f64::from(sum(dy, |dy| dy));
                    }
                    (dweight as f32 * scale, dbias as f32)
                },
            )
        };
        (0..self.planes.channels).into_par_iter().map(channel).unzip()
    }

    fn input_gradient(&self, x: &[f32], weight: &[f32], dy: &[f32], dweight: &[f32], dbias: &[f32]) -> Vec<f32> {
        if !self.train {
            return self.map(x, Some(dy), |channel| {
                let scale = weight[channel] * self.scale[channel];
                #[inline(always)]
                move |_, dy| dy * scale
            });
        }
        let count = (self.planes.batch * self.planes.pixels) as f32;
        self.map(x, Some(dy), |channel| {
            let (mean, scale, weight) = (self.mean[channel], self.scale[channel], weight[channel]);
            let (dweight, dbias) = (dweight[channel] / count, dbias[channel] / count);
            #[inline(always)]
            move |x, dy| weight * scale * (dy - dbias - (x - mean) * scale * dweight)
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::check::{check, distance, values as random};
    use super::*;

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
                    batch_norm(&t[0], &t[1], &t[2], &mean, &var, 0.1, 1e-5, train)
                })?;
            }
            let moved = |dtype| -> Result<Statistics> {
                let (mean, var) = running(channels, dtype)?;
                let ones = Tensor::ones(channels, dtype, &Device::Cpu)?;
                batch_norm(&random(dims, 1)?.to_dtype(dtype)?, &ones, &ones, &mean, &var, 0.1, 1e-5, true)?;
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
        assert!(batch_norm(&x, &ones, &ones, &mean, &var, 0.1, 1e-5, true).is_err());
        assert!(batch_norm(&x, &ones, &ones, &mean, &var, 0.1, 1e-5, false).is_ok());
        Ok(())
    }
}
