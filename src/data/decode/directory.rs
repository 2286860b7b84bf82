//! The first directory of a TIFF: its fields by their tags. EXIF is written as a TIFF without an image.
//!
//! What is damaged is read as far as Pillow reads it: fields up to the first one that is not whole, of a tag the first one.

/// Where the first directory lies, and how numbers are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory<'a> {
    tiff: &'a [u8],
    little: bool,
    /// Whether it is a BigTIFF, whose offsets have 64 bits.
    big: bool,
    at: u64,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    kind: u16,
    little: bool,
    pub bytes: &'a [u8],
}

impl<'a> Directory<'a> {
    /// The first directory of `tiff`; none where it does not begin as one does.
    pub(super) fn first(tiff: &'a [u8]) -> Option<Self> {
        let little = match tiff.get(..2)? {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let big = super::tiff::is_big(tiff);
        // Some programs write these two bytes in the wrong order, which Pillow forgives.
        if !big && ![[0, 42], [42, 0]].iter().any(|magic| tiff[2..].starts_with(magic)) {
            return None;
        }
        let mut directory = Self { tiff, little, big, at: 0 };
        directory.at = if big { directory.number(8, 8)? } else { directory.number(4, 4)? };
        Some(directory)
    }

    /// The field of a tag.
    pub(super) fn field(&self, tag: u16) -> Option<Field<'a>> {
        // How long the number of fields is, a field, and the number that counts or places its values.
        let (count, field, word) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        // Values outside of the fields cannot be more than the file.
        let mut outside = 0;
        for index in 0..self.number(self.at, count)? {
            let start = self.at.checked_add(count)?.checked_add(index.checked_mul(field)?)?;
            self.slice(start, field)?;
            let kind = self.number(start + 2, 2)? as u16;
            let Some(size) = size(kind) else { continue };
            let Some(length) = self.number(start + 4, word)?.checked_mul(size) else { continue };
            let bytes = if length <= word {
                self.slice(start + 4 + word, length)?
            } else {
                outside += u128::from(length);
                if outside > self.tiff.len() as u128 {
                    continue;
                }
                self.slice(self.number(start + 4 + word, word)?, length)?
            };
            if !bytes.is_empty() && self.number(start, 2)? == u64::from(tag) {
                return Some(Field { kind, little: self.little, bytes });
            }
        }
        None
    }

    fn slice(&self, at: u64, length: u64) -> Option<&'a [u8]> {
        let (at, length) = (usize::try_from(at).ok()?, usize::try_from(length).ok()?);
        self.tiff.get(at..at.checked_add(length)?)
    }

    fn number(&self, at: u64, length: u64) -> Option<u64> {
        self.slice(at, length).map(|bytes| unsigned(bytes, self.little))
    }
}

impl Field<'_> {
    /// Its first value; none of letters or bytes, which are no numbers.
    pub(super) fn number(&self) -> Option<f64> {
        let first = |length: usize| self.bytes.get(..length).map(|bytes| unsigned(bytes, self.little));
        let [numerator, denominator] =
            [0, 4].map(|at| self.bytes.get(at..at + 4).map(|bytes| unsigned(bytes, self.little) as u32));
        Some(match self.kind {
            3 => first(2)? as f64,
            4 | 13 => first(4)? as f64,
            5 => f64::from(numerator?) / f64::from(denominator?),
            6 => f64::from(first(1)? as i8),
            8 => f64::from(first(2)? as i16),
            9 => f64::from(first(4)? as i32),
            10 => f64::from(numerator? as i32) / f64::from(denominator? as i32),
            11 => f64::from(f32::from_bits(first(4)? as u32)),
            12 => f64::from_bits(first(8)?),
            16 => first(8)? as f64,
            _ => return None,
        })
    }
}

/// Bytes of a value of a type; none of a type that there is not.
fn size(kind: u16) -> Option<u64> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16 => 8,
        _ => return None,
    })
}

fn unsigned(bytes: &[u8], little: bool) -> u64 {
    let fold = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
    if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) }
}
