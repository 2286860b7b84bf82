//! Optimisers' steps, which change parameters in their own storage, and the clipping of gradients: on CUDA for all parameters in
//! one launch, elsewhere one after the other.

mod adamw;
mod clip;
#[cfg(feature = "cuda")]
mod on_cuda;
mod sgd;
mod sum_of_squares;

pub use adamw::{AdamWStep, AdamWTarget, adamw_step, adamw_steps};
pub use clip::{Clip, Squares, clip_factor, sums_of_squares};
pub use sgd::{SgdStep, SgdTarget, sgd_step, sgd_steps};
pub use sum_of_squares::sum_of_squares;
