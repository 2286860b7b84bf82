//! The residual connection with LayerScale and DropPath; the kernels are in residual.cu.

use candle_core::{CudaDevice, DType, Result, Tensor, bail};

use super::column_sums::{add_up, grid, partials};
use super::launch::{Arg, Module, Output, device_of, launch, types, values};
use super::{ptx, trust};
use crate::autograd::Call;

const MODULE: Module = ("residual", ptx::RESIDUAL);

/// The composition of the op.
type Composed = fn(&Tensor, &Tensor, Option<&Tensor>, Option<&Tensor>) -> Result<Tensor>;

/// `x + keep · gamma · y` by kernels, where they serve. `composed` is what they are checked against.
pub fn scale_add(
    x: &Tensor,
    y: &Tensor,
    gamma: Option<&Tensor>,
    keep: Option<&Tensor>,
    composed: Composed,
) -> Result<Option<Tensor>> {
    let parameters: Vec<_> = gamma.into_iter().collect();
    let (Some(types), Some(device)) = (types(x, &parameters), device_of(x)) else { return Ok(None) };
    let here = |t: &Tensor| device_of(t).is_some_and(|of| of.id() == device.id());
    if x.rank() < 2 || y.dtype() != x.dtype() || !here(y) || !keep.is_none_or(here) {
        return Ok(None);
    }
    let (of_x, of_gamma) = (x.dtype(), gamma.map_or(x.dtype(), Tensor::dtype));
    let trusted = trust::trusted(&format!("scale_add {types}"), device, |device| {
        let keep = Tensor::new(&[0f32, 1.25, 1.25], device)?;
        for dim in [132, 17] {
            let operands = [(&[3, 5, dim][..], of_x), (&[3, 5, dim], of_x), (&[dim], of_gamma)];
            let kernel = |t: &[Tensor]| kernel(&t[0], &t[1], Some(&t[2]), Some(&keep), types);
            trust::agree(device, &operands, &kernel, &|t| composed(&t[0], &t[1], Some(&t[2]), Some(&keep)))?;
        }
        Ok(())
    });
    if !trusted? {
        return Ok(None);
    }
    kernel(x, y, gamma, keep, types).map(Some)
}

/// The factors: LayerScale's, and those of whole samples.
#[derive(Clone, Copy)]
struct Factors<'a> {
    gamma: Option<&'a Tensor>,
    keep: Option<&'a Tensor>,
}

fn kernel(
    x: &Tensor,
    y: &Tensor,
    gamma: Option<&Tensor>,
    keep: Option<&Tensor>,
    types: &'static str,
) -> Result<Tensor> {
    let [x, y] = [x.contiguous()?, y.contiguous()?];
    let gamma = gamma.map(Tensor::contiguous).transpose()?;
    let keep = keep.map(|keep| keep.detach().to_dtype(DType::F32)?.contiguous()).transpose()?;
    let Some(device) = device_of(&x) else { bail!("scale_add: expected a CUDA device") };
    let out = forward(device, Some(&x), &y, Factors { gamma: gamma.as_ref(), keep: keep.as_ref() }, types)?;
    let device = device.clone();
    out.function("scale_add", [&x, &y].into_iter().chain(&gamma)).backward(move |call| {
        let factors = Factors { gamma: call.operands.get(2), keep: keep.as_ref() };
        backward(&device, call, factors, types)
    })
}

fn forward(device: &CudaDevice, x: Option<&Tensor>, y: &Tensor, factors: Factors, types: &str) -> Result<Output> {
    let (rows, dim, rows_per_sample) = sizes(y, factors)?;
    let mut out = Output::new(device, y.dtype(), y.shape())?;
    let args = [
        Arg::optional(x),
        Arg::In(y),
        Arg::optional(factors.gamma),
        Arg::optional(factors.keep),
        Arg::Out(0),
        Arg::Long(rows),
        Arg::Int(dim),
        Arg::Int(rows_per_sample),
    ];
    launch(device, MODULE, &format!("scale_add_{types}"), values(rows * dim), &mut [&mut out], &args)?;
    Ok(out)
}

/// Rows, their width, and rows of a sample.
fn sizes(y: &Tensor, factors: Factors) -> Result<(usize, usize, usize)> {
    let dim = y.dims().last().copied().unwrap_or(1).max(1);
    let rows = y.elem_count() / dim;
    let samples = factors.keep.map_or(1, Tensor::elem_count).max(1);
    Ok((rows, dim, (rows / samples).max(1)))
}

fn backward(device: &CudaDevice, call: &Call, factors: Factors, types: &str) -> Result<Vec<Option<Tensor>>> {
    let (y, gradient) = (&call.operands[1], call.gradient);
    let plain = factors.gamma.is_none() && factors.keep.is_none();
    let dy = match call.wants(1) {
        true if plain => Some(gradient.clone()),
        true => Some(forward(device, None, gradient, factors, types)?.tensor()),
        false => None,
    };
    let dgamma = match factors.gamma {
        Some(gamma) if call.wants(2) => {
            let (rows, dim, rows_per_sample) = sizes(y, factors)?;
            let mut sums = partials(device, rows, 1, dim)?;
            let args = [
                Arg::In(gradient),
                Arg::In(y),
                Arg::optional(factors.keep),
                Arg::Out(0),
                Arg::Long(rows),
                Arg::Int(dim),
                Arg::Int(rows_per_sample),
            ];
            launch(device, MODULE, &format!("scale_add_gamma_{types}"), grid(rows, dim), &mut [&mut sums], &args)?;
            Some(add_up(device, sums, gamma.dtype())?)
        }
        _ => None,
    };
    Ok([Some(gradient.clone()), dy, dgamma].into_iter().take(call.operands.len()).collect())
}
