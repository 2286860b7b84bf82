//! Height and width of an image in pixels, as a user and a file write them: `224`, `224x160`, `[224, 160]`.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Height and width of a model's input in pixels. A square is written as one number, anything else as timm writes it,
/// `[height, width]`, or as `HEIGHTxWIDTH` in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ImgSize {
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
}

impl ImgSize {
    /// A square.
    pub const fn square(side: usize) -> Self {
        Self { height: side, width: side }
    }

    /// Whether height and width are the same.
    pub fn is_square(self) -> bool {
        self.height == self.width
    }

    /// Height and width.
    pub fn sides(self) -> [usize; 2] {
        [self.height, self.width]
    }
}

impl From<usize> for ImgSize {
    fn from(side: usize) -> Self {
        Self::square(side)
    }
}

impl From<[usize; 2]> for ImgSize {
    /// Of height and width.
    fn from([height, width]: [usize; 2]) -> Self {
        Self { height, width }
    }
}

impl PartialEq<usize> for ImgSize {
    fn eq(&self, side: &usize) -> bool {
        *self == Self::square(*side)
    }
}

impl fmt::Display for ImgSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_square() { write!(f, "{}", self.height) } else { write!(f, "{}x{}", self.height, self.width) }
    }
}

/// What is expected where a size is not understood.
const EXPECTED: &str = "a whole number for a square, or HEIGHTxWIDTH such as 224x160";

impl FromStr for ImgSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |text: &str| text.trim().parse::<usize>().map_err(|_| format!("expected {EXPECTED}"));
        match text.split_once(['x', 'X', '×']) {
            Some((height, width)) => Ok(Self { height: side(height)?, width: side(width)? }),
            None => Ok(Self::square(side(text)?)),
        }
    }
}

impl Serialize for ImgSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_square() { self.height.serialize(serializer) } else { self.sides().serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for ImgSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = ImgSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_u64<E: de::Error>(self, side: u64) -> Result<ImgSize, E> {
                let side =
                    usize::try_from(side).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(side), &self))?;
                Ok(ImgSize::square(side))
            }

            fn visit_i64<E: de::Error>(self, side: i64) -> Result<ImgSize, E> {
                let number = u64::try_from(side).map_err(|_| E::invalid_value(de::Unexpected::Signed(side), &self))?;
                self.visit_u64(number)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ImgSize, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sides: A) -> Result<ImgSize, A::Error> {
                let mut side = || sides.next_element::<usize>();
                match (side()?, side()?, side()?) {
                    (Some(height), Some(width), None) => Ok(ImgSize { height, width }),
                    (Some(side), None, None) => Ok(ImgSize::square(side)),
                    (sides, ..) => Err(de::Error::invalid_length(usize::from(sides.is_some()), &self)),
                }
            }
        }

        deserializer.deserialize_any(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_is_written_as_a_number_and_anything_else_as_height_and_width() {
        let rectangle = ImgSize { height: 224, width: 160 };
        for (size, text, json) in [(ImgSize::square(56), "56", "56"), (rectangle, "224x160", "[224,160]")] {
            assert_eq!((size.to_string(), size), (text.to_string(), text.parse().unwrap()));
            assert_eq!(serde_json::to_string(&size).unwrap(), json);
            assert_eq!(serde_json::from_str::<ImgSize>(json).unwrap(), size);
            assert_eq!(serde_json::from_str::<ImgSize>(&format!("{text:?}")).unwrap(), size);
        }
        for wrong in ["", "x", "224x", "axb", "-1", "1x2x3"] {
            assert!(wrong.parse::<ImgSize>().unwrap_err().contains("HEIGHTxWIDTH"), "{wrong}");
        }
        for wrong in ["[]", "[1,2,3]", "-5", "1.5", "null"] {
            assert!(serde_json::from_str::<ImgSize>(wrong).is_err(), "{wrong}");
        }
    }
}
