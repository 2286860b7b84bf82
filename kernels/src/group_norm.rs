//! `y = (x - mean) * scale * weight + bias` with the mean and `scale = 1 / sqrt(var + eps)` of a group of channels of one image, and a
//! weight and a bias of every channel.
//!
//! Wu, He, "Group Normalization", 2018.

use rayon::prelude::*;

use crate::batch_norm::Planes;
use crate::simd::{sum, sum2, vectorised};

/// The norm of some planes, whose channels are divided into groups of the same size.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    planes: Planes,
    groups: usize,
    /// The mean of every group of every image.
    mean: Vec<f32>,
    /// `1 / sqrt(var + eps)` of every group of every image.
    scale: Vec<f32>,
}

/// The sums over every plane that gradients are made of.
struct Sums {
    /// Of the gradient.
    plain: Vec<f32>,
    /// Of the gradient times the normal value.
    normal: Vec<f32>,
}

impl GroupNorm {
    /// The norm of `x`, whose channels `groups` divides.
    pub fn new(planes: Planes, groups: usize, eps: f32, x: &[f32]) -> Self {
        let Planes { batch, channels, pixels } = planes;
        assert!(groups > 0 && channels % groups == 0 && x.len() == batch * channels * pixels, "groups that do not fit");
        // Every group is a channel of one large image.
        let as_channels = Planes { batch: 1, channels: batch * groups, pixels: channels / groups * pixels };
        let (mean, var) = as_channels.statistics(x);
        let scale = var.into_iter().map(|var| 1. / (var + eps).sqrt()).collect();
        Self { planes, groups, mean, scale }
    }

    /// The group of a plane.
    fn group(&self, plane: usize) -> usize {
        plane / (self.planes.channels / self.groups)
    }

    /// The output, for a weight and a bias of every channel.
    pub fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
        self.planes.map(x, None, |plane| {
            let (group, channel) = (self.group(plane), plane % self.planes.channels);
            let (mean, scale, weight, bias) = (self.mean[group], self.scale[group], weight[channel], bias[channel]);
            #[inline(always)]
            move |x, _| (x - mean) * scale * weight + bias
        })
    }

    /// The gradients of input, weight and bias; that of the input only where it is wanted.
    pub fn gradients(&self, x: &[f32], dy: &[f32], weight: &[f32], wants_input: bool) -> [Vec<f32>; 3] {
        let Planes { batch, channels, pixels } = self.planes;
        let sums = self.sums(x, dy);
        let over_batch = |sums: &[f32]| -> Vec<f32> {
            (0..channels).map(|channel| (0..batch).map(|image| sums[image * channels + channel]).sum()).collect()
        };
        let (dweight, dbias) = (over_batch(&sums.normal), over_batch(&sums.plain));
        if !wants_input {
            return [Vec::new(), dweight, dbias];
        }
        let of_group = channels / self.groups;
        let count = (of_group * pixels) as f32;
        let over_group = |sums: &[f32]| -> Vec<f32> {
            let weighed = |plane: usize| sums[plane] * weight[plane % channels];
            let group = |group: usize| (group * of_group..(group + 1) * of_group).map(weighed).sum::<f32>() / count;
            (0..batch * self.groups).map(group).collect()
        };
        let (plain, normal) = (over_group(&sums.plain), over_group(&sums.normal));
        let dx = self.planes.map(x, Some(dy), |plane| {
            let (group, weight) = (self.group(plane), weight[plane % channels]);
            let (mean, scale, plain, normal) = (self.mean[group], self.scale[group], plain[group], normal[group]);
            #[inline(always)]
            move |x, dy| scale * (weight * dy - plain - (x - mean) * scale * normal)
        });
        [dx, dweight, dbias]
    }

    fn sums(&self, x: &[f32], dy: &[f32]) -> Sums {
        let pixels = self.planes.pixels;
        let plane = |plane: usize| {
            vectorised(
                #[inline(always)]
                || {
                    let (x, dy) = (&x[plane * pixels..][..pixels], &dy[plane * pixels..][..pixels]);
                    let (mean, scale) = (self.mean[self.group(plane)], self.scale[self.group(plane)]);
                    (sum(dy, |dy| dy), sum2(x, dy, |x, dy| (x - mean) * dy) * scale)
                },
            )
        };
        let (plain, normal) = (0..self.planes.batch * self.planes.channels).into_par_iter().map(plane).unzip();
        Sums { plain, normal }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn groups_are_normal_and_their_gradients_have_no_mean() {
        let planes = Planes { batch: 3, channels: 6, pixels: 35 };
        let (x, dy) = (values(3 * 6 * 35, 1), values(3 * 6 * 35, 2));
        let norm = GroupNorm::new(planes, 2, 0., &x);
        let (ones, zeros) = ([1.; 6], [0.; 6]);
        let groups = Planes { batch: 1, channels: 6, pixels: 3 * 35 };
        let (mean, var) = groups.statistics(&norm.forward(&x, &ones, &zeros));
        assert!(mean.iter().all(|mean| mean.abs() < 1e-5) && var.iter().all(|var| (var - 1.).abs() < 1e-4));
        let y = norm.forward(&x, &ones, &zeros);
        let weight = [1., 2., -1., 0.5, 3., 1.];
        let [dx, dweight, dbias] = norm.gradients(&x, &dy, &weight, true);
        let (mean, _) = groups.statistics(&dx);
        assert!(mean.iter().all(|mean| mean.abs() < 1e-5), "moving all values changes nothing");
        let along: Vec<f32> = dx.iter().zip(&x).map(|(dx, x)| dx * x).collect();
        let (mean, _) = groups.statistics(&along);
        assert!(mean.iter().all(|mean| mean.abs() < 1e-4), "and so does stretching them");
        for channel in 0..6 {
            let own = || (0..3).flat_map(|b| (b * 6 + channel) * 35..(b * 6 + channel + 1) * 35);
            assert!((own().map(|i| y[i] * dy[i]).sum::<f32>() - dweight[channel]).abs() < 1e-3);
            assert!((own().map(|i| dy[i]).sum::<f32>() - dbias[channel]).abs() < 1e-3);
        }
        assert_eq!(norm.gradients(&x, &dy, &weight, false)[1], dweight);
    }
}
