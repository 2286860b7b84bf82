//! Mean and deviation of a training set's pixels, for `--normalize standard`, and the sizes of its images.

use rayon::prelude::*;

use super::{Alpha, Error, Result, Samples};

/// Mean and standard deviation per channel, of pixels in [0, 1], and sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// Mean of every channel.
    pub mean: Vec<f64>,
    /// Standard deviation of every channel.
    pub std: Vec<f64>,
    /// The smallest and the largest width in pixels.
    pub width: [usize; 2],
    /// The smallest and the largest height in pixels.
    pub height: [usize; 2],
}

impl Statistics {
    /// Over all pixels of all samples, as they are before resizing, in `channels` 1 (grey), 3 or 4 (RGBA), and where this becomes of their
    /// transparency. Sums are of integers: the result does not depend on threads.
    ///
    /// # Errors
    /// If a sample cannot be read.
    pub fn of(samples: &dyn Samples, channels: usize, alpha: Alpha) -> Result<Self> {
        if ![1, 3, 4].contains(&channels) {
            return Err(Error::invalid("statistics of images", "1, 3 or 4 channels", channels));
        }
        let sums = |index: usize| -> Result<Sums> {
            let mut image = samples.image_as(index, alpha)?;
            if channels == 1 && image.channels != 1 {
                image = image.to_grey();
            }
            let (width, height) = (image.width, image.height);
            let pixels = (width * height) as u128;
            let mut sums = Sums { pixels, width: [width; 2], height: [height; 2], ..Sums::default() };
            for (channel, (sum, squares)) in sums.of.iter_mut().enumerate().take(image.channels) {
                let values = image.pixels[channel..].iter().step_by(image.channels).map(|&v| u64::from(v));
                let (s, q) = values.fold((0, 0), |(s, q), v| (s + v, q + v * v));
                (*sum, *squares) = (u128::from(s), u128::from(q));
            }
            if image.channels < channels {
                sums.of = [sums.of[0]; 4];
            }
            Ok(sums)
        };
        let total = (0..samples.len()).into_par_iter().map(sums).try_reduce(Sums::default, |a, b| Ok(a.plus(b)))?;
        let pixels = total.pixels as f64;
        let mean: Vec<f64> = total.of[..channels].iter().map(|(s, _)| *s as f64 / pixels / 255.0).collect();
        let std: Vec<f64> = total.of[..channels]
            .iter()
            .zip(&mean)
            .map(|((_, q), mean)| (*q as f64 / pixels / (255.0 * 255.0) - mean * mean).max(0.0).sqrt())
            .collect();
        Ok(Self { mean, std, width: total.width, height: total.height })
    }

    /// The same, where it can normalise. An alpha channel that is the same everywhere, as that of opaque images, tells nothing, and
    /// gets the mean and the deviation 0.5.
    ///
    /// # Errors
    /// If all pixels of a colour are alike.
    pub fn checked(mut self) -> Result<Self> {
        if let ([.., mean], [_, _, _, std]) = (&mut self.mean[..], &mut self.std[..])
            && *std < 1e-6
        {
            (*mean, *std) = (0.5, 0.5);
        }
        if let Some(channel) = self.std.iter().position(|s| *s < 1e-6 || s.is_nan()) {
            let what = format!("deviation of channel {channel} of the training set");
            return Err(Error::unusable(
                what,
                "more than 0",
                "0: all pixels are alike",
                "use another normalisation (`normalize = none`)",
            ));
        }
        Ok(self)
    }
}

/// Sums of levels and of their squares, and sizes.
#[derive(Clone, Copy)]
struct Sums {
    pixels: u128,
    of: [(u128, u128); 4],
    /// The smallest and the largest.
    width: [usize; 2],
    height: [usize; 2],
}

impl Default for Sums {
    fn default() -> Self {
        let none = [usize::MAX, 0];
        Self { pixels: 0, of: Default::default(), width: none, height: none }
    }
}

impl Sums {
    fn plus(self, other: Self) -> Self {
        let of = std::array::from_fn(|c| (self.of[c].0 + other.of[c].0, self.of[c].1 + other.of[c].1));
        let range = |a: [usize; 2], b: [usize; 2]| [a[0].min(b[0]), a[1].max(b[1])];
        let (width, height) = (range(self.width, other.width), range(self.height, other.height));
        Self { pixels: self.pixels + other.pixels, of, width, height }
    }
}
