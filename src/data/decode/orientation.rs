//! The orientation that a camera or a program noted in a file, found where Pillow's `getexif` finds it: EXIF in JPEG (all APP1
//! segments), PNG (`eXIf`, and text of older programs) and WebP, the tag of a TIFF; where that says nothing, XMP.

use std::borrow::Cow;
use std::io::Read;

use flate2::Crc;
use flate2::read::ZlibDecoder;
use image::ImageFormat;

use super::directory::{Directory, Field};
use super::jpeg;

/// The tag of the orientation in EXIF and TIFF.
const ORIENTATION: u16 = 274;
/// The tag of XMP in TIFF.
const XMP: u16 = 700;
/// What stands before EXIF in a JPEG, and in other files that were made from one.
const EXIF: &[u8] = b"Exif\0\0";
/// What stands before XMP in a JPEG.
const XMP_IN_JPEG: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
/// No text in a PNG may be larger, as in Pillow.
const MAX_TEXT: u64 = 1 << 20;

/// The orientation of a file's image, from 2 to 8; none where it lies as it is meant, nothing is noted, or what is noted is damaged or
/// is none of the eight values.
pub(super) fn noted(file: &[u8], format: ImageFormat) -> Option<u8> {
    let value = match format {
        ImageFormat::Jpeg => of_jpeg(file),
        ImageFormat::Png => of_png(file),
        ImageFormat::WebP => of_webp(file),
        ImageFormat::Tiff => of_tiff(file),
        _ => None,
    };
    value.filter(|value| (2..=8).contains(value))
}

fn of_jpeg(file: &[u8]) -> Option<u8> {
    let (mut exif, mut xmp) = (None, None);
    for content in jpeg::application_data(file) {
        if let Some(more) = content.strip_prefix(EXIF) {
            // What does not fit into one segment goes on in the next.
            exif.get_or_insert_with(Vec::new).extend_from_slice(more);
        } else if let Some(text) = content.strip_prefix(XMP_IN_JPEG) {
            xmp = Some(text);
        }
    }
    told(exif.as_deref().and_then(in_exif), xmp)
}

fn of_png(file: &[u8]) -> Option<u8> {
    let (mut exif, mut profile, mut xmp) = (None, None, None);
    for (kind, data) in chunks_of_png(file) {
        if kind == b"eXIf" {
            exif = Some(Cow::Borrowed(data));
        }
        match text_of_png(kind, data) {
            Some((b"exif", text)) if kind == b"tEXt" => exif = Some(text),
            Some((b"Raw profile type exif", text)) => profile = profile_in_hex(&text).map(Cow::Owned),
            Some((b"XML:com.adobe.xmp", text)) => xmp = Some(text),
            _ => {}
        }
    }
    told(exif.or(profile).as_deref().and_then(in_exif), xmp.as_deref())
}

fn of_webp(file: &[u8]) -> Option<u8> {
    let first = |name: &[u8; 4]| chunks_of_webp(file).find(|(kind, _)| *kind == name).map(|(_, data)| data);
    // The extended header says which of them count.
    let flags = *first(b"VP8X")?.first()?;
    let exif = if flags & 0x08 != 0 { first(b"EXIF") } else { None };
    let xmp = if flags & 0x04 != 0 { first(b"XMP ") } else { None };
    told(exif.and_then(in_exif), xmp)
}

fn of_tiff(file: &[u8]) -> Option<u8> {
    let directory = Directory::first(file)?;
    told(directory.field(ORIENTATION), directory.field(XMP).map(|field| field.bytes))
}

/// What EXIF says, or else XMP.
fn told(exif: Option<Field>, xmp: Option<&[u8]>) -> Option<u8> {
    match exif {
        Some(field) => (1..=8).find(|&value| field.number() == Some(f64::from(value))),
        None => xmp.and_then(in_xmp),
    }
}

fn in_exif(exif: &[u8]) -> Option<Field<'_>> {
    let twice = exif.strip_prefix(EXIF).unwrap_or(exif);
    Directory::first(twice.strip_prefix(EXIF).unwrap_or(twice))?.field(ORIENTATION)
}

/// The digit in `tiff:Orientation="6"` or `<tiff:Orientation>6`.
fn in_xmp(xmp: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    xmp.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME).find_map(|(at, _)| {
        let rest = &xmp[at + NAME.len()..];
        let value = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?.first()?;
        value.is_ascii_digit().then(|| value - b'0')
    })
}

/// The chunks of a PNG with their names, as far as they are whole.
fn chunks_of_png(file: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = file.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (content, after) = after.split_at_checked(length.checked_add(4)?)?;
        let (sum, after) = after.split_first_chunk()?;
        rest = after;
        Some((content, u32::from_be_bytes(*sum)))
    })
    .filter_map(|(content, sum)| {
        let (kind, data) = content.split_at(4);
        // Pixels are many, and not looked at here.
        if kind == b"IDAT" {
            return None;
        }
        let mut crc = Crc::new();
        crc.update(content);
        (crc.sum() == sum).then_some((kind, data))
    })
}

/// The key and the value of a text chunk of one of the keys that matter here.
fn text_of_png<'a>(kind: &[u8], data: &'a [u8]) -> Option<(&'a [u8], Cow<'a, [u8]>)> {
    let split = |data: &'a [u8]| {
        let at = data.iter().position(|byte| *byte == 0)?;
        Some((&data[..at], &data[at + 1..]))
    };
    let (key, value) = split(data)?;
    let is_packed;
    let value = match kind {
        b"tEXt" => {
            is_packed = false;
            value
        }
        b"zTXt" => {
            is_packed = true;
            value.strip_prefix(&[0])?
        }
        // Whether it is packed, how, the language, and the key in that language.
        b"iTXt" => {
            is_packed = *value.first()? != 0;
            let (_, value) = split(value.get(2..)?)?;
            split(value)?.1
        }
        _ => return None,
    };
    if ![&b"exif"[..], b"Raw profile type exif", b"XML:com.adobe.xmp"].contains(&key) {
        return None;
    }
    if !is_packed {
        return Some((key, value.into()));
    }
    let mut text = Vec::new();
    ZlibDecoder::new(value).take(MAX_TEXT).read_to_end(&mut text).ok()?;
    Some((key, text.into()))
}

/// The bytes of ImageMagick's profiles: three lines, and then hexadecimal digits.
fn profile_in_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.splitn(4, |byte| *byte == b'\n').nth(3)?;
    let digits: Vec<u8> = digits
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|digit| char::from(*digit).to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The chunks of a WebP with their names, as far as they are whole.
fn chunks_of_webp(file: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = file.get(12..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (kind, after) = rest.split_at_checked(4)?;
        let (length, after) = after.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (data, after) = after.split_at_checked(length)?;
        rest = after.get(length % 2..).unwrap_or_default();
        Some((kind, data))
    })
}
