//! Optimisers' steps.

mod adamw;
mod sgd;

pub use adamw::{AdamWStep, adamw};
pub use sgd::{SgdStep, sgd, sgd_with_momentum};
