//! `loss = -Σ target · log softmax(logits)`, the mean over the batch.

use candle_core::{D, DType, Result, Tensor, bail};

use super::wide;

/// The mean cross-entropy of `logits [batch, classes]` and `labels [batch]` (u32), a scalar. With `label_smoothing` ε the
/// target of a row is `1 - ε` for its label plus `ε / classes` for every class, as in PyTorch.
///
/// # Errors
/// If the shapes do not fit, the batch is empty, a label is not below the number of classes, or ε is outside [0, 1].
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let (batch, classes) = logits.dims2()?;
    if labels.dims() != [batch] || labels.dtype() != DType::U32 || batch == 0 {
        bail!(
            "cross_entropy: expected one u32 label for each of one or more rows of logits, got logits {:?}, labels {:?} of {:?}",
            logits.dims(),
            labels.dims(),
            labels.dtype()
        )
    }
    if !(0. ..=1.).contains(&label_smoothing) {
        bail!("cross_entropy: expected label smoothing between 0 and 1, got {label_smoothing}")
    }
    let values = labels.to_vec1::<u32>()?;
    if let Some(row) = values.iter().position(|&label| label as usize >= classes) {
        bail!("cross_entropy: expected labels below {classes}, the number of logits, got {} in row {row}", values[row])
    }
    composed(logits, labels, label_smoothing)
}

fn composed(logits: &Tensor, labels: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let logits = logits.to_dtype(wide(logits.dtype()))?;
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let log_probs = shifted.broadcast_sub(&log_sum)?;
    let picked = log_probs.gather(&labels.unsqueeze(1)?.contiguous()?, D::Minus1)?.mean_all()?;
    let target = (picked * (label_smoothing - 1.))?;
    if label_smoothing == 0. { Ok(target) } else { target - (log_probs.mean_all()? * label_smoothing)? }
}
