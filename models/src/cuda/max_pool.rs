//! The maximum of square windows; the kernels are in max_pool.cu.

use candle_core::{CudaDevice, DType, Result, Tensor, bail};
use tallow_kernels::conv::Windows;

use super::launch::{Arg, Module, Output, device_of, dtype_name, launch, types, values};
use super::{ptx, trust};

const MODULE: Module = ("max_pool", ptx::MAX_POOL);

/// The maxima of `windows` over `x [batch, channels, height, width]` by kernels, where they serve. `composed` is what they are
/// checked against.
pub fn max_pool2d(
    x: &Tensor,
    windows: &Windows,
    composed: fn(&Tensor, &Windows) -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    let (Some(_), Some(device), Some(name)) = (types(x, &[]), device_of(x), dtype_name(x.dtype())) else {
        return Ok(None);
    };
    if windows.kernel.0 != windows.kernel.1 {
        return Ok(None);
    }
    let trusted = trust::trusted(&format!("max_pool2d {name}"), device, |device| {
        for (kernel_size, stride, padding) in [(2, 2, 0), (3, 2, 1)] {
            let Some(windows) = Windows::new((9, 8), (kernel_size, kernel_size), stride, padding, true) else {
                bail!("max_pool2d: windows that do not fit")
            };
            let kernel = |t: &[Tensor]| kernel(&t[0], &windows);
            trust::agree(device, &[(&[2, 3, 9, 8], x.dtype())], &kernel, &|t| composed(&t[0], &windows))?;
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
        bail!("max_pool2d: expected float32 or bfloat16 on a CUDA device, got {:?}", x.dtype())
    };
    let (batch, channels, _, _) = x.dims4()?;
    let shape = (batch, channels, windows.out.0, windows.out.1);
    let mut y = Output::new(device, x.dtype(), shape)?;
    let mut maxima = Output::new(device, DType::U32, shape)?;
    let count = batch * channels * windows.out.0 * windows.out.1;
    let args = [&[Arg::In(&x), Arg::Out(0), Arg::Out(1), Arg::Long(batch * channels)][..], &sizes(windows)].concat();
    let outputs = &mut [&mut y, &mut maxima];
    launch(device, MODULE, &format!("max_pool_forward_{name}"), values(count), outputs, &args)?;
    let (device, maxima, windows) = (device.clone(), maxima.tensor(), *windows);
    y.function("max_pool2d", [&x])
        .backward(move |call| backward(&device, &call.operands[0], &maxima, call.gradient, &windows, name))
}

fn backward(
    device: &CudaDevice,
    x: &Tensor,
    maxima: &Tensor,
    dy: &Tensor,
    windows: &Windows,
    name: &str,
) -> Result<Vec<Option<Tensor>>> {
    let (batch, channels, _, _) = x.dims4()?;
    let mut dx = Output::new(device, x.dtype(), x.shape())?;
    let args =
        [&[Arg::In(dy), Arg::In(maxima), Arg::Out(0), Arg::Long(batch * channels)][..], &sizes(windows)].concat();
    let name = format!("max_pool_backward_{name}");
    launch(device, MODULE, &name, values(x.elem_count()), &mut [&mut dx], &args)?;
    Ok(vec![Some(dx.tensor())])
}

/// As the kernels take them.
fn sizes(windows: &Windows) -> [Arg<'static>; 7] {
    let Windows { image, kernel, stride, padding, out } = *windows;
    [image.0, image.1, out.0, out.1, kernel.0, stride, padding].map(Arg::Int)
}
