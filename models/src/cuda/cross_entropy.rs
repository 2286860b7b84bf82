//! Cross-entropy; the kernels are in cross_entropy.cu. Labels stay on the device: one that names no class makes the loss NaN.

use candle_core::{CudaDevice, DType, Result, Tensor, bail};

use super::launch::{Arg, Module, Output, device_of, dtype_name, launch, rows, types};
use super::{ptx, trust};

const MODULE: Module = ("cross_entropy", ptx::CROSS_ENTROPY);

/// The mean cross-entropy by kernels, where they serve. `composed` is what they are checked against.
pub fn cross_entropy(
    logits: &Tensor,
    labels: &Tensor,
    smoothing: f64,
    composed: fn(&Tensor, &Tensor, f64) -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    let (Some(_), Some(device)) = (types(logits, &[]), device_of(logits)) else { return Ok(None) };
    let (Some(name), Some(of_labels)) = (dtype_name(logits.dtype()), device_of(labels)) else { return Ok(None) };
    if of_labels.id() != device.id() || logits.dim(1)? > i32::MAX as usize {
        return Ok(None);
    }
    let trusted = trust::trusted(&format!("cross_entropy {name}"), device, |device| {
        let labels = Tensor::new((0..9).map(|row| row * 7 % 33).collect::<Vec<u32>>(), device)?;
        for smoothing in [0., 0.1] {
            let kernel = |t: &[Tensor]| kernel(&t[0], &labels, smoothing);
            let composition = |t: &[Tensor]| composed(&t[0], &labels, smoothing);
            trust::agree(device, &[(&[9, 33], logits.dtype())], &kernel, &composition)?;
        }
        Ok(())
    });
    if !trusted? {
        return Ok(None);
    }
    kernel(logits, labels, smoothing).map(Some)
}

fn kernel(logits: &Tensor, labels: &Tensor, smoothing: f64) -> Result<Tensor> {
    let (logits, labels) = (logits.contiguous()?, labels.contiguous()?);
    let (Some(device), Some(name)) = (device_of(&logits), dtype_name(logits.dtype())) else {
        bail!("cross_entropy: expected float32 or bfloat16 on a CUDA device, got {:?}", logits.dtype())
    };
    let (count, classes) = logits.dims2()?;
    let mut losses = Output::new(device, DType::F32, count)?;
    let mut statistics = Output::new(device, DType::F32, (count, 2))?;
    let args = [
        Arg::In(&logits),
        Arg::In(&labels),
        Arg::Out(0),
        Arg::Out(1),
        Arg::Long(count),
        Arg::Int(classes),
        Arg::Float(smoothing as f32),
    ];
    let outputs = &mut [&mut losses, &mut statistics];
    launch(device, MODULE, &format!("cross_entropy_forward_{name}"), rows(count), outputs, &args)?;
    let losses = losses.tensor();
    let mut loss = Output::new(device, DType::F32, ())?;
    let args = [Arg::In(&losses), Arg::Out(0), Arg::Long(count)];
    launch(device, MODULE, "cross_entropy_mean_f32", ((1, 1, 1), (256, 1, 1)), &mut [&mut loss], &args)?;
    let (device, statistics) = (device.clone(), statistics.tensor());
    loss.function("cross_entropy", [&logits]).backward(move |call| {
        backward(&device, &call.operands[0], (&labels, &statistics, call.gradient), name, smoothing)
    })
}

fn backward(
    device: &CudaDevice,
    logits: &Tensor,
    (labels, statistics, dloss): (&Tensor, &Tensor, &Tensor),
    name: &str,
    smoothing: f64,
) -> Result<Vec<Option<Tensor>>> {
    let (count, classes) = logits.dims2()?;
    let mut dlogits = Output::new(device, logits.dtype(), logits.shape())?;
    let args = [
        Arg::In(logits),
        Arg::In(labels),
        Arg::In(statistics),
        Arg::In(dloss),
        Arg::Out(0),
        Arg::Long(count),
        Arg::Int(classes),
        Arg::Float(smoothing as f32),
    ];
    launch(device, MODULE, &format!("cross_entropy_backward_{name}"), rows(count), &mut [&mut dlogits], &args)?;
    Ok(vec![Some(dlogits.tensor())])
}
