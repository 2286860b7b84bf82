//! Rotation, shear and translation as torchvision moves Pillow's images: sizes stay, and what comes from outside is black.

use rand::Rng;

use crate::data::Image;

/// How a pixel between others is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sampling {
    /// The nearest one.
    Nearest,
    /// Of the four around it, by distance.
    Bilinear,
}

/// Swaps left and right.
pub fn flip(image: &mut Image) {
    for row in image.pixels.chunks_exact_mut(image.width * image.channels) {
        row.reverse();
        // which reversed the channels of every pixel too
        row.chunks_exact_mut(image.channels).for_each(<[u8]>::reverse);
    }
}

/// Rotates by `degrees` against the clock, around the centre (torchvision's `rotate`).
pub fn rotate(image: &mut Image, degrees: f64, sampling: Sampling) {
    if degrees == 0.0 {
        return;
    }
    let round = |value: f64| (value * 1e15).round() / 1e15;
    let (sin, cos) = (-degrees.rem_euclid(360.0).to_radians()).sin_cos();
    let (sin, cos) = (round(sin), round(cos));
    let (x, y) = (image.width as f64 / 2.0, image.height as f64 / 2.0);
    let matrix = [cos, sin, -cos * x - sin * y + x, -sin, cos, sin * x - cos * y + y];
    match sampling {
        Sampling::Nearest => nearest(image, matrix),
        Sampling::Bilinear => bilinear(image, matrix),
    }
}

/// Moves every row by its number times `slope` to the left (torchvision's `affine` with a shear, as its AutoAugment uses it).
pub fn shear_x(image: &mut Image, slope: f64) {
    nearest(image, [1.0, slope, 0.0, 0.0, 1.0, 0.0]);
}

/// Moves every column by its number times `slope` up.
pub fn shear_y(image: &mut Image, slope: f64) {
    nearest(image, [1.0, 0.0, 0.0, slope, 1.0, 0.0]);
}

/// Moves the image by whole pixels to the right and down (torchvision's `affine` with a translation).
pub fn translate(image: &mut Image, right: i64, down: i64) {
    nearest(image, [1.0, 0.0, -right as f64, 0.0, 1.0, -down as f64]);
}

/// An angle of torchvision's `RandomRotation(15)`, in degrees.
pub(super) fn draw_angle(rng: &mut impl Rng) -> f64 {
    rng.random_range(-15.0..=15.0)
}

/// From the pixel nearest to `matrix · (x, y, 1)`, in Pillow's 16.16 fixed point (`affine_fixed` of `Geometry.c`).
fn nearest(image: &mut Image, matrix: [f64; 6]) {
    let [a, b, c, d, e, f] = matrix;
    let fixed = |value: f64| (value * 65536.0 + 0.5).floor() as i64;
    let [across, down] = [[fixed(a), fixed(d)], [fixed(b), fixed(e)]];
    let start = [fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5)];
    redraw(image, |source, x, y, pixel| {
        let [x, y] = [0, 1].map(|i| (start[i] + down[i] * y as i64 + across[i] * x as i64) >> 16);
        if (0..source.width as i64).contains(&x) && (0..source.height as i64).contains(&y) {
            let at = (y as usize * source.width + x as usize) * source.channels;
            pixel.copy_from_slice(&source.pixels[at..at + source.channels]);
        }
    });
}

/// From the four pixels around `matrix · (x, y, 1)`, cut to 8 bits without rounding (Pillow's `bilinear_filter`).
fn bilinear(image: &mut Image, matrix: [f64; 6]) {
    let [a, b, c, d, e, f] = matrix;
    redraw(image, |source, x, y, pixel| {
        let (x, y) = (x as f64 + 0.5, y as f64 + 0.5);
        let (x, y) = (a * x + b * y + c, d * x + e * y + f);
        if !(0.0..source.width as f64).contains(&x) || !(0.0..source.height as f64).contains(&y) {
            return;
        }
        let (left, top) = ((x - 0.5).floor(), (y - 0.5).floor());
        let (right_share, lower_share) = (x - 0.5 - left, y - 0.5 - top);
        let pair = |at: f64, side: usize| [at, at + 1.0].map(|at| at.clamp(0.0, (side - 1) as f64) as usize);
        let (columns, rows) = (pair(left, source.width), pair(top, source.height));
        let between = |[from, to]: [f64; 2], share: f64| from + (to - from) * share;
        for (channel, level) in pixel.iter_mut().enumerate() {
            let at = |row: usize, column: usize| (row * source.width + column) * source.channels + channel;
            let lines = rows.map(|row| between(columns.map(|c| f64::from(source.pixels[at(row, c)])), right_share));
            *level = between(lines, lower_share) as u8;
        }
    });
}

/// Makes every pixel anew from the image as it was, its column and its row; where `draw` does nothing it is black.
fn redraw(image: &mut Image, draw: impl Fn(&Image, usize, usize, &mut [u8])) {
    let mut pixels = vec![0; image.pixels.len()];
    for (index, pixel) in pixels.chunks_exact_mut(image.channels).enumerate() {
        draw(image, index % image.width, index / image.width, pixel);
    }
    image.pixels = pixels;
}
