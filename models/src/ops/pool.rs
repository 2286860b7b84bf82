//! Maximum and average of square windows.

use candle_core::{D, Result, Tensor, bail};

use super::windows::Windows;

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
    let windows = Windows::new("max_pool2d", (height, width), (kernel, kernel), stride, padding, ceil_mode)?;
    composed_max(x, &windows)
}

/// The average of every `kernel`×`kernel` window of `x [batch, channels, height, width]`.
///
/// # Errors
/// If the window does not fit the image.
pub fn avg_pool2d(x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let windows = Windows::new("avg_pool2d", (height, width), (kernel, kernel), stride, 0, false)?;
    composed_avg(x, &windows)
}

fn composed_max(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    let (batch, channels, _, _) = x.dims4()?;
    let columns = windows.unfold(x, f64::NEG_INFINITY)?;
    // Not Candle's `max`: it gives the whole gradient to every one of several equal maxima.
    let first = columns.detach().argmax_keepdim(D::Minus1)?;
    columns.gather(&first, D::Minus1)?.reshape((batch, channels, windows.out.0, windows.out.1))
}

fn composed_avg(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    let (batch, channels, _, _) = x.dims4()?;
    windows.unfold(x, 0.)?.mean(D::Minus1)?.reshape((batch, channels, windows.out.0, windows.out.1))
}
