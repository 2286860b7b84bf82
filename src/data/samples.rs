//! Labelled images by index, and a decoded image.

use std::sync::Arc;

use tallow_weights::{Preprocessing, Transparency};

use super::digest::Digest;
use super::error::{Error, Result};

/// A decoded image: 8 bits a channel, rows from top to bottom, channels interleaved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// 1 (grey), 3 (RGB) or 4 (RGB and alpha).
    pub channels: usize,
    /// `height * width * channels` values.
    pub pixels: Vec<u8>,
}

/// What becomes of the transparency of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Alpha {
    /// It is left out, and the colours stay as they are: Pillow's `convert("RGB")`.
    #[default]
    Dropped,
    /// It is a fourth channel; what has none is opaque.
    Kept,
    /// The image is laid on white, as image processors of transformers do it.
    OnWhite,
    /// It is a fourth channel of images that have one; that of single colours is left out.
    AsItLies,
}

impl Alpha {
    /// What becomes of it where images are made into a model's input so.
    pub fn of(preprocessing: &Preprocessing) -> Self {
        match (preprocessing.input_size[0], preprocessing.transparency) {
            (4, _) => Self::Kept,
            (_, Transparency::OnWhite) => Self::OnWhite,
            (3, Transparency::Resized) => Self::AsItLies,
            _ => Self::Dropped,
        }
    }

    /// What becomes of it for a model of so many channels, where nothing else is said.
    pub fn of_channels(channels: usize) -> Self {
        if channels == 4 { Self::Kept } else { Self::Dropped }
    }
}

impl Image {
    /// Checks an image that a program made: it has 1, 3 or 4 channels, and as many values as its size says. `name` is for messages.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, name: &str) -> Result<()> {
        let Self { width, height, channels, .. } = *self;
        if !matches!(channels, 1 | 3 | 4) {
            return Err(Error::invalid(name, "1 channel (grey), 3 (RGB) or 4 (RGBA)", channels));
        }
        let values = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
        if values != Some(self.pixels.len()) || self.pixels.is_empty() {
            let expected =
                format!("a value for each of {width}x{height} pixels in {channels} channels, and at least one");
            return Err(Error::invalid(name, expected, self.pixels.len()));
        }
        Ok(())
    }

    /// The luma of a colour image (ITU-R 601-2, in Pillow's integers), without its alpha; a grey image as it is.
    pub fn to_grey(&self) -> Self {
        if self.channels == 1 {
            return self.clone();
        }
        let luma = |p: &[u8]| {
            let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        };
        let pixels = self.pixels.chunks_exact(self.channels).map(luma).collect();
        Self { width: self.width, height: self.height, channels: 1, pixels }
    }

    /// Red, green and blue alone; a grey image as it is.
    pub fn to_rgb(&self) -> Self {
        if self.channels != 4 {
            return self.clone();
        }
        let pixels = self.pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
        Self { width: self.width, height: self.height, channels: 3, pixels }
    }

    /// Laid on white, with the integers of Pillow's `alpha_composite`; an image without alpha as it is.
    pub fn on_white(&self) -> Self {
        if self.channels != 4 {
            return self.clone();
        }
        let laid = |p: &[u8]| {
            let alpha = u32::from(p[3]);
            // 128 parts, divided by 255 and rounded.
            let over_white = |level: u8| {
                let sum = (u32::from(level) * alpha + 255 * (255 - alpha)) * 128 + 0x4000;
                ((((sum >> 8) + sum) >> 8) >> 7) as u8
            };
            [p[0], p[1], p[2]].map(over_white)
        };
        let pixels = self.pixels.chunks_exact(4).flat_map(laid).collect();
        Self { width: self.width, height: self.height, channels: 3, pixels }
    }

    /// As it is read where this becomes of its transparency.
    pub fn read_as(&self, alpha: Alpha) -> Self {
        match alpha {
            Alpha::Dropped => self.to_rgb(),
            Alpha::Kept => self.to_rgba(),
            Alpha::OnWhite => self.on_white(),
            Alpha::AsItLies => self.clone(),
        }
    }

    /// Red, green, blue and alpha; what has no alpha is opaque.
    pub fn to_rgba(&self) -> Self {
        let rgba = |p: &[u8]| match *p {
            [grey] => [grey, grey, grey, 255],
            [r, g, b] => [r, g, b, 255],
            _ => [p[0], p[1], p[2], p[3]],
        };
        let pixels = self.pixels.chunks_exact(self.channels).flat_map(rgba).collect();
        Self { width: self.width, height: self.height, channels: 4, pixels }
    }
}

/// Labelled images by index. Reading is lazy: an image is decoded when it is asked for.
pub trait Samples: Send + Sync {
    /// How many samples there are.
    fn len(&self) -> usize;
    /// The label of sample `index`.
    fn label(&self, index: usize) -> u32;
    /// Decodes sample `index`.
    ///
    /// # Errors
    /// If it cannot be read, or is a point and no image (see [`Samples::point`]).
    fn image(&self, index: usize) -> Result<Image>;
    /// Sample `index`, where this becomes of its transparency; [`Samples::image`] drops it.
    ///
    /// # Errors
    /// As [`Samples::image`].
    fn image_as(&self, index: usize, alpha: Alpha) -> Result<Image> {
        let image = self.image(index)?;
        Ok(match alpha {
            // What is grey or RGB is that already.
            Alpha::Dropped | Alpha::AsItLies => image,
            Alpha::Kept | Alpha::OnWhite => image.read_as(alpha),
        })
    }
    /// Reads sample `index` only to see whether it can be read, where this becomes of its transparency; gives what is to be told
    /// of it.
    ///
    /// # Errors
    /// As [`Samples::image`].
    fn look(&self, index: usize, _alpha: Alpha) -> Result<Look> {
        // What is in memory in full needs no look.
        if self.point(index).is_none() && self.image_size().is_none() {
            self.image(index)?;
        }
        Ok(Look::default())
    }
    /// What to call sample `index` in a message or report: a file's path inside of the data set, or its part and index.
    fn name(&self, index: usize) -> String;
    /// The coordinates of sample `index`, where the samples are points and not images. A model reads a point of n
    /// coordinates as they are, with shape `[n, 1, 1]`.
    fn point(&self, _index: usize) -> Option<&[f32]> {
        None
    }
    /// How many coordinates the samples have, where they are points and not images.
    fn coordinates(&self) -> Option<usize> {
        if self.is_empty() { None } else { self.point(0).map(<[f32]>::len) }
    }
    /// Height, width and channels of every image, where all are of one size.
    fn image_size(&self) -> Option<[usize; 3]> {
        None
    }
    /// The hash of what sample `index` holds: of its file where it has one of its own, else of its pixels or coordinates.
    ///
    /// # Errors
    /// If it cannot be read.
    fn digest(&self, index: usize) -> Result<Digest> {
        match self.point(index) {
            Some(point) => Ok(Digest::of_point(point)),
            None => Ok(Digest::of_image(&self.image(index)?)),
        }
    }
    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a look at an image that can be read showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Look {
    /// What is not as it should be about it, as words behind "3 of 10 images".
    pub odd: Option<&'static str>,
    /// Whether its file says that it does not lie as it is meant, whether that is applied or not.
    pub orientation_noted: bool,
}

/// A part without samples.
pub(super) fn nothing() -> Arc<dyn Samples> {
    struct Nothing;

    impl Samples for Nothing {
        fn len(&self) -> usize {
            0
        }
        fn label(&self, _: usize) -> u32 {
            0
        }
        fn image(&self, index: usize) -> Result<Image> {
            Err(Error::invalid(self.name(index), "a sample", "none"))
        }
        fn name(&self, index: usize) -> String {
            format!("nothing/{index}")
        }
    }

    Arc::new(Nothing)
}
