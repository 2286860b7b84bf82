//! Inputs on which the readers did what they must not: panicked, took memory without measure, or gave errors of several lines.

use crate::seeds::{dictionary, gguf_of, gguf_tensor, tensor, text};

fn try_on(name: &str, input: &[u8]) {
    crate::all().iter().find(|parser| parser.name == name).expect("a parser of this name").try_on(input);
}

/// An entry of a dictionary that is the value in memo `at` in a list, so many times.
fn repeated(key: &str, at: u8, times: usize) -> Vec<u8> {
    [text(key), b"](".to_vec(), [b'h', at].repeat(times), b"es".to_vec()].concat()
}

/// The same as [`tensor`], but kept as the value in memo 5.
fn kept_tensor(key: &str) -> Vec<u8> {
    let mut entry = tensor("w", key, &[8], &[1]);
    let set = entry.pop();
    entry.extend([b'q', 5]);
    entry.extend(set);
    entry
}

#[test]
fn a_class_that_is_named_many_times_does_not_take_its_name_each_time() {
    let name = text(&"n".repeat(100_000));
    let again = b"h\0h\0\x930".repeat(2000);
    try_on("pickle", &[b"\x80\x02", &name[..], b"q\0", &again, b"."].concat());
}

#[test]
fn a_tensor_that_is_named_many_times_does_not_take_its_storages_name_each_time() {
    try_on("pickle", &dictionary(&[kept_tensor(&"k".repeat(60_000)), repeated("again", 5, 4000)]));
}

#[test]
fn a_tensor_that_is_named_many_times_does_not_take_its_path_each_time() {
    try_on("pickle", &dictionary(&[kept_tensor("0"), repeated(&"p".repeat(480), 5, 500_000)]));
}

#[test]
fn a_key_that_is_used_many_times_is_not_copied_each_time() {
    let items = [text(&"k".repeat(60_000)), b"q\x07]s".to_vec(), b"h\x07]s".repeat(4000)].concat();
    try_on("pickle", &dictionary(&[items]));
}

#[test]
fn a_shape_that_is_named_many_times_is_not_copied_each_time() {
    let shape = vec![1; 20_000];
    let mut entry = tensor("w", "0", &shape, &shape);
    let set = entry.pop();
    entry.extend([b'q', 5]);
    entry.extend(set);
    try_on("pickle", &dictionary(&[entry, repeated("again", 5, 20_000)]));
}

#[test]
fn blocks_that_are_stacked_in_a_shape_without_values_are_counted_first() {
    let names = b"embedding/kernel 4 4 3 8\nTransformer/encoderblock/LayerNorm_0/scale 4294967295 0\n\
        Transformer/encoderblock/LayerNorm_0/bias 4294967295 0";
    try_on("networks", names);
}

#[test]
fn sizes_beside_a_zero_do_not_overflow() {
    for shape in ["0 18446744073709551615", "18446744073709551615 0", "4294967295 4294967295 4294967295 0"] {
        try_on("networks", format!("a {shape}").as_bytes());
        try_on("networks", format!("patch_embed.proj.weight {shape}\npos_embed 1 {shape}").as_bytes());
    }
}

#[test]
fn names_do_not_break_the_line_of_an_error() {
    let header = gguf_tensor("a\nb\x1b[2J", &[1, 1, 1, 1, 1], 0, 0);
    try_on("gguf", &gguf_of(1, 0, &header, 64));
    try_on("networks", b"a\rb 1\npatch_embed.proj.weight 1 2 3 4\n");
}

#[test]
fn channels_that_a_config_claims_are_counted_before_their_means_are_made() {
    try_on("config", br#"{"model_type": "vit", "architectures": ["ViTModel"], "num_channels": 4294967296}"#);
    try_on("config", br#"{"model_type": "vit", "num_channels": 4294967295}"#);
}
