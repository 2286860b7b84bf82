//! Sliding windows over an image, as a composition of Candle's differentiable ops, which the compositions of the convolution and
//! the pools are made of (Candle's own have gradients that are wrong or missing).

use candle_core::{Result, Tensor, bail};
use tallow_kernels::conv::Windows;

/// Where the windows of `op` lie; see [`Windows::new`].
pub(crate) fn windows_of(
    op: &str,
    image: (usize, usize),
    kernel: (usize, usize),
    stride: usize,
    padding: usize,
    ceil_mode: bool,
) -> Result<Windows> {
    if stride == 0 || kernel.0 == 0 || kernel.1 == 0 {
        bail!("{op}: expected a kernel and a stride of 1 or more, got kernel {kernel:?}, stride {stride}")
    }
    match Windows::new(image, kernel, stride, padding, ceil_mode) {
        Some(windows) => Ok(windows),
        None => bail!("{op}: expected an image of at least {kernel:?} with padding {padding}, got {image:?}"),
    }
}

/// `x [batch, channels, height, width]` to `[batch, channels, windows, pixels of a window]`; pixels outside the image are
/// `fill`.
pub(crate) fn unfold(windows: &Windows, x: &Tensor, fill: f64) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let outside = Tensor::full(fill, (batch, channels, 1), x.device())?.to_dtype(x.dtype())?;
    let pixels = Tensor::cat(&[&x.reshape((batch, channels, height * width))?, &outside], 2)?;
    let mut index = Vec::with_capacity(windows.out.0 * windows.out.1 * windows.kernel.0 * windows.kernel.1);
    for (oy, ox) in grid(windows.out) {
        for (ky, kx) in grid(windows.kernel) {
            let y = (oy * windows.stride + ky).checked_sub(windows.padding).filter(|&y| y < height);
            let x = (ox * windows.stride + kx).checked_sub(windows.padding).filter(|&x| x < width);
            index.push(y.zip(x).map_or(height * width, |(y, x)| y * width + x) as u32);
        }
    }
    let index = Tensor::new(index, x.device())?;
    pixels.index_select(&index, 2)?.reshape((batch, channels, windows.out.0 * windows.out.1, ()))
}

fn grid((height, width): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}
