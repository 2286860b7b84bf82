//! Whether images are turned and mirrored as the camera noted beside them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Error, Result};

/// What becomes of the orientation that a camera noted in a file (EXIF's tag 274).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Exif {
    /// The image is turned and mirrored as it says, as Pillow's `ImageOps.exif_transpose` does and viewers show it.
    #[default]
    Apply,
    /// The image is read as its pixels lie in the file, as torchvision's `ImageFolder` reads JPEG, PNG and WebP.
    Ignore,
}

impl Exif {
    /// All of them, the default first.
    pub const ALL: [Self; 2] = [Self::Apply, Self::Ignore];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Ignore => "ignore",
        }
    }
}

impl fmt::Display for Exif {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Exif {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.name() == text)
            .ok_or_else(|| Error::invalid("exif", "apply or ignore", format!("{text:?}")))
    }
}
