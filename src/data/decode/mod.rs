//! Decoding image files to grey, RGB or RGBA, as Pillow's `convert` does: PNG, JPEG, WebP, GIF (the first frame), BMP, TIFF (the
//! first page) and PNM; and turned as `exif_transpose` does.

mod directory;
mod gif;
mod jpeg;
mod kinds;
mod orientation;
mod tiff;
mod turn;

use std::borrow::Cow;
use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::catch_unwind;
use std::path::Path;

use flate2::{Crc, Decompress, FlushDecompress, Status};
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::files::{self, UNREADABLE};
use super::{Alpha, Error, Exif, Image, Look, Result};

/// No side may be longer.
const MAX_SIDE: u32 = 32768;
/// What a decoder may allocate.
const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// What a file may hold: no larger file is read.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// How a file becomes an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Decoding {
    /// What becomes of transparency. Kept, the image is of four channels whatever the file holds. Default: dropped.
    pub alpha: Alpha,
    /// What becomes of the orientation that a camera noted. Default: it is applied.
    pub exif: Exif,
}

impl Decoding {
    /// With or without transparency, turned or not.
    pub const fn new(alpha: Alpha, exif: Exif) -> Self {
        Self { alpha, exif }
    }
}

/// Reads and decodes an image file, as [`decode`].
///
/// # Errors
/// If it cannot be read or decoded; the message names the file.
pub fn open_image(path: impl AsRef<Path>) -> Result<Image> {
    open_image_as(path, Decoding::default())
}

/// Reads and decodes an image file to RGBA. What has no alpha channel is opaque.
///
/// # Errors
/// As [`open_image`].
pub fn open_image_with_alpha(path: impl AsRef<Path>) -> Result<Image> {
    open_image_as(path, Decoding { alpha: Alpha::Kept, ..Decoding::default() })
}

/// Reads and decodes an image file, as [`decode_as`].
///
/// # Errors
/// As [`open_image`].
pub fn open_image_as(path: impl AsRef<Path>, decoding: Decoding) -> Result<Image> {
    Ok(open_file(path.as_ref(), decoding)?.image)
}

/// Reads an image file only to see whether it can be, as `decoding` does it; gives what is to be told of it.
///
/// # Errors
/// As [`open_image`].
pub fn look_at_file(path: impl AsRef<Path>, decoding: Decoding) -> Result<Look> {
    Ok(open_file(path.as_ref(), decoding)?.look)
}

/// Decodes the bytes of an image file, whose name is for messages. Grey stays grey, all else becomes RGB; an alpha channel
/// is dropped and 16 bits become the upper 8. The image is turned and mirrored as its camera noted, as Pillow's
/// `ImageOps.exif_transpose` does: width and height are those of the turned image. [`decode_as`] can leave that out.
///
/// # Errors
/// If the format is unknown, the file was cut, or its image is too large.
pub fn decode(bytes: &[u8], name: &str) -> Result<Image> {
    decode_as(bytes, name, Decoding::default())
}

/// As [`decode`]: with an alpha channel or on white, or with its pixels as they lie in the file ([`Exif::Ignore`]).
///
/// # Errors
/// As [`decode`].
pub fn decode_as(bytes: &[u8], name: &str, decoding: Decoding) -> Result<Image> {
    Ok(decode_bytes(bytes, name, decoding)?.image)
}

/// A decoded file.
#[derive(Debug)]
pub(super) struct Decoded {
    pub image: Image,
    /// What is to be told of the file, although it can be read.
    pub look: Look,
}

/// Reads and decodes an image file.
pub(super) fn open_file(path: &Path, decoding: Decoding) -> Result<Decoded> {
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut bytes = Vec::new();
    // Not by its stated size: a pipe or a device has none.
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Error::invalid(path.display(), format!("an image of at most {MAX_FILE} bytes"), "more"));
    }
    decode_bytes(&bytes, &path.display().to_string(), decoding)
}

/// Decodes the bytes of a file.
pub(super) fn decode_bytes(bytes: &[u8], name: &str, decoding: Decoding) -> Result<Decoded> {
    // A decoder that panics on a strange file has met a bad image, no more.
    catch_unwind(|| decoded(bytes, name, decoding)).unwrap_or_else(|_| Err(bad(name, "one that the decoder failed on")))
}

fn bad(name: &str, got: impl std::fmt::Display) -> Error {
    Error::unusable(name, "a whole PNG, JPEG, WebP, GIF, BMP, TIFF or PNM image", got, "replace or remove it")
}

/// An image of a kind that is known, but not read.
fn unread(name: &str, got: impl std::fmt::Display) -> Error {
    Error::unusable(name, "a whole PNG, JPEG, WebP, GIF, BMP, TIFF or PNM image", got, "convert it, or remove it")
}

fn too_large(name: &str, width: u32, height: u32) -> Error {
    let expected = format!("an image of at most {MAX_BYTES} bytes when decoded");
    Error::unusable(name, expected, format!("{width}x{height} pixels"), "scale it down")
}

fn decoded(bytes: &[u8], name: &str, Decoding { alpha, exif }: Decoding) -> Result<Decoded> {
    if bytes.is_empty() {
        return Err(bad(name, "an empty file"));
    }
    let format = if tiff::is_big(bytes) { Some(ImageFormat::Tiff) } else { image::guess_format(bytes).ok() };
    let format = format.filter(|format| {
        use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
        [Png, Jpeg, WebP, Gif, Bmp, Tiff, Pnm].contains(format)
    });
    let Some(format) = format else {
        return Err(match kinds::name(bytes) {
            Some(kind) => unread(name, format!("{kind}, {UNREADABLE}")),
            None => bad(name, "something else"),
        });
    };
    let (image, odd) = match format {
        ImageFormat::Jpeg => jpeg_image(bytes, name)?,
        ImageFormat::Gif => (gif_image(bytes, name)?, None),
        ImageFormat::Tiff if files::is_raw(name) => {
            return Err(unread(name, format!("a camera's raw file, {UNREADABLE}")));
        }
        format => any_image(bytes, format, name)?,
    };
    let (width, height) = (image.width() as usize, image.height() as usize);
    if width == 0 || height == 0 {
        return Err(bad(name, format!("{width}x{height} pixels")));
    }
    let transparent = image.color().has_alpha();
    let odd = odd.or((alpha == Alpha::Kept && !transparent).then_some(NO_ALPHA));
    let (channels, pixels) = match alpha {
        Alpha::Kept => (4, with_alpha(image)),
        Alpha::OnWhite if transparent => (4, with_alpha(image)),
        Alpha::AsItLies if transparent && has_channel(bytes, format) => (4, with_alpha(image)),
        _ => opaque(image),
    };
    let mut image = Image { width, height, channels, pixels };
    if alpha == Alpha::OnWhite && transparent {
        image = image.on_white();
    }
    let noted = orientation::noted(bytes, format);
    if let (Some(value), Exif::Apply) = (noted, exif) {
        image = turn::turned(image, value);
    }
    Ok(Decoded { image, look: Look { odd, orientation_noted: noted.is_some() } })
}

/// Whether the transparency of an image lies in a channel, and is not that of a colour, or of those of a palette.
fn has_channel(bytes: &[u8], format: ImageFormat) -> bool {
    match format {
        ImageFormat::Gif => false,
        // The colour type, a sum of which 4 is the alpha channel.
        ImageFormat::Png => bytes.get(25).is_some_and(|kind| kind & 4 != 0),
        _ => true,
    }
}

/// An image that another program part decoded: with an alpha channel where it has one, and of 16 bits the upper 8.
impl From<DynamicImage> for Image {
    fn from(image: DynamicImage) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (channels, pixels) = if image.color().has_alpha() { (4, with_alpha(image)) } else { opaque(image) };
        Self { width, height, channels, pixels }
    }
}

/// What is told of images that are asked for their alpha channel and have none.
const NO_ALPHA: &str = "without an alpha channel, read as opaque";
const NO_END: &str = "without an end marker, but whole";
const DEEP_GREY: &str = "with 16 bits of grey, of which the upper 8 are read";

/// Grey, or red, green and blue.
fn opaque(image: DynamicImage) -> (usize, Vec<u8>) {
    match image {
        DynamicImage::ImageLuma8(_) | DynamicImage::ImageLumaA8(_) => (1, image.into_luma8().into_raw()),
        DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_) => (1, upper(image.into_luma16().into_raw())),
        DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgba16(_) => (3, upper(image.into_rgb16().into_raw())),
        _ => (3, image.into_rgb8().into_raw()),
    }
}

/// Red, green, blue and alpha.
fn with_alpha(image: DynamicImage) -> Vec<u8> {
    match image {
        DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA16(_)
        | DynamicImage::ImageRgb16(_)
        | DynamicImage::ImageRgba16(_) => upper(image.into_rgba16().into_raw()),
        _ => image.into_rgba8().into_raw(),
    }
}

fn upper(values: Vec<u16>) -> Vec<u8> {
    values.into_iter().map(|value| (value >> 8) as u8).collect()
}

/// An image in one of the formats that nothing special is known about.
fn any_image(bytes: &[u8], format: ImageFormat, name: &str) -> Result<(DynamicImage, Option<&'static str>)> {
    let mut odd = None;
    let bytes = match format {
        ImageFormat::Png => {
            let whole = with_end_of_png(bytes);
            odd = matches!(whole, Cow::Owned(_)).then_some(NO_END);
            whole
        }
        _ => Cow::Borrowed(bytes),
    };
    let mut reader = ImageReader::with_format(Cursor::new(&*bytes), format);
    reader.limits(limits());
    let refused = |error: ImageError| match error {
        ImageError::Unsupported(_) => unread(name, format!("one of a kind that this build does not read ({error})")),
        error => bad(name, error),
    };
    let decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    if decoder.total_bytes() > MAX_BYTES {
        return Err(too_large(name, width, height));
    }
    use ExtendedColorType::{L16, Rgb32F, Rgba32F};
    match decoder.original_color_type() {
        Rgb32F | Rgba32F => {
            let got = format!("one of 32-bit floats, whose range nothing tells, {UNREADABLE}");
            return Err(unread(name, got));
        }
        L16 => odd = Some(DEEP_GREY),
        _ => {}
    }
    let image = DynamicImage::from_decoder(decoder).map_err(refused)?;
    let image = match format {
        ImageFormat::Pnm => rounded(image),
        ImageFormat::Tiff => tiff::settled(image, &bytes),
        _ => image,
    };
    Ok((image, odd))
}

/// A colour image of 16 bits as Pillow reads PNM: rounded to 8.
fn rounded(image: DynamicImage) -> DynamicImage {
    let DynamicImage::ImageRgb16(image) = image else { return image };
    let (width, height) = image.dimensions();
    let pixels = image.into_raw().into_iter().map(|value| ((u32::from(value) + 128) / 257) as u8).collect();
    image::RgbImage::from_raw(width, height, pixels).unwrap_or_default().into()
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    limits
}

/// A PNG whose last chunk is missing is whole all the same, for browsers and for Pillow.
fn with_end_of_png(png: &[u8]) -> Cow<'_, [u8]> {
    const END: [u8; 12] = [0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82];
    let mut at = 8;
    let mut data = false;
    while let Some(&[a, b, c, d, ref kind @ ..]) = png.get(at..at + 8) {
        let end = at + 12 + u32::from_be_bytes([a, b, c, d]) as usize;
        match kind {
            b"IEND" if end <= png.len() => return Cow::Borrowed(png),
            // The last pixels are there, and their checksums are not: zlib's, which nobody compares, and that of the chunk.
            b"IDAT" if end > png.len() && (end - 4 <= png.len() || end - 8 <= png.len() && all_but_checksum(png)) => {
                let mut whole = png[..png.len().min(end - 4)].to_vec();
                whole.resize(end - 4, 0);
                let mut crc = Crc::new();
                crc.update(&whole[at + 4..]);
                return Cow::Owned([&whole[..], &crc.sum().to_be_bytes(), &END].concat());
            }
            // In the middle of the pixels: it was cut.
            b"IDAT" if end > png.len() => return Cow::Borrowed(png),
            _ if end > png.len() => break,
            kind => data |= kind == b"IDAT",
        }
        at = end;
    }
    // Without any pixels it was cut too.
    if data { Cow::Owned([&png[..at], &END].concat()) } else { Cow::Borrowed(png) }
}

/// Whether the pixels of a PNG are whole, as far as their compressed data say.
fn all_but_checksum(png: &[u8]) -> bool {
    let (mut data, mut at) = (Vec::new(), 8);
    while let Some(&[a, b, c, d, ref kind @ ..]) = png.get(at..at + 8) {
        let end = at + 8 + u32::from_be_bytes([a, b, c, d]) as usize;
        if kind == b"IDAT" {
            data.extend_from_slice(&png[at + 8..end.min(png.len())]);
        }
        at = end + 4;
    }
    // Behind the two bytes of zlib's header.
    let (mut inflate, mut pixels) = (Decompress::new(false), vec![0; 1 << 16]);
    let mut data = data.get(2..).unwrap_or_default();
    loop {
        let before = (inflate.total_in(), inflate.total_out());
        match inflate.decompress(data, &mut pixels, FlushDecompress::None) {
            Ok(Status::StreamEnd) => return true,
            Ok(Status::Ok) if before != (inflate.total_in(), inflate.total_out()) => {
                data = &data[(inflate.total_in() - before.0) as usize..];
            }
            _ => return false,
        }
    }
}

fn jpeg_image(bytes: &[u8], name: &str) -> Result<(DynamicImage, Option<&'static str>)> {
    let cut = || bad(name, format!("a JPEG that was cut: {} bytes without an end marker", bytes.len()));
    let Some(header) = jpeg::Header::read(bytes) else {
        if !jpeg::ends(bytes, 0) {
            return Err(cut());
        }
        return Ok((usual_jpeg(bytes).map_err(|e| bad(name, e))?, None));
    };
    if let Some(what) = header.refused() {
        return Err(unread(name, what));
    }
    let (width, height) = header.size();
    if header.claims_too_much(bytes.len()) {
        let got = format!("a header that claims {width}x{height} pixels in {} bytes", bytes.len());
        return Err(bad(name, got));
    }
    if width > MAX_SIDE || height > MAX_SIDE || header.decoded_bytes() > MAX_BYTES {
        return Err(too_large(name, width, height));
    }
    let read = |bytes: &[u8]| {
        if header.is_usual() { usual_jpeg(bytes) } else { jpeg::decode_unusual(bytes, MAX_BYTES as usize) }
    };
    let (bytes, odd) = if jpeg::ends(bytes, header.scan()) {
        (Cow::Borrowed(bytes), None)
    } else {
        let pixels = |bytes: &[u8]| read(bytes).ok().map(DynamicImage::into_bytes);
        (Cow::Owned(header.completed(bytes, pixels).ok_or_else(cut)?), Some(NO_END))
    };
    Ok((read(&bytes).map_err(|e| bad(name, e))?, odd))
}

/// With the decoder of `image`.
fn usual_jpeg(bytes: &[u8]) -> std::result::Result<DynamicImage, String> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Jpeg);
    reader.limits(limits());
    reader.decode().map_err(|e| e.to_string())
}

fn gif_image(bytes: &[u8], name: &str) -> Result<DynamicImage> {
    let gif::Screen { width, height, pixels } = gif::decode(bytes, MAX_BYTES).map_err(|e| bad(name, e))?;
    let image = image::RgbaImage::from_raw(width as u32, height as u32, pixels);
    image.map(DynamicImage::from).ok_or_else(|| bad(name, "fewer pixels than its header says"))
}
