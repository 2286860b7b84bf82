//! A pickle, as the object of a file of PyTorch.

#![no_main]

#[path = "../parsers/weights.rs"]
mod weights;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    weights::pickle(bytes);
});
