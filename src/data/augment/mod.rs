//! Augmentation by name: what may change in an image from epoch to epoch in training.
//!
//! Whatever the order of the names, the changes come in the order of [`Augment`]'s members, torchvision's usual one: on the
//! image of 8 bits from the crop to the blur, on the normalised input the erasing. For given parameters the results are
//! those of torchvision's functions on Pillow's images, level for level; [`colour`], [`levels`], [`geometry`], [`filter`] and
//! [`randaugment`] have them for any image.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Error, Image, Result};

pub mod colour;
pub mod filter;
pub mod geometry;
pub mod levels;
pub mod randaugment;

mod erase;

/// One kind of augmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Augment {
    /// `crop`: a window of the input's size at a random place of the image, which is resized as in evaluation. Where that
    /// leaves no room for a choice, the image first gets a black border of an eighth of the input's size on all sides
    /// (torchvision's `RandomCrop(32, padding=4)`).
    Crop,
    /// `resized-crop`: a random window with 8 to 100 % of the area and an aspect ratio between 3:4 and 4:3, resized to the
    /// input's size (torchvision's `RandomResizedCrop`).
    ResizedCrop,
    /// `flip`: left and right swapped, half of the time.
    Flip,
    /// `randaugment`: two operations of a table of fourteen, at magnitude 9 of 30 (torchvision's `RandAugment`).
    Randaugment,
    /// `jitter`: brightness, contrast and saturation times 0.6 to 1.4 and the hue turned by up to a tenth of the circle, in
    /// random order (torchvision's `ColorJitter(0.4, 0.4, 0.4, 0.1)`). Grey images have neither saturation nor hue.
    Jitter,
    /// `grey`: without its colours, in a fifth of all cases (torchvision's `RandomGrayscale(0.2)`).
    Grey,
    /// `rotate`: by up to 15 degrees to either side, bilinear, the corners black (torchvision's `RandomRotation(15)`).
    Rotate,
    /// `blur`: by a Gaussian kernel with a deviation from 0.1 to 2 pixels, 3 pixels wide for inputs below 64 pixels, else 5
    /// (torchvision's `GaussianBlur`).
    Blur,
    /// `solarize`: levels from the middle on inverted, in a fifth of all cases (torchvision's `RandomSolarize(128, 0.2)`).
    Solarize,
    /// `erase`: a rectangle of 2 to 33 % of the area set to 0 after normalisation, in a quarter of all cases (torchvision's
    /// `RandomErasing(0.25)`).
    Erase,
}

impl Augment {
    /// All of them, in the order in which they change an image.
    pub const ALL: [Self; 10] = [
        Self::Crop,
        Self::ResizedCrop,
        Self::Flip,
        Self::Randaugment,
        Self::Jitter,
        Self::Grey,
        Self::Rotate,
        Self::Blur,
        Self::Solarize,
        Self::Erase,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crop => "crop",
            Self::ResizedCrop => "resized-crop",
            Self::Flip => "flip",
            Self::Randaugment => "randaugment",
            Self::Jitter => "jitter",
            Self::Grey => "grey",
            Self::Rotate => "rotate",
            Self::Blur => "blur",
            Self::Solarize => "solarize",
            Self::Erase => "erase",
        }
    }

    /// Does its part on a cropped image of 8 bits.
    pub(super) fn change(self, image: &mut Image, rng: &mut impl Rng) {
        match self {
            Self::Crop | Self::ResizedCrop | Self::Erase => {}
            Self::Flip => {
                if rng.random_bool(0.5) {
                    geometry::flip(image);
                }
            }
            Self::Randaugment => {
                let operations = randaugment::draw_operations(image.width, image.height, rng);
                operations.into_iter().for_each(|(operation, magnitude)| operation.apply(image, magnitude));
            }
            Self::Jitter => {
                let changes = colour::draw_jitter(0.4, rng);
                colour::of_colours(image, |image| changes.into_iter().for_each(|(adjust, by)| adjust(image, by)));
            }
            Self::Grey => {
                if rng.random_bool(0.2) {
                    colour::of_colours(image, colour::grey);
                }
            }
            Self::Solarize => {
                if rng.random_bool(0.2) {
                    colour::of_colours(image, |image| levels::solarize(image, 128.));
                }
            }
            Self::Rotate => {
                let angle = geometry::draw_angle(rng);
                let turn = |image: &mut Image| geometry::rotate(image, angle, geometry::Sampling::Bilinear);
                if image.channels == 4 {
                    // As Pillow does where pixels are mixed.
                    let mut premultiplied = image.premultiplied();
                    turn(&mut premultiplied);
                    *image = premultiplied.unpremultiplied();
                } else {
                    turn(image);
                }
            }
            Self::Blur => {
                let (size, sigma) = filter::draw_blur(image, rng);
                filter::gaussian_blur(image, size, sigma);
            }
        }
    }

    /// Does its part on normalised values `[channels, height, width]`.
    pub(super) fn change_values(self, values: &mut [f32], width: usize, height: usize, rng: &mut impl Rng) {
        if self == Self::Erase
            && let Some(rectangle) = erase::draw_rectangle(width, height, rng)
        {
            erase::erase(values, width, height, rectangle);
        }
    }

    /// Reads a list such as `crop,flip`; `none` is the empty one.
    ///
    /// # Errors
    /// If a name is unknown, or two exclude each other.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        if text.trim() == "none" {
            return Ok(Vec::new());
        }
        let list = text.split(',').map(str::parse).collect::<Result<Vec<_>>>()?;
        Self::check(&list)?;
        Ok(list)
    }

    /// Whether the members of `list` go together.
    ///
    /// # Errors
    /// If one is there twice, or two exclude each other.
    pub(crate) fn check(list: &[Self]) -> Result<()> {
        if let Some(twice) = list.iter().enumerate().find(|(i, a)| list[..*i].contains(a)) {
            return Err(Error::invalid("augment", "every name once", format!("{} twice", twice.1)));
        }
        if list.contains(&Self::Crop) && list.contains(&Self::ResizedCrop) {
            return Err(Error::invalid("augment", "one kind of crop", "crop and resized-crop"));
        }
        Ok(())
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Augment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|a| a.name() == text.trim()).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::invalid(
                "augment",
                format!("some of {known}, separated by commas, or none alone"),
                format!("{text:?}"),
            )
        })
    }
}

impl From<Augment> for String {
    fn from(augment: Augment) -> Self {
        augment.name().to_string()
    }
}

impl TryFrom<String> for Augment {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::randaugment::Operation;
    use super::*;

    const DRAWS: usize = 20_000;

    /// `DRAWS` draws of a law.
    fn draws<T>(mut draw: impl FnMut(&mut ChaCha8Rng) -> T) -> Vec<T> {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        (0..DRAWS).map(|_| draw(&mut rng)).collect()
    }

    fn mean(values: impl Iterator<Item = f64>) -> f64 {
        values.sum::<f64>() / DRAWS as f64
    }

    /// Whether `values` look like a uniform law from `low` to `high`: its mean within four standard errors, its variance, its
    /// ends nearly reached and never passed.
    #[track_caller]
    fn assert_uniform(values: &[f64], low: f64, high: f64) {
        let width = high - low;
        let (centre, error) = (mean(values.iter().copied()), width / (12.0 * DRAWS as f64).sqrt());
        assert!((centre - (low + high) / 2.0).abs() < 4.0 * error, "mean {centre}");
        let variance = mean(values.iter().map(|value| (value - centre).powi(2)));
        assert!((variance / (width * width / 12.0) - 1.0).abs() < 0.03, "variance {variance}");
        let (least, largest) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
        assert!(low <= least && least < low + width / 1000.0, "from {least}");
        assert!(high - width / 1000.0 < largest && largest <= high, "to {largest}");
    }

    /// Whether a share is `expected`, within four standard errors.
    #[track_caller]
    fn assert_share(count: usize, of: usize, expected: f64) {
        let (share, error) = (count as f64 / of as f64, (expected * (1.0 - expected) / of as f64).sqrt());
        assert!((share - expected).abs() < 4.0 * error, "{share}, expected {expected}");
    }

    #[test]
    fn jitter_draws_four_uniform_factors_in_an_order_of_equal_chance() {
        type Change = fn(&mut Image, f64);
        let all = draws(|rng| colour::draw_jitter(0.4, rng));
        let changes: [Change; 4] =
            [colour::adjust_brightness, colour::adjust_contrast, colour::adjust_saturation, colour::adjust_hue];
        for (change, range) in changes.iter().zip([0.4, 0.4, 0.4, 0.1]) {
            let place = |jitter: &[(Change, f64); 4]| {
                jitter.iter().position(|(other, _)| std::ptr::fn_addr_eq(*other, *change)).unwrap()
            };
            let factors: Vec<f64> = all.iter().map(|jitter| jitter[place(jitter)].1).collect();
            let centre = if range == 0.4 { 1.0 } else { 0.0 };
            assert_uniform(&factors, centre - range, centre + range);
            for at in 0..4 {
                assert_share(all.iter().filter(|jitter| place(jitter) == at).count(), DRAWS, 0.25);
            }
        }
    }

    #[test]
    fn angles_and_blurs_are_uniform() {
        assert_uniform(&draws(geometry::draw_angle), -15.0, 15.0);
        let image = |side| Image { width: side, height: 100, channels: 1, pixels: Vec::new() };
        let blurs = draws(|rng| filter::draw_blur(&image(63), rng));
        assert!(blurs.iter().all(|(size, _)| *size == 3));
        assert_uniform(&blurs.iter().map(|(_, sigma)| *sigma).collect::<Vec<_>>(), 0.1, 2.0);
        assert_eq!(filter::draw_blur(&image(64), &mut ChaCha8Rng::seed_from_u64(0)).0, 5);
    }

    #[test]
    fn randaugment_draws_two_operations_of_equal_chance_and_a_sign_where_there_is_one() {
        let all = draws(|rng| randaugment::draw_operations(32, 32, rng));
        for place in 0..2 {
            for operation in Operation::ALL {
                let drawn = || all.iter().map(|operations| operations[place]).filter(|(o, _)| *o == operation);
                assert_share(drawn().count(), DRAWS, 1.0 / 14.0);
                if operation.magnitude(32, 32).1 {
                    assert_share(drawn().filter(|(_, magnitude)| *magnitude < 0.0).count(), drawn().count(), 0.5);
                }
            }
        }
        let alike = all.iter().filter(|[first, second]| first.0 == second.0).count();
        assert_share(alike, DRAWS, 1.0 / 14.0);
    }

    #[test]
    fn erasing_draws_rectangles_as_torchvision_does() {
        // Means over 40,000 of `RandomErasing.get_params(torch.ones(1, height, width), (0.02, 0.33), (0.3, 3.3), [0.])` of
        // torchvision 0.29: top, left, height, width, area; and their deviations.
        let references = [
            ((32, 32), [9.1882, 9.2455, 13.5485, 13.6358, 0.1743], [6.6467, 6.6353, 6.1789, 6.2390, 0.0892]),
            ((40, 28), [7.2798, 12.8095, 13.4682, 14.4988, 0.1698], [5.5624, 8.5407, 5.7350, 6.6894, 0.0879]),
        ];
        for ((width, height), means, deviations) in references {
            let all = draws(|rng| erase::draw_rectangle(width, height, rng));
            let found: Vec<_> = all.iter().flatten().collect();
            assert_share(found.len(), DRAWS, 0.25);
            let values = found.iter().map(|r| {
                let area = (r.width * r.height) as f64 / (width * height) as f64;
                [r.top as f64, r.left as f64, r.height as f64, r.width as f64, area]
            });
            let sums = values.fold([0.0; 5], |sums, values| std::array::from_fn(|i| sums[i] + values[i]));
            for ((sum, mean), deviation) in sums.into_iter().zip(means).zip(deviations) {
                let got: f64 = sum / found.len() as f64;
                let error = deviation / (found.len() as f64).sqrt();
                assert!((got - mean).abs() < 4.5 * error, "{got}, expected {mean} ± {error}");
            }
        }
    }
}
