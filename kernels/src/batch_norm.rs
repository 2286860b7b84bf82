//! `y = (x - mean) * scale * weight + bias` for every channel of a batch of images, where `scale` is `1 / sqrt(var + eps)`.
//!
//! Ioffe, Szegedy, "Batch Normalization", 2015.

use rayon::prelude::*;

use crate::memory::filled;
use crate::simd::{sum, sum2, vectorised};
use crate::tasks::rows_per_task;

/// `[batch, channels, pixels]`.
#[derive(Debug, Clone, Copy)]
pub struct Planes {
    /// Images.
    pub batch: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Values of a channel.
    pub pixels: usize,
}

impl Planes {
    /// Mean and biased variance of every channel.
    pub fn statistics(self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let count = (self.batch * self.pixels) as f64;
        let channel = |channel| {
            vectorised(
                #[inline(always)]
                || {
                    let mean = self.of(x, channel).map(|x| f64::from(sum(x, |x| x))).sum::<f64>() / count;
                    let centre = mean as f32;
                    let square = |x: f32| (x - centre) * (x - centre);
                    let var = self.of(x, channel).map(|x| f64::from(sum(x, square))).sum::<f64>() / count;
                    (centre, var as f32)
                },
            )
        };
        (0..self.channels).into_par_iter().map(channel).unzip()
    }

    /// The planes of one channel.
    fn of(self, x: &[f32], channel: usize) -> impl Iterator<Item = &[f32]> {
        (0..self.batch).map(move |b| &x[(b * self.channels + channel) * self.pixels..][..self.pixels])
    }

    /// `f(plane)(x, dy)` for every value; without `dy`, its argument is `x` again.
    pub(crate) fn map<F>(self, x: &[f32], dy: Option<&[f32]>, f: impl Fn(usize) -> F + Sync) -> Vec<f32>
    where
        F: Fn(f32, f32) -> f32,
    {
        let Self { batch, channels, pixels } = self;
        assert_eq!(x.len(), batch * channels * pixels, "images that do not fit");
        let task = rows_per_task(x.len() / pixels.max(1), pixels);
        let dy = dy.unwrap_or(x);
        // SAFETY: the tasks cover the output, and every value of every plane is written.
        unsafe {
            filled(x.len(), |out| {
                out.par_chunks_mut((task * pixels).max(1)).enumerate().for_each(|(i, out)| {
                    vectorised(
                        #[inline(always)]
                        || {
                            for (plane, out) in (i * task..).zip(out.chunks_exact_mut(pixels)) {
                                let (x, dy) = (&x[plane * pixels..][..pixels], &dy[plane * pixels..][..pixels]);
                                let f = f(plane);
                                for ((out, &x), &dy) in out.iter_mut().zip(x).zip(dy) {
                                    out.write(f(x, dy));
                                }
                            }
                        },
                    )
                })
            })
        }
    }
}

/// The norm of some planes by these statistics.
#[derive(Debug, Clone)]
pub struct BatchNorm {
    /// The shape.
    pub planes: Planes,
    /// The mean of every channel.
    pub mean: Vec<f32>,
    /// `1 / sqrt(var + eps)` of every channel.
    pub scale: Vec<f32>,
    /// Whether the statistics depend on the input.
    pub train: bool,
}

impl BatchNorm {
    /// The output, for a weight and a bias of every channel.
    pub fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        self.planes.map(x, None, |plane| {
            let channel = plane % self.planes.channels;
            let (mean, scale, weight, bias) = (self.mean[channel], self.scale[channel], weight[channel], bias[channel]);
            #[inline(always)]
            move |x, _| (x - mean) * scale * weight + bias
        })
    }

    /// The gradients of weight and bias.
    pub fn parameter_gradients(&self, x: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let channel = |channel| {
            vectorised(
                #[inline(always)]
                || {
                    let (mean, scale) = (self.mean[channel], self.scale[channel]);
                    let (mut dweight, mut dbias) = (0f64, 0f64);
                    for (x, dy) in self.planes.of(x, channel).zip(self.planes.of(dy, channel)) {
                        dweight += f64::from(sum2(x, dy, |x, dy| (x - mean) * dy));
                        dbias += f64::from(sum(dy, |dy| dy));
                    }
                    (dweight as f32 * scale, dbias as f32)
                },
            )
        };
        (0..self.planes.channels).into_par_iter().map(channel).unzip()
    }

    /// The gradient of the input, for those of weight and bias.
    pub fn input_gradient(
        &self,
        (x, dy): (&[f32], &[f32]),
        weight: &[f32],
        (dweight, dbias): (&[f32], &[f32]),
    ) -> Vec<f32> {
        if !self.train {
            return self.planes.map(x, Some(dy), |plane| {
                let channel = plane % self.planes.channels;
                let scale = weight[channel] * self.scale[channel];
                #[inline(always)]
                move |_, dy| dy * scale
            });
        }
        let count = (self.planes.batch * self.planes.pixels) as f32;
        self.planes.map(x, Some(dy), |plane| {
            let channel = plane % self.planes.channels;
            let (mean, scale, weight) = (self.mean[channel], self.scale[channel], weight[channel]);
            let (dweight, dbias) = (dweight[channel] / count, dbias[channel] / count);
            #[inline(always)]
            move |x, dy| weight * scale * (dy - dbias - (x - mean) * scale * dweight)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn channels_are_normal_and_their_gradients_have_no_mean() {
        let planes = Planes { batch: 5, channels: 3, pixels: 33 };
        let (x, dy) = (values(5 * 3 * 33, 1), values(5 * 3 * 33, 2));
        let (mean, var) = planes.statistics(&x);
        let scale = var.iter().map(|var| 1. / var.sqrt()).collect();
        let norm = BatchNorm { planes, mean, scale, train: true };
        let (weight, bias) = ([1., 2., -1.], [0., 0.5, 3.]);
        let y = norm.forward(&x, &weight, &bias);
        let (mean, var) = planes.statistics(&y);
        for channel in 0..3 {
            assert!(
                (mean[channel] - bias[channel]).abs() < 1e-5 && (var[channel] - weight[channel].powi(2)).abs() < 1e-4
            );
        }
        let (dweight, dbias) = norm.parameter_gradients(&x, &dy);
        let dx = norm.input_gradient((&x, &dy), &weight, (&dweight, &dbias));
        let (mean, _) = planes.statistics(&dx);
        assert!(mean.iter().all(|mean| mean.abs() < 1e-5), "moving all values changes nothing");
        let along: Vec<f32> = dx.iter().zip(&x).map(|(dx, x)| dx * x).collect();
        let (mean, _) = planes.statistics(&along);
        assert!(mean.iter().all(|mean| mean.abs() < 1e-4), "and so does stretching them");
        for (channel, (dweight, dbias)) in dweight.into_iter().zip(dbias).enumerate() {
            let normal = |y: f32| (y - bias[channel]) / weight[channel];
            let own = || (0..5).flat_map(|b| (b * 3 + channel) * 33..(b * 3 + channel + 1) * 33);
            assert!((own().map(|i| normal(y[i]) * dy[i]).sum::<f32>() - dweight).abs() < 1e-3);
            assert!((own().map(|i| dy[i]).sum::<f32>() - dbias).abs() < 1e-3);
        }
    }
}
