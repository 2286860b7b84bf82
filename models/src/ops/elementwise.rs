//! Functions of one number, applied to every value of a tensor: the kernel of all activations.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::kernel::{filled, rows_per_task, tensor};
use super::simd::vectorised;
use crate::autograd::Function;
use crate::slices::CpuValues;

/// A function of one number and its derivative.
pub(super) trait Scalar: Send + Sync + 'static {
    /// The name for messages.
    const NAME: &'static str;

    /// The function at `x`.
    fn value(x: f32) -> f32;

    /// The derivative at `x`.
    fn slope(x: f32) -> f32;
}

/// Applies `F` to every value of a float32 tensor on the CPU.
pub(super) fn map<F: Scalar>(x: &Tensor, _: F) -> Result<Tensor> {
    let x = x.contiguous()?;
    let y = forward::<F>(&CpuValues::of(&x)?);
    Function::new(F::NAME, [&x]).output(y, x.shape()).backward(|call| {
        let x = &call.operands[0];
        let dx = backward::<F>(&CpuValues::of(x)?, &CpuValues::of(call.gradient)?);
        Ok(vec![Some(tensor(dx, x.dims())?)])
    })
}

fn forward<F: Scalar>(x: &[f32]) -> Vec<f32> {
    let task = rows_per_task(x.len(), 1);
    // SAFETY: the chunks cover the output, and every value of a chunk is written.
    unsafe {
        filled(x.len(), |y| {
            y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(y, x)| {
                vectorised(
                    #[inline(always)]
                    || {
                        for (y, &x) in y.iter_mut().zip(x) {
                            y.write(F::value(x));
                        }
                    },
                )
            })
        })
    }
}

fn backward<F: Scalar>(x: &[f32], dy: &[f32]) -> Vec<f32> {
    let task = rows_per_task(x.len(), 1);
    // SAFETY: the chunks cover the output, and every value of a chunk is written.
    unsafe {
        filled(x.len(), |dx| {
            dx.par_chunks_mut(task).zip(x.par_chunks(task)).zip(dy.par_chunks(task)).for_each(|((dx, x), dy)| {
                vectorised(
                    #[inline(always)]
                    || {
                        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                            dx.write(F::slope(x) * dy);
                        }
                    },
                )
            })
        })
    }
}
