//! Resizing as Pillow does it: antialiased, across first and then down, rounded to 8 bits after each of the two.

use fast_image_resize as fir;
use fir::images::{Image as Buffer, ImageRef};
use fir::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use tallow_weights::Interpolation;

use super::{Error, Image, Result};

/// A rectangle in an image, in pixels from the top left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Region {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

impl Region {
    pub(super) fn whole(image: &Image) -> Self {
        Self { left: 0.0, top: 0.0, width: image.width as f64, height: image.height as f64 }
    }
}

/// The image resized to `width` by `height`, within one level of Pillow's `Image.resize`.
///
/// # Errors
/// If a side of the image or of the result is 0.
pub fn resize(image: &Image, width: usize, height: usize, filter: Interpolation) -> Result<Image> {
    resize_region(&mut Resizer::new(), image, Region::whole(image), width, height, filter)
}

/// The pixels that `region` of the image has after resizing the whole image, at the scale that makes `region`
/// `width` by `height`: the filter reads beyond the region's border, where the image goes on.
pub(super) fn resize_region(
    resizer: &mut Resizer,
    image: &Image,
    region: Region,
    width: usize,
    height: usize,
    filter: Interpolation,
) -> Result<Image> {
    let Region { left, top, .. } = region;
    // Rounding must not push the region over the edge.
    let region_width = region.width.min(image.width as f64 - left);
    let region_height = region.height.min(image.height as f64 - top);
    if width == 0 || height == 0 || !(region_width > 0.0 && region_height > 0.0) {
        let got = format!("{}x{} to {width}x{height}", image.width, image.height);
        return Err(Error::invalid("resize", "at least one pixel on each side", got));
    }
    let (algorithm, support) = match filter {
        Interpolation::Nearest => (ResizeAlg::Nearest, 0.0),
        Interpolation::Bilinear => (ResizeAlg::Convolution(FilterType::Bilinear), 1.0),
        Interpolation::Bicubic => (ResizeAlg::Convolution(FilterType::CatmullRom), 2.0),
        Interpolation::Lanczos => (ResizeAlg::Convolution(FilterType::Lanczos3), 3.0),
    };
    let options = ResizeOptions::new().resize_alg(algorithm).use_alpha(false);
    if filter == Interpolation::Nearest {
        return pass(resizer, image, &options.crop(left, top, region_width, region_height), width, height);
    }
    // The rows that the second pass will read.
    let reach = support * (region_height / height as f64).max(1.0) + 1.0;
    let first = (top - reach).floor().max(0.0);
    let rows = (top + region_height + reach).ceil().min(image.height as f64) - first;
    let across = pass(resizer, image, &options.crop(left, first, region_width, rows), width, rows as usize)?;
    pass(resizer, &across, &options.crop(0.0, top - first, width as f64, region_height), width, height)
}

fn pass(resizer: &mut Resizer, image: &Image, options: &ResizeOptions, width: usize, height: usize) -> Result<Image> {
    let kind = match image.channels {
        1 => PixelType::U8,
        3 => PixelType::U8x3,
        other => return Err(Error::invalid("resize", "1 or 3 channels", other)),
    };
    let failed = |error: &dyn std::fmt::Display| Error::invalid("resize", "an image that can be resized", error);
    let side = |n: usize| u32::try_from(n).map_err(|e| failed(&e));
    let source = ImageRef::new(side(image.width)?, side(image.height)?, &image.pixels, kind).map_err(|e| failed(&e))?;
    let mut target = Buffer::new(side(width)?, side(height)?, kind);
    resizer.resize(&source, &mut target, options).map_err(|e| failed(&e))?;
    Ok(Image { width, height, channels: image.channels, pixels: target.into_vec() })
}
