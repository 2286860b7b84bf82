//! `y = x wᵀ + b`.

use candle_core::{Result, Tensor, bail};
use tallow_kernels::column_sums::column_sums;
use tallow_kernels::matmul::{Matrix, Start, product};

use crate::autograd::{Call, Function};
use crate::slices::{CpuValues, serves, tensor};

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
    if serves([x, w].into_iter().chain(b)) { fused(x, w, b) } else { composed(x, w, b) }
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
        let rows = x.elem_count() / width.max(1);
        let (x, w) = (CpuValues::of(&x)?, CpuValues::of(&w)?);
        let (x, w) = (Matrix::new(&x, rows, width), Matrix::new(&w, out, width));
        product(bias.as_deref().map_or(Start::Zero, Start::Row), x, w.t())
    };
    let operands = [&x, &w].into_iter().chain(&b);
    Function::new("linear", operands).output(y, output_dims(x.dims(), out)).backward(backward)
}

/// The gradients of `x`, `w` and `b`, where they are asked for.
pub(super) fn backward(call: &Call) -> Result<Vec<Option<Tensor>>> {
    let (x, w) = (&call.operands[0], &call.operands[1]);
    let (out, width) = w.dims2()?;
    let rows = x.elem_count() / width.max(1);
    let (x_values, w_values, dy) = (CpuValues::of(x)?, CpuValues::of(w)?, CpuValues::of(call.gradient)?);
    let dy_rows = Matrix::new(&dy, rows, out);
    let mut gradients = vec![None; call.operands.len()];
    if call.wants(0) {
        let dx = product(Start::Zero, dy_rows, Matrix::new(&w_values, out, width));
        gradients[0] = Some(tensor(dx, x.dims())?);
    }
    if call.wants(1) {
        let dw = product(Start::Zero, dy_rows.t(), Matrix::new(&x_values, rows, width));
        gradients[1] = Some(tensor(dw, w.dims())?);
    }
    if call.wants(2) {
        gradients[2] = Some(tensor(column_sums(&dy, out), &[out])?);
    }
    Ok(gradients)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::check;

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
