//! RandAugment (Cubuk et al. 2019) as torchvision's `RandAugment()`: two operations of one magnitude, each drawn from a table.

use rand::Rng;

use super::colour::{adjust_brightness, adjust_contrast, adjust_saturation, of_colours};
use super::filter::adjust_sharpness;
use super::geometry::{Sampling, rotate, shear_x, shear_y, translate};
use super::levels::{autocontrast, equalize, posterize, solarize};
use crate::data::Image;

/// Operations on one image.
const OPERATIONS: usize = 2;
/// The magnitude of all of them, of so many steps from 0.
const MAGNITUDE: f32 = 9.0;
const STEPS: f32 = 30.0;

/// An operation of RandAugment's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are torchvision's, and the table below says what they do")]
#[non_exhaustive]
pub enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

impl Operation {
    /// torchvision's table, in its order.
    pub const ALL: [Self; 14] = [
        Self::Identity,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::AutoContrast,
        Self::Equalize,
    ];

    /// Its magnitude for an image of `width` by `height` at magnitude 9 of 30, and whether its sign is drawn.
    pub fn magnitude(self, width: usize, height: usize) -> (f64, bool) {
        // in float32, as in torchvision: what is cut to whole pixels depends on it
        let share = |largest: f64| f64::from(largest as f32 / STEPS * MAGNITUDE);
        let of_side = |side: usize| share(150.0 / 331.0 * side as f64);
        match self {
            Self::Identity | Self::AutoContrast | Self::Equalize => (0.0, false),
            Self::ShearX | Self::ShearY => (share(0.3), true),
            Self::TranslateX => (of_side(width), true),
            Self::TranslateY => (of_side(height), true),
            Self::Rotate => (share(30.0), true),
            Self::Brightness | Self::Color | Self::Contrast | Self::Sharpness => (share(0.9), true),
            Self::Posterize => (8.0 - share(4.0).round_ties_even(), false),
            Self::Solarize => (255.0 - share(255.0), false),
        }
    }

    /// Changes an image by this operation: radians' tangents, pixels, degrees, factors less 1, bits or a threshold, as the
    /// operation reads its magnitude.
    ///
    /// An alpha channel moves with its image; what changes colours leaves it as it is.
    pub fn apply(self, image: &mut Image, magnitude: f64) {
        match self {
            Self::Identity => {}
            Self::ShearX => shear_x(image, magnitude),
            Self::ShearY => shear_y(image, magnitude),
            Self::TranslateX => translate(image, magnitude as i64, 0),
            Self::TranslateY => translate(image, 0, magnitude as i64),
            Self::Rotate => rotate(image, magnitude, Sampling::Nearest),
            colours => of_colours(image, |image| colours.recolour(image, magnitude)),
        }
    }

    fn recolour(self, image: &mut Image, magnitude: f64) {
        match self {
            Self::Identity | Self::ShearX | Self::ShearY | Self::TranslateX | Self::TranslateY | Self::Rotate => {}
            Self::Brightness => adjust_brightness(image, 1.0 + magnitude),
            Self::Color => adjust_saturation(image, 1.0 + magnitude),
            Self::Contrast => adjust_contrast(image, 1.0 + magnitude),
            Self::Sharpness => adjust_sharpness(image, 1.0 + magnitude),
            Self::Posterize => posterize(image, magnitude as u32),
            Self::Solarize => solarize(image, magnitude),
            Self::AutoContrast => autocontrast(image),
            Self::Equalize => equalize(image),
        }
    }
}

/// The operations on one image of `width` by `height`, with their magnitudes.
pub(super) fn draw_operations(width: usize, height: usize, rng: &mut impl Rng) -> [(Operation, f64); OPERATIONS] {
    std::array::from_fn(|_| {
        let operation = Operation::ALL[rng.random_range(0..Operation::ALL.len())];
        let (magnitude, signed) = operation.magnitude(width, height);
        (operation, if signed && rng.random_bool(0.5) { -magnitude } else { magnitude })
    })
}
