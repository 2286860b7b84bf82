//! The perceptron with its backward pass written out by hand: no automatic differentiation, nothing but tensor arithmetic.
//!
//! For a batch X `[N, nx]` with one-hot labels Y `[N, ny]`:
//!
//! | forward | backward |
//! |---|---|
//! | H̃ = X Whᵀ + bh | ∇Ỹ = (Ŷ − Y) / N |
//! | H = tanh H̃ | ∇Wy = ∇Ỹᵀ H, ∇by = Σ ∇Ỹ |
//! | Ỹ = H Wyᵀ + by | ∇H̃ = (∇Ỹ Wy) ⊙ (1 − H²) |
//! | Ŷ = softmax Ỹ | ∇Wh = ∇H̃ᵀ X, ∇bh = Σ ∇H̃ |
//!
//! with Σ over the rows of the batch and the loss ℓ = 1/N Σ (log Σᵢ exp ỹᵢ − Σᵢ yᵢ ỹᵢ), which is finite for logits of any
//! size. The loss is the mean over the batch, as everywhere in Tallow. Where it is the sum, there is no 1/N in ∇Ỹ and every
//! gradient is N times as large: the same steps then take a learning rate of 1/N of this one.

use candle_core::{D, Result, Tensor};

use super::perceptron::Weights;

/// Loss, logits, and the gradients of the loss, of values `x [N, nx]` and one-hot labels `y [N, ny]`.
pub(super) fn pass(x: &Tensor, y: &Tensor, weights: &Weights) -> Result<(Tensor, Tensor, Weights)> {
    let Weights { wh, bh, wy, by } = weights;
    let batch = x.dim(0)? as f64;

    let h = x.matmul(&wh.t()?)?.broadcast_add(bh)?.tanh()?;
    let logits = h.matmul(&wy.t()?)?.broadcast_add(by)?;
    // exp of logits that are at most 0 cannot overflow, and softmax is the same.
    let largest = logits.max_keepdim(D::Minus1)?;
    let exp = logits.broadcast_sub(&largest)?.exp()?;
    let sum = exp.sum_keepdim(D::Minus1)?;
    let log_sum = (sum.log()? + largest)?;
    let loss = ((log_sum.sum_all()? - (y * &logits)?.sum_all()?)? / batch)?;

    let dlogits = ((exp.broadcast_div(&sum)? - y)? / batch)?;
    let dwy = dlogits.t()?.matmul(&h)?;
    let dby = dlogits.sum(0)?;
    let dh = (dlogits.matmul(wy)? * h.sqr()?.affine(-1., 1.)?)?;
    let dwh = dh.t()?.matmul(x)?;
    let dbh = dh.sum(0)?;
    Ok((loss, logits, Weights { wh: dwh, bh: dbh, wy: dwy, by: dby }))
}
