//! Resizing as PyTorch does it of float32 (`antialias=True`; ATen's `UpSampleKernel.cpp`): across, then down, and nothing is rounded
//! to levels or cut off between them. Positions are computed in float32, which moves pixels of large images by some 1e-4.

use super::{Image, Kernel, Resizer, Result, Window, check, kernel};

impl Resizer {
    /// What `window` shows of the image resized to `size` (width and height): levels that need not be whole, laid out as an image's.
    pub(in crate::data) fn resize_floats(
        self,
        image: &Image,
        size: (usize, usize),
        window: Window,
    ) -> Result<Vec<f32>> {
        let Window { left, top, width, height } = window;
        let floats = |image: Image| image.pixels.into_iter().map(f32::from).collect();
        let kernel = match kernel(self.filter) {
            Some(kernel) if size != (image.width, image.height) => kernel,
            _ => return Ok(floats(self.resize(image, size, window)?)),
        };
        check(image, size, window)?;
        let (across, down) = (Taps::new(image.width, size.0, kernel), Taps::new(image.height, size.1, kernel));
        let channels = image.channels;
        let (row, made) = (image.width * channels, width * channels);
        let rows = down[top..top + height].iter();
        let (first, end) = rows
            .fold((image.height, 0), |(first, end), tap| (first.min(tap.start), end.max(tap.start + tap.shares.len())));
        let mut lines = Vec::with_capacity((end - first) * made);
        for line in image.pixels[first * row..end * row].chunks_exact(row) {
            for tap in &across[left..left + width] {
                for channel in 0..channels {
                    let values = line[tap.start * channels + channel..].iter().step_by(channels);
                    lines.push(values.zip(&tap.shares).map(|(&value, share)| f32::from(value) * share).sum::<f32>());
                }
            }
        }
        let mut out = vec![0.0; height * made];
        for (tap, sums) in down[top..top + height].iter().zip(out.chunks_exact_mut(made)) {
            for (line, &share) in lines[(tap.start - first) * made..].chunks_exact(made).zip(&tap.shares) {
                sums.iter_mut().zip(line).for_each(|(sum, value)| *sum += value * share);
            }
        }
        Ok(out)
    }
}

/// What a pixel of a resized line is made of: shares of the source's pixels from `start` on.
struct Taps {
    start: usize,
    shares: Vec<f32>,
}

impl Taps {
    /// For all pixels of a line of `source` pixels resized to `target`.
    fn new(source: usize, target: usize, (kernel, support): (Kernel, f64)) -> Vec<Self> {
        let scale = source as f32 / target as f32;
        let stretch = 1.0 / scale.max(1.0);
        let support = (support * f64::from(scale.max(1.0))) as f32;
        let most = support.ceil() as usize * 2 + 1;
        let tap = |at: usize| {
            let centre = (f64::from(scale) * (at as f64 + 0.5)) as f32;
            let start = (f64::from(centre - support) + 0.5).max(0.0) as usize;
            let end = ((f64::from(centre + support) + 0.5) as usize).min(source).min(start + most);
            let place = |x: usize| ((f64::from(x as f32 - centre) + 0.5) * f64::from(stretch)) as f32;
            let mut shares: Vec<f32> = (start..end).map(|x| kernel(f64::from(place(x))) as f32).collect();
            let sum: f32 = shares.iter().sum();
            if sum != 0.0 {
                shares.iter_mut().for_each(|share| *share /= sum);
            }
            Self { start, shares }
        };
        (0..target).map(tap).collect()
    }
}
