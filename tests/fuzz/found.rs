//! Inputs on which the readers did what they must not: ended the program, took memory or time without measure.

fn try_on(name: &str, input: &[u8]) {
    crate::all().iter().find(|parser| parser.name == name).expect("a parser of this name").try_on(input);
}

/// A file in Parquet that says this about itself and holds nothing.
fn parquet(metadata: &[u8]) -> Vec<u8> {
    [b"PAR1", metadata, &(metadata.len() as u32).to_le_bytes(), b"PAR1"].concat()
}

/// Metadata with a schema of groups of so many children, each in the one before.
fn nested(children: &[u64]) -> Vec<u8> {
    let varint = |mut value: u64| {
        let mut bytes = Vec::new();
        while value > 0x7f {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let element = |&count: &u64| [b"\x35\0\x18\x01a\x15".to_vec(), varint(2 * count), vec![0]].concat();
    let elements: Vec<u8> = children.iter().flat_map(element).collect();
    [b"\x15\x02\x19\xfc".to_vec(), varint(children.len() as u64), elements, vec![0]].concat()
}

#[test]
fn a_schema_that_claims_children_does_not_get_memory_for_them() {
    try_on("parquet", &parquet(&nested(&[i32::MAX as u64, 1])));
}

#[test]
fn groups_of_columns_in_each_other_do_not_overflow_the_stack() {
    try_on("parquet", &parquet(&nested(&[1; 300_000])));
}

#[test]
fn lists_of_elements_without_bytes_are_not_counted_to_their_end() {
    // Field 9 is of no known name.
    let list = b"\xf1\xff\xff\xff\xff\x07".repeat(1000);
    let metadata = [&b"\x15\x02\x89\xf9\xe8\x07"[..], &list, b"\0"].concat();
    try_on("parquet", &parquet(&metadata));
}

/// The head of a page that says, where the file ends, that two billion texts follow: they were passed over one by one for minutes.
#[test]
fn a_page_head_does_not_go_on_past_the_end_of_its_file() {
    try_on("parquet", include_bytes!("../references/parquet/head-past-the-end.parquet"));
}

#[test]
fn names_with_line_breaks_in_a_run_stay_within_a_line() {
    try_on("run", b"\0[\"st\\nep\"]\n");
    try_on("run", b"\"a\\nb\" = 1");
}
