//! Resizing of 8-bit images; the kernels are in cuda/resize.cu.

use candle_core::{CudaDevice, DType, Device, Result, Tensor, bail};

use super::{PRECISION, Taps};
use crate::cuda::launch::{Arg, Module, Output, device_of, dtype_name, launch, values};
use crate::cuda::{ptx, trust};

const MODULE: Module = ("resize", ptx::RESIZE);

/// The composition of the op.
type Composed = fn(&Tensor, (&Taps, &Taps), (&[f32], &[f32]), DType) -> Result<Tensor>;

/// Images resized by kernels, where they serve. `composed` is what they are checked against.
pub fn resize(
    images: &Tensor,
    taps: (&Taps, &Taps),
    range: (&[f32], &[f32]),
    dtype: DType,
    composed: Composed,
) -> Result<Option<Tensor>> {
    let (Some(device), Some(name)) = (device_of(images), dtype_name(dtype)) else { return Ok(None) };
    let trusted = trust::trusted(&format!("resize {name}"), device, |device| {
        let images = Tensor::new((0..2 * 2 * 2 * 3).map(|i| (i * 37 % 256) as u8).collect::<Vec<_>>(), device)?;
        let images = images.reshape((2, 2, 2, 3))?;
        let one = 1 << PRECISION;
        // Below 0 and above 1, as cubic weights are.
        let taps = Taps::new(vec![0, 0, 1], vec![1, 2, 1], vec![one, 0, one / 4 * 5, -(one / 4), one, 0])?;
        let range = (&[1., 0.5, 2.][..], &[0., -1., 3.][..]);
        let got = kernel(&images, (&taps, &taps), range, dtype)?;
        trust::same("a level", &got, &composed(&images, (&taps, &taps), range, DType::F32)?, dtype == DType::BF16)
    });
    if !trusted? {
        return Ok(None);
    }
    kernel(images, taps, range, dtype).map(Some)
}

fn kernel(
    images: &Tensor,
    (across, down): (&Taps, &Taps),
    (scale, shift): (&[f32], &[f32]),
    dtype: DType,
) -> Result<Tensor> {
    let images = images.contiguous()?;
    let (Some(device), Some(name)) = (device_of(&images), dtype_name(dtype)) else {
        bail!("resize: expected a CUDA device, and float32 or bfloat16 as the type, got {dtype:?}")
    };
    let (batch, height, width, channels) = images.dims4()?;
    let mut lines = Output::new(device, DType::U8, (batch, height, across.len(), channels))?;
    let [starts, counts, weights] = uploaded(device, across)?;
    let args = [
        Arg::In(&images),
        Arg::Out(0),
        Arg::In(&starts),
        Arg::In(&counts),
        Arg::In(&weights),
        Arg::Int(across.width()),
        Arg::Long(batch * height),
        Arg::Int(width),
        Arg::Int(across.len()),
        Arg::Int(channels),
    ];
    let count = batch * height * across.len() * channels;
    launch(device, MODULE, "resize_across_u8", values(count), &mut [&mut lines], &args)?;
    let lines = lines.tensor();
    let out_channels = scale.len();
    let mut out = Output::new(device, dtype, (batch, out_channels, down.len(), across.len()))?;
    let [starts, counts, weights] = uploaded(device, down)?;
    let on_device = |numbers: &[f32]| Tensor::new(numbers, &Device::Cuda(device.clone()));
    let (scale, shift) = (on_device(scale)?, on_device(shift)?);
    let args = [
        Arg::In(&lines),
        Arg::Out(0),
        Arg::In(&starts),
        Arg::In(&counts),
        Arg::In(&weights),
        Arg::Int(down.width()),
        Arg::In(&scale),
        Arg::In(&shift),
        Arg::Long(batch),
        Arg::Int(height),
        Arg::Int(down.len()),
        Arg::Int(across.len()),
        Arg::Int(channels),
        Arg::Int(out_channels),
    ];
    let count = batch * out_channels * down.len() * across.len();
    launch(device, MODULE, &format!("resize_down_{name}"), values(count), &mut [&mut out], &args)?;
    Ok(out.tensor())
}

fn uploaded(device: &CudaDevice, taps: &Taps) -> Result<[Tensor; 3]> {
    let device = Device::Cuda(device.clone());
    let (starts, counts, weights) = taps.parts();
    Ok([Tensor::new(starts, &device)?, Tensor::new(counts, &device)?, Tensor::new(weights, &device)?])
}
