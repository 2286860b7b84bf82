//! The perceptron with its forward pass written out by hand, of Candle's plain operations: their automatic differentiation
//! gives the gradients.

use candle_core::{D, Result, Tensor};

use super::perceptron::Weights;

/// Loss and logits of values `x [N, nx]` and one-hot labels `y [N, ny]`: ℓ = 1/N Σ (log Σᵢ exp ỹᵢ − Σᵢ yᵢ ỹᵢ).
pub(super) fn loss(x: &Tensor, y: &Tensor, weights: &Weights) -> Result<(Tensor, Tensor)> {
    let Weights { wh, bh, wy, by } = weights;
    let h = x.matmul(&wh.t()?)?.broadcast_add(bh)?.tanh()?;
    let logits = h.matmul(&wy.t()?)?.broadcast_add(by)?;
    // A constant for the derivative, as the loss is the same whatever is taken off here and added there.
    let largest = logits.detach().max_keepdim(D::Minus1)?;
    let log_sum = (logits.broadcast_sub(&largest)?.exp()?.sum_keepdim(D::Minus1)?.log()? + largest)?;
    let loss = ((log_sum.sum_all()? - (y * &logits)?.sum_all()?)? / x.dim(0)? as f64)?;
    Ok((loss, logits))
}
