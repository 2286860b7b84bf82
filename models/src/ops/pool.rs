//! Maximum and average of square windows.

use candle_core::{D, Result, Shape, Tensor, bail};
use tallow_kernels::conv::{Windows, pool as kernel};

use super::windows::{unfold, windows_of};
use crate::autograd::Function;
use crate::slices::{CpuValues, serves, tensor};

/// The maximum of every `kernel`×`kernel` window of `x [batch, channels, height, width]`, padded with -∞. The gradient goes
/// to the first maximum of a window, as in PyTorch. With `ceil_mode` the last windows may hang over the edge.
///
/// # Errors
/// If the window does not fit the image, or the padding is more than half the window.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize, ceil_mode: bool) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    if padding * 2 > kernel {
        bail!("max_pool2d: expected a padding of at most half the kernel, got padding {padding}, kernel {kernel}")
    }
    let windows = windows_of("max_pool2d", (height, width), (kernel, kernel), stride, padding, ceil_mode)?;
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::max_pool2d(x, &windows, composed_max)? {
        return Ok(y);
    }
    if serves([x]) { fused_max(x, windows) } else { composed_max(x, &windows) }
}

/// The average of every `kernel`×`kernel` window of `x [batch, channels, height, width]`.
///
/// # Errors
/// If the window does not fit the image.
pub fn avg_pool2d(x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let windows = windows_of("avg_pool2d", (height, width), (kernel, kernel), stride, 0, false)?;
    if serves([x]) { fused_avg(x, windows) } else { composed_avg(x, &windows) }
}

fn composed_max(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    let (batch, channels, _, _) = x.dims4()?;
    let columns = unfold(windows, x, f64::NEG_INFINITY)?;
    // Not Candle's `max`: it gives the whole gradient to every one of several equal maxima.
    let first = columns.detach().argmax_keepdim(D::Minus1)?;
    columns.gather(&first, D::Minus1)?.reshape((batch, channels, windows.out.0, windows.out.1))
}

fn composed_avg(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    let (batch, channels, _, _) = x.dims4()?;
    unfold(windows, x, 0.)?.mean(D::Minus1)?.reshape((batch, channels, windows.out.0, windows.out.1))
}

fn output_shape(x: &Tensor, windows: &Windows) -> Result<Shape> {
    let (batch, channels, _, _) = x.dims4()?;
    Ok((batch, channels, windows.out.0, windows.out.1).into())
}

fn fused_max(x: &Tensor, windows: Windows) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (y, maxima) = kernel::largest_of_planes(&windows, &CpuValues::of(&x)?);
    Function::new("max_pool2d", [&x]).output(y, output_shape(&x, &windows)?).backward(move |call| {
        let dx = kernel::spread_over_planes(&windows, &CpuValues::of(call.gradient)?, &maxima);
        Ok(vec![Some(tensor(dx, call.operands[0].dims())?)])
    })
}

fn fused_avg(x: &Tensor, windows: Windows) -> Result<Tensor> {
    let x = x.contiguous()?;
    let y = kernel::averages_of_planes(&windows, &CpuValues::of(&x)?);
    Function::new("avg_pool2d", [&x]).output(y, output_shape(&x, &windows)?).backward(move |call| {
        let dx = kernel::spread_averages(&windows, &CpuValues::of(call.gradient)?);
        Ok(vec![Some(tensor(dx, call.operands[0].dims())?)])
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernels_agree_with_the_compositions() -> Result<()> {
        let cases = [(2, 2, 0, false), (2, 2, 0, true), (3, 2, 1, true), (3, 1, 1, false), (2, 3, 1, true)];
        for (kernel, stride, padding, ceil_mode) in cases {
            for image in [(4, 4), (7, 5), (9, 8)] {
                let dims = [2, 3, image.0, image.1];
                check("max_pool2d", &[&dims], |t| max_pool2d(&t[0], kernel, stride, padding, ceil_mode))?;
                check("avg_pool2d", &[&dims], |t| avg_pool2d(&t[0], kernel, stride))?;
            }
        }
        Ok(())
    }

    #[test]
    fn of_equal_maxima_the_first_gets_the_gradient() -> Result<()> {
        for dtype in [DType::F32, DType::F64] {
            let x = Var::ones((1, 1, 2, 4), dtype, &Device::Cpu)?;
            let store = max_pool2d(&x, 2, 2, 0, false)?.sum_all()?.backward()?;
            let gradient = store.get(&x).expect("a gradient").to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(gradient, [1., 0., 1., 0., 0., 0., 0., 0.]);
        }
        Ok(())
    }

    #[test]
    fn a_nan_goes_through() -> Result<()> {
        let x = Tensor::new(&[[[[1f32, f32::NAN], [5., 2.]]]], &Device::Cpu)?;
        assert!(max_pool2d(&x, 2, 2, 0, false)?.flatten_all()?.to_vec1::<f32>()?[0].is_nan());
        Ok(())
    }

    #[test]
    fn windows_that_do_not_fit_are_an_error() -> Result<()> {
        let x = Tensor::zeros((1, 1, 4, 4), DType::F32, &Device::Cpu)?;
        assert!(max_pool2d(&x, 5, 1, 0, true).is_err());
        assert!(max_pool2d(&x, 2, 2, 2, false).is_err());
        assert!(max_pool2d(&x, 2, 0, 0, false).is_err());
        assert!(avg_pool2d(&x, 0, 1).is_err());
        Ok(())
    }
}
