//! Weights inside the binary: a pretrained ViT-S/14, so that a first run needs no network. `bundled/README.md` is its card.

use crate::format::TensorFile;
use crate::{Error, Result};

/// The zoo's name of the bundled weights.
pub const NAME: &str = "vit_small_patch14_dinov2.saliency";

/// Bytes that start where quantised blocks may.
#[cfg(feature = "bundled")]
#[repr(C, align(64))]
struct Aligned<T: ?Sized>(T);

#[cfg(feature = "bundled")]
static BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!("../bundled/vit_small_patch14_dinov2.saliency.gguf"));

/// Opens bundled weights by name.
#[cfg(feature = "bundled")]
pub(crate) fn open(name: &str) -> Result<TensorFile> {
    if name == NAME { crate::format::open_bytes(name, &BYTES.0) } else { Err(unknown(name)) }
}

/// Says how to get the bundled weights.
#[cfg(not(feature = "bundled"))]
pub(crate) fn open(name: &str) -> Result<TensorFile> {
    if name != NAME {
        return Err(unknown(name));
    }
    Err(Error::unsupported(name, "opening bundled weights in a build without them", "build with the feature `bundled`"))
}

fn unknown(name: &str) -> Error {
    Error::NotFound { what: format!("no bundled weights are called {name}"), remedy: format!("there is {NAME}") }
}
