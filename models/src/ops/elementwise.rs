//! Functions of one number, applied to every value of a tensor: the kernel of all activations.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::kernel::{filled, read, rows_per_task, tensor, values};
use super::simd::vectorised;

/// A function of one number and its derivative.
pub(super) trait Function: Send + Sync + 'static {
    /// The name for messages.
    const NAME: &'static str;

    /// The function at `x`.
    fn value(x: f32) -> f32;

    /// The derivative at `x`.
    fn slope(x: f32) -> f32;
}

/// Applies `F` to every value of a float32 tensor on the CPU.
pub(super) fn map<F: Function>(x: &Tensor, function: F) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Map(function))
}

struct Map<F>(F);

impl<F: Function> CustomOp1 for Map<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(forward::<F>(values(storage, layout)?)), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = read(x, |x| read(dy, |dy| backward::<F>(x, dy)))??;
        tensor(dx, x.dims()).map(Some)
    }
}

fn forward<F: Function>(x: &[f32]) -> Vec<f32> {
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

fn backward<F: Function>(x: &[f32], dy: &[f32]) -> Vec<f32> {
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
