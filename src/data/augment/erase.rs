//! Random erasing (Zhong et al. 2017) as torchvision's `RandomErasing(0.25)`: a rectangle of the normalised input becomes 0.

use rand::Rng;

/// A rectangle of the input, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rectangle {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// The rectangle to erase, in a quarter of all cases: 2 to 33 % of the area, height to width from 0.3 to 3.3, smaller than
/// the image on both sides. None too where ten attempts found no such rectangle.
pub(super) fn draw_rectangle(width: usize, height: usize, rng: &mut impl Rng) -> Option<Rectangle> {
    if !rng.random_bool(0.25) {
        return None;
    }
    let found = (0..10).find_map(|_| {
        let area = (width * height) as f64 * rng.random_range(0.02..=0.33);
        let ratio = rng.random_range(0.3_f64.ln()..=3.3_f64.ln()).exp();
        let size = ((area / ratio).sqrt().round_ties_even() as usize, (area * ratio).sqrt().round_ties_even() as usize);
        (size.0 < width && size.1 < height).then_some(size)
    });
    found.map(|(w, h)| {
        let top = rng.random_range(0..=height - h);
        Rectangle { left: rng.random_range(0..=width - w), top, width: w, height: h }
    })
}

/// Sets a rectangle of every channel of `values [channels, height, width]` to 0.
pub(super) fn erase(values: &mut [f32], width: usize, height: usize, rectangle: Rectangle) {
    for plane in values.chunks_exact_mut(width * height) {
        for row in plane.chunks_exact_mut(width).skip(rectangle.top).take(rectangle.height) {
            row[rectangle.left..rectangle.left + rectangle.width].fill(0.0);
        }
    }
}
