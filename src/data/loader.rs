//! The threads that decode and transform samples ahead of the model.

use candle_core::Tensor;

/// A batch, ready for the model.
#[derive(Debug, Clone)]
pub struct Batch {
    /// `[batch, channels, height, width]`, float32.
    pub images: Tensor,
    /// `[batch]`, u32.
    pub labels: Tensor,
    /// The samples' indices in their part of the data set.
    pub indices: Vec<usize>,
}

/// An iterator over the batches of one epoch.
pub struct Loader {}
