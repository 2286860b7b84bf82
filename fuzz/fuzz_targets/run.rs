//! The files of a run's folder.

#![no_main]

#[path = "../parsers/data.rs"]
mod data;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    data::run(bytes);
});
