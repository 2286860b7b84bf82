//! What a user does with the binary, from end to end, on a few hundred digits.

mod bad_images;
mod bad_input;
mod checkpoints;
mod commands;
mod exif;
mod heads;
#[cfg(feature = "hub")]
mod hub;
mod identity;
mod idle;
mod interruption;
mod parts;
mod pictures;
mod pretraining;
mod recipes;
mod sandbox;
mod svm;
mod words;
mod workflow;
