//! The residual connection with what a ViT puts on it: `x + keep · gamma · y`.
//!
//! LayerScale is Touvron et al., "Going deeper with Image Transformers", 2021; stochastic depth Huang et al., 2016.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::column_sums::column_sums_of;
use super::kernel::{filled, read, rows_per_task, serves, tensor, values};
use super::simd::vectorised;
use crate::autograd::hand_over;

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
    let keep = match keep {
        Some(keep) => read(&keep.to_dtype(x.dtype())?, <[f32]>::to_vec)?,
        None => vec![1.],
    };
    let op = ScaleAdd { keep };
    match gamma {
        Some(gamma) => x.contiguous()?.apply_op3(&y.contiguous()?, &gamma.contiguous()?, op),
        None => x.contiguous()?.apply_op2(&y.contiguous()?, op),
    }
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

struct ScaleAdd {
    /// A factor for every sample, or one for all.
    keep: Vec<f32>,
}

impl CustomOp2 for ScaleAdd {
    fn name(&self) -> &'static str {
        "scale_add"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, y: &CpuStorage, ly: &Layout) -> Result<(CpuStorage, Shape)> {
        let dim = lx.dims().last().copied().unwrap_or(1);
        let out = self.forward(Some(values(x, lx)?), values(y, ly)?, None, dim);
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = if y.track_op() { Some(self.gradient_of_y(grad, None)?) } else { None };
        Ok((x.track_op().then(|| grad.clone()), dy))
    }
}

impl CustomOp3 for ScaleAdd {
    fn name(&self) -> &'static str {
        "scale_add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        y: &CpuStorage,
        ly: &Layout,
        gamma: &CpuStorage,
        lgamma: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let gamma = values(gamma, lgamma)?;
        let out = self.forward(Some(values(x, lx)?), values(y, ly)?, Some(gamma), gamma.len());
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        gamma: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = if y.track_op() { Some(self.gradient_of_y(grad, Some(gamma))?) } else { None };
        let dgamma = if gamma.track_op() {
            let dim = gamma.elem_count();
            let dgamma = read(grad, |grad| read(y, |y| self.gradient_of_gamma(grad, y, dim)))??;
            hand_over(gamma, tensor(dgamma, &[dim])?)?
        } else {
            None
        };
        Ok((x.track_op().then(|| grad.clone()), dy, dgamma))
    }
}

impl ScaleAdd {
    /// The factor of row `row` of `rows`.
    #[inline(always)]
    fn factor(&self, row: usize, rows: usize) -> f32 {
        if self.keep.len() == 1 { self.keep[0] } else { self.keep[row * self.keep.len() / rows] }
    }

    /// `x + keep · gamma · y`; without `x`, what is added to it.
    fn forward(&self, x: Option<&[f32]>, y: &[f32], gamma: Option<&[f32]>, dim: usize) -> Vec<f32> {
        let dim = dim.max(1);
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

    fn gradient_of_y(&self, grad: &Tensor, gamma: Option<&Tensor>) -> Result<Tensor> {
        let dim = grad.dims().last().copied().unwrap_or(1);
        let dy = match gamma {
            Some(gamma) => read(grad, |grad| read(gamma, |gamma| self.forward(None, grad, Some(gamma), dim)))??,
            None if self.keep == [1.] => return Ok(grad.clone()),
            None => read(grad, |grad| self.forward(None, grad, None, dim))?,
        };
        tensor(dy, grad.dims())
    }

    fn gradient_of_gamma(&self, grad: &[f32], y: &[f32], dim: usize) -> Vec<f32> {
        let rows = y.len() / dim.max(1);
        column_sums_of(
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
        )
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
