//! The random crops of DINO: what may change in each of the several crops that are made of one image.

use rand::Rng;

use super::augment::{colour, filter, geometry, levels};
use super::{Augment, Image};

/// One of the crops of an image, which is drawn anew for every sample: a window, resized, whose colours change.
#[derive(Debug, Clone, PartialEq)]
pub struct Crop {
    /// Height and width in pixels.
    pub size: [usize; 2],
    /// The least and the largest share of the image's area.
    pub scale: [f64; 2],
    /// How often left and right are swapped, colours change, all is made grey, blurred, solarised.
    flip: f64,
    jitter: f64,
    grey: f64,
    blur: f64,
    solarize: f64,
}

/// Which of DINO's three kinds of crops one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CropKind {
    /// The first large one: always blurred.
    First,
    /// The other large ones: seldom blurred, and sometimes solarised.
    Second,
    /// The small ones.
    Local,
}

impl Crop {
    /// The changes that a crop may have, in the order in which they come.
    pub const CHANGES: [Augment; 5] = [Augment::Flip, Augment::Jitter, Augment::Grey, Augment::Blur, Augment::Solarize];

    /// A crop of some kind, with those of its changes that are among `changes`.
    pub fn new(kind: CropKind, size: [usize; 2], scale: [f64; 2], changes: &[Augment]) -> Self {
        let often = |change, how_often| if changes.contains(&change) { how_often } else { 0. };
        let (blur, solarize) = match kind {
            CropKind::First => (1., 0.),
            CropKind::Second => (0.1, 0.2),
            CropKind::Local => (0.5, 0.),
        };
        Self {
            size,
            scale,
            flip: often(Augment::Flip, 0.5),
            jitter: often(Augment::Jitter, 0.8),
            grey: often(Augment::Grey, 0.2),
            blur: often(Augment::Blur, blur),
            solarize: often(Augment::Solarize, solarize),
        }
    }

    /// Changes a resized window: DINO's `flip_and_color_jitter`, `GaussianBlur` and `Solarization`.
    pub(super) fn change(&self, image: &mut Image, rng: &mut impl Rng) {
        if rng.random_bool(self.flip) {
            geometry::flip(image);
        }
        if rng.random_bool(self.jitter) {
            let changes = colour::draw_jitter(0.2, rng);
            colour::of_colours(image, |image| changes.into_iter().for_each(|(adjust, by)| adjust(image, by)));
        }
        if rng.random_bool(self.grey) {
            colour::of_colours(image, colour::grey);
        }
        if rng.random_bool(self.blur) {
            let (size, sigma) = draw_blur(image, rng);
            filter::gaussian_blur(image, size, sigma);
        }
        if rng.random_bool(self.solarize) {
            colour::of_colours(image, |image| levels::solarize(image, 128.));
        }
    }
}

/// A deviation from 0.1 to 2 pixels, and a kernel that is wide enough for it; 3 pixels for images below 64, where more would leave nothing
/// of them.
fn draw_blur(image: &Image, rng: &mut impl Rng) -> (usize, f64) {
    let sigma: f64 = rng.random_range(0.1..=2.0);
    let size = if image.width.min(image.height) < 64 { 3 } else { 2 * (3. * sigma).ceil() as usize + 1 };
    (size, sigma)
}
