//! A checkpoint of zeros with these names and shapes, opened, understood and loaded.

#![no_main]

#[path = "../parsers/weights.rs"]
mod weights;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    weights::networks(bytes);
});
