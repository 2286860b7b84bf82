//! Images inside an SVG: a PNG in base64, so that the file stands alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use maud::{Markup, html};

use crate::data::Image;

/// How an image is enlarged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enlarged {
    /// Every pixel a rectangle.
    Pixelated,
    /// Between the pixels, the colours run into each other.
    Smooth,
}

/// The image over the rectangle `[left, top, width, height]`.
pub(super) fn raster(image: &Image, [left, top, width, height]: [f64; 4], enlarged: Enlarged) -> Markup {
    let style = (enlarged == Enlarged::Pixelated).then_some("image-rendering:pixelated");
    html! {
        image x=(left) y=(top) width=(width) height=(height) preserveAspectRatio="none" style=[style]
            href={ "data:image/png;base64," (STANDARD.encode(png(image))) } {}
    }
}

/// The bytes of a PNG of the image.
pub(super) fn png(image: &Image) -> Vec<u8> {
    let colours = if image.channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut png = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Default, FilterType::Adaptive);
    // Writing to memory fails only where the sizes contradict each other; then there is no picture to show.
    let _ = encoder.write_image(&image.pixels, image.width as u32, image.height as u32, colours);
    png
}
