//! The windows of images as rows of a matrix; the kernels are in windows.cu.

use candle_core::{Result, Tensor, bail};
use tallow_kernels::conv::Windows;

use super::launch::{Arg, Module, Output, device_of, dtype_name, launch, types, values};
use super::{ptx, trust};

const MODULE: Module = ("windows", ptx::WINDOWS);

/// `x [batch, channels, height, width]` to `[batch, windows, channels * pixels of a window]` by kernels, where they serve.
/// `composed` is what they are checked against.
pub fn unfold(
    x: &Tensor,
    windows: &Windows,
    composed: fn(&Tensor, &Windows) -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    let (Some(_), Some(device), Some(name)) = (types(x, &[]), device_of(x), dtype_name(x.dtype())) else {
        return Ok(None);
    };
    let trusted = trust::trusted(&format!("unfold {name}"), device, |device| {
        for (stride, padding) in [(1, 2), (2, 0)] {
            let Some(windows) = Windows::new((7, 6), (5, 3), stride, padding, false) else {
                bail!("unfold: windows that do not fit")
            };
            let kernel = |t: &[Tensor]| kernel(&t[0], &windows);
            trust::agree(device, &[(&[2, 3, 7, 6], x.dtype())], &kernel, &|t| composed(&t[0], &windows))?;
        }
        Ok(())
    });
    if !trusted? {
        return Ok(None);
    }
    kernel(x, windows).map(Some)
}

fn kernel(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (Some(device), Some(name)) = (device_of(&x), dtype_name(x.dtype())) else {
        bail!("unfold: expected float32 or bfloat16 on a CUDA device, got {:?}", x.dtype())
    };
    let (batch, channels, _, _) = x.dims4()?;
    let shape = (batch, windows.out.0 * windows.out.1, channels * windows.kernel.0 * windows.kernel.1);
    let mut rows = Output::new(device, x.dtype(), shape)?;
    let tail = sizes(channels, windows);
    let args = [&[Arg::In(&x), Arg::Out(0), Arg::Long(batch)][..], &tail].concat();
    launch(device, MODULE, &format!("unfold_{name}"), values(shape.0 * shape.1 * shape.2), &mut [&mut rows], &args)?;
    let device = device.clone();
    rows.function("unfold", [&x]).backward(move |call| {
        let (x, drows) = (&call.operands[0], call.gradient);
        let mut dx = Output::new(&device, x.dtype(), x.shape())?;
        let args = [&[Arg::In(drows), Arg::Out(0), Arg::Long(batch)][..], &tail].concat();
        launch(&device, MODULE, &format!("fold_{name}"), values(x.elem_count()), &mut [&mut dx], &args)?;
        Ok(vec![Some(dx.tensor())])
    })
}

/// As the kernels take them.
fn sizes(channels: usize, windows: &Windows) -> [Arg<'static>; 9] {
    let Windows { image, kernel, stride, padding, out } = *windows;
    [channels, image.0, image.1, out.0, out.1, kernel.0, kernel.1, stride, padding].map(Arg::Int)
}
