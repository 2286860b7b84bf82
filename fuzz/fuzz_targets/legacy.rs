//! A file of PyTorch from before 1.6.

#![no_main]

#[path = "../parsers/weights.rs"]
mod weights;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    weights::legacy(bytes);
});
