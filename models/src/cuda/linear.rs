//! Linear layers, out of products ([`super::product`]). In the backward only what is asked for is computed, and the gradients of
//! parameters go past Candle's sums. Weights of float32 serve inputs of bf16.

use candle_core::{Result, Tensor, bail};

use super::column_sums::column_sums;
use super::launch::{device_of, types};
use super::product::{product, weight_gradient};
use super::trust;
use crate::autograd::Call;

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
        let kernel = |t: &[Tensor]| kernel(&t[0], &t[1], Some(&t[2]));
        trust::agree(device, &operands, &kernel, &|t| composed(&t[0], &t[1], Some(&t[2])))
    });
    if !trusted? {
        return Ok(None);
    }
    kernel(x, w, b).map(Some)
}

fn kernel(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (out, width) = w.dims2()?;
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    let b = b.map(Tensor::contiguous).transpose()?;
    let narrow = w.detach().to_dtype(x.dtype())?;
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(out);
    let y = product(&x.detach().reshape(((), width))?, &narrow.t()?, b.as_ref())?.shaped(dims);
    y.function("linear", [&x, &w].into_iter().chain(&b)).backward(move |call| backward(call, &narrow))
}

/// The gradients of input, weights and bias, of those that are there.
fn backward(call: &Call, narrow: &Tensor) -> Result<Vec<Option<Tensor>>> {
    let (x, w, b) = (&call.operands[0], &call.operands[1], call.operands.get(2));
    let (out, width) = w.dims2()?;
    let dy = call.gradient.detach().reshape(((), out))?;
    let dx = if call.wants(0) { Some(product(&dy, narrow, None)?.shaped(x.dims()).tensor()) } else { None };
    let (dw, db) = match (call.wants(1), b.filter(|_| call.wants(2))) {
        (true, b) => {
            let (dw, db) = weight_gradient(&dy, &x.detach().reshape(((), width))?, w.dtype(), b.is_some())?;
            (Some(dw), db)
        }
        (false, None) => (None, None),
        (false, Some(b)) => {
            let Some(device) = device_of(&dy) else { bail!("linear: expected a CUDA device") };
            (None, Some(column_sums(device, &dy, out, b.dtype())?))
        }
    };
    Ok([dx, dw, db].into_iter().take(call.operands.len()).collect())
}
