//! Filters over neighbouring pixels: Gaussian blur as torchvision's on tensors of 8 bits, sharpness as Pillow's.

use rand::Rng;

use super::colour::blend;
use crate::data::Image;

/// Blurs by a Gaussian kernel of `size` by `size` pixels, an odd number, with standard deviation `sigma` in pixels; beyond its
/// edges the image is mirrored (torchvision's `gaussian_blur`).
pub fn gaussian_blur(image: &mut Image, size: usize, sigma: f64) {
    let half = (size / 2) as i64;
    let weights: Vec<f32> = (-half..=half).map(|x| (-0.5 * (x as f64 / sigma).powi(2)).exp() as f32).collect();
    let sum: f32 = weights.iter().sum();
    let weights: Vec<f32> = weights.into_iter().map(|weight| weight / sum).collect();
    let (width, height, channels) = (image.width, image.height, image.channels);
    let levels: Vec<f32> = image.pixels.iter().map(|&level| f32::from(level)).collect();
    let across = filtered(&levels, width, channels, &weights);
    let down = filtered(&across, height, width * channels, &weights);
    for (level, value) in image.pixels.iter_mut().zip(down) {
        *level = value.round_ties_even() as u8;
    }
}

/// Away from, or towards, the image under Pillow's 3x3 smoothing filter, but for its border: 0 is the smooth image, 1 the
/// image as it is (torchvision's `adjust_sharpness`).
pub fn adjust_sharpness(image: &mut Image, factor: f64) {
    let (width, height, channels) = (image.width, image.height, image.channels);
    let source = image.pixels.clone();
    for y in 1..height.saturating_sub(1) {
        for at in (y * width + 1) * channels..((y + 1) * width - 1) * channels {
            let mut sum = 4.0 * f32::from(source[at]);
            for line in [at - width * channels, at, at + width * channels] {
                sum += [line - channels, line, line + channels].iter().map(|&i| f32::from(source[i])).sum::<f32>();
            }
            image.pixels[at] = blend((sum / 13.0 + 0.5) as u8, source[at], factor);
        }
    }
}

/// The size and standard deviation of a random blur: torchvision's `GaussianBlur`, with a kernel of 3 pixels for images
/// whose shorter side is below 64, else 5, and a deviation from 0.1 to 2.
pub(super) fn draw_blur(image: &Image, rng: &mut impl Rng) -> (usize, f64) {
    (if image.width.min(image.height) < 64 { 3 } else { 5 }, rng.random_range(0.1..=2.0))
}

/// Weighted sums over neighbours in lines of `length` steps, `step` values apart.
fn filtered(values: &[f32], length: usize, step: usize, weights: &[f32]) -> Vec<f32> {
    let half = (weights.len() / 2) as i64;
    let mut out = vec![0.0; values.len()];
    for (source, target) in values.chunks_exact(length * step).zip(out.chunks_exact_mut(length * step)) {
        for (at, line) in target.chunks_exact_mut(step).enumerate() {
            for (offset, weight) in (-half..=half).zip(weights) {
                let from = mirrored(at as i64 + offset, length as i64) * step;
                for (sum, value) in line.iter_mut().zip(&source[from..from + step]) {
                    *sum += weight * value;
                }
            }
        }
    }
    out
}

/// A place in a line of `length` that goes on as in two mirrors behind its ends; the last pixel is not repeated.
fn mirrored(at: i64, length: i64) -> usize {
    let period = (2 * (length - 1)).max(1);
    let at = at.rem_euclid(period);
    (if at < length { at } else { period - at }) as usize
}
