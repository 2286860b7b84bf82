//! Activations, with the bias of the layer before them; the kernels are in activation.cu.

use candle_core::{CudaDevice, Result, Tensor, bail};

use super::column_sums::{add_up, grid, partials};
use super::launch::{Arg, Module, Output, device_of, launch, types, values};
use super::{ptx, trust};
use crate::autograd::Call;

const MODULE: Module = ("activation", ptx::ACTIVATION);

/// `act(x + bias)`, where the kernels serve. `composed` is the activation that they are checked against.
pub fn activation(
    x: &Tensor,
    bias: Option<&Tensor>,
    act: &'static str,
    composed: impl Fn(&Tensor) -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    let parameters: Vec<_> = bias.into_iter().collect();
    let (Some(types), Some(device)) = (types(x, &parameters), device_of(x)) else { return Ok(None) };
    if bias.is_some_and(|bias| x.dims().last() != Some(&bias.elem_count())) {
        return Ok(None);
    }
    let (of_x, of_bias) = (x.dtype(), bias.map_or(x.dtype(), Tensor::dtype));
    let trusted = trust::trusted(&format!("bias_{act} {types}"), device, |device| {
        for (rows, dim) in [(70, 132), (3, 17)] {
            let operands = [(&[rows, dim][..], of_x), (&[dim], of_bias)];
            let kernel = |t: &[Tensor]| kernel(&t[0], Some(&t[1]), act, types);
            trust::agree(device, &operands, &kernel, &|t| composed(&t[0].broadcast_add(&t[1])?))?;
        }
        Ok(())
    });
    if !trusted? {
        return Ok(None);
    }
    kernel(x, bias, act, types).map(Some)
}

fn kernel(x: &Tensor, bias: Option<&Tensor>, act: &'static str, types: &'static str) -> Result<Tensor> {
    let x = x.contiguous()?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let Some(device) = device_of(&x) else { bail!("bias_{act}: expected a CUDA device") };
    let y = forward(device, &x, bias.as_ref(), act, types)?;
    let device = device.clone();
    y.function(act, [Some(&x), bias.as_ref()].into_iter().flatten())
        .backward(move |call| backward(&device, call, act, types))
}

/// `x + bias`, without a history.
pub(super) fn add_bias(device: &CudaDevice, x: &Tensor, bias: &Tensor, types: &str) -> Result<Output> {
    forward(device, x, Some(&bias.contiguous()?), "add", types)
}

fn forward(device: &CudaDevice, x: &Tensor, bias: Option<&Tensor>, act: &str, types: &str) -> Result<Output> {
    let dim = x.dims().last().copied().unwrap_or(1);
    let count = x.elem_count();
    let mut y = Output::new(device, x.dtype(), x.shape())?;
    let args = [Arg::In(x), Arg::optional(bias), Arg::Out(0), Arg::Long(count / dim), Arg::Int(dim)];
    launch(device, MODULE, &format!("bias_{act}_forward_{types}"), values(count), &mut [&mut y], &args)?;
    Ok(y)
}

fn backward(device: &CudaDevice, call: &Call, act: &str, types: &str) -> Result<Vec<Option<Tensor>>> {
    let (x, bias, dy) = (&call.operands[0], call.operands.get(1), call.gradient);
    let dim = x.dims().last().copied().unwrap_or(1);
    let rows = x.elem_count() / dim;
    let mut dx = Output::new(device, x.dtype(), x.shape())?;
    let mut sums = partials(device, rows, 1, dim)?;
    let args = [Arg::In(x), Arg::optional(bias), Arg::In(dy), Arg::Out(0), Arg::Out(1), Arg::Long(rows), Arg::Int(dim)];
    let outputs = &mut [&mut dx, &mut sums];
    launch(device, MODULE, &format!("bias_{act}_backward_{types}"), grid(rows, dim), outputs, &args)?;
    let mut gradients = vec![Some(dx.tensor())];
    if let Some(bias) = bias {
        gradients.push(call.wants(1).then(|| add_up(device, sums, bias.dtype())).transpose()?);
    }
    Ok(gradients)
}
