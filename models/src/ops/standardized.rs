//! Weights of mean 0 and variance 1 for every filter (weight standardisation).
//!
//! Qiao et al., "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", 2019.

use candle_core::{Result, Tensor};

use super::{layer_norm, wide};
use crate::slices::serves;

/// `(w - mean) / sqrt(var + eps)` of the values of every filter of `w [out, ..]`, with the biased variance. On devices other than the CPU
/// it is a composition of Candle's operations.
///
/// # Errors
/// If `w` is a scalar, or a filter has no values.
pub fn standardized(w: &Tensor, eps: f64) -> Result<Tensor> {
    let rows = w.flatten_from(1)?;
    let normal = if serves([w]) {
        // A LayerNorm that scales and moves nothing.
        let ones = Tensor::ones(rows.dim(1)?, w.dtype(), w.device())?;
        layer_norm(&rows, &ones, &ones.zeros_like()?, eps)?
    } else {
        let rows = rows.to_dtype(wide(w.dtype()))?;
        let centred = rows.broadcast_sub(&rows.mean_keepdim(1)?)?;
        centred.broadcast_div(&(centred.sqr()?.mean_keepdim(1)? + eps)?.sqrt()?)?.to_dtype(w.dtype())?
    };
    normal.reshape(w.dims())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        check("standardized", &[&[5, 3, 7, 7]], |t| standardized(&t[0], 1e-8))?;
        check("standardized", &[&[4, 64, 1, 1]], |t| standardized(&t[0], 1e-8))
    }
}
