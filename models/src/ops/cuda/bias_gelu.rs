//! GELU in its three forms, with the bias of the layer before it; the kernels are in bias_gelu.cu.

use candle_core::{CudaDevice, Result, Tensor, bail};

use super::super::gelu::Gelu;
use super::super::sink::hand_over;
use super::column_sums::{add_up, grid, partials};
use super::launch::{Arg, Module, Output, device_of, graft, launch, types, values};
use super::{ptx, trust};

const MODULE: Module = ("bias_gelu", ptx::BIAS_GELU);

/// `gelu(x + bias)` for a bias over the last dimension, where the kernels serve.
pub fn bias_gelu(x: &Tensor, bias: Option<&Tensor>, gelu: Gelu) -> Result<Option<Tensor>> {
    let parameters: Vec<_> = bias.into_iter().collect();
    let (Some(types), Some(device)) = (types(x, &parameters), device_of(x)) else { return Ok(None) };
    if bias.is_some_and(|bias| x.dims().last() != Some(&bias.elem_count())) {
        return Ok(None);
    }
    let (of_x, of_bias) = (x.dtype(), bias.map_or(x.dtype(), Tensor::dtype));
    let trusted = trust::trusted(&format!("bias_{} {types}", name(gelu)), device, |device| {
        for (rows, dim) in [(70, 132), (3, 17)] {
            let operands = [(&[rows, dim][..], of_x), (&[dim], of_bias)];
            let kernel = |t: &[Tensor]| kernel(&t[0], Some(&t[1]), gelu, types);
            trust::agree(device, &operands, &kernel, &|t| gelu.composed(&t[0].broadcast_add(&t[1])?))?;
        }
        Ok(())
    });
    if !trusted? {
        return Ok(None);
    }
    kernel(x, bias, gelu, types).map(Some)
}

fn name(gelu: Gelu) -> &'static str {
    match gelu {
        Gelu::Erf => "gelu",
        Gelu::Tanh => "gelu_tanh",
        Gelu::Quick => "quick_gelu",
    }
}

fn kernel(x: &Tensor, bias: Option<&Tensor>, gelu: Gelu, types: &'static str) -> Result<Tensor> {
    let x = x.contiguous()?;
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let Some(device) = device_of(&x) else { bail!("bias_gelu: expected a CUDA device") };
    let y = forward(device, &x, bias.as_ref(), name(gelu), types)?;
    let device = device.clone();
    let operands: Vec<_> = [Some(&x), bias.as_ref()].into_iter().flatten().collect();
    graft("bias_gelu", &operands, y, move |operands, _, dy| {
        backward(&device, operands[0], operands.get(1).copied(), dy, name(gelu), types)
    })
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

fn backward(
    device: &CudaDevice,
    x: &Tensor,
    bias: Option<&Tensor>,
    dy: &Tensor,
    act: &str,
    types: &str,
) -> Result<Vec<Option<Tensor>>> {
    let dim = x.dims().last().copied().unwrap_or(1);
    let rows = x.elem_count() / dim;
    let mut dx = Output::new(device, x.dtype(), x.shape())?;
    let mut sums = partials(device, rows, 1, dim)?;
    let args = [Arg::In(x), Arg::optional(bias), Arg::In(dy), Arg::Out(0), Arg::Out(1), Arg::Long(rows), Arg::Int(dim)];
    let outputs = &mut [&mut dx, &mut sums];
    launch(device, MODULE, &format!("bias_{act}_backward_{types}"), grid(rows, dim), outputs, &args)?;
    let dbias = match bias {
        Some(bias) if bias.track_op() => hand_over(bias, add_up(device, sums, bias.dtype())?)?,
        _ => None,
    };
    Ok(vec![x.track_op().then(|| dx.tensor()), dbias])
}
