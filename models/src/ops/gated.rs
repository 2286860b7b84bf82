//! Gated activations: `f(gate) · x`, with both apart or behind one another in every row.
//!
//! On the CPU `kernels/src/gated.rs` computes it, elsewhere a composition, whose activation may be a kernel.
//!
//! Shazeer, "GLU Variants Improve Transformer", 2020; with SiLU it is called SwiGLU.

use candle_core::{D, Result, Tensor, bail};
use tallow_kernels::gated as kernel;

use super::Gelu;
use crate::autograd::Function;
use crate::slices::{CpuValues, serves, tensor};

/// `act(gate) · x` of `[.., 2 * width]`, whose rows hold the gate and then `x`: `[.., width]`.
///
/// # Errors
/// If the rows cannot be halved.
pub fn gated(x: &Tensor, act: Gelu) -> Result<Tensor> {
    let Some((&double, outer)) = x.dims().split_last() else { bail!("gated: expected rows, got a scalar") };
    if double % 2 != 0 {
        bail!("gated: expected [.., 2 * width], got {:?}", x.dims())
    }
    let width = double / 2;
    if !serves([x]) {
        return act.apply(&x.narrow(D::Minus1, 0, width)?.contiguous()?)? * x.narrow(D::Minus1, width, width)?;
    }
    let x = x.contiguous()?;
    let y = kernel::forward(act.kernel(), &CpuValues::of(&x)?, width);
    Function::new("gated", [&x]).output(y, [outer, &[width]].concat()).backward(move |call| {
        let x = &call.operands[0];
        let dx = kernel::backward(act.kernel(), &CpuValues::of(x)?, &CpuValues::of(call.gradient)?, width);
        Ok(vec![Some(tensor(dx, x.dims())?)])
    })
}

/// `act(gate) · x` of two tensors of one shape.
///
/// # Errors
/// If the shapes differ.
pub fn gated_apart(gate: &Tensor, x: &Tensor, act: Gelu) -> Result<Tensor> {
    if gate.dims() != x.dims() {
        bail!("gated_apart: expected gates and values of one shape, got {:?} and {:?}", gate.dims(), x.dims())
    }
    if !serves([gate, x]) {
        return act.apply(gate)? * x;
    }
    let (gate, x) = (gate.contiguous()?, x.contiguous()?);
    let y = kernel::forward_apart(act.kernel(), &CpuValues::of(&gate)?, &CpuValues::of(&x)?);
    Function::new("gated_apart", [&gate, &x]).output(y, x.shape()).backward(move |call| {
        let (gate, x) = (CpuValues::of(&call.operands[0])?, CpuValues::of(&call.operands[1])?);
        let gradients = kernel::backward_apart(act.kernel(), &gate, &x, &CpuValues::of(call.gradient)?);
        gradients.map(|gradient| tensor(gradient, call.output.dims()).map(Some)).into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for dims in [&[2][..], &[3, 10], &[2, 17, 80]] {
            for act in [Gelu::Silu, Gelu::Erf] {
                check("gated", &[dims], |t| gated(&t[0], act))?;
                check("gated_apart", &[dims, dims], |t| gated_apart(&t[0], &t[1], act))?;
            }
        }
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() -> Result<()> {
        let odd = Tensor::zeros((2, 5), DType::F32, &Device::Cpu)?;
        assert!(gated(&odd, Gelu::Silu).is_err());
        assert!(gated_apart(&odd, &odd.t()?, Gelu::Silu).is_err());
        Ok(())
    }
}
