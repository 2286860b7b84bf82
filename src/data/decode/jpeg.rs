//! JPEG: what the header says, which of two decoders is right about such a file, and whether it was cut.

use image::DynamicImage;
use jpeg_decoder::{Decoder, PixelFormat};

/// A block of 8x8 pixels takes a bit at least.
const PIXELS_PER_BYTE: u64 = 64 * 8;

/// The marker of the header of a scan.
const SCAN: u8 = 0xda;

/// A piece of a JPEG before its coded values.
struct Segment<'a> {
    /// The second byte of its marker.
    marker: u8,
    /// None where it is cut.
    content: Option<&'a [u8]>,
    /// Where the next one begins.
    end: usize,
}

/// The segments of a JPEG. Behind the header of a scan they mean nothing.
fn segments(jpeg: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    let mut at = 2;
    std::iter::from_fn(move || {
        loop {
            let &[begin, marker, high, low] = jpeg.get(at..at + 4)? else { return None };
            match (begin, marker) {
                // Fill.
                (0xff, 0xff) => at += 1,
                (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
                (0xff, _) => {
                    let (start, end) = (at + 4, at + 2 + usize::from(u16::from_be_bytes([high, low])));
                    at = end;
                    return Some(Segment { marker, content: jpeg.get(start..end), end });
                }
                // Bytes that belong to nothing, which some phones write between segments.
                _ => at += 1,
            }
        }
    })
}

/// What stands in the segments APP1 before the first scan: EXIF and XMP.
pub(super) fn application_data(jpeg: &[u8]) -> impl Iterator<Item = &[u8]> {
    let before_scan = segments(jpeg).take_while(|segment| segment.marker != SCAN);
    before_scan.filter(|segment| segment.marker == 0xe1).filter_map(|segment| segment.content)
}

/// What stands before the first scan of a JPEG, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The second byte of the frame's marker, which names the coding process.
    process: u8,
    precision: u8,
    width: u16,
    height: u16,
    /// How often each component is sampled, across and down, in a minimum coded unit.
    sampling: Vec<[u8; 2]>,
    /// Components in the first scan.
    in_first_scan: usize,
    /// Where the coded values begin.
    scan: usize,
}

impl Header {
    /// None where there is no whole frame and scan header: the decoder will say what is wrong.
    pub(super) fn read(jpeg: &[u8]) -> Option<Self> {
        let mut frame = None;
        for Segment { marker, content, end } in segments(jpeg) {
            match marker {
                SCAN => {
                    let (process, precision, width, height, sampling) = frame?;
                    let in_first_scan = usize::from(*content?.first()?);
                    return Some(Self { process, precision, width, height, sampling, in_first_scan, scan: end });
                }
                // A frame: neither Huffman tables, nor an extension, nor the conditions of arithmetic coding.
                0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(&marker) => {
                    let &[precision, h1, h0, w1, w0, _, ref components @ ..] = content? else { return None };
                    let sampling = components.chunks_exact(3).map(|c| [c[1] >> 4, c[1] & 15]).collect();
                    let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
                    frame = Some((marker, precision, width, height, sampling));
                }
                _ => {}
            }
        }
        None
    }

    /// Width and height in pixels.
    pub(super) fn size(&self) -> (u32, u32) {
        (u32::from(self.width), u32::from(self.height))
    }

    /// Bytes of its pixels.
    pub(super) fn decoded_bytes(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * self.sampling.len() as u64
    }

    /// Where the coded values begin.
    pub(super) fn scan(&self) -> usize {
        self.scan
    }

    /// Whether a file of `bytes` bytes cannot hold so many pixels.
    pub(super) fn claims_too_much(&self, bytes: usize) -> bool {
        u64::from(self.width) * u64::from(self.height) > PIXELS_PER_BYTE * bytes as u64
    }

    /// What no decoder at hand reads, by name.
    pub(super) fn refused(&self) -> Option<String> {
        let what = match self.process {
            0xc3 => "a lossless JPEG".to_string(),
            0xc5..=0xc7 => "a hierarchical JPEG".into(),
            0xc9..=0xcf => "a JPEG with arithmetic coding".into(),
            _ if self.precision != 8 => format!("a JPEG of {} bits", self.precision),
            _ if ![1, 3, 4].contains(&self.sampling.len()) => format!("a JPEG of {} components", self.sampling.len()),
            _ if !self.is_usual() && self.is_beyond_both() => {
                format!("a JPEG in several scans with components sampled {}", self.sampled())
            }
            _ => return None,
        };
        Some(format!("{what}, {}", crate::data::files::UNREADABLE))
    }

    fn largest(&self) -> [u8; 2] {
        [0, 1].map(|axis| self.sampling.iter().map(|factors| factors[axis]).max().unwrap_or(1))
    }

    /// Whether the decoder of `image` is right about such files: they are progressive or in one scan, and nothing is sampled finer
    /// than brightness. About others it is wrong without a word: green, or torn.
    pub(super) fn is_usual(&self) -> bool {
        let whole = self.process == 0xc2 || self.in_first_scan == self.sampling.len();
        let powers = self.sampling.iter().flatten().all(|factor| factor.is_power_of_two());
        self.sampling.len() == 1 || whole && powers && self.sampling.first() == Some(&self.largest())
    }

    /// Whether the other decoder is wrong too: it counts the blocks of a component that is sampled more than once but less than
    /// the finest, where it comes in a scan of its own, by the finest.
    fn is_beyond_both(&self) -> bool {
        let scans = self.process == 0xc2 || self.in_first_scan != self.sampling.len();
        let largest = self.largest();
        let between = |factors: &[u8; 2]| [0, 1].iter().any(|&axis| factors[axis] > 1 && factors[axis] < largest[axis]);
        scans && self.sampling.iter().any(between)
    }

    fn sampled(&self) -> String {
        let all: Vec<String> = self.sampling.iter().map(|[across, down]| format!("{across}x{down}")).collect();
        all.join(", ")
    }

    /// The file with an end marker, where it has none although all pixels are there: what stands behind its coded values (nothing,
    /// or what filled up the last block of a disk) makes no difference to them. None where it was cut.
    ///
    /// `decode` gives the pixels of a file.
    pub(super) fn completed(&self, jpeg: &[u8], decode: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
        let padding = jpeg.iter().rev().take_while(|&&byte| byte == 0).count();
        let mut coded = jpeg.get(..jpeg.len() - padding).filter(|coded| coded.len() > self.scan)?;
        if coded.last() == Some(&0xff) {
            match padding {
                // Half of the end marker.
                0 => coded = &coded[..coded.len() - 1],
                // A stuffed byte.
                _ => coded = &jpeg[..coded.len() + 1],
            }
        }
        let ended = |filling: u8| {
            let mut file = coded.to_vec();
            // More than any image asks for, and even ones in a row are the end of no code.
            file.extend(std::iter::repeat_n(filling, FILLING));
            file.extend([0xff, 0xd9]);
            file
        };
        let [zeros, mixed] = [ended(0), ended(0xaa)];
        let (one, other) = (decode(&zeros)?, decode(&mixed)?);
        (one == other).then_some(zeros)
    }
}

/// Bytes behind a file without an end marker. A reader that wants more of them than this has missed a part of the image.
const FILLING: usize = 64;

/// Whether a JPEG has its end marker behind its header: previews in the header have one too. Without it the decoder would fill up
/// what is missing without a word.
pub(super) fn ends(jpeg: &[u8], scan: usize) -> bool {
    jpeg.get(scan..).is_some_and(|coded| coded.windows(2).rev().any(|pair| pair == [0xff, 0xd9]))
}

/// Decodes with the decoder for what is not usual.
pub(super) fn decode_unusual(jpeg: &[u8], largest: usize) -> Result<DynamicImage, String> {
    let mut decoder = Decoder::new(jpeg);
    decoder.set_max_decoding_buffer_size(largest);
    let pixels = decoder.decode().map_err(|e| e.to_string())?;
    let info = decoder.info().ok_or("no frame")?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let image = match info.pixel_format {
        PixelFormat::L8 => image::GrayImage::from_raw(width, height, pixels).map(DynamicImage::from),
        PixelFormat::RGB24 => image::RgbImage::from_raw(width, height, pixels).map(DynamicImage::from),
        PixelFormat::CMYK32 => {
            let colours = pixels.chunks_exact(4).flat_map(|inks| rgb([inks[0], inks[1], inks[2], inks[3]])).collect();
            image::RgbImage::from_raw(width, height, colours).map(DynamicImage::from)
        }
        other => return Err(format!("pixels of {other:?}")),
    };
    image.ok_or_else(|| "fewer pixels than its header says".into())
}

/// Pillow's conversion from inks (`cmyk2rgb` of `Convert.c`).
fn rgb([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let product = |a: u8, b: u8| {
        let product = u32::from(a) * u32::from(b) + 128;
        ((product + (product >> 8)) >> 8) as u8
    };
    [cyan, magenta, yellow].map(|ink| product(255 - ink, 255 - black))
}
