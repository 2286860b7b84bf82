//! Studies that stand beside the zoo and its optimisers: a perceptron whose training is written out by hand, support vector
//! machines, its yardstick, and nearest neighbours among a model's features.

pub(super) mod frame;
pub mod knn;
pub mod perceptron;
pub mod svm;
