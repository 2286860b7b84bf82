//! ZCA whitening for `--normalize zca`, fitted to a training set.
//!
//! With pixels in [0, 1], the n training images as their evaluation transform shows them, flattened to `x`:
//!
//! ```text
//! C = 1/n Σ (x - mean) (x - mean)ᵀ = U Λ Uᵀ
//! W = U (Λ + ε)^(-1/2) Uᵀ = (C + ε)^(-1/2)
//! ```
//!
//! What comes out has the covariance `U Λ (Λ + ε)⁻¹ Uᵀ`: the identity, but for directions whose variance is not far above ε.
//! Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, appendix A.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use tallow_weights::{Preprocessing, Whitening};

use super::{Draw, Error, Loader, LoaderOptions, Result, Samples, Transform};

/// Samples whose products are summed in float32. Levels are at most 128 from the middle, so that all sums are whole numbers up
/// to 2²⁴, which float32 holds exactly: no rounding, whatever the order and the threads.
const BLOCK: usize = 1024;
/// The level that is subtracted first.
const MIDDLE: f64 = 128.0;

/// Checks that an input is small enough to be whitened.
///
/// # Errors
/// If it has more than [`Whitening::MOST_VALUES`] values.
pub fn check_size(input_size: [usize; 3]) -> Result<()> {
    let [channels, height, width] = input_size;
    let values = channels.saturating_mul(height).saturating_mul(width);
    if values <= Whitening::MOST_VALUES {
        return Ok(());
    }
    let side = (Whitening::MOST_VALUES / channels.max(1)).isqrt();
    Err(Error::unusable(
        "ZCA whitening",
        format!("inputs of at most {} values", Whitening::MOST_VALUES),
        format!("{values} ({channels}x{height}x{width})"),
        format!("use smaller images (`img_size = {side}`) or `normalize = standard`"),
    ))
}

/// Fits the whitening of inputs that `preprocessing` makes, whose deviation is 1 for every channel, to `samples`. `eps` is ε.
/// None where `stopped` said true before the end.
///
/// # Errors
/// If a sample cannot be read, or the inputs are too large or points.
pub fn fit(
    samples: &dyn Samples,
    preprocessing: &Preprocessing,
    eps: f64,
    stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Option<Whitening>> {
    check_size(preprocessing.input_size)?;
    if preprocessing.std.iter().any(|&std| std != 1.0) {
        return Err(Error::invalid("ZCA whitening", "pixels that are not divided by a deviation", "others"));
    }
    let Some(Moments { mean, covariance }) = Moments::of(samples, preprocessing, stopped)? else { return Ok(None) };
    let values = mean.len();
    let covariance = Tensor::from_vec(covariance, (values, values), &Device::Cpu)?;
    let Some(matrix) = inverse_root(&covariance, eps, stopped)? else { return Ok(None) };
    // The input has its channel's mean subtracted already.
    let [channels, height, width] = preprocessing.input_size;
    let plane = height * width;
    let of_channel = |channel: usize| preprocessing.mean[channel % preprocessing.mean.len()] as f32;
    let mean: Vec<f32> =
        mean.iter().enumerate().map(|(at, &mean)| (mean - f64::from(of_channel(at / plane))) as f32).collect();
    let mean = Tensor::from_vec(mean, (channels, height, width), &Device::Cpu)?;
    Ok(Some(Whitening::new(mean, matrix.to_dtype(DType::F32)?)?))
}

/// What inputs are like, by measure.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Whiteness {
    /// Samples that were measured.
    pub samples: usize,
    /// The largest mean of a value, its sign left out.
    pub mean: f64,
    /// The mean over all values of their variance.
    pub variance: f64,
    /// The root of the mean square of the covariance of two different values.
    pub covariance: f64,
}

impl Whiteness {
    /// Of all samples as `transform` makes inputs of them.
    ///
    /// # Errors
    /// If a sample cannot be read, or the inputs are too large.
    pub fn of(samples: &Arc<dyn Samples>, transform: &Arc<Transform>) -> Result<Self> {
        check_size(transform.input_size())?;
        let values: usize = transform.input_size().iter().product();
        let (mut sums, mut products) = (vec![0f64; values], vec![0f64; values * values]);
        let options = LoaderOptions { batch_size: BLOCK, prefetch: 1, ..LoaderOptions::default() };
        for batch in Loader::new(samples.clone(), (0..samples.len()).collect(), transform.clone(), options)? {
            add_moments(&batch?.images.flatten_from(1)?, &mut sums, &mut products)?;
        }
        let count = samples.len() as f64;
        let covariance = |i: usize, j: usize| products[i * values + j] / count - sums[i] * sums[j] / (count * count);
        let squares: f64 =
            (0..values).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| 2.0 * covariance(i, j).powi(2)).sum();
        Ok(Self {
            samples: samples.len(),
            mean: sums.iter().fold(0.0, |most: f64, sum| most.max((sum / count).abs())),
            variance: (0..values).map(|i| covariance(i, i)).sum::<f64>() / values as f64,
            covariance: (squares / (values * (values - 1)).max(1) as f64).sqrt(),
        })
    }
}

/// Adds the sums over rows of `x` `[samples, values]`, and those of the products of two values.
fn add_moments(x: &Tensor, sums: &mut [f64], products: &mut [f64]) -> Result<()> {
    for row in x.to_vec2::<f32>()? {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(value));
    }
    let product = x.t()?.matmul(x)?.flatten_all()?.to_vec1::<f32>()?;
    products.par_iter_mut().zip(product).for_each(|(sum, product)| *sum += f64::from(product));
    Ok(())
}

/// Mean and covariance of flattened inputs, of pixels in [0, 1].
struct Moments {
    mean: Vec<f64>,
    /// Row by row.
    covariance: Vec<f64>,
}

impl Moments {
    fn of(
        samples: &dyn Samples,
        preprocessing: &Preprocessing,
        stopped: &(dyn Fn() -> bool + Sync),
    ) -> Result<Option<Self>> {
        let transform = Transform::evaluation(preprocessing)?;
        let values: usize = preprocessing.input_size.iter().product();
        let (mut sums, mut products) = (vec![0f64; values], vec![0f64; values * values]);
        let order: Vec<usize> = (0..samples.len()).collect();
        for block in order.chunks(BLOCK) {
            if stopped() {
                return Ok(None);
            }
            let mut levels = vec![0f32; block.len() * values];
            let rows = levels.par_chunks_exact_mut(values).zip(block);
            rows.map(|(row, &index)| levels_of(samples, index, &transform, row)).collect::<Result<()>>()?;
            let levels = Tensor::from_vec(levels, (block.len(), values), &Device::Cpu)?;
            add_moments(&levels, &mut sums, &mut products)?;
        }
        let count = samples.len() as f64;
        let means: Vec<f64> = sums.iter().map(|sum| sum / count).collect();
        products.par_chunks_exact_mut(values).zip(&means).for_each(|(row, mean)| {
            row.iter_mut().zip(&means).for_each(|(c, other)| *c = (*c / count - mean * other) / (255.0 * 255.0));
        });
        let mean = means.iter().map(|mean| (mean + MIDDLE) / 255.0).collect();
        Ok(Some(Self { mean, covariance: products }))
    }
}

/// Writes the levels of one input, channel by channel, less [`MIDDLE`].
fn levels_of(samples: &dyn Samples, index: usize, transform: &Transform, out: &mut [f32]) -> Result<()> {
    let image = transform.read(samples, index)?;
    let image = transform.seen(&image, &mut Draw::default().rng())?;
    let plane = image.width * image.height;
    for (channel, out) in out.chunks_exact_mut(plane).enumerate() {
        let levels = image.pixels[channel % image.channels..].iter().step_by(image.channels);
        out.iter_mut().zip(levels).for_each(|(out, &level)| *out = f32::from(level) - MIDDLE as f32);
    }
    Ok(())
}

/// `(C + ε)^(-1/2)` of a symmetric `C` without negative eigenvalues, in float64, by products alone: the iteration of Newton and
/// Schulz for the root and its inverse (Higham, "Functions of Matrices", 2008, 6.35), each step scaled so that it raises the
/// smallest eigenvalue as far as a cubic can (Chen, Chow, "A stable scaling of Newton-Schulz", 2014). None where `stopped`.
fn inverse_root(covariance: &Tensor, eps: f64, stopped: &(dyn Fn() -> bool + Sync)) -> Result<Option<Tensor>> {
    let identity = Tensor::eye(covariance.dim(0)?, DType::F64, &Device::Cpu)?;
    let regular = (covariance + (&identity * eps)?)?;
    // Not below the largest eigenvalue.
    let norm = regular.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
    // All eigenvalues of root and inverse lie in [least, 1] once they are divided by the norm's root.
    let mut least = (eps / norm).sqrt();
    let (mut root, mut inverse) = ((regular / norm)?, identity.clone());
    while least < 1.0 - 1e-10 {
        if stopped() {
            return Ok(None);
        }
        let scale = (3.0 / (1.0 + least + least * least)).sqrt();
        let step = ((&identity * (1.5 * scale))? - (inverse.matmul(&root)? * (0.5 * scale.powi(3)))?)?;
        (root, inverse) = (root.matmul(&step)?, step.matmul(&inverse)?);
        least *= 0.5 * scale * (3.0 - scale * scale * least * least);
    }
    // Symmetric to the last bit.
    Ok(Some(((&inverse + inverse.t()?)? * (0.5 / norm.sqrt()))?))
}
