//! Augmentation by name: what may change in an image from epoch to epoch in training.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// One kind of augmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Augment {
    /// `crop`: a window of the input's size at a random place of the image, which is resized as in evaluation. Where that
    /// leaves no room for a choice, the image first gets a black border of an eighth of the input's size on all sides
    /// (torchvision's `RandomCrop(32, padding=4)`).
    Crop,
    /// `resized-crop`: a random window with 8 to 100 % of the area and an aspect ratio between 3:4 and 4:3, resized to the
    /// input's size (torchvision's `RandomResizedCrop`).
    ResizedCrop,
    /// `flip`: left and right swapped, half of the time.
    Flip,
}

impl Augment {
    const ALL: [Self; 3] = [Self::Crop, Self::ResizedCrop, Self::Flip];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crop => "crop",
            Self::ResizedCrop => "resized-crop",
            Self::Flip => "flip",
        }
    }

    /// Reads a list such as `crop,flip`; `none` is the empty one.
    ///
    /// # Errors
    /// If a name is unknown, or two exclude each other.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        if text.trim() == "none" {
            return Ok(Vec::new());
        }
        let list = text.split(',').map(str::parse).collect::<Result<Vec<_>>>()?;
        Self::check(&list)?;
        Ok(list)
    }

    /// Whether the members of `list` go together.
    ///
    /// # Errors
    /// If one is there twice, or two exclude each other.
    pub(crate) fn check(list: &[Self]) -> Result<()> {
        if let Some(twice) = list.iter().enumerate().find(|(i, a)| list[..*i].contains(a)) {
            return Err(Error::invalid("augment", "every name once", format!("{} twice", twice.1)));
        }
        if list.contains(&Self::Crop) && list.contains(&Self::ResizedCrop) {
            return Err(Error::invalid("augment", "one kind of crop", "crop and resized-crop"));
        }
        Ok(())
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Augment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|a| a.name() == text.trim()).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Error::invalid(
                "augment",
                format!("some of {known}, separated by commas, or none alone"),
                format!("{text:?}"),
            )
        })
    }
}

impl From<Augment> for String {
    fn from(augment: Augment) -> Self {
        augment.name().to_string()
    }
}

impl TryFrom<String> for Augment {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}
