//! Decoding image files: PNG, JPEG, WebP, GIF (the first frame) and BMP, to grey or RGB as Pillow's `convert("RGB")`.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, ImageReader, Limits};

use super::{Error, Image, Result};

/// No side may be longer.
const MAX_SIDE: u32 = 32768;
/// What a decoder may allocate.
const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// What a file may hold: no larger file is read.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// Reads and decodes an image file, as [`decode`].
///
/// # Errors
/// If it cannot be read or decoded; the message names the file.
pub fn open_image(path: impl AsRef<Path>) -> Result<Image> {
    let path = path.as_ref();
    let size = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.len();
    if size > MAX_FILE {
        return Err(Error::invalid(path.display(), format!("an image of at most {MAX_FILE} bytes"), size));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    decode(&bytes, &path.display().to_string())
}

/// Decodes the bytes of an image file, whose name is for messages. Grey stays grey, all else becomes RGB; an alpha channel
/// is dropped and 16 bits become the upper 8. The orientation that a camera noted is not applied, as in torchvision.
///
/// # Errors
/// If the format is unknown, the file was cut, or its image is too large.
pub fn decode(bytes: &[u8], name: &str) -> Result<Image> {
    let bad = |got: &dyn std::fmt::Display| {
        Error::unusable(name, "a whole PNG, JPEG, WebP, GIF or BMP image", got, "replace or remove it")
    };
    if bytes.is_empty() {
        return Err(bad(&"an empty file"));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| bad(&e))?;
    let Some(format) = reader.format() else {
        return Err(bad(&"something else"));
    };
    if format == ImageFormat::Jpeg && !ends(bytes) {
        return Err(bad(&format!("a JPEG that was cut: {} bytes without an end marker", bytes.len())));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(|e| bad(&e))?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width == 0 || height == 0 {
        return Err(bad(&format!("{width}x{height} pixels")));
    }
    let (channels, pixels) = match image {
        DynamicImage::ImageLuma8(_) | DynamicImage::ImageLumaA8(_) => (1, image.into_luma8().into_raw()),
        DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_) => (1, image.into_luma8().into_raw()),
        _ => (3, image.into_rgb8().into_raw()),
    };
    Ok(Image { width, height, channels, pixels })
}

/// Whether a JPEG has its end marker. The decoder fills up what is missing without a word.
fn ends(bytes: &[u8]) -> bool {
    bytes.windows(2).rev().any(|pair| pair == [0xff, 0xd9])
}
