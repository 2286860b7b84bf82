//! Images on their way to a model: uploads from page-locked memory, and resizing where the model runs. They are here and not where
//! images are read, because both are CUDA's business (`crate::cuda`), which no other crate knows.

#[cfg(feature = "cuda")]
mod on_cuda;
mod resize;
#[cfg(feature = "cuda")]
mod upload;

pub use resize::{PRECISION, Taps, resize};
#[cfg(feature = "cuda")]
pub use upload::{Upload, Uploads};
