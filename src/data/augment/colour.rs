//! Brightness, contrast, saturation and hue, level for level as torchvision changes Pillow's images, and their random jitter.

use rand::Rng;
use rand::seq::SliceRandom;

use super::levels::map_levels;
use crate::data::Image;

/// Changes the colours of an image and leaves its alpha channel, where it has one.
pub(in crate::data) fn of_colours(image: &mut Image, change: impl FnOnce(&mut Image)) {
    if image.channels != 4 {
        return change(image);
    }
    let mut colours = image.to_rgb();
    change(&mut colours);
    for (pixel, colour) in image.pixels.chunks_exact_mut(4).zip(colours.pixels.chunks_exact(3)) {
        pixel[..3].copy_from_slice(colour);
    }
}

/// Every level times `factor`: 0 is black, 1 the image as it is (torchvision's `adjust_brightness`).
pub fn adjust_brightness(image: &mut Image, factor: f64) {
    map_levels(image, |_| |level| blend(0, level, factor));
}

/// Away from, or towards, the mean grey of the image: 0 is a grey image, 1 the image as it is (torchvision's
/// `adjust_contrast`).
pub fn adjust_contrast(image: &mut Image, factor: f64) {
    let grey = image.to_grey();
    let sum: u64 = grey.pixels.iter().map(|&level| u64::from(level)).sum();
    let mean = (sum as f64 / grey.pixels.len().max(1) as f64 + 0.5) as u8;
    map_levels(image, |_| |level| blend(mean, level, factor));
}

/// Away from, or towards, every pixel's luma: 0 is the image in grey, 1 the image as it is (torchvision's
/// `adjust_saturation`). A grey image stays as it is.
pub fn adjust_saturation(image: &mut Image, factor: f64) {
    if image.channels == 1 {
        return;
    }
    let grey = image.to_grey().pixels;
    for (pixel, luma) in image.pixels.chunks_exact_mut(3).zip(grey) {
        pixel.iter_mut().for_each(|level| *level = blend(luma, *level, factor));
    }
}

/// Turns the hue by `turn` of a full circle, from -0.5 to 0.5, through Pillow's HSV of 8 bits a channel (torchvision's
/// `adjust_hue`). A grey image stays as it is.
pub fn adjust_hue(image: &mut Image, turn: f64) {
    if image.channels == 1 {
        return;
    }
    let turn = (turn * 255.0) as i32 as u8;
    for pixel in image.pixels.chunks_exact_mut(3) {
        let [hue, saturation, value] = hsv([pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&rgb([hue.wrapping_add(turn), saturation, value]));
    }
}

/// Pillow's `Image.blend`: from `from` to `to` and beyond, in float32, cut to 8 bits without rounding.
pub(super) fn blend(from: u8, to: u8, factor: f64) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    (from + factor as f32 * (to - from)) as u8
}

/// Pillow's conversion from RGB (`rgb2hsv_row` of `Convert.c`), with its mixture of float and double.
fn hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    if max == min {
        return [0, 0, max];
    }
    let range = f32::from(max - min);
    let [rc, gc, bc] = [r, g, b].map(|level| f32::from(max - level) / range);
    let hue = if r == max {
        bc - gc
    } else if g == max {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(hue) / 6.0 + 1.0) % 1.0) as f32;
    let saturation = range / f32::from(max);
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, max]
}

/// Pillow's conversion to RGB (`hsv2rgb` of `Convert.c`).
fn rgb([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixth = f64::from(hue) * 6.0 / 255.0;
    let whole = sixth.floor();
    let rest = f64::from((sixth - whole) as f32);
    let share = f64::from((f64::from(saturation) / 255.0) as f32);
    let level = |less: f64| (f64::from(value) * (1.0 - less)).round() as u8;
    let (p, q, t) = (level(share), level(share * rest), level(share * (1.0 - rest)));
    match whole as u8 % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    }
}

/// A change of one of the four.
pub(in crate::data) type Adjust = fn(&mut Image, f64);

/// The image in grey: every channel its luma (torchvision's `rgb_to_grayscale`). A grey image stays as it is.
pub fn grey(image: &mut Image) {
    if image.channels != 1 {
        let luma = image.to_grey().pixels;
        image.pixels.chunks_exact_mut(image.channels).zip(luma).for_each(|(pixel, luma)| pixel.fill(luma));
    }
}

/// What torchvision's `ColorJitter(0.4, 0.4, saturation, 0.1)` draws: brightness and contrast times 0.6 to 1.4, saturation times
/// 1 - `saturation` to 1 + `saturation`, the hue turned by -0.1 to 0.1, in an order that is random too.
pub(in crate::data) fn draw_jitter(saturation: f64, rng: &mut impl Rng) -> [(Adjust, f64); 4] {
    let mut factor = |by: f64| rng.random_range(1. - by..=1. + by);
    let mut changes: [(Adjust, f64); 4] = [
        (adjust_brightness, factor(0.4)),
        (adjust_contrast, factor(0.4)),
        (adjust_saturation, factor(saturation)),
        (adjust_hue, rng.random_range(-0.1..=0.1)),
    ];
    changes.shuffle(rng);
    changes
}
