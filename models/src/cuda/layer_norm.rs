//! Layer norm; the kernels are in layer_norm.cu.

use candle_core::{CudaDevice, DType, Result, Tensor};

use super::column_sums::{add_up, grid, partials};
use super::launch::{Arg, Module, Output, device_of, launch, rows, types};
use super::{ptx, trust};
use crate::autograd::Call;

const MODULE: Module = ("layer_norm", ptx::LAYER_NORM);

/// The norm by kernels, where they serve. `composed` is what they are checked against.
pub fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    composed: fn(&Tensor, &Tensor, &Tensor, f64) -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    let (Some(types), Some(device)) = (types(x, &[weight, bias]), device_of(x)) else { return Ok(None) };
    let (of_x, of_w) = (x.dtype(), weight.dtype());
    let trusted = trust::trusted(&format!("layer_norm {types}"), device, |device| {
        for (rows, dim) in [(5, 132), (3, 17)] {
            let operands = [(&[rows, dim][..], of_x), (&[dim], of_w), (&[dim], of_w)];
            let kernel = |t: &[Tensor]| kernel(&t[0], &t[1], &t[2], 1e-5, types);
            trust::agree(device, &operands, &kernel, &|t| composed(&t[0], &t[1], &t[2], 1e-5))?;
        }
        Ok(())
    });
    if !trusted? {
        return Ok(None);
    }
    kernel(x, weight, bias, eps, types).map(Some)
}

fn kernel(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64, types: &'static str) -> Result<Tensor> {
    let [x, weight, bias] = [x.contiguous()?, weight.contiguous()?, bias.contiguous()?];
    let Some(device) = device_of(&x) else { candle_core::bail!("layer_norm: expected a CUDA device") };
    let dim = weight.elem_count();
    let count = x.elem_count() / dim;
    let mut y = Output::new(device, x.dtype(), x.shape())?;
    let mut statistics = Output::new(device, DType::F32, (count, 2))?;
    let args = [
        Arg::In(&x),
        Arg::In(&weight),
        Arg::In(&bias),
        Arg::Out(0),
        Arg::Out(1),
        Arg::Long(count),
        Arg::Int(dim),
        Arg::Float(eps as f32),
    ];
    let name = format!("layer_norm_forward_{types}");
    launch(device, MODULE, &name, rows(count), &mut [&mut y, &mut statistics], &args)?;
    let (device, statistics) = (device.clone(), statistics.tensor());
    y.function("layer_norm", [&x, &weight, &bias]).backward(move |call| backward(&device, call, &statistics, types))
}

fn backward(device: &CudaDevice, call: &Call, statistics: &Tensor, types: &str) -> Result<Vec<Option<Tensor>>> {
    let (x, weight, dy) = (&call.operands[0], &call.operands[1], call.gradient);
    let dim = weight.elem_count();
    let count = x.elem_count() / dim;
    let dx = if call.wants(0) {
        let mut dx = Output::new(device, x.dtype(), x.shape())?;
        let args = [
            Arg::In(x),
            Arg::In(weight),
            Arg::In(dy),
            Arg::In(statistics),
            Arg::Out(0),
            Arg::Long(count),
            Arg::Int(dim),
        ];
        launch(device, MODULE, &format!("layer_norm_backward_{types}"), rows(count), &mut [&mut dx], &args)?;
        Some(dx.tensor())
    } else {
        None
    };
    if !call.wants(1) && !call.wants(2) {
        return Ok(vec![dx, None, None]);
    }
    let mut sums = partials(device, count, 2, dim)?;
    let args = [Arg::In(x), Arg::In(dy), Arg::In(statistics), Arg::Out(0), Arg::Long(count), Arg::Int(dim)];
    launch(device, MODULE, &format!("layer_norm_parameters_{types}"), grid(count, dim), &mut [&mut sums], &args)?;
    let sums = add_up(device, sums, weight.dtype())?;
    Ok(vec![dx, Some(sums.narrow(0, 0, dim)?), Some(sums.narrow(0, dim, dim)?)])
}
