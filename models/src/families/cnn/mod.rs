//! The convolutional network for CIFAR-10: three times 5x5 convolution, ReLU and 2x2 max-pool, then two linear layers.
//!
//! 1,190,000 weights (biases not counted) for images of 28 or 32 pixels: the third pool rounds up, so that both sizes end in
//! 64 maps of 4x4.

mod config;
mod flops;
mod model;

pub use config::CnnConfig;
pub use model::Cnn;
