//! Mixing the samples of a batch in training: mixup and CutMix, as torchvision's `v2.MixUp` and `v2.CutMix` do.
//!
//! Sample i meets sample i − 1 of its batch, the first one the last. With λ drawn from Beta(α, α) for the whole batch:
//!
//! - mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2017): `x = λ xᵢ + (1 - λ) xᵢ₋₁`.
//! - CutMix (Yun et al., "CutMix", 2019): a box of xᵢ₋₁ is put into xᵢ, whose centre is uniform and whose sides are √(1 − λ) of
//!   the image's, cut off at its edges; then λ becomes the share of the area that is left of xᵢ.
//!
//! The target is λ parts the label of sample i and 1 − λ parts that of sample i − 1. Where both are asked for, a fair coin
//! chooses one for each batch.

use candle_core::{Result, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};

/// Which ways of mixing are wanted, with the α of each; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Mix {
    /// α of mixup.
    pub mixup: f64,
    /// α of CutMix.
    pub cutmix: f64,
}

/// How one batch is mixed.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Blend {
    /// λ parts of every sample and 1 − λ of the one before it.
    Mixup {
        /// λ.
        lambda: f64,
    },
    /// A box of the sample before it.
    Cutmix {
        /// The columns from the first on and before the second.
        columns: [usize; 2],
        /// The rows from the first on and before the second.
        rows: [usize; 2],
        /// The share of the area outside of the box.
        lambda: f64,
    },
}

impl Mix {
    /// The least and the largest α that make sense: beyond them λ is always 0 or 1, or always a half.
    pub const ALPHA: [f64; 2] = [0.01, 100.];

    /// Whether batches stay as they are.
    pub fn is_none(&self) -> bool {
        self.mixup == 0. && self.cutmix == 0.
    }

    /// How `images` `[samples, channels, height, width]`, batch number `batch` of an epoch, are mixed; none where nothing is asked
    /// for. What is random follows from the seed, the epoch and the batch alone.
    ///
    /// # Errors
    /// If the images have another rank, or an α makes no sense.
    pub fn draw(&self, seed: u64, epoch: usize, batch: usize, images: &Tensor) -> Result<Option<Blend>> {
        if self.is_none() {
            return Ok(None);
        }
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(epoch as u64).to_le_bytes());
        key[16..24].copy_from_slice(&(batch as u64).to_le_bytes());
        key[24..].copy_from_slice(b"mixing  "); // apart from what is drawn for a sample or an order
        let mut rng = ChaCha8Rng::from_seed(key);
        let cut = match (self.mixup > 0., self.cutmix > 0.) {
            (true, true) => rng.random_bool(0.5),
            (_, cut) => cut,
        };
        let alpha = if cut { self.cutmix } else { self.mixup };
        let lambda = Beta::new(alpha, alpha).map_err(candle_core::Error::wrap)?.sample(&mut rng);
        if !cut {
            return Ok(Some(Blend::Mixup { lambda }));
        }
        let (.., height, width) = images.dims4()?;
        let (x, y) = (rng.random_range(0..width.max(1)), rng.random_range(0..height.max(1)));
        Ok(Some(Blend::cutmix(lambda, x, y, height, width)))
    }
}

impl Blend {
    /// CutMix with the box's centre at column `x` and row `y`, and λ as it was drawn.
    pub fn cutmix(lambda: f64, x: usize, y: usize, height: usize, width: usize) -> Self {
        let half = 0.5 * (1. - lambda).sqrt();
        let side = |centre: usize, size: usize| {
            let half = (half * size as f64) as usize;
            [centre.saturating_sub(half), (centre + half).min(size)]
        };
        let (columns, rows) = (side(x, width), side(y, height));
        let cut = (columns[1] - columns[0]) * (rows[1] - rows[0]);
        Self::Cutmix { columns, rows, lambda: 1. - cut as f64 / (height * width) as f64 }
    }

    /// The part of the target that a sample's own label has; the label of the one before it has the rest.
    pub fn lambda(&self) -> f64 {
        match self {
            Self::Mixup { lambda } | Self::Cutmix { lambda, .. } => *lambda,
        }
    }

    /// Mixes `images` `[batch, channels, height, width]`.
    ///
    /// # Errors
    /// If they have another shape than those that the blend was drawn for.
    pub fn images(&self, images: &Tensor) -> Result<Tensor> {
        let before = before(images)?;
        match *self {
            Self::Mixup { lambda } => (images * lambda)? + (before * (1. - lambda))?,
            Self::Cutmix { columns: [left, right], rows: [top, bottom], .. } => {
                if left == right || top == bottom {
                    return Ok(images.clone());
                }
                let (batch, channels, ..) = images.dims4()?;
                let cut = before.narrow(2, top, bottom - top)?.narrow(3, left, right - left)?;
                images.slice_assign(&[0..batch, 0..channels, top..bottom, left..right], &cut)
            }
        }
    }

    /// The labels `[batch]` of the samples that come before.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn labels(labels: &Tensor) -> Result<Tensor> {
        before(labels)
    }
}

/// Every row's predecessor, the last one for the first.
fn before(x: &Tensor) -> Result<Tensor> {
    let rows = x.dim(0)?;
    if rows < 2 {
        return Ok(x.clone());
    }
    Tensor::cat(&[&x.narrow(0, rows - 1, 1)?, &x.narrow(0, 0, rows - 1)?], 0)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    fn images() -> Tensor {
        Tensor::zeros((4, 3, 20, 30), DType::F32, &Device::Cpu).unwrap()
    }

    fn drawn(mix: Mix, count: usize) -> Vec<Blend> {
        (0..count).map(|batch| mix.draw(1, 2, batch, &images()).unwrap().unwrap()).collect()
    }

    #[test]
    fn lambda_has_the_law_of_beta() {
        for alpha in [0.2, 1., 5.] {
            let lambdas: Vec<f64> = drawn(Mix { mixup: alpha, cutmix: 0. }, 20_000).iter().map(Blend::lambda).collect();
            let mean = lambdas.iter().sum::<f64>() / 20_000.;
            let variance = lambdas.iter().map(|lambda| (lambda - mean).powi(2)).sum::<f64>() / 20_000.;
            // The mean and variance of Beta(α, α), within four standard errors or more.
            assert!((mean - 0.5).abs() < 0.015, "α {alpha}: mean {mean}");
            assert!((variance - 0.25 / (2. * alpha + 1.)).abs() < 0.005, "α {alpha}: variance {variance}");
        }
    }

    #[test]
    fn boxes_lie_in_the_image_and_lambda_is_the_area_outside() {
        for blend in drawn(Mix { mixup: 0., cutmix: 1. }, 2000) {
            let Blend::Cutmix { columns: [left, right], rows: [top, bottom], lambda } = blend else {
                panic!("{blend:?}")
            };
            assert!(left <= right && right <= 30 && top <= bottom && bottom <= 20, "{blend:?}");
            assert!((lambda - (1. - ((right - left) * (bottom - top)) as f64 / 600.)).abs() < 1e-12, "{blend:?}");
        }
    }

    #[test]
    fn seed_epoch_and_batch_decide_and_a_coin_between_the_two_ways() {
        let both = Mix { mixup: 0.5, cutmix: 0.5 };
        let cut = drawn(both, 2000).iter().filter(|blend| matches!(blend, Blend::Cutmix { .. })).count();
        assert!((900..1100).contains(&cut), "{cut} of 2000");
        let draw = |seed, epoch, batch| both.draw(seed, epoch, batch, &images()).unwrap();
        assert_eq!(draw(1, 2, 3), draw(1, 2, 3));
        for other in [draw(0, 2, 3), draw(1, 0, 3), draw(1, 2, 0)] {
            assert_ne!(draw(1, 2, 3), other);
        }
        assert_eq!(Mix::default().draw(1, 2, 3, &images()).unwrap(), None);
    }

    #[test]
    fn a_batch_of_one_stays_as_it_is() {
        let one = Tensor::rand(0f32, 1., (1, 3, 4, 4), &Device::Cpu).unwrap();
        let mixed = Blend::Mixup { lambda: 0.3 }.images(&one).unwrap();
        let off = (mixed - one).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(off < 1e-6);
    }
}
