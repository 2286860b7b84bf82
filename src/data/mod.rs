//! Data sets, splits, transforms and the threads that load batches.

pub mod dataset;
pub mod loader;
pub mod transform;

mod error;
pub use dataset::{Dataset, Image, Samples};
pub use error::{Error, Result};
pub use loader::{Batch, Loader};
pub use transform::Transform;
