//! Writes a checkpoint as GGUF with 8 bits a weight: `cargo run --release -p tallow-weights --example quantise SOURCE OUT.gguf`.
//! The bundled weights were made by this.

use std::path::Path;

use candle_core::{DType, Device};
use tallow_models::Params;
use tallow_weights::save::{Quantisation, gguf};
use tallow_weights::{LoadOptions, OpenOptions, Source, load, open};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, out] = arguments.as_slice() else { return Err("usage: quantise SOURCE OUT.gguf".into()) };
    let checkpoint = open(&Source::parse(source)?, &OpenOptions::default())?;
    let (config, notes) = checkpoint.config_or_inferred()?;
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let account = load(&checkpoint, &config.architecture, &LoadOptions::default(), &params)?;
    config.architecture.build(params.builder())?;
    gguf(Path::new(out), &params, &config, Quantisation::Q8_0)?;
    println!("{account}");
    notes.iter().for_each(|note| println!("note: {note}"));
    Ok(())
}
