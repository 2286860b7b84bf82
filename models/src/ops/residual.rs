//! The residual connection with what a ViT puts on it: `x + keep · gamma · y`.
//!
//! LayerScale is Touvron et al., "Going deeper with Image Transformers", 2021; stochastic depth Huang et al., 2016.

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::column_sums::column_sums_of;
use super::kernel::{filled, rows_per_task, serves, tensor};
use super::simd::vectorised;
use crate::autograd::{Call, Function};
use crate::slices::CpuValues;

/// `x + y` for two tensors of one shape.
///
/// # Errors
/// If the shapes differ.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    scale_add(x, y, None, None)
}

/// `x + keep · gamma · y` for `x` and `y [batch, .., dim]`; `gamma [dim]` is LayerScale's, and `keep [batch]` scales whole
/// samples (stochastic depth: 0 or `1 / (1 - rate)`) and has no gradient.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn scale_add(x: &Tensor, y: &Tensor, gamma: Option<&Tensor>, keep: Option<&Tensor>) -> Result<Tensor> {
    let dims = x.dims();
    let fits = y.dims() == dims
        && gamma.is_none_or(|g| dims.last().is_some_and(|&dim| g.dims() == [dim]))
        && keep.is_none_or(|k| dims.first().is_some_and(|&batch| k.dims() == [batch]));
    if !fits {
        bail!(
            "scale_add: expected y {dims:?}, gamma [last] and keep [first] for x {dims:?}, got y {:?}, gamma {:?}, keep {:?}",
            y.dims(),
            gamma.map(|g| g.dims()),
            keep.map(|k| k.dims())
        )
    }
    #[cfg(feature = "cuda")]
    if let Some(out) = super::cuda::scale_add(x, y, gamma, keep, composed)? {
        return Ok(out);
    }
    let kernel = serves(&[x, y]) && gamma.is_none_or(|g| serves(&[g])) && x.rank() > 0;
    if !kernel {
        return composed(x, y, gamma, keep);
    }
    fused(x, y, gamma, keep)
}

fn composed(x: &Tensor, y: &Tensor, gamma: Option<&Tensor>, keep: Option<&Tensor>) -> Result<Tensor> {
    let y = match gamma {
        Some(gamma) => y.broadcast_mul(&gamma.to_dtype(y.dtype())?)?,
        None => y.clone(),
    };
    let y = match keep {
        Some(keep) => {
            let mut dims = vec![1; x.rank()];
            dims[0] = keep.dims1()?;
            y.broadcast_mul(&keep.detach().to_dtype(y.dtype())?.reshape(dims)?)?
        }
        None => y,
    };
    x + y
}

fn fused(x: &Tensor, y: &Tensor, gamma: Option<&Tensor>, keep: Option<&Tensor>) -> Result<Tensor> {
    let (x, y, gamma) = (x.contiguous()?, y.contiguous()?, gamma.map(Tensor::contiguous).transpose()?);
    let keep = match keep {
        Some(keep) => keep.to_dtype(x.dtype())?.to_vec1::<f32>()?,
        None => vec![1.],
    };
    let scale_add = ScaleAdd { keep, dim: x.dims().last().copied().unwrap_or(1) };
    let out = {
        let gamma = gamma.as_ref().map(CpuValues::of).transpose()?;
        scale_add.forward(Some(&CpuValues::of(&x)?), &CpuValues::of(&y)?, gamma.as_deref())
    };
    let function = Function::new("scale_add", [&x, &y].into_iter().chain(&gamma));
    function.output(out, x.shape()).backward(move |call| scale_add.gradients(call))
}

struct ScaleAdd {
    /// A factor for every sample, or one for all.
    keep: Vec<f32>,
    /// Values of a row.
    dim: usize,
}

impl ScaleAdd {
    /// The factor of row `row` of `rows`.
    #[inline(always)]
    fn factor(&self, row: usize, rows: usize) -> f32 {
        if self.keep.len() == 1 { self.keep[0] } else { self.keep[row * self.keep.len() / rows] }
    }

    /// `x + keep · gamma · y`; without `x`, what is added to it.
    fn forward(&self, x: Option<&[f32]>, y: &[f32], gamma: Option<&[f32]>) -> Vec<f32> {
        let dim = self.dim.max(1);
        let rows = y.len() / dim;
        let task = rows_per_task(rows, dim);
        // SAFETY: the tasks cover the output, and every value of every row is written.
        unsafe {
            filled(y.len(), |out| {
                out.par_chunks_mut(task * dim).enumerate().for_each(|(i, out)| {
                    vectorised(
                        #[inline(always)]
                        || {
                            for (row, out) in (i * task..).zip(out.chunks_exact_mut(dim)) {
                                let factor = self.factor(row, rows);
                                let y = &y[row * dim..][..dim];
                                let x = x.map(|x| &x[row * dim..][..dim]);
                                match (x, gamma) {
                                    (Some(x), Some(gamma)) => {
                                        for (((out, &x), &y), &gamma) in out.iter_mut().zip(x).zip(y).zip(gamma) {
                                            out.write(x + gamma * y * factor);
                                        }
                                    }
                                    (Some(x), None) => {
                                        for ((out, &x), &y) in out.iter_mut().zip(x).zip(y) {
                                            out.write(x + y * factor);
                                        }
                                    }
                                    (None, Some(gamma)) => {
                                        for ((out, &y), &gamma) in out.iter_mut().zip(y).zip(gamma) {
                                            out.write(gamma * y * factor);
                                        }
                                    }
                                    (None, None) => {
                                        for (out, &y) in out.iter_mut().zip(y) {
                                            out.write(y * factor);
                                        }
                                    }
                                }
                            }
                        },
                    )
                })
            })
        }
    }

    fn gradients(&self, call: &Call) -> Result<Vec<Option<Tensor>>> {
        let (y, gamma) = (&call.operands[1], call.operands.get(2));
        let dout = call.gradient;
        let dy = match call.wants(1) {
            true if gamma.is_none() && self.keep == [1.] => Some(dout.clone()),
            true => {
                let gamma = gamma.map(CpuValues::of).transpose()?;
                Some(tensor(self.forward(None, &CpuValues::of(dout)?, gamma.as_deref()), dout.dims())?)
            }
            false => None,
        };
        let mut gradients = vec![Some(dout.clone()), dy];
        if gamma.is_some() {
            let of_gamma = || self.gradient_of_gamma(&CpuValues::of(dout)?, &CpuValues::of(y)?);
            gradients.push(call.wants(2).then(of_gamma).transpose()?);
        }
        Ok(gradients)
    }

    fn gradient_of_gamma(&self, grad: &[f32], y: &[f32]) -> Result<Tensor> {
        let dim = self.dim;
        let rows = y.len() / dim.max(1);
        let sums = column_sums_of(
            rows,
            dim,
            rows_per_task(rows, dim),
            #[inline(always)]
            |row, sums| {
                let factor = self.factor(row, rows);
                let (grad, y) = (&grad[row * dim..][..dim], &y[row * dim..][..dim]);
                for ((sum, &grad), &y) in sums.iter_mut().zip(grad).zip(y) {
                    *sum += grad * y * factor;
                }
            },
        );
        tensor(sums, &[dim])
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::check::check;
    use super::*;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        let keep = Tensor::new(&[0f32, 1.25, 1.25], &Device::Cpu)?;
        for dims in [&[3, 5][..], &[3, 17, 40], &[3, 197, 64]] {
            let dim = dims[dims.len() - 1];
            check("add", &[dims, dims], |t| add(&t[0], &t[1]))?;
            check("keep", &[dims, dims], |t| scale_add(&t[0], &t[1], None, Some(&keep)))?;
            check("gamma", &[dims, dims, &[dim]], |t| scale_add(&t[0], &t[1], Some(&t[2]), None))?;
            check("both", &[dims, dims, &[dim]], |t| scale_add(&t[0], &t[1], Some(&t[2]), Some(&keep)))?;
        }
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        assert!(add(&zeros(&[2, 3])?, &zeros(&[3])?).is_err());
        assert!(scale_add(&zeros(&[2, 3])?, &zeros(&[2, 3])?, Some(&zeros(&[2])?), None).is_err());
        assert!(scale_add(&zeros(&[2, 3])?, &zeros(&[2, 3])?, None, Some(&zeros(&[3])?)).is_err());
        Ok(())
    }
}
