//! The fuzz targets of the readers of checkpoints, on seeds and their mutations: no panic, no memory beyond a multiple of the
//! file, and errors of one line.

#[path = "../../../fuzz/parsers/shake.rs"]
mod shake;
#[path = "../../../fuzz/parsers/weights.rs"]
mod weights;

mod found;
mod seeds;

use shake::{Counting, Parser};

#[global_allocator]
static COUNTING: Counting = Counting;

const MIB: usize = 1 << 20;

/// Memory of what is not compressed.
const PLAIN: (usize, usize) = (4 * MIB, 256);
/// An archive may unpack to 64 MiB whatever its size, which are then copied into tensors.
const PACKED: (usize, usize) = (160 * MIB, 512);

fn all() -> Vec<Parser> {
    vec![
        Parser::new("pickle", weights::pickle, seeds::pickles(), 20000, PLAIN),
        Parser::new("archive", weights::archive, seeds::archives(), 6000, PACKED),
        Parser::new("legacy", weights::legacy, seeds::legacy(), 8000, PLAIN),
        Parser::new("gguf", weights::gguf, seeds::gguf(), 12000, PLAIN),
        Parser::new("npy", weights::npy, seeds::npy(), 12000, PLAIN),
        Parser::new("safetensors", weights::safetensors, seeds::safetensors(), 12000, PLAIN),
        Parser::new("networks", weights::networks, seeds::networks(), 6000, (64 * MIB, 256)),
        Parser::new("config", weights::config, seeds::configs(), 20000, PLAIN),
        Parser::new("index", weights::index, seeds::indices(), 6000, PLAIN),
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

shaken! { pickle archive legacy gguf npy safetensors networks config index }

/// `cargo test -p tallow-weights --test fuzz -- --ignored` writes the seeds where `cargo fuzz` looks for them.
#[test]
#[ignore = "writes files"]
fn seeds_are_written() {
    all().iter().for_each(|parser| parser.write_seeds(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus")));
}
