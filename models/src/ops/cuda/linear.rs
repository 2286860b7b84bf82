//! Linear layers: products by cuBLAS, the bias and its gradient by kernels. In the backward only what is asked for is
//! computed, and the gradients of parameters go past Candle's sums. Weights of float32 serve inputs of bf16.

use candle_core::backend::BackendStorage;
use candle_core::{CudaDevice, Result, Storage, Tensor, bail};

use super::super::sink::hand_over;
use super::activation::add_bias;
use super::column_sums::column_sums;
use super::launch::{Output, device_of, graft, types};
use super::trust;

/// `x wᵀ + b`, where the kernels serve. `composed` is what they are checked against.
pub fn linear(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    composed: fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    let parameters: Vec<_> = [Some(w), b].into_iter().flatten().collect();
    let (Some(types), Some(device)) = (types(x, &parameters), device_of(x)) else { return Ok(None) };
    let (of_x, of_w) = (x.dtype(), w.dtype());
    let trusted = trust::trusted(&format!("linear {types}"), device, |device| {
        let operands = [(&[3, 7, 40][..], of_x), (&[24, 40], of_w), (&[24], of_w)];
        let kernel = |t: &[Tensor]| kernel(&t[0], &t[1], Some(&t[2]), types);
        trust::agree(device, &operands, &kernel, &|t| composed(&t[0], &t[1], Some(&t[2])))
    });
    if !trusted? {
        return Ok(None);
    }
    kernel(x, w, b, types).map(Some)
}

fn kernel(x: &Tensor, w: &Tensor, b: Option<&Tensor>, types: &'static str) -> Result<Tensor> {
    let (out, width) = w.dims2()?;
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    let Some(device) = device_of(&x) else { bail!("linear: expected a CUDA device") };
    let narrow = w.detach().to_dtype(x.dtype())?;
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(out);
    let product = product(&x.detach().reshape(((), width))?, &narrow.t()?)?.shaped(dims);
    let device = device.clone();
    match b {
        None => graft("linear", &[&x, &w], product, move |operands, _, dy| {
            let (dx, dw) = backward(operands[0], operands[1], &narrow, dy)?;
            Ok(vec![dx, dw])
        }),
        Some(b) => {
            let y = add_bias(&device, &product.tensor(), b, types)?;
            graft("linear", &[&x, &w, b], y, move |operands, _, dy| {
                let (dx, dw) = backward(operands[0], operands[1], &narrow, dy)?;
                Ok(vec![dx, dw, bias_gradient(&device, operands[2], dy)?])
            })
        }
    }
}

fn backward(x: &Tensor, w: &Tensor, narrow: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let (out, width) = w.dims2()?;
    let dy = dy.detach().reshape(((), out))?;
    let dx = if x.track_op() { Some(product(&dy, narrow)?.shaped(x.dims()).tensor()) } else { None };
    let dw = if w.track_op() {
        let dw = product(&dy.t()?, &x.detach().reshape(((), width))?)?.tensor();
        hand_over(w, dw.to_dtype(w.dtype())?)?
    } else {
        None
    };
    Ok((dx, dw))
}

/// The gradient of a bias that was added to every row of something.
fn bias_gradient(device: &CudaDevice, bias: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
    if !bias.track_op() {
        return Ok(None);
    }
    hand_over(bias, column_sums(device, dy, bias.elem_count(), bias.dtype())?)
}

/// `a [m, k]` times `b [k, n]`, either of which may be transposed.
fn product(a: &Tensor, b: &Tensor) -> Result<Output> {
    let ((m, k), (_, n)) = (a.dims2()?, b.dims2()?);
    let ((a, la), (b, lb)) = (a.storage_and_layout(), b.storage_and_layout());
    let (Storage::Cuda(a), Storage::Cuda(b)) = (&*a, &*b) else { bail!("linear: expected operands on a CUDA device") };
    Ok(Output::of(a.matmul(b, (1, m, n, k), la, lb)?, (m, n)))
}
