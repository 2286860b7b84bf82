//! The residual connection with what a ViT puts on it: `x + keep · gamma · y`.
//!
//! LayerScale is Touvron et al., "Going deeper with Image Transformers", 2021; stochastic depth Huang et al., 2016.

use candle_core::{Result, Tensor, bail};

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
    composed(x, y, gamma, keep)
}

fn composed(x: &Tensor, y: &Tensor, gamma: Option<&Tensor>, keep: Option<&Tensor>) -> Result<Tensor> {
    let y = match gamma {
        Some(gamma) => y.broadcast_mul(gamma)?,
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
