//! What the decoder of TIFF does not tell: files of more than 4 GiB, and what their fourth channel is.

use image::DynamicImage;

use super::directory::Directory;

/// Whether a file is a BigTIFF, which the decoder reads, although its beginning is not known for it.
pub(super) fn is_big(bytes: &[u8]) -> bool {
    bytes.starts_with(b"II\x2b\0\x08\0\0\0") || bytes.starts_with(b"MM\0\x2b\0\x08\0\0")
}

/// The image as what the first page says of its fourth channel has it (`ExtraSamples`): it may be no alpha at all (0), or its colours may
/// have been multiplied by it (1).
pub(super) fn settled(image: DynamicImage, bytes: &[u8]) -> DynamicImage {
    const EXTRA_SAMPLES: u16 = 338;
    let field = Directory::first(bytes).and_then(|page| page.field(EXTRA_SAMPLES));
    match (field.and_then(|field| field.number()), image) {
        (Some(0.), DynamicImage::ImageRgba8(image)) => DynamicImage::from(image).into_rgb8().into(),
        (Some(0.), DynamicImage::ImageRgba16(image)) => DynamicImage::from(image).into_rgb16().into(),
        (Some(1.), image) => divided(image),
        (_, image) => image,
    }
}

/// An image of 8 bits with its colours divided by its alpha, as Pillow does it; others stay as they are, as in Pillow.
fn divided(image: DynamicImage) -> DynamicImage {
    let DynamicImage::ImageRgba8(mut image) = image else { return image };
    for pixel in image.pixels_mut() {
        let [.., alpha] = pixel.0;
        let divided =
            |value: u8| (u32::from(value) * 255).checked_div(u32::from(alpha)).map_or(0, |v| v.min(255) as u8);
        let [red, green, blue, _] = pixel.0;
        pixel.0 = [divided(red), divided(green), divided(blue), alpha];
    }
    image.into()
}
