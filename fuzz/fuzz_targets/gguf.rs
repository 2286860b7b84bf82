//! A GGUF file.

#![no_main]

#[path = "../parsers/weights.rs"]
mod weights;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    weights::gguf(bytes);
});
