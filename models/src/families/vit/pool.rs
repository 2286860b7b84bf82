//! How tokens become one vector per image.

use candle_core::{D, Result, Tensor};

use super::GlobalPool;

/// Pools tokens `[batch, prefix + patches, dim]` to `[batch, dim]` (`token+avg`: `[batch, 2 * dim]`; no pool: unchanged).
/// The means and maxima leave out the first `prefix` tokens. The attention pool has parameters and is not among these.
pub(super) fn pool(tokens: &Tensor, kind: GlobalPool, prefix: usize) -> Result<Tensor> {
    let patches = || tokens.narrow(1, prefix, tokens.dim(1)? - prefix);
    let class = || tokens.narrow(1, 0, 1)?.squeeze(1);
    match kind {
        GlobalPool::Token => class(),
        GlobalPool::Avg => patches()?.mean(1),
        GlobalPool::Max => max(&patches()?),
        GlobalPool::AvgMax => (max(&patches()?)? + patches()?.mean(1)?)? * 0.5,
        GlobalPool::TokenAvg => Tensor::cat(&[class()?, patches()?.mean(1)?], D::Minus1),
        GlobalPool::None | GlobalPool::Map => Ok(tokens.clone()),
    }
}

/// The maximum over tokens. Equal maxima share the gradient evenly, as in PyTorch's `amax`; Candle's own gives each of them
/// all of it.
fn max(x: &Tensor) -> Result<Tensor> {
    let values = x.detach();
    let largest = values.broadcast_eq(&values.max_keepdim(1)?)?.to_dtype(x.dtype())?;
    x.mul(&largest.broadcast_div(&largest.sum_keepdim(1)?)?)?.sum(1)
}
