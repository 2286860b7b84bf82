//! Functions of one number, applied to every value of a tensor.

use candle_core::{Result, Tensor};
use tallow_kernels::activation::Activation;

use crate::autograd::Function;
use crate::slices::{CpuValues, tensor};

/// Applies an activation, called `name` in messages, to every value of a float32 tensor on the CPU.
pub(super) fn map(x: &Tensor, name: &'static str, activation: Activation) -> Result<Tensor> {
    let x = x.contiguous()?;
    let y = activation.forward(&CpuValues::of(&x)?);
    Function::new(name, [&x]).output(y, x.shape()).backward(move |call| {
        let x = &call.operands[0];
        let dx = activation.backward(&CpuValues::of(x)?, &CpuValues::of(call.gradient)?);
        Ok(vec![Some(tensor(dx, x.dims())?)])
    })
}
