//! The files of CIFAR-10.

#![no_main]

#[path = "../parsers/data.rs"]
mod data;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    data::cifar(bytes);
});
