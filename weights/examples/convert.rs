//! Opens a checkpoint of any format and naming and writes it for others: as GGUF with 8 bits a weight where the second argument
//! ends in `.gguf`, else as a folder that timm loads.
//!
//! `cargo run --release -p tallow-weights --example convert hf-hub:google/vit-base-patch16-224 vit.gguf` (with
//! `--features hub`). The bundled weights were made by this.

use std::path::Path;

use candle_core::{DType, Device};
use tallow_models::Params;
use tallow_weights::save::{self, Quantisation};
use tallow_weights::{LoadOptions, OpenOptions, Source, load, open};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, out] = arguments.as_slice() else { return Err("usage: convert SOURCE OUT".into()) };
    let checkpoint = open(&Source::parse(source)?, &OpenOptions::default())?;
    let (config, notes) = checkpoint.config_or_inferred()?;
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let account = load(&checkpoint, &config.architecture, &LoadOptions::default(), &params)?;
    config.architecture.build(params.builder())?;
    if out.ends_with(".gguf") {
        save::gguf(Path::new(out), &params, &config, Quantisation::Q8_0)?;
    } else {
        save::check_timm(&config)?;
        save::timm(Path::new(out), &params, &config)?;
    }
    println!("{account}");
    notes.iter().for_each(|note| println!("note: {note}"));
    Ok(())
}
