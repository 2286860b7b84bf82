//! Resampling along one axis, as a matrix: what PyTorch's `interpolate` computes.

/// How positions and kernels of patches are resampled, in the words of PyTorch's `interpolate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Resampling {
    /// `mode="bicubic", antialias=True`, as timm resamples.
    #[default]
    Bicubic,
    /// `mode="bicubic"`, as transformers does.
    BicubicPlain,
    /// `mode="bilinear"`, as timm does it for FlexiViT.
    BilinearPlain,
}

impl Resampling {
    /// The same for kernels of patches, which transformers does not resample: bicubic with antialias, if it is bicubic.
    pub(crate) fn of_kernels(self) -> Self {
        if self == Self::BilinearPlain { self } else { Self::Bicubic }
    }

    /// The matrix `[new, old]` whose product with a signal of `old` samples is the signal of `new` samples, row by row.
    pub(super) fn matrix(self, old: usize, new: usize) -> Vec<f64> {
        match self {
            Self::Bicubic => bicubic(old, new),
            Self::BicubicPlain => bicubic_plain(old, new),
            Self::BilinearPlain => bilinear_plain(old, new),
        }
    }
}

/// With a = −0.5.
fn bicubic(old: usize, new: usize) -> Vec<f64> {
    let scale = old as f64 / new as f64;
    // The filter is stretched over the samples that fall together; never shrunk.
    let stretch = scale.max(1.);
    let support = 2. * stretch;
    let mut matrix = vec![0.; new * old];
    for (i, row) in matrix.chunks_exact_mut(old).enumerate() {
        let center = scale * (i as f64 + 0.5);
        let first = ((center - support + 0.5) as usize).min(old); // a cast of a negative number gives 0
        let end = ((center + support + 0.5) as usize).min(old);
        let weights = &mut row[first..end];
        for (j, weight) in weights.iter_mut().enumerate() {
            *weight = cubic(((first + j) as f64 - center + 0.5) / stretch, -0.5);
        }
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= sum);
    }
    matrix
}

/// The same as PyTorch's `interpolate(mode="bicubic")` computes it: a = −0.75, the filter as narrow for fewer samples as for more,
/// and the samples at the ends repeated beyond them.
fn bicubic_plain(old: usize, new: usize) -> Vec<f64> {
    let scale = old as f64 / new as f64;
    let mut matrix = vec![0.; new * old];
    for (i, row) in matrix.chunks_exact_mut(old).enumerate() {
        let at = scale * (i as f64 + 0.5) - 0.5;
        for tap in -1..=2 {
            let sample = at.floor() + f64::from(tap);
            row[sample.clamp(0., (old - 1) as f64) as usize] += cubic(sample - at, -0.75);
        }
    }
    matrix
}

/// Between the two nearest samples, however many fall together.
fn bilinear_plain(old: usize, new: usize) -> Vec<f64> {
    let scale = old as f64 / new as f64;
    let mut matrix = vec![0.; new * old];
    for (i, row) in matrix.chunks_exact_mut(old).enumerate() {
        let at = (scale * (i as f64 + 0.5) - 0.5).max(0.);
        let first = (at as usize).min(old - 1);
        let share = at - first as f64;
        row[first] += 1. - share;
        row[(first + 1).min(old - 1)] += share;
    }
    matrix
}

/// Keys' cubic convolution kernel ("Cubic convolution interpolation for digital image processing", 1981) at a distance of `x`. With
/// a = −0.5 it is Pillow's, with a = −0.75 that of PyTorch's `interpolate`.
pub fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1. {
        ((a + 2.) * x - (a + 3.)) * x * x + 1.
    } else if x < 2. {
        (((x - 5.) * x + 8.) * x - 4.) * a
    } else {
        0.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_size_is_the_identity() {
        let matrix = bicubic(5, 5);
        for (i, weight) in matrix.iter().enumerate() {
            assert!((weight - f64::from(u8::from(i % 6 == 0))).abs() < 1e-12);
        }
    }

    #[test]
    fn bilinear_without_antialias_is_pytorchs() {
        let signal = [1., 4., 2., 8., 5.];
        // interpolate(signal, size=3 and 7, mode="linear")
        for expected in [&[2., 2., 6.][..], &[1., 2.71429, 3.42857, 2., 6.28572, 6.71429, 5.]] {
            let matrix = Resampling::BilinearPlain.matrix(5, expected.len());
            for (row, expected) in matrix.chunks_exact(5).zip(expected) {
                let got: f64 = row.iter().zip(&signal).map(|(weight, value)| weight * value).sum();
                assert!((got - expected).abs() < 1e-5, "{got} {expected}");
            }
        }
    }

    #[test]
    fn a_constant_stays_constant() {
        for (old, new) in [(1, 4), (4, 1), (37, 16), (14, 24), (7, 3)] {
            for row in bicubic(old, new).chunks_exact(old) {
                assert!((row.iter().sum::<f64>() - 1.).abs() < 1e-12, "{old} to {new}");
            }
        }
    }
}
