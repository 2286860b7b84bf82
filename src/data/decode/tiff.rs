//! What the decoder of TIFF does not tell: files of more than 4 GiB, and colours that were multiplied by their alpha.

use image::DynamicImage;

/// Whether a file is a BigTIFF, which the decoder reads, although its beginning is not known for it.
pub(super) fn is_big(bytes: &[u8]) -> bool {
    bytes.starts_with(b"II\x2b\0\x08\0\0\0") || bytes.starts_with(b"MM\0\x2b\0\x08\0\0")
}

/// Whether the first page says that its colours were multiplied by its alpha (`ExtraSamples` is 1).
pub(super) fn is_multiplied(bytes: &[u8]) -> bool {
    const EXTRA_SAMPLES: u64 = 338;
    extra(bytes, EXTRA_SAMPLES) == Some(1)
}

/// The first value of a short field of the first page, where it lies in the field itself.
fn extra(bytes: &[u8], tag: u64) -> Option<u64> {
    let little = bytes.starts_with(b"II");
    let number = |at: usize, size: usize| {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        let fold = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        Some(if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    };
    // Where the page is, and the sizes of the number of its fields, of a field, and of what stands before its value.
    let (page, count, field, before) = match is_big(bytes) {
        true => (number(8, 8)?, 8, 20, 12),
        false => (number(4, 4)?, 2, 12, 8),
    };
    let page = usize::try_from(page).ok()?;
    let fields = usize::try_from(number(page, count)?).ok()?;
    // A page has some dozens of fields: a damaged number of them ends with the file.
    let mut starts = (0..fields).map(|i| page + count + i * field).take_while(|start| start + field <= bytes.len());
    let start = starts.find(|&start| number(start, 2) == Some(tag))?;
    number(start + before, 2)
}

/// An image of 8 bits with its colours divided by its alpha, as Pillow does it; others stay as they are, as in Pillow.
pub(super) fn divided(image: DynamicImage) -> DynamicImage {
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
