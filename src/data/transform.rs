//! From a decoded image to the values that a model reads: the evaluation transform, and augmentation on top of it.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tallow_models::images::{self, Taps};
use tallow_weights::{CheckpointConfig, Preprocessing, Resizing, Whitening};

use super::resize::{self, Resizer};
use super::{Alpha, Augment, Crop, Error, Image, Result, Samples};

/// What a sample's random choices come from, and nothing else: neither threads nor an interruption change them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Draw {
    /// The run's seed.
    pub seed: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The sample's index in its part of the data set.
    pub index: u64,
}

impl Draw {
    pub(super) fn rng(self) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        key[16..24].copy_from_slice(&self.index.to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }
}

/// Makes an image into a model's input: `[channels, height, width]` in float32.
///
/// In evaluation as timm does: resize the shorter side to `input / crop_pct`, crop the centre, scale to [0, 1], subtract
/// the mean, divide by the deviation. A colour image becomes grey for a grey model as in Pillow's `convert("L")`; a grey
/// image is repeated for a model in colour. In training, [`Augment`] says where the crop is and what else changes. Whitening
/// comes last, over whole batches.
#[derive(Debug, Clone)]
pub struct Transform {
    input: [usize; 3],
    /// Height and width before the crop.
    scaled: (usize, usize),
    squash: bool,
    crop_floor: bool,
    /// What becomes of the transparency of images.
    alpha: Alpha,
    keep_size: bool,
    resizer: Resizer,
    /// In the order of [`Augment::ALL`].
    augment: Vec<Augment>,
    /// The normalised value of every level, per channel.
    levels: Vec<[f32; 256]>,
    whitening: Option<Whitening>,
    /// Several random crops in place of one image, one after the other.
    crops: Vec<Crop>,
}

/// Images in 8-bit levels, of which a device makes the model's input ([`Transform::finish`]): a fraction of the bytes.
#[derive(Debug, Clone)]
pub(super) struct Levels {
    /// Height, width and channels.
    pub size: [usize; 3],
    /// How the device resizes them, across and down; none where they are of the input's size.
    taps: Option<(Taps, Taps)>,
}

/// Which part of a resized image becomes the input; it may be partly outside, which is black.
struct Window {
    left: i64,
    top: i64,
    /// Width and height of the resized image.
    resized: (usize, usize),
}

impl Transform {
    /// The evaluation transform.
    ///
    /// # Errors
    /// If the preprocessing makes no sense.
    pub fn evaluation(preprocessing: &Preprocessing) -> Result<Self> {
        Self::training(preprocessing, &[])
    }

    /// The training transform: as in evaluation, but for what `augment` changes. What is augmented is resized and cropped as timm does
    /// it ([`Preprocessing::of_training`]).
    ///
    /// # Errors
    /// If the preprocessing makes no sense, or two augmentations exclude each other.
    pub fn training(preprocessing: &Preprocessing, augment: &[Augment]) -> Result<Self> {
        const MAX_SIDE: usize = 16384;
        let own = preprocessing.clone();
        let preprocessing = &if augment.is_empty() { own } else { own.of_training() };
        let per_channel = preprocessing.clone().per_channel();
        let Preprocessing { input_size, crop_pct, squash, crop_floor, mean, std, .. } = &per_channel;
        let [channels, height, width] = *input_size;
        if channels == 0 || height == 0 || width == 0 || height > MAX_SIDE || width > MAX_SIDE {
            let expected = format!("channels, height and width from 1 to {MAX_SIDE}");
            return Err(Error::invalid("input size", expected, format!("{input_size:?}")));
        }
        if !(*crop_pct >= 0.05 && *crop_pct <= 20.0) {
            return Err(Error::invalid("crop_pct", "a share between 0.05 and 20, usually from 0.8 to 1", crop_pct));
        }
        Augment::check(augment)?;
        check_values("mean", mean, channels)?;
        check_values("std", std, channels)?;
        if let Some(bad) = std.iter().find(|s| **s <= 0.0) {
            return Err(Error::invalid("std", "positive deviations", bad));
        }
        let levels = mean
            .iter()
            .zip(std)
            // in torchvision's order of operations, in float32
            .map(|(m, s)| std::array::from_fn(|level| (level as f32 / 255.0 - *m as f32) / *s as f32))
            .collect();
        let scaled = |side: usize| (side as f64 / crop_pct).floor() as usize;
        Ok(Self {
            input: *input_size,
            scaled: (scaled(height).max(1), scaled(width).max(1)),
            squash: *squash,
            crop_floor: *crop_floor,
            alpha: Alpha::of(&per_channel),
            keep_size: preprocessing.keep_size,
            resizer: Resizer { filter: preprocessing.interpolation, resizing: preprocessing.resizing },
            augment: Augment::ALL.into_iter().filter(|member| augment.contains(member)).collect(),
            levels,
            whitening: None,
            crops: Vec::new(),
        })
    }

    /// A transform that makes several random crops of every image, in the shape `[channels, 1, pixels of all crops]`: the values of the
    /// first crop, `[channels, height, width]`, then those of the next.
    ///
    /// # Errors
    /// If the preprocessing makes no sense.
    pub fn crops(preprocessing: &Preprocessing, crops: Vec<Crop>) -> Result<Self> {
        let mut transform = Self::training(&preprocessing.clone().of_training(), &[])?;
        transform.input = [transform.input[0], 1, crops.iter().map(|crop| crop.size.iter().product::<usize>()).sum()];
        transform.crops = crops;
        Ok(transform)
    }

    /// The evaluation transform of a checkpoint, its whitening included.
    ///
    /// # Errors
    /// As [`Transform::evaluation`] and [`Transform::whitened`].
    pub fn of(config: &CheckpointConfig) -> Result<Self> {
        Self::evaluation(&config.preprocessing)?.whitened(config.whitening.clone())
    }

    /// The same with whitening of what it makes.
    ///
    /// # Errors
    /// If the whitening is of inputs of another size.
    pub fn whitened(mut self, whitening: Option<Whitening>) -> Result<Self> {
        whitening.iter().try_for_each(|whitening| whitening.check_input(self.input))?;
        self.whitening = whitening;
        Ok(self)
    }

    /// `[channels, height, width]` of what it makes.
    pub fn input_size(&self) -> [usize; 3] {
        self.input
    }

    /// Whether the model reads images at all: grey, RGB or RGBA.
    ///
    /// # Errors
    /// If it reads another number of channels.
    pub fn check_reads_images(&self) -> Result<()> {
        match self.input[0] {
            1 | 3 | 4 => Ok(()),
            channels => {
                let expected = "a model that reads 1 (grey), 3 (RGB) or 4 channels (RGBA)";
                Err(Error::invalid("images", expected, format!("one that reads {channels}")))
            }
        }
    }

    /// A sample as the transform reads it.
    pub(super) fn read(&self, samples: &dyn Samples, index: usize) -> Result<Image> {
        let image = samples.image_as(index, self.alpha)?;
        self.check_size(&image, || samples.name(index))?;
        Ok(image)
    }

    /// Where images are neither resized nor cropped, they have to be of the input's size.
    fn check_size(&self, image: &Image, name: impl FnOnce() -> String) -> Result<()> {
        let [_, height, width] = self.input;
        if !(self.keep_size && self.squash) || (image.height, image.width) == (height, width) {
            return Ok(());
        }
        let expected =
            format!("{width}x{height} pixels: the model's image processor neither resizes (do_resize) nor crops");
        Err(Error::invalid(name(), expected, format!("{}x{}", image.width, image.height)))
    }

    /// One image as a tensor `[channels, height, width]` on the CPU.
    ///
    /// # Errors
    /// If the model reads neither grey nor colour images.
    pub fn tensor(&self, image: &Image, draw: Draw) -> Result<Tensor> {
        let mut values = vec![0.0; self.input.iter().product()];
        self.apply(image, draw, &mut values)?;
        Ok(self.batch(values, 1, 1)?.squeeze(0)?)
    }

    /// The batch `[samples, channels, height, width]` of what [`Transform::apply`] wrote, one sample after the other. Whitening
    /// is a product with a large matrix, which is read once for all of them.
    ///
    /// A matrix product may round a row differently where it has fewer rows. What is whitened is filled up to `at_least` samples, so
    /// that a sample is the same in whichever batch it comes.
    pub(super) fn batch(&self, mut values: Vec<f32>, samples: usize, at_least: usize) -> Result<Tensor> {
        let [channels, height, width] = self.input;
        let shape = |samples: usize| (samples, channels, height, width);
        let Some(whitening) = &self.whitening else {
            return Ok(Tensor::from_vec(values, shape(samples), &Device::Cpu)?);
        };
        let rows = samples.max(at_least);
        values.resize(rows * channels * height * width, 0.0);
        let batch = whitening.apply(&Tensor::from_vec(values, shape(rows), &Device::Cpu)?)?;
        Ok(batch.narrow(0, 0, samples)?)
    }

    /// The image that an input `[channels, height, width]` shows: the normalisation taken back, and what is then beyond black
    /// or white cut off, and without its alpha channel. A whitened input is shown as it is, with 0 in middle grey and three times the root of its mean square
    /// in black and white.
    ///
    /// # Errors
    /// If the input has another shape.
    pub fn picture(&self, input: &Tensor) -> Result<Image> {
        let [channels, height, width] = self.input;
        if input.dims() != [channels, height, width] {
            let expected = format!("shape {:?}", self.input);
            return Err(Error::invalid("input", expected, format!("{:?}", input.dims())));
        }
        let values = input.permute((1, 2, 0))?.flatten_all()?.to_vec1::<f32>()?;
        if self.whitening.is_some() {
            let squares: f32 = values.iter().map(|value| value * value).sum();
            let scale = 127.5 / (3.0 * (squares / values.len() as f32).sqrt()).max(f32::MIN_POSITIVE);
            let pixels = values.iter().map(|value| (127.5 + scale * value).round().clamp(0.0, 255.0) as u8).collect();
            return Ok(Image { width, height, channels, pixels });
        }
        let level = |(value, levels): (f32, &[f32; 256])| {
            (255.0 * (value - levels[0]) / (levels[255] - levels[0])).round().clamp(0.0, 255.0) as u8
        };
        let pixels = values.into_iter().zip(self.levels.iter().cycle()).map(level).collect();
        let image = Image { width, height, channels, pixels };
        Ok(if channels == 4 { image.to_rgb() } else { image })
    }

    /// Writes the input made from one image to `out`, `channels * height * width` values; whitening comes in
    /// [`Transform::batch`].
    pub(super) fn apply(&self, image: &Image, draw: Draw, out: &mut [f32]) -> Result<()> {
        let mut rng = draw.rng();
        if !self.crops.is_empty() {
            return self.apply_crops(image, &mut rng, out);
        }
        if self.keeps_fractions() {
            return self.apply_floats(image, &mut rng, out);
        }
        let shown = self.seen(image, &mut rng)?;
        let [_, height, width] = self.input;
        self.normalise(&shown, [height, width], out);
        self.augment.iter().for_each(|augment| augment.change_values(out, width, height, &mut rng));
        Ok(())
    }

    /// In which form the images of `samples` can be left to a device: as they are, where all are of one size and smaller than the
    /// input, else as what [`Transform::seen`] gives. None where values are changed after they are normalised.
    pub(super) fn levels(&self, samples: &dyn Samples) -> Option<Levels> {
        let [channels, height, width] = self.input;
        let points = samples.coordinates().is_some() || !self.crops.is_empty();
        if points
            || self.whitening.is_some()
            || self.keeps_fractions()
            || self.augment.contains(&Augment::Erase)
            || ![1, 3].contains(&channels)
        {
            return None;
        }
        if let Some([h, w, c]) = samples.image_size().filter(|_| self.augment.is_empty())
            && h * w * c.min(channels) < height * width * channels
        {
            let resized = self.resized(w, h);
            let (left, top) = (self.centre(resized.0, width), self.centre(resized.1, height));
            if let (Ok(left), Ok(top)) = (usize::try_from(left), usize::try_from(top))
                && let Some(taps) = self.resizer.taps((w, h), resized, resize::Window { left, top, width, height })
            {
                return Some(Levels { size: [h, w, c.min(channels)], taps: Some(taps) });
            }
        }
        Some(Levels { size: [height, width, channels], taps: None })
    }

    /// Writes the levels of one image to `out`, as many as `levels` says.
    pub(super) fn apply_levels(&self, image: &Image, draw: Draw, levels: &Levels, out: &mut [u8]) -> Result<()> {
        let [height, width, channels] = levels.size;
        let shown = if levels.taps.is_none() {
            &self.seen(image, &mut draw.rng())?
        } else if channels == 1 && image.channels != 1 {
            &image.to_grey()
        } else {
            image
        };
        if (shown.height, shown.width) != (height, width) {
            let got = format!("{}x{}", shown.width, shown.height);
            return Err(Error::invalid("image", format!("{width}x{height} pixels as the others"), got));
        }
        if shown.channels == channels {
            out.copy_from_slice(&shown.pixels);
        } else {
            // a grey image is the same in all channels
            out.chunks_exact_mut(channels).zip(&shown.pixels).for_each(|(pixel, &level)| pixel.fill(level));
        }
        Ok(())
    }

    /// The model's input `[batch, channels, height, width]` of `images [batch, height, width, channels]` in levels, where these are.
    /// It differs from what [`Transform::apply`] gives by the rounding of the normalisation.
    pub(super) fn finish(&self, images: &Tensor, levels: &Levels) -> Result<Tensor> {
        let [_, height, width] = self.input;
        let whole;
        let (across, down) = match &levels.taps {
            Some((across, down)) => (across, down),
            None => {
                whole = (Taps::identity(0, width)?, Taps::identity(0, height)?);
                (&whole.0, &whole.1)
            }
        };
        let (scale, shift): (Vec<f32>, Vec<f32>) =
            self.levels.iter().map(|levels| ((levels[255] - levels[0]) / 255., levels[0])).unzip();
        Ok(images::resize(images, (across, down), (&scale, &shift), DType::F32)?)
    }

    /// The image of the input's size that is normalised then; it may be grey for an input of three channels.
    pub(super) fn seen(&self, image: &Image, rng: &mut ChaCha8Rng) -> Result<Image> {
        let image = &*self.converted(image)?;
        let cropped;
        let (image, window) = if self.augment.contains(&Augment::ResizedCrop) {
            cropped = random_crop(image, [0.08, 1.0], rng);
            (&cropped, Window { left: 0, top: 0, resized: (self.input[2], self.input[1]) })
        } else {
            (image, self.window(image, rng))
        };
        let mut shown = self.shown(image, &window)?;
        self.augment.iter().for_each(|augment| augment.change(&mut shown, rng));
        Ok(shown)
    }

    /// The image in the channels that the model reads; what is grey stays grey for a model in colour, and alpha may be left for resizing.
    fn converted<'a>(&self, image: &'a Image) -> Result<Cow<'a, Image>> {
        self.check_reads_images()?;
        self.check_size(image, || "image".into())?;
        Ok(match (self.input[0], image.channels) {
            (1, 4) => Cow::Owned(image.read_as(self.alpha).to_grey()),
            (1, 3) => Cow::Owned(image.to_grey()),
            (3, 4) if self.alpha != Alpha::AsItLies => Cow::Owned(image.read_as(self.alpha)),
            (4, 1 | 3) => Cow::Owned(image.to_rgba()),
            _ => Cow::Borrowed(image),
        })
    }

    /// Writes all crops of one image to `out`.
    fn apply_crops(&self, image: &Image, rng: &mut ChaCha8Rng, out: &mut [f32]) -> Result<()> {
        let image = self.converted(image)?;
        let mut rest = out;
        for crop in &self.crops {
            let [height, width] = crop.size;
            let window = random_crop(&image, crop.scale, rng);
            let mut shown = self.resizer.whole(&window, (width, height))?;
            if self.alpha == Alpha::AsItLies {
                shown = shown.to_rgb();
            }
            crop.change(&mut shown, rng);
            let (own, after) = rest.split_at_mut(self.input[0] * height * width);
            self.normalise(&shown, crop.size, own);
            rest = after;
        }
        Ok(())
    }

    fn window(&self, image: &Image, rng: &mut ChaCha8Rng) -> Window {
        let [_, height, width] = self.input;
        let resized = self.resized(image.width, image.height);
        if !self.augment.contains(&Augment::Crop) {
            return Window { left: self.centre(resized.0, width), top: self.centre(resized.1, height), resized };
        }
        let roomy = resized.0 > width || resized.1 > height;
        let mut place = |side: usize, input: usize| {
            let padding = if roomy { 0 } else { ((input as f64 / 8.0).round() as i64).max(1) };
            let room = side as i64 - input as i64;
            rng.random_range((-padding).min(room)..=(room + padding).max(0))
        };
        Window { left: place(resized.0, width), top: place(resized.1, height), resized }
    }

    /// Where a centre crop begins (torchvision's `CenterCrop`: half a pixel is rounded to even; what is missing is added on
    /// both sides, the odd pixel at the end).
    fn centre(&self, side: usize, crop: usize) -> i64 {
        let half =
            |length: usize| if self.crop_floor { (length / 2) as f64 } else { (length as f64 / 2.0).round_ties_even() };
        if side >= crop { half(side - crop) as i64 } else { -(((crop - side) / 2) as i64) }
    }

    /// Width and height of an image after resizing, before the crop.
    fn resized(&self, width: usize, height: usize) -> (usize, usize) {
        let (target_height, target_width) = self.scaled;
        if self.keep_size {
            (width, height)
        } else if self.squash {
            (target_width, target_height)
        } else if target_width == target_height {
            // torchvision's Resize(int): the shorter side is exact, the longer one is truncated
            let long = |long: usize, short: usize| (target_width as u128 * long as u128 / short as u128) as usize;
            if width <= height { (target_width, long(height, width)) } else { (long(width, height), target_height) }
        } else {
            // timm's ResizeKeepRatio: both sides are rounded
            let ratio = (width as f64 / target_width as f64).min(height as f64 / target_height as f64);
            let scale = |side: usize| ((side as f64 / ratio).round_ties_even() as usize).max(1);
            (scale(width), scale(height))
        }
    }

    /// What the window shows of the resized image, of the input's size; no more than that is made.
    fn shown(&self, image: &Image, window: &Window) -> Result<Image> {
        let (part, (left, top)) = self.visible(window);
        let mut shown = self.resizer.resize(image, window.resized, part)?;
        if self.alpha == Alpha::AsItLies {
            shown = shown.to_rgb();
        }
        let [_, height, width] = self.input;
        if (part.width, part.height) == (width, height) {
            return Ok(shown);
        }
        let channels = shown.channels;
        let pixels = within([width, height], (left, top), (&shown.pixels, part.width * channels), channels);
        Ok(Image { width, height, channels, pixels })
    }

    /// The part of the resized image that a window shows, and where in the input it lies.
    fn visible(&self, window: &Window) -> (resize::Window, (usize, usize)) {
        let [_, height, width] = self.input;
        let visible = |start: i64, size: usize, resized: usize| {
            let first = start.clamp(0, resized as i64) as usize;
            let end = (start + size as i64).clamp(0, resized as i64) as usize;
            (first, end - first)
        };
        let (left, visible_width) = visible(window.left, width, window.resized.0);
        let (top, visible_height) = visible(window.top, height, window.resized.1);
        let part = resize::Window { left, top, width: visible_width, height: visible_height };
        (part, ((left as i64 - window.left) as usize, (top as i64 - window.top) as usize))
    }

    /// Whether levels stay as they are resized, and are not rounded.
    fn keeps_fractions(&self) -> bool {
        self.resizer.resizing == Resizing::Floats
    }

    /// Writes the input made of one image to `out`, without rounding in between.
    fn apply_floats(&self, image: &Image, rng: &mut ChaCha8Rng, out: &mut [f32]) -> Result<()> {
        let image = &*self.converted(image)?;
        let window = self.window(image, rng);
        let (part, at) = self.visible(&window);
        let [_, height, width] = self.input;
        let values = self.resizer.resize_floats(image, window.resized, part)?;
        let values = within([width, height], at, (&values, part.width * image.channels), image.channels);
        for (channel, (plane, levels)) in out.chunks_exact_mut(height * width).zip(&self.levels).enumerate() {
            // a grey image is the same in all channels
            let channel = if image.channels == 1 { 0 } else { channel };
            let (scale, shift) = ((levels[255] - levels[0]) / 255.0, levels[0]);
            for (value, level) in plane.iter_mut().zip(values[channel..].iter().step_by(image.channels)) {
                *value = level * scale + shift;
            }
        }
        Ok(())
    }

    /// Writes an image of this height and width to `out`, normalised.
    fn normalise(&self, image: &Image, [height, width]: [usize; 2], out: &mut [f32]) {
        for (channel, (plane, levels)) in out.chunks_exact_mut(height * width).zip(&self.levels).enumerate() {
            // a grey image is the same in all channels
            let channel = if image.channels == 1 { 0 } else { channel };
            for (value, &level) in plane.iter_mut().zip(image.pixels[channel..].iter().step_by(image.channels)) {
                *value = levels[usize::from(level)];
            }
        }
    }
}

/// Rows of `line` values in an image of this width and height, from this place on; the rest is black.
fn within<T: Copy + Default>(
    [width, height]: [usize; 2],
    (left, top): (usize, usize),
    (values, line): (&[T], usize),
    channels: usize,
) -> Vec<T> {
    let mut whole = vec![T::default(); width * height * channels];
    let lines = whole.chunks_exact_mut(width * channels).skip(top);
    for (row, place) in values.chunks_exact(line.max(1)).zip(lines) {
        place[left * channels..left * channels + line].copy_from_slice(row);
    }
    whole
}

/// There is a finite value for every channel.
fn check_values(what: &str, values: &[f64], channels: usize) -> Result<()> {
    match values.iter().find(|v| !v.is_finite()) {
        Some(bad) => Err(Error::invalid(what, "finite numbers", bad)),
        None if values.len() == channels => Ok(()),
        None => Err(Error::invalid(what, format!("{channels} values, one a channel"), values.len())),
    }
}

/// A random window with a share from `least` to `most` of the area and an aspect ratio from 3:4 to 4:3: torchvision's
/// `RandomResizedCrop`.
fn random_crop(image: &Image, [least, most]: [f64; 2], rng: &mut ChaCha8Rng) -> Image {
    const NARROW: f64 = 3.0 / 4.0;
    const WIDE: f64 = 4.0 / 3.0;
    let (width, height) = (image.width as f64, image.height as f64);
    for _ in 0..10 {
        let share = if least < most { rng.random_range(least..most) } else { least };
        let area = width * height * share;
        let ratio = rng.random_range(NARROW.ln()..WIDE.ln()).exp();
        let w = (area * ratio).sqrt().round_ties_even() as usize;
        let h = (area / ratio).sqrt().round_ties_even() as usize;
        if w > 0 && w <= image.width && h > 0 && h <= image.height {
            let top = rng.random_range(0..=image.height - h);
            let left = rng.random_range(0..=image.width - w);
            return image.crop(left, top, w, h);
        }
    }
    // an image too long or too high for such a window: the largest one in its centre
    let (w, h) = if width / height < NARROW {
        (image.width, (width / NARROW).round_ties_even() as usize)
    } else if width / height > WIDE {
        ((height * WIDE).round_ties_even() as usize, image.height)
    } else {
        (image.width, image.height)
    };
    image.crop((image.width - w) / 2, (image.height - h) / 2, w, h)
}
