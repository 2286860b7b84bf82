//! `y = x wᵀ + b`.

use candle_core::{Result, Tensor, bail};

use super::column_sums::column_sums;
use super::kernel::{filled, serves, tensor};
use super::matmul::{Matrix, Start, Threads, multiply};
use crate::autograd::{Call, Function};
use crate::slices::CpuValues;

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
    if serves(&[Some(x), Some(w), b].into_iter().flatten().collect::<Vec<_>>()) {
        fused(x, w, b)
    } else {
        composed(x, w, b)
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

fn fused(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (x, w, b) = (x.contiguous()?, w.contiguous()?, b.map(Tensor::contiguous).transpose()?);
    let (out, width) = w.dims2()?;
    let y = {
        let bias = b.as_ref().map(CpuValues::of).transpose()?;
        forward(&CpuValues::of(&x)?, &CpuValues::of(&w)?, bias.as_deref(), width, out)
    };
    let operands = [&x, &w].into_iter().chain(&b);
    Function::new("linear", operands).output(y, output_dims(x.dims(), out)).backward(backward)
}

fn forward(x: &[f32], w: &[f32], b: Option<&[f32]>, width: usize, out: usize) -> Vec<f32> {
    let rows = x.len() / width.max(1);
    let (x, w) = (Matrix::new(x, rows, width), Matrix::new(w, out, width).t());
    // SAFETY: the product covers the output.
    unsafe { filled(rows * out, |y| multiply(y, b.map_or(Start::Zero, Start::Row), x, w, Threads::All)) }
}

fn backward(call: &Call) -> Result<Vec<Option<Tensor>>> {
    let (x, w) = (&call.operands[0], &call.operands[1]);
    let (out, width) = w.dims2()?;
    let rows = x.elem_count() / width.max(1);
    let (x_values, w_values, dy) = (CpuValues::of(x)?, CpuValues::of(w)?, CpuValues::of(call.gradient)?);
    let dy_rows = Matrix::new(&dy, rows, out);
    let mut gradients = vec![None; call.operands.len()];
    if call.wants(0) {
        // SAFETY: the product covers the output.
        let dx = unsafe {
            filled(rows * width, |dx| {
                multiply(dx, Start::Zero, dy_rows, Matrix::new(&w_values, out, width), Threads::All)
            })
        };
        gradients[0] = Some(tensor(dx, x.dims())?);
    }
    if call.wants(1) {
        // SAFETY: the product covers the output.
        let dw = unsafe {
            filled(out * width, |dw| {
                multiply(dw, Start::Zero, dy_rows.t(), Matrix::new(&x_values, rows, width), Threads::All)
            })
        };
        gradients[1] = Some(tensor(dw, w.dims())?);
    }
    if call.wants(2) {
        gradients[2] = Some(tensor(column_sums(&dy, out), &[out])?);
    }
    Ok(gradients)
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
