//! The files of MNIST's format.

#![no_main]

#[path = "../parsers/data.rs"]
mod data;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    data::idx(bytes);
});
