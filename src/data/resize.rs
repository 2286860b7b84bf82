//! Resizing as Pillow does it, bit for bit: antialiased, across and down one after the other, in integers with 22 bits
//! after the point, rounded to 8 bits after each of the two.
//!
//! This is `Resample.c` of Pillow 13. A checkpoint's accuracy was measured on images that were resized so; the crates at
//! hand are up to 20 levels away from it where bright lines meet dark ones. PyTorch does the same of tensors of 8 bits (ATen's
//! `UpSampleKernel.cpp`), with weights of 16 bits, of which the point takes as many as the largest leaves. What stays in floats (`floats.rs`) rounds nothing.

pub(super) mod floats;

use tallow_models::images::{PRECISION, Taps};
use tallow_weights::adapt::cubic;
use tallow_weights::{Interpolation, Resizing};

use super::{Error, Image, Result};

/// How images are resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resizer {
    pub filter: Interpolation,
    /// In 8 bits, floats are resized as torchvision's levels.
    pub resizing: Resizing,
}

/// A rectangle of pixels in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// The image resized to `width` by `height`, equal to Pillow's `Image.resize`.
///
/// # Errors
/// If a side of the image or of the result is 0, or the image has neither 1, 3 nor 4 channels.
pub fn resize(image: &Image, width: usize, height: usize, filter: Interpolation) -> Result<Image> {
    let resizer = Resizer { filter, resizing: Resizing::Pillow };
    resizer.whole(image, (width, height))
}

impl Resizer {
    /// The image resized to `size`, width and height.
    pub(super) fn whole(self, image: &Image, size: (usize, usize)) -> Result<Image> {
        self.resize(image, size, Window { left: 0, top: 0, width: size.0, height: size.1 })
    }

    /// What `window` shows of the image resized to `size` (width and height), without making the rest of it.
    pub(super) fn resize(self, image: &Image, size: (usize, usize), window: Window) -> Result<Image> {
        let Window { left, top, width, height } = window;
        let Image { channels, pixels, .. } = image;
        check(image, size, window)?;
        if size == (image.width, image.height) {
            return Ok(image.crop(left, top, width, height));
        }
        let Some(kernel) = kernel(self.filter) else {
            return Ok(self.nearest(image, size, window));
        };
        // What is transparent must not shine into what is not; PyTorch knows of no transparency.
        let transparent = *channels == 4 && self.is_pillow();
        let premultiplied;
        let (image, pixels) = if transparent {
            premultiplied = image.premultiplied();
            (&premultiplied, &premultiplied.pixels)
        } else {
            (image, pixels)
        };
        let across = self.weights(image.width, size.0, (left, width), kernel);
        let down = self.weights(image.height, size.1, (top, height), kernel);
        let reach = down.reach();
        let arch = pulp::Arch::new();
        let across = |rows: &[u8]| arch.dispatch(|| resize_across(rows, image.width, *channels, &across));
        let down = |rows: &[u8], row: usize, first: usize| arch.dispatch(|| resize_down(rows, row, first, &down));
        let row = image.width * channels;
        let pixels = if self.down_first((image.width, image.height), size) {
            across(&down(pixels, row, 0))
        } else {
            let (first, end) = reach;
            down(&across(&pixels[first * row..end * row]), width * channels, first)
        };
        let resized = Image { width, height, channels: *channels, pixels };
        Ok(if transparent { resized.unpremultiplied() } else { resized })
    }

    /// What a device needs to make the same (`images::resize`) of images of `source` width and height: the taps across and down. None
    /// where it could not: the nearest pixels, or down before across.
    pub(super) fn taps(self, source: (usize, usize), size: (usize, usize), window: Window) -> Option<(Taps, Taps)> {
        let Window { left, top, width, height } = window;
        if size == source {
            return Some((Taps::identity(left, width).ok()?, Taps::identity(top, height).ok()?));
        }
        let kernel = kernel(self.filter)?;
        let of = |weights: Weights| {
            let number = |places: Vec<usize>| -> Option<Vec<u32>> {
                places.into_iter().map(|place| u32::try_from(place).ok()).collect()
            };
            Taps::new(number(weights.starts)?, number(weights.counts)?, weights.weights).ok()
        };
        if self.down_first(source, size) {
            return None;
        }
        let across = of(self.weights(source.0, size.0, (left, width), kernel))?;
        Some((across, of(self.weights(source.1, size.1, (top, height), kernel))?))
    }

    fn is_pillow(self) -> bool {
        self.resizing == Resizing::Pillow
    }

    /// For the pixels `first..first + count` of a line of `source` pixels resized to `target`.
    fn weights(self, source: usize, target: usize, part: (usize, usize), kernel: (Kernel, f64)) -> Weights {
        let shares = Shares::new(source, target, part, kernel);
        // PyTorch looks at all of the line's for the bits.
        let bits = if self.is_pillow() {
            PRECISION
        } else if part == (0, target) {
            bits(&shares.values)
        } else {
            bits(&Shares::new(source, target, (0, target), kernel).values)
        };
        shares.rounded(bits)
    }

    /// Pillow's choice between the two orders, which is about speed but decides what is rounded and clipped first. PyTorch begins
    /// across.
    fn down_first(self, source: (usize, usize), size: (usize, usize)) -> bool {
        let shrinks = |from: usize, to: usize| from as i64 - to as i64;
        let (less_wide, less_high) = (shrinks(source.0, size.0), shrinks(source.1, size.1));
        self.is_pillow() && less_high > 0 && less_high > 2 * less_wide
    }

    /// The nearest pixel. Pillow adds positions up, which decides ties; PyTorch (`nearest-exact`) computes each in float32.
    fn nearest(self, image: &Image, size: (usize, usize), window: Window) -> Image {
        let places = |source: usize, target: usize, first: usize, count: usize| -> Vec<usize> {
            let scale = source as f64 / target as f64;
            if !self.is_pillow() {
                let scale = f64::from(source as f32 / target as f32);
                let place = |at: usize| ((at as f64 + 0.5) * scale) as f32 as usize;
                return (first..first + count).map(|at| place(at).min(source - 1)).collect();
            }
            let all = std::iter::successors(Some(scale * 0.5), |at| Some(at + scale));
            all.skip(first).take(count).map(|at| (at as usize).min(source - 1)).collect()
        };
        let columns = places(image.width, size.0, window.left, window.width);
        let rows = places(image.height, size.1, window.top, window.height);
        let channels = image.channels;
        let mut pixels = Vec::with_capacity(rows.len() * columns.len() * channels);
        for row in rows {
            let line = &image.pixels[row * image.width * channels..(row + 1) * image.width * channels];
            for &column in &columns {
                pixels.extend_from_slice(&line[column * channels..(column + 1) * channels]);
            }
        }
        Image { width: window.width, height: window.height, channels, pixels }
    }
}

/// The image is whole, and the window lies inside of what it is resized to.
fn check(image: &Image, size: (usize, usize), window: Window) -> Result<()> {
    let Window { left, top, width, height } = window;
    let Image { channels, pixels, .. } = image;
    let invalid = |expected: &str, got: String| Err(Error::invalid("resize", expected, got));
    if ![1, 3, 4].contains(channels) || pixels.len() != image.width * image.height * channels {
        let got = format!("{} values for {}x{}x{channels}", pixels.len(), image.width, image.height);
        return invalid("an image with 1, 3 or 4 channels", got);
    }
    if image.width == 0 || image.height == 0 || width == 0 || height == 0 {
        return invalid(
            "at least one pixel on each side",
            format!("{}x{} to {width}x{height}", image.width, image.height),
        );
    }
    if left + width > size.0 || top + height > size.1 {
        return invalid("a window inside of the image", format!("{window:?} of {size:?}"));
    }
    Ok(())
}

impl Image {
    /// An image with alpha whose colours are times their alpha (Pillow's conversion from RGBA to RGBa).
    pub(super) fn premultiplied(&self) -> Self {
        let product = |level: u8, alpha: u8| {
            let product = u32::from(level) * u32::from(alpha) + 128;
            ((product + (product >> 8)) >> 8) as u8
        };
        self.with_colours(product)
    }

    /// The image whose colours times their alpha these are (Pillow's conversion from RGBa to RGBA).
    pub(super) fn unpremultiplied(&self) -> Self {
        self.with_colours(|level, alpha| match alpha {
            0 | 255 => level,
            alpha => (255 * u32::from(level) / u32::from(alpha)).min(255) as u8,
        })
    }

    fn with_colours(&self, colour: impl Fn(u8, u8) -> u8) -> Self {
        let pixels = self.pixels.chunks_exact(4);
        let pixels = pixels.flat_map(|p| [colour(p[0], p[3]), colour(p[1], p[3]), colour(p[2], p[3]), p[3]]).collect();
        Self { pixels, ..*self }
    }

    /// A part of the image.
    ///
    /// # Panics
    /// If it reaches out of the image.
    pub(super) fn crop(&self, left: usize, top: usize, width: usize, height: usize) -> Self {
        let line = self.width * self.channels;
        let (from, to) = (left * self.channels, (left + width) * self.channels);
        let mut pixels = Vec::with_capacity(height * (to - from));
        for row in self.pixels[top * line..(top + height) * line].chunks_exact(line) {
            pixels.extend_from_slice(&row[from..to]);
        }
        Self { width, height, channels: self.channels, pixels }
    }
}

/// The weight of a pixel at some distance.
type Kernel = fn(f64) -> f64;

/// A filter's kernel and its reach to either side; none for the nearest pixel.
fn kernel(filter: Interpolation) -> Option<(Kernel, f64)> {
    match filter {
        Interpolation::Nearest => None,
        Interpolation::Bilinear => Some((triangle, 1.0)),
        Interpolation::Bicubic => Some((|x| cubic(x, -0.5), 2.0)),
        Interpolation::Lanczos => Some((lanczos, 3.0)),
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

/// What every pixel of a resized line is made of.
struct Shares {
    /// The first source pixel.
    starts: Vec<usize>,
    /// How many source pixels.
    counts: Vec<usize>,
    /// Room for so many weights a pixel.
    taps: usize,
    values: Vec<f64>,
}

impl Shares {
    /// For the pixels `first..first + count` of a line of `source` pixels resized to `target`.
    fn new(source: usize, target: usize, (first, count): (usize, usize), (kernel, support): (Kernel, f64)) -> Self {
        let scale = source as f64 / target as f64;
        let stretch = scale.max(1.0);
        let support = support * stretch;
        let taps = support.ceil() as usize * 2 + 1;
        let mut all = Self { starts: Vec::new(), counts: Vec::new(), taps, values: vec![0.0; taps * count] };
        for (at, values) in (first..first + count).zip(all.values.chunks_exact_mut(taps)) {
            let centre = (at as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(source).min(start + taps);
            let mut sum = 0.0;
            for (value, x) in values.iter_mut().zip(start..end) {
                *value = kernel((x as f64 - centre + 0.5) * (1.0 / stretch));
                sum += *value;
            }
            if sum != 0.0 {
                values.iter_mut().for_each(|value| *value /= sum);
            }
            all.starts.push(start);
            all.counts.push(end - start);
        }
        all
    }

    /// With so many bits after the point, stored with [`PRECISION`].
    fn rounded(self, bits: u32) -> Weights {
        let Self { starts, counts, taps, values } = self;
        let round = |value: f64| (value * f64::from(1 << bits) + 0.5_f64.copysign(value)) as i32;
        let weights = values.into_iter().map(|value| round(value) << (PRECISION - bits)).collect();
        Weights { starts, counts, taps, weights }
    }
}

/// How many bits after the point PyTorch has in weights of 16 bits.
fn bits(values: &[f64]) -> u32 {
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    (0..PRECISION).find(|bits| 0.5 + most * f64::from(2 << bits) >= f64::from(1 << 15)).unwrap_or(PRECISION)
}

/// The same in whole numbers.
struct Weights {
    starts: Vec<usize>,
    counts: Vec<usize>,
    taps: usize,
    weights: Vec<i32>,
}

impl Weights {
    /// The source pixels that are read: the first, and the one behind the last.
    fn reach(&self) -> (usize, usize) {
        let end = self.starts.iter().zip(&self.counts).map(|(start, count)| start + count).max();
        (self.starts.first().copied().unwrap_or(0), end.unwrap_or(0))
    }

    /// For every pixel, where its source begins and the weights.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let places = self.starts.iter().zip(&self.counts);
        places.zip(self.weights.chunks_exact(self.taps)).map(|((&start, &count), weights)| (start, &weights[..count]))
    }
}

const HALF: i32 = 1 << (PRECISION - 1);

#[inline(always)]
fn level(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Every row of `width` pixels.
#[inline(always)]
fn resize_across(rows: &[u8], width: usize, channels: usize, weights: &Weights) -> Vec<u8> {
    let row = width * channels;
    let mut out = Vec::with_capacity(rows.len() / width * weights.starts.len());
    if channels == 1 {
        for line in rows.chunks_exact(row) {
            out.extend(weights.iter().map(|(start, weights)| {
                let pixels = &line[start..start + weights.len()];
                level(HALF + pixels.iter().zip(weights).map(|(&pixel, weight)| i32::from(pixel) * weight).sum::<i32>())
            }));
        }
        return out;
    }
    if channels == 4 {
        for line in rows.chunks_exact(row) {
            for (start, weights) in weights.iter() {
                let mut sums = [HALF; 4];
                for (pixel, &weight) in line[start * 4..].as_chunks::<4>().0.iter().zip(weights) {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(value) * weight;
                    }
                }
                out.extend_from_slice(&sums.map(level));
            }
        }
        return out;
    }
    // Four values are summed at once, the fourth in vain: it is the next pixel's. The last pixel has no next.
    let mut padded = Vec::with_capacity(row + 1);
    for (at, line) in rows.chunks_exact(row).enumerate() {
        let line = rows.get(at * row..(at + 1) * row + 1).unwrap_or_else(|| {
            padded.extend_from_slice(line);
            padded.push(0);
            &padded
        });
        for (start, weights) in weights.iter() {
            let mut sums = [HALF; 4];
            for (pixel, &weight) in line[start * 3..].windows(4).step_by(3).zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            let [red, green, blue, _] = sums.map(level);
            out.extend_from_slice(&[red, green, blue]);
        }
    }
    out
}

/// All columns; `rows` begins with source row `first`, and `row` values make a row.
#[inline(always)]
fn resize_down(rows: &[u8], row: usize, first: usize, weights: &Weights) -> Vec<u8> {
    const LANES: usize = 64;
    let mut out = vec![0; weights.starts.len() * row];
    for ((start, weights), line) in weights.iter().zip(out.chunks_exact_mut(row)) {
        let source = &rows[(start - first) * row..];
        let (blocks, rest) = line.as_chunks_mut::<LANES>();
        for (block, values) in blocks.iter_mut().enumerate() {
            let mut sums = [HALF; LANES];
            for (weight, line) in weights.iter().zip(source.chunks_exact(row)) {
                for (sum, &value) in sums.iter_mut().zip(&line[block * LANES..(block + 1) * LANES]) {
                    *sum += i32::from(value) * weight;
                }
            }
            *values = sums.map(level);
        }
        let from = row - rest.len();
        for (at, value) in rest.iter_mut().enumerate() {
            let lines = weights.iter().zip(source.chunks_exact(row));
            *value = level(HALF + lines.map(|(weight, line)| i32::from(line[from + at]) * weight).sum::<i32>());
        }
    }
    out
}
