//! Two-dimensional convolution (cross-correlation, as in every framework).

use candle_core::{Result, Tensor, bail};

use super::windows::Windows;

/// Convolves `x [batch, in, height, width]` with `w [out, in, kh, kw]`, plus `b [out]`; `padding` zeros on every side.
///
/// # Errors
/// If the shapes do not fit each other, or the kernel does not fit the image.
pub fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, stride: usize, padding: usize) -> Result<Tensor> {
    let (_, channels, height, width) = x.dims4()?;
    let (out, expected, kh, kw) = w.dims4()?;
    if channels != expected || b.is_some_and(|b| b.dims() != [out]) {
        let b = b.map(|b| format!(", bias {:?}", b.dims())).unwrap_or_default();
        bail!(
            "conv2d: expected x [batch, {expected}, height, width] and bias [{out}] for weight {:?}, got x {:?}{b}",
            w.dims(),
            x.dims()
        )
    }
    let windows = Windows::new("conv2d", (height, width), (kh, kw), stride, padding, false)?;
    composed(x, w, b, &windows)
}

fn composed(x: &Tensor, w: &Tensor, b: Option<&Tensor>, windows: &Windows) -> Result<Tensor> {
    let (batch, channels, _, _) = x.dims4()?;
    let (out, _, kh, kw) = w.dims4()?;
    let (oh, ow) = windows.out;
    let columns = windows.unfold(x, 0.)?.transpose(1, 2)?.reshape((batch * oh * ow, channels * kh * kw))?;
    let y = columns.matmul(&w.reshape((out, ()))?.t()?)?;
    let y = match b {
        Some(b) => y.broadcast_add(b)?,
        None => y,
    };
    y.reshape((batch, oh * ow, out))?.transpose(1, 2)?.reshape((batch, out, oh, ow))
}
