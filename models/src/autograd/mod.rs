//! Differentiable functions, written in one way: [`Function`] takes what a forward has computed and a closure for the
//! backward, and gives a tensor that Candle's backward pass knows how to go through.
//!
//! Beside it stand two things that need to know how that is done: [`collect_gradients`], by which the gradients of a model's
//! parameters go past Candle's sums, and [`checkpoint`], which trades memory for time.

mod attach;
mod checkpoint;
mod collected;
mod function;
#[cfg(any(test, feature = "cuda"))]
mod segment;
mod storage;

pub use checkpoint::checkpoint;
pub use collected::collect_gradients;
pub use function::{Call, Computed, Function, Output};
#[cfg(feature = "cuda")]
pub(crate) use segment::{segment, unrecorded};
pub(crate) use storage::{release, take_storage};
