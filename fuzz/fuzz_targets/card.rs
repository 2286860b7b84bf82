//! The card of a data set.

#![no_main]

#[path = "../parsers/data.rs"]
mod data;

libfuzzer_sys::fuzz_target!(
    init: {
        // What panics in a decoder of others is caught and becomes an error: only what is not caught ends the run.
        std::panic::set_hook(Box::new(|_| ()));
    },
    |bytes: &[u8]| {
        data::card(bytes);
    }
);
