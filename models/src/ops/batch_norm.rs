//! `y = (x - mean) / sqrt(var + eps) * weight + bias` for every channel, over the batch and the image.
//!
//! Ioffe, Szegedy, "Batch Normalization", 2015; the running statistics are PyTorch's.

use candle_core::{Result, Tensor, bail};

use super::wide;

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
    let mean_var = if train { None } else { Some((running_mean.detach(), running_var.detach())) };
    let (y, batch) = composed(x, weight, bias, mean_var, eps)?;
    if let Some((mean, var)) = batch {
        let unbiased = (var * (count as f64 / (count - 1) as f64))?;
        for (running, now) in [(running_mean, mean), (running_var, unbiased)] {
            let moved = ((running.detach() * (1. - momentum))? + (now.to_dtype(running.dtype())? * momentum)?)?;
            running.slice_set(&moved, 0, 0)?;
        }
    }
    Ok(y)
}

/// The output, and the mean and biased variance of the batch if none were given.
#[allow(clippy::type_complexity, reason = "a pair of tensors in, a pair of tensors out")]
fn composed(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    given: Option<(Tensor, Tensor)>,
    eps: f64,
) -> Result<(Tensor, Option<(Tensor, Tensor)>)> {
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
