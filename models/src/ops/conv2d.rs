//! Two-dimensional convolution (cross-correlation, as in every framework): a matrix product over the windows of an image. The CPU
//! chooses among three algorithms ([`Conv2d`]).

use candle_core::{Result, Tensor, bail};
use tallow_kernels::conv::{Conv2d, Wanted, Windows};

use super::windows::{unfold, windows_of};
use crate::autograd::{Call, Function};
use crate::slices::{CpuValues, serves, tensor};

/// Convolves `x [batch, in, height, width]` with `w [out, in, kh, kw]`, plus `b [out]`; `padding` zeros on every side.
///
/// # Errors
/// If the shapes do not fit each other, or the kernel does not fit the image.
pub fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, stride: usize, padding: usize) -> Result<Tensor> {
    let conv = conv_of(x, w, b, stride, padding)?;
    #[cfg(feature = "cuda")]
    if let Some(y) = on_cuda(x, w, b, &conv.windows)? {
        return Ok(y);
    }
    if serves([x, w].into_iter().chain(b)) { fused(x, w, b, conv) } else { composed(x, w, b, &conv.windows) }
}

fn fused(x: &Tensor, w: &Tensor, b: Option<&Tensor>, conv: Conv2d) -> Result<Tensor> {
    let (x, w, b) = (x.contiguous()?, w.contiguous()?, b.map(Tensor::contiguous).transpose()?);
    let y = {
        let b = b.as_ref().map(CpuValues::of).transpose()?;
        conv.forward(&CpuValues::of(&x)?, &CpuValues::of(&w)?, b.as_deref())
    };
    let shape = (conv.batch, conv.out, conv.windows.out.0, conv.windows.out.1);
    let function = Function::new("conv2d", [&x, &w].into_iter().chain(&b)).output(y, shape);
    function.backward(move |call| gradients(&conv, call, &CpuValues::of(call.gradient)?))
}

fn composed(x: &Tensor, w: &Tensor, b: Option<&Tensor>, windows: &Windows) -> Result<Tensor> {
    let (batch, channels, _, _) = x.dims4()?;
    let (out, _, kh, kw) = w.dims4()?;
    let (oh, ow) = windows.out;
    let columns = unfolded(x, windows)?.reshape((batch * oh * ow, channels * kh * kw))?;
    let y = columns.matmul(&w.reshape((out, ()))?.t()?)?;
    let y = match b {
        Some(b) => y.broadcast_add(b)?,
        None => y,
    };
    y.reshape((batch, oh * ow, out))?.transpose(1, 2)?.reshape((batch, out, oh, ow))
}

/// Windows as rows, `[batch, windows, channels * pixels of a window]`.
fn unfolded(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    unfold(windows, x, 0.)?.transpose(1, 2)?.flatten_from(2)
}

/// By the kernels that lay out windows, and a linear layer over them.
#[cfg(feature = "cuda")]
fn on_cuda(x: &Tensor, w: &Tensor, b: Option<&Tensor>, windows: &Windows) -> Result<Option<Tensor>> {
    let Some(rows) = super::cuda::unfold(&super::cuda::narrowed(x)?, windows, unfolded)? else { return Ok(None) };
    let (out, depth) = (w.dim(0)?, rows.dim(2)?);
    let y = super::linear(&rows, &w.reshape((out, depth))?, b)?;
    y.transpose(1, 2)?.reshape((x.dim(0)?, out, windows.out.0, windows.out.1)).map(Some)
}

/// The convolution of operands, whose shapes have to fit each other.
pub(super) fn conv_of(x: &Tensor, w: &Tensor, b: Option<&Tensor>, stride: usize, padding: usize) -> Result<Conv2d> {
    let (batch, channels, height, width) = x.dims4()?;
    let (out, expected, kh, kw) = w.dims4()?;
    if channels != expected || b.is_some_and(|b| b.dims() != [out]) {
        let b = b.map(|b| format!(", bias {:?}", b.dims())).unwrap_or_default();
        bail!(
            "conv2d: expected x [batch, {expected}, height, width] and bias [{out}] for weight {:?}, got x {:?}{b}",
            w.dims(),
            x.dims()
        )
    }
    let windows = windows_of("conv2d", (height, width), (kh, kw), stride, padding, false)?;
    Ok(Conv2d { batch, channels, out, windows })
}

/// The gradients of the operands: image, weight and, where there is one, bias.
pub(super) fn gradients(conv: &Conv2d, call: &Call, dy: &[f32]) -> Result<Vec<Option<Tensor>>> {
    let (x, w) = (CpuValues::of(&call.operands[0])?, CpuValues::of(&call.operands[1])?);
    let wanted = Wanted { dx: call.wants(0), dw: call.wants(1), db: call.wants(2) };
    let gradients = conv.gradients(&x, &w, dy, wanted).into_iter().zip(call.operands).enumerate();
    let as_wanted = |(index, (gradient, operand)): (usize, (Vec<f32>, &Tensor))| match call.wants(index) {
        true => tensor(gradient, operand.dims()).map(Some),
        false => Ok(None),
    };
    gradients.map(as_wanted).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        let cases = [
            (1, 1, 1, (1, 1), (1, 1), 1, 0),
            (2, 3, 4, (7, 5), (3, 3), 1, 1),
            (3, 2, 5, (9, 8), (5, 5), 1, 2),
            (2, 3, 4, (11, 10), (3, 2), 2, 1),
            (1, 2, 3, (8, 9), (2, 3), 3, 0),
            (2, 1, 2, (4, 4), (4, 4), 1, 3),
            (3, 16, 18, (9, 8), (5, 5), 1, 2),
        ];
        for (batch, channels, out, image, kernel, stride, padding) in cases {
            let x = [batch, channels, image.0, image.1];
            let w = [out, channels, kernel.0, kernel.1];
            check("conv2d", &[&x, &w, &[out]], |t| conv2d(&t[0], &t[1], Some(&t[2]), stride, padding))?;
            check("conv2d without bias", &[&x, &w], |t| conv2d(&t[0], &t[1], None, stride, padding))?;
        }
        Ok(())
    }

    #[test]
    fn an_image_of_several_tiles_gives_the_same_result() -> Result<()> {
        check("conv2d", &[&[1, 3, 40, 150], &[2, 3, 5, 5]], |t| conv2d(&t[0], &t[1], None, 1, 2))
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        assert!(conv2d(&zeros(&[1, 3, 8, 8])?, &zeros(&[4, 2, 3, 3])?, None, 1, 0).is_err());
        assert!(conv2d(&zeros(&[1, 3, 8, 8])?, &zeros(&[4, 3, 3, 3])?, None, 0, 0).is_err());
        assert!(conv2d(&zeros(&[1, 3, 8, 8])?, &zeros(&[4, 3, 9, 9])?, None, 1, 0).is_err());
        assert!(conv2d(&zeros(&[1, 3, 8, 8])?, &zeros(&[4, 3, 3, 3])?, Some(&zeros(&[3])?), 1, 0).is_err());
        let empty = conv2d(&zeros(&[0, 3, 8, 8])?, &zeros(&[4, 3, 3, 3])?, Some(&zeros(&[4])?), 1, 1)?;
        assert_eq!(empty.dims(), [0, 4, 8, 8]);
        Ok(())
    }
}
