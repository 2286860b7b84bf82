//! `y = x wᵀ + b`.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::column_sums::column_sums;
use super::kernel::{filled, read, serves, tensor, values};
use super::matmul::{Matrix, Start, Threads, multiply};
use super::sink::hand_over;

/// `x wᵀ + b`: `x [.., in]`, `w [out, in]`, `b [out]` give `[.., out]`.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (out, width) = w.dims2()?;
    if x.dims().last() != Some(&width) || b.is_some_and(|b| b.dims() != [out]) {
        let b = b.map(|b| format!(", bias {:?}", b.dims())).unwrap_or_default();
        bail!("linear: expected x [.., {width}] and bias [{out}] for weight [{out}, {width}], got x {:?}{b}", x.dims())
    }
    #[cfg(feature = "cuda")]
    let x = &super::cuda::narrowed(x)?;
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::linear(x, w, b, composed)? {
        return Ok(y);
    }
    match b {
        Some(b) if serves(&[x, w, b]) => x.contiguous()?.apply_op3(&w.contiguous()?, &b.contiguous()?, Linear),
        None if serves(&[x, w]) => x.contiguous()?.apply_op2(&w.contiguous()?, Linear),
        _ => composed(x, w, b),
    }
}

fn composed(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (out, width) = w.dims2()?;
    let y = x.reshape(((), width))?.matmul(&w.to_dtype(x.dtype())?.t()?)?;
    let y = match b {
        Some(b) => y.broadcast_add(&b.to_dtype(x.dtype())?)?,
        None => y,
    };
    y.reshape(output_dims(x.dims(), out))
}

fn output_dims(x: &[usize], out: usize) -> Vec<usize> {
    x[..x.len() - 1].iter().copied().chain([out]).collect()
}

struct Linear;

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let (out, width) = lw.shape().dims2()?;
        let y = forward(values(x, lx)?, values(w, lw)?, None, width, out);
        Ok((CpuStorage::F32(y), output_dims(lx.dims(), out).into()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, _) = backward(x, w, dy, false)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (out, width) = lw.shape().dims2()?;
        let y = forward(values(x, lx)?, values(w, lw)?, Some(values(b, lb)?), width, out);
        Ok((CpuStorage::F32(y), output_dims(lx.dims(), out).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, db) = backward(x, w, dy, b.track_op())?;
        Ok((dx, dw, db.map_or(Ok(None), |db| hand_over(b, db))?))
    }
}

fn forward(x: &[f32], w: &[f32], b: Option<&[f32]>, width: usize, out: usize) -> Vec<f32> {
    let rows = x.len() / width.max(1);
    let (x, w) = (Matrix::new(x, rows, width), Matrix::new(w, out, width).t());
    // SAFETY: the product covers the output.
    unsafe { filled(rows * out, |y| multiply(y, b.map_or(Start::Zero, Start::Row), x, w, Threads::All)) }
}

/// The gradients of `x` and `w` if they are tracked, and of the bias on request.
fn backward(
    x: &Tensor,
    w: &Tensor,
    dy: &Tensor,
    bias: bool,
) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
    let (out, width) = w.dims2()?;
    let rows = x.elem_count() / width.max(1);
    let dy = dy.contiguous()?;
    let dx = if x.track_op() {
        let dx = read(&dy, |dy| {
            read(w, |w| {
                let (dy, w) = (Matrix::new(dy, rows, out), Matrix::new(w, out, width));
                // SAFETY: the product covers the output.
                unsafe { filled(rows * width, |dx| multiply(dx, Start::Zero, dy, w, Threads::All)) }
            })
        })??;
        Some(tensor(dx, x.dims())?)
    } else {
        None
    };
    let dw = if w.track_op() {
        let dw = read(&dy, |dy| {
            read(x, |x| {
                let (dy, x) = (Matrix::new(dy, rows, out).t(), Matrix::new(x, rows, width));
                // SAFETY: the product covers the output.
                unsafe { filled(out * width, |dw| multiply(dw, Start::Zero, dy, x, Threads::All)) }
            })
        })??;
        hand_over(w, tensor(dw, w.dims())?)?
    } else {
        None
    };
    let db = if bias { Some(tensor(read(&dy, |dy| column_sums(dy, out))?, &[out])?) } else { None };
    Ok((dx, dw, db))
}

#[cfg(test)]
mod tests {
    use super::super::check::check;
    use super::*;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for (rows, width, out) in [(1, 1, 1), (3, 17, 5), (17, 24, 40), (197, 33, 10)] {
            check("linear", &[&[rows, width], &[out, width], &[out]], |t| linear(&t[0], &t[1], Some(&t[2])))?;
            check("linear without bias", &[&[2, rows, width], &[out, width]], |t| linear(&t[0], &t[1], None))?;
        }
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &candle_core::Device::Cpu);
        let message = linear(&zeros(&[2, 3])?, &zeros(&[4, 5])?, None).unwrap_err().to_string();
        assert!(message.contains("expected x [.., 5]") && message.contains("[2, 3]"), "{message}");
        assert!(linear(&zeros(&[2, 5])?, &zeros(&[4, 5])?, Some(&zeros(&[5])?)).is_err());
        Ok(())
    }

    #[test]
    fn an_empty_batch_gives_an_empty_output() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &candle_core::Device::Cpu);
        let y = linear(&zeros(&[0, 5])?, &zeros(&[4, 5])?, Some(&zeros(&[4])?))?;
        assert_eq!(y.dims(), [0, 4]);
        Ok(())
    }
}
