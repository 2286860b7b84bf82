//! Two-dimensional convolutions over a batch of images.

pub mod direct;
pub mod windows;
pub mod winograd;

/// What a backward is to work out; the rest comes back empty.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The gradient of the input.
    pub dx: bool,
    /// The gradient of the weights.
    pub dw: bool,
    /// The gradient of the bias.
    pub db: bool,
}
