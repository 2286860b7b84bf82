//! From a decoded image to the values that a model reads: the evaluation transform and augmentation.
/// A transform.
pub struct Transform {}
