//! Decoding image files: PNG, JPEG, WebP, GIF (the first frame) and BMP, to grey or RGB as Pillow's `convert("RGB")`.

use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::catch_unwind;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::{Error, Image, Result};

/// No side may be longer.
const MAX_SIDE: u32 = 32768;
/// What a decoder may allocate.
const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// A block of 8x8 pixels takes a bit at least.
const JPEG_PIXELS_PER_BYTE: u64 = 64 * 8;
/// What a file may hold: no larger file is read.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// Reads and decodes an image file, as [`decode`].
///
/// # Errors
/// If it cannot be read or decoded; the message names the file.
pub fn open_image(path: impl AsRef<Path>) -> Result<Image> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut bytes = Vec::new();
    // Not by its stated size: a pipe or a device has none.
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::invalid(path.display(), format!("an image of at most {MAX_FILE} bytes"), "more"));
    }
    decode(&bytes, &path.display().to_string())
}

/// Decodes the bytes of an image file, whose name is for messages. Grey stays grey, all else becomes RGB; an alpha channel
/// is dropped and 16 bits become the upper 8. The orientation that a camera noted is not applied, as in torchvision.
///
/// # Errors
/// If the format is unknown, the file was cut, or its image is too large.
pub fn decode(bytes: &[u8], name: &str) -> Result<Image> {
    // A decoder that panics on a strange file has met a bad image, no more.
    catch_unwind(|| decoded(bytes, name)).unwrap_or_else(|_| Err(bad(name, &"one that the decoder failed on")))
}

fn bad(name: &str, got: &dyn std::fmt::Display) -> Error {
    Error::unusable(name, "a whole PNG, JPEG, WebP, GIF or BMP image", got, "replace or remove it")
}

fn decoded(bytes: &[u8], name: &str) -> Result<Image> {
    let bad = |got: &dyn std::fmt::Display| bad(name, got);
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
    let decoder = reader.into_decoder().map_err(|e| bad(&e))?;
    let (width, height) = decoder.dimensions();
    if decoder.total_bytes() > MAX_BYTES {
        let expected = format!("an image of at most {MAX_BYTES} bytes when decoded");
        return Err(Error::unusable(name, expected, format!("{width}x{height} pixels"), "scale it down"));
    }
    if format == ImageFormat::Jpeg && u64::from(width) * u64::from(height) > JPEG_PIXELS_PER_BYTE * bytes.len() as u64 {
        return Err(bad(&format!("a header that claims {width}x{height} pixels in {} bytes", bytes.len())));
    }
    let image = DynamicImage::from_decoder(decoder).map_err(|e| bad(&e))?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width == 0 || height == 0 {
        return Err(bad(&format!("{width}x{height} pixels")));
    }
    let upper = |values: Vec<u16>| values.into_iter().map(|value| (value >> 8) as u8).collect();
    let (channels, pixels) = match image {
        DynamicImage::ImageLuma8(_) | DynamicImage::ImageLumaA8(_) => (1, image.into_luma8().into_raw()),
        DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_) => (1, upper(image.into_luma16().into_raw())),
        DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgba16(_) => (3, upper(image.into_rgb16().into_raw())),
        _ => (3, image.into_rgb8().into_raw()),
    };
    Ok(Image { width, height, channels, pixels })
}

/// Whether a JPEG has its end marker behind its header: previews in the header have one too. Without it the file was cut,
/// and the decoder would fill up what is missing without a word.
fn ends(jpeg: &[u8]) -> bool {
    let scan = start_of_scan(jpeg).unwrap_or(jpeg.len());
    jpeg[scan..].windows(2).rev().any(|pair| pair == [0xff, 0xd9])
}

/// Where the first scan of a JPEG begins: behind the segments, each of which says its length.
fn start_of_scan(jpeg: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        let &[0xff, marker, high, low] = jpeg.get(at..at + 4)? else {
            return jpeg.get(at..).map(|_| at); // not where a segment begins: the decoder will say what is wrong
        };
        at += match marker {
            0xff => 1, // fill
            0x01 | 0xd0..=0xd8 => 2,
            _ => 2 + usize::from(u16::from_be_bytes([high, low])),
        };
        if marker == 0xda {
            return Some(at);
        }
    }
}
