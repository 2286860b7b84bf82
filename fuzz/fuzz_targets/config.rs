//! A config.json, and behind a zero byte what lies beside it.

#![no_main]

#[path = "../parsers/weights.rs"]
mod weights;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    weights::config(bytes);
});
