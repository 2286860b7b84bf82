//! What every model of the zoo does.

use candle_core::{Result, Tensor};

use crate::Mode;

/// What every model of the zoo does.
pub trait Model: Send + Sync {
    /// Logits `[batch, num_classes]` of images `[batch, channels, height, width]`; where `num_classes` is 0, what
    /// [`Model::pooled`] gives.
    ///
    /// # Errors
    /// If the images are not of the shape and of a floating-point type that the model reads.
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor>;

    /// What the classification head reads: `[batch, num_features]` (timm's pre-logits).
    ///
    /// # Errors
    /// If the images are not of the shape and of a floating-point type that the model reads.
    fn pooled(&self, images: &Tensor, mode: Mode) -> Result<Tensor>;

    /// What the head reads, `[batch, num_features]`, to logits `[batch, num_classes]`: with features that were computed once,
    /// the head alone can be trained.
    ///
    /// # Errors
    /// If the head reads more than that, as the two heads of a distilled ViT do.
    fn head(&self, pooled: &Tensor) -> Result<Tensor>;

    /// Gradient checkpointing: the backward computes parts of the model again instead of finding them in memory. Models that have
    /// none leave it out.
    fn set_grad_checkpointing(&mut self, _on: bool) {}

    /// Keeps the layout of weights between forward passes of a model that only predicts. **The weights must not change from then
    /// on.** Models that have none leave it out.
    fn set_prepacking(&mut self, _on: bool) {}

    /// Whether [`Model::set_prepacking`] keeps a layout of all blocks' weights, which alone are rounded to 8-bit integers
    /// ([`MatmulPrecision::Int8`](crate::ops::MatmulPrecision::Int8)).
    fn is_packed(&self) -> bool {
        false
    }
}
