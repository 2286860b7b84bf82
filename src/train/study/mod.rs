//! Studies that stand beside the zoo and its optimisers: a perceptron whose training is written out by hand, and support vector
//! machines, its yardstick.

pub mod perceptron;
pub mod svm;
