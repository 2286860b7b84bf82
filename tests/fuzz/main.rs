//! The fuzz targets of the readers of data sets, images and runs, on seeds and their mutations: no panic, no memory beyond a
//! multiple of the file, and errors of one line.

#[path = "../../fuzz/parsers/data.rs"]
mod data;
#[allow(dead_code, reason = "another test needs the rest of it")]
#[path = "../report/fake_run.rs"]
mod fake_run;
#[path = "../data/packed.rs"]
mod packed;
#[path = "../../fuzz/parsers/shake.rs"]
mod shake;

mod found;
mod seeds;

use shake::{Counting, Parser};

#[global_allocator]
static COUNTING: Counting = Counting;

const MIB: usize = 1 << 20;

fn all() -> Vec<Parser> {
    vec![
        Parser::new("idx", data::idx, seeds::idx(), 4000, (4 * MIB, 64)),
        // Deflate makes a thousand bytes of one.
        Parser::new("idx_gz", data::idx_gz, seeds::idx_gz(), 4000, (4 * MIB, 4096)),
        Parser::new("cifar", data::cifar, seeds::cifar(), 2000, (4 * MIB, 4096)),
        Parser::new("parquet", data::parquet, seeds::parquet(), 6000, (64 * MIB, 256)),
        Parser::new("card", data::card, seeds::cards(), 3000, (4 * MIB, 256)),
        Parser::new("decode", data::decode, seeds::decoded(), 8000, (1024 * MIB, 4096)),
        Parser::new("run", data::run, seeds::runs(), 500, (64 * MIB, 256)),
    ]
}

macro_rules! shaken {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            all().iter().find(|parser| parser.name == stringify!($name)).expect("a parser of this name").shake();
        })*
    };
}

shaken! { idx idx_gz cifar parquet card decode run }

/// `cargo test --test fuzz -- --ignored` writes the seeds where `cargo fuzz` looks for them.
#[test]
#[ignore = "writes files"]
fn seeds_are_written() {
    all().iter().for_each(|parser| parser.write_seeds(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus")));
}
