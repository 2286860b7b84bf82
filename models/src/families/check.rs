//! What the configurations of all families check in the same way, and the images that a model is given.

use std::fmt::Display;

use candle_core::{Result, Tensor};

use crate::Error;

/// No model is larger than this, by far; more is a slip of the keyboard or a hostile file.
const MAX_PARAMETERS: u64 = 10_000_000_000;

pub(crate) fn check_parameters(count: u64) -> crate::Result<()> {
    check(count <= MAX_PARAMETERS, "model", || format!("at most {MAX_PARAMETERS} parameters"), count)
}

/// Checks a width or a count: at least 1, and bounded, so that sizes can be multiplied without overflow.
pub(crate) fn check_size(field: &str, got: usize, max: usize) -> crate::Result<()> {
    check((1..=max).contains(&got), field, || format!("1 to {max}"), got)
}

pub(crate) fn check_rate(field: &str, got: f64) -> crate::Result<()> {
    check((0. ..1.).contains(&got), field, || "a rate from 0 to below 1".into(), got)
}

pub(crate) fn check(
    holds: bool,
    field: &str,
    expected: impl FnOnce() -> String,
    got: impl Display,
) -> crate::Result<()> {
    if holds { Ok(()) } else { Err(config_error(field, expected(), got)) }
}

pub(super) fn config_error(field: &str, expected: impl Into<String>, got: impl Display) -> Error {
    Error::Config { field: field.into(), expected: expected.into(), got: got.to_string() }
}

/// Checks that a batch `[batch, channels, height, width]` is not empty, fits the model and has values that can be computed with.
pub(crate) fn check_images(images: &Tensor, expected: [usize; 3]) -> Result<()> {
    match images.dims() {
        [batch, image @ ..] if *batch > 0 && image == expected => {}
        got => return Err(candle_core::Error::wrap(Error::Images { expected, got: got.into() })),
    }
    match images.dtype() {
        dtype if dtype.is_float() => Ok(()),
        got => Err(candle_core::Error::wrap(Error::ImageType { got })),
    }
}
