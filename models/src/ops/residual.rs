//! The residual connection with what a ViT puts on it: `x + keep · gamma · y`.
//!
//! LayerScale is Touvron et al., "Going deeper with Image Transformers", 2021; stochastic depth Huang et al., 2016.

use candle_core::{Result, Tensor, bail};
use tallow_kernels::residual::ScaleAdd;

use crate::autograd::{Call, Function};
use crate::slices::{CpuValues, serves, tensor};

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
    let kernel = serves([x, y].into_iter().chain(gamma)) && x.rank() > 0;
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
    let (scale_add, dim) = (ScaleAdd::new(keep), x.dims().last().copied().unwrap_or(1));
    let out = {
        let gamma = gamma.as_ref().map(CpuValues::of).transpose()?;
        scale_add.forward(Some(&CpuValues::of(&x)?), &CpuValues::of(&y)?, gamma.as_deref(), dim)
    };
    let function = Function::new("scale_add", [&x, &y].into_iter().chain(&gamma));
    function.output(out, x.shape()).backward(move |call| gradients(&scale_add, dim, call))
}

fn gradients(scale_add: &ScaleAdd, dim: usize, call: &Call) -> Result<Vec<Option<Tensor>>> {
    let (y, gamma) = (&call.operands[1], call.operands.get(2));
    let dout = call.gradient;
    let dy = match call.wants(1) {
        true if gamma.is_none() && scale_add.keeps_all() => Some(dout.clone()),
        true => {
            let gamma = gamma.map(CpuValues::of).transpose()?;
            Some(tensor(scale_add.forward(None, &CpuValues::of(dout)?, gamma.as_deref(), dim), dout.dims())?)
        }
        false => None,
    };
    let mut gradients = vec![Some(dout.clone()), dy];
    if gamma.is_some() {
        let of_gamma = || tensor(scale_add.gradient_of_gamma(&CpuValues::of(dout)?, &CpuValues::of(y)?, dim), &[dim]);
        gradients.push(call.wants(2).then(of_gamma).transpose()?);
    }
    Ok(gradients)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::gradcheck::check;

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
