//! An opened checkpoint: names, shapes and lazily read tensors, and what its config says.
/// A checkpoint.
pub struct Checkpoint {}
