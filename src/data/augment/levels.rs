//! Changes that give every level of a channel another one, level for level as Pillow's `ImageOps`.

use crate::data::Image;

/// Only the upper `bits` bits of every level, from 1 to 8 (torchvision's `posterize`).
pub fn posterize(image: &mut Image, bits: u32) {
    let mask = u8::MAX << 8_u32.saturating_sub(bits).min(7);
    map_levels(image, |_| |level| level & mask);
}

/// Levels of `threshold` and above inverted (torchvision's `solarize`).
pub fn solarize(image: &mut Image, threshold: f64) {
    map_levels(image, |_| |level| if f64::from(level) < threshold { level } else { 255 - level });
}

/// Every channel stretched from black to white (torchvision's `autocontrast`).
pub fn autocontrast(image: &mut Image) {
    map_levels(image, |histogram| {
        let low = histogram.iter().position(|&count| count > 0).unwrap_or(0);
        let high = histogram.iter().rposition(|&count| count > 0).unwrap_or(0);
        let scale = if high > low { 255.0 / (high - low) as f64 } else { 1.0 };
        let offset = if high > low { -(low as f64) * scale } else { 0.0 };
        move |level| (f64::from(level) * scale + offset) as u8
    });
}

/// Every channel with as even a histogram as one level for another allows (torchvision's `equalize`).
pub fn equalize(image: &mut Image) {
    map_levels(image, |histogram| {
        let last = histogram.iter().rfind(|&&count| count > 0).copied().unwrap_or(0);
        let step = (histogram.iter().sum::<usize>() - last) / 255;
        let before: Vec<usize> = histogram
            .iter()
            .scan(step / 2, |sum, count| {
                let before = *sum;
                *sum += count;
                Some(before)
            })
            .collect();
        move |level| before[usize::from(level)].checked_div(step).map_or(level, |even| even.min(255) as u8)
    });
}

/// Replaces levels channel by channel, as `rule` says for a channel's histogram.
pub(super) fn map_levels<F: Fn(u8) -> u8>(image: &mut Image, rule: impl Fn(&[usize; 256]) -> F) {
    for channel in 0..image.channels {
        let mut histogram = [0; 256];
        let mut levels = image.pixels[channel..].iter_mut().step_by(image.channels);
        levels.by_ref().for_each(|level| histogram[usize::from(*level)] += 1);
        let rule = rule(&histogram);
        let table: [u8; 256] = std::array::from_fn(|level| rule(level as u8));
        let levels = image.pixels[channel..].iter_mut().step_by(image.channels);
        levels.for_each(|level| *level = table[usize::from(*level)]);
    }
}
