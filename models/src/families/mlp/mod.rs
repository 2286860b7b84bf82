//! The multi-layer perceptron: `fc1`, activation, `fc2`, ... on the values of an image in one row.
//!
//! With one hidden layer and tanh it is `ŷ = tanh(x Whᵀ + bh) Wyᵀ + by`, the [`Perceptron`], whose training is written out
//! here in several ways.

mod autograd;
mod config;
mod flops;
mod manual;
mod model;
mod perceptron;

pub use config::{MlpAct, MlpConfig};
pub use model::Mlp;
pub use perceptron::{Implementation, Pass, Perceptron};
