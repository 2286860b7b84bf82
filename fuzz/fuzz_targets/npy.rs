//! An npy file, as one of an npz archive.

#![no_main]

#[path = "../parsers/weights.rs"]
mod weights;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    weights::npy(bytes);
});
