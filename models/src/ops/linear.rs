//! `y = x wᵀ + b`.

use candle_core::{Result, Tensor, bail};

/// `x wᵀ + b`: `x [.., in]`, `w [out, in]`, `b [out]` give `[.., out]`.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (out, width) = w.dims2()?;
    if x.dims().last() != Some(&width) || b.is_some_and(|b| b.dims() != [out]) {
        let b = b.map(|b| format!(", bias {:?}", b.dims())).unwrap_or_default();
        bail!("linear: expected x [.., {width}] and bias [{out}] for weight [{out}, {width}], got x {:?}{b}", x.dims())
    }
    composed(x, w, b)
}

fn composed(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (out, width) = w.dims2()?;
    let y = x.reshape(((), width))?.matmul(&w.t()?)?;
    let y = match b {
        Some(b) => y.broadcast_add(b)?,
        None => y,
    };
    let mut dims = x.dims().to_vec();
    dims[x.rank() - 1] = out;
    y.reshape(dims)
}
