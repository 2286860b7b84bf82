//! `loss = -Σ target · log softmax(logits)`, the mean over the batch.

use candle_core::{D, DType, Result, Tensor, bail};
use tallow_kernels::cross_entropy::CrossEntropy;

use super::wide;
use crate::autograd::Function;
use crate::slices::{CpuValues, serves, tensor};

/// The mean cross-entropy of `logits [batch, classes]` and `labels [batch]` (u32), a scalar. With `label_smoothing` ε the
/// target of a row is `1 - ε` for its label plus `ε / classes` for every class, as in PyTorch.
///
/// # Errors
/// If the shapes do not fit, the batch is empty, a label is not below the number of classes, or ε is outside [0, 1]. On CUDA
/// labels are not read back for that: one that names no class makes the loss NaN.
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
    #[cfg(feature = "cuda")]
    if let Some(loss) = super::cuda::cross_entropy(logits, labels, label_smoothing, composed)? {
        return Ok(loss);
    }
    let values = labels.to_vec1::<u32>()?;
    if let Some(row) = values.iter().position(|&label| label as usize >= classes) {
        bail!("cross_entropy: expected labels below {classes}, the number of logits, got {} in row {row}", values[row])
    }
    if serves([logits]) {
        fused(logits, CrossEntropy::new(values, classes, label_smoothing as f32))
    } else {
        composed(logits, labels, label_smoothing)
    }
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

fn fused(logits: &Tensor, cross_entropy: CrossEntropy) -> Result<Tensor> {
    let logits = logits.contiguous()?;
    let loss = cross_entropy.forward(&CpuValues::of(&logits)?);
    Function::new("cross_entropy", [&logits]).output(vec![loss], ()).backward(move |call| {
        let (logits, dloss) = (&call.operands[0], call.gradient.to_scalar()?);
        let dlogits = cross_entropy.backward(&CpuValues::of(logits)?, dloss);
        Ok(vec![Some(tensor(dlogits, logits.dims())?)])
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for (batch, classes) in [(1, 1), (3, 10), (17, 33), (40, 1000)] {
            let labels = Tensor::new((0..batch).map(|i| (i * 7 % classes) as u32).collect::<Vec<_>>(), &Device::Cpu)?;
            for smoothing in [0., 0.1, 1.] {
                check("cross_entropy", &[&[batch, classes]], |t| cross_entropy(&t[0], &labels, smoothing))?;
            }
        }
        Ok(())
    }

    #[test]
    fn huge_logits_give_a_finite_loss_and_gradient() -> Result<()> {
        let logits = Var::new(&[[1e30f32, -1e30, 0.], [-1e30, -1e30, -1e30]], &Device::Cpu)?;
        let loss = cross_entropy(&logits, &Tensor::new(&[0u32, 2], &Device::Cpu)?, 0.)?;
        assert!((loss.to_scalar::<f32>()? - 3f32.ln() / 2.).abs() < 1e-6);
        let store = loss.backward()?;
        let gradient = store.get(&logits).expect("a gradient").flatten_all()?.to_vec1::<f32>()?;
        assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
        Ok(())
    }

    #[test]
    fn labels_that_name_no_class_are_an_error() -> Result<()> {
        let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu)?;
        let message = cross_entropy(&logits, &Tensor::new(&[0u32, 3], &Device::Cpu)?, 0.).unwrap_err().to_string();
        assert!(message.contains("labels below 3") && message.contains("got 3 in row 1"), "{message}");
        assert!(cross_entropy(&logits, &Tensor::new(&[0i64, 1], &Device::Cpu)?, 0.).is_err());
        assert!(cross_entropy(&logits, &Tensor::new(&[0u32], &Device::Cpu)?, 0.).is_err());
        assert!(cross_entropy(&logits, &Tensor::new(&[0u32, 1], &Device::Cpu)?, 1.5).is_err());
        Ok(())
    }
}
