//! The head and the loss of DINO: Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", 2021 (arXiv 2104.14294).

use candle_core::{D, DType, Result, Tensor, bail};
use candle_nn::{Module, VarBuilder, ops::log_softmax};

use crate::layers::{Linear, LinearInit, linear};
use crate::ops;

/// What a head is made of.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DinoHeadConfig {
    /// Width of what it reads.
    pub in_dim: usize,
    /// Outputs.
    pub out_dim: usize,
    /// Width of the two hidden layers. Default 2048.
    pub hidden_dim: usize,
    /// Width of what the last layer reads. Default 256.
    pub bottleneck_dim: usize,
}

impl DinoHeadConfig {
    /// From `in_dim` to `out_dim` values, with the paper's hidden layers.
    pub fn new(in_dim: usize, out_dim: usize) -> Self {
        Self { in_dim, out_dim, hidden_dim: 2048, bottleneck_dim: 256 }
    }

    /// The same after `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

/// Three layers with GELU between them, a division by the length, and a last layer whose rows have length 1. The parameters are called
/// as in DINO's code: `mlp.0`, `mlp.2`, `mlp.4`, `last_layer.weight_v`.
#[derive(Debug, Clone)]
pub struct DinoHead {
    mlp: [Linear; 3],
    /// `[out_dim, bottleneck_dim]`; only the direction of a row counts.
    weight_v: Tensor,
}

/// The head that `config` describes.
///
/// # Errors
/// Those of the builder.
pub fn dino_head(config: &DinoHeadConfig, vb: VarBuilder) -> Result<DinoHead> {
    let DinoHeadConfig { in_dim, out_dim, hidden_dim, bottleneck_dim } = *config;
    let layer = |from, to, name| linear(from, to, true, LinearInit::Normal(0.02), vb.pp("mlp").pp(name));
    let shape = (out_dim, bottleneck_dim);
    Ok(DinoHead {
        mlp: [
            layer(in_dim, hidden_dim, "0")?,
            layer(hidden_dim, hidden_dim, "2")?,
            layer(hidden_dim, bottleneck_dim, "4")?,
        ],
        weight_v: vb.pp("last_layer").get_with_hints(shape, "weight_v", LinearInit::Torch.weight(bottleneck_dim))?,
    })
}

impl Module for DinoHead {
    /// `[batch, in_dim]` to `[batch, out_dim]`, each between -1 and 1.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second, third] = &self.mlp;
        let x = ops::gelu(&first.forward(x)?)?;
        let x = ops::gelu(&second.forward(&x)?)?;
        let x = ops::unit_length(&third.forward(&x)?)?;
        ops::linear(&x, &ops::unit_length(&self.weight_v)?, None)
    }
}

/// The mean cross-entropy of every crop of the student with every other one of the teacher. `student [crops * batch, out_dim]` are
/// outputs divided by the student's temperature, crop by crop, and `teacher [global crops * batch, out_dim]` are probabilities, whose
/// crops are the first ones of the student's.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn dino_loss(student: &Tensor, teacher: &Tensor, batch: usize) -> Result<Tensor> {
    let (rows, dim) = student.dims2()?;
    let of_teacher = teacher.dim(0)?;
    let (crops, large) = (rows / batch.max(1), of_teacher / batch.max(1));
    if rows != crops * batch || of_teacher != large * batch || crops < large || large == 0 || crops * large <= large {
        bail!(
            "dino_loss: expected whole crops of {batch} samples, at least two of the student's, got {rows} and {of_teacher} rows"
        )
    }
    let teacher = teacher.detach().to_dtype(DType::F32)?.reshape((large, batch, dim))?;
    let all = teacher.sum(0)?;
    // The cross-entropy is linear in its target: one target for each of the student's crops, the sum of all teachers but its own.
    let targets: Vec<Tensor> = (0..crops)
        .map(|crop| if crop < large { &all - teacher.get(crop)? } else { Ok(all.clone()) })
        .collect::<Result<_>>()?;
    let targets = Tensor::cat(&targets, 0)?;
    let terms = (large * (crops - 1)) as f64;
    let entropy = (log_softmax(&student.to_dtype(DType::F32)?, D::Minus1)? * targets)?.sum_all()?;
    entropy * (-1. / (terms * batch as f64))
}

/// How near to each other the features `[batch, dim]` of a batch lie: the mean over them of `-ln` of the distance to the nearest other one,
/// where all are divided by their length. It is the KoLeo regulariser of DINOv2 (Oquab et al. 2023, arXiv 2304.07193), as in its code:
/// in a small network it keeps the features from varying in one or two directions alone. A single row has no other: 0.
///
/// # Errors
/// If `features` are no matrix.
pub fn koleo_loss(features: &Tensor) -> Result<Tensor> {
    const EPS: f64 = 1e-8;
    let wide = if features.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let (rows, _) = features.dims2()?;
    if rows < 2 {
        return Tensor::zeros((), wide, features.device());
    }
    let x = ops::unit_length(&features.to_dtype(wide)?)?;
    let fixed = x.detach();
    // No row is its own neighbour.
    let itself = (Tensor::eye(rows, wide, x.device())? * 4.)?;
    let nearest = (fixed.matmul(&fixed.t()?.contiguous()?)? - itself)?.argmax(D::Minus1)?;
    let apart = ((&x - x.index_select(&nearest, 0)?)? + EPS)?;
    let distance = apart.sqr()?.sum(D::Minus1)?.sqrt()?;
    (distance + EPS)?.log()?.mean_all()?.neg()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_koleo_loss_and_its_gradients_are_those_of_dinov2s_code() -> Result<()> {
        // `KoLeoLoss()` of dinov2 and its gradients on `sin(1 + 5 i + 2 j)`, in float64 by PyTorch 2.
        let gradients = [
            [-0.116492809, 0.223304044, -0.069361734],
            [0.217828939, -0.039967421, -0.184564307],
            [0.016963606, -0.23123968, 0.175495717],
            [-0.228725262, 0.181797533, 0.077416326],
        ];
        let value = |i: i32, j: i32| f64::from(1 + 5 * i + 2 * j).sin();
        let x: [[f64; 3]; 4] = std::array::from_fn(|i| std::array::from_fn(|j| value(i as i32, j as i32)));
        let x = Var::new(&x, &Device::Cpu)?;
        let loss = koleo_loss(&x)?;
        assert!((loss.to_scalar::<f64>()? + 0.14788238950937224).abs() < 1e-12);
        let got = loss.backward()?.get(&x).expect("a gradient").to_vec2::<f64>()?;
        for (got, expected) in got.iter().flatten().zip(gradients.iter().flatten()) {
            assert!((got - expected).abs() < 1e-8, "{got} for {expected}");
        }
        assert_eq!(koleo_loss(&x.narrow(0, 0, 1)?)?.to_scalar::<f64>()?, 0., "a batch of one");
        Ok(())
    }
}
