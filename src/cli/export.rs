//! `tallow export`: weights for other programs.

use anyhow::bail;
use serde::Serialize;
use tallow_weights::save;

use super::error::{Result, usage};
use super::flags::{ExportArgs, ExportFormat, Quantisation};
use super::model::Loaded;
use super::session::Session;

#[derive(Serialize)]
struct Exported<'a> {
    out: &'a std::path::Path,
    format: &'static str,
    tensors: usize,
}

pub fn run(args: &ExportArgs, session: &Session) -> Result {
    let loaded = Loaded::open(&args.model, &args.architecture, &args.checkpoint, session)?;
    loaded.say_account(session);
    // Before anything is said of the model: a place that cannot be written to is the first thing to put right.
    if let Some(file) = args.out.ancestors().skip(1).find(|above| above.is_file()) {
        bail!("{}: {} is a file, expected a folder", args.out.display(), file.display());
    }
    let format = match args.format {
        ExportFormat::Timm => {
            if args.out.is_file() {
                return Err(usage(format!("--out {}: expected a folder, got a file", args.out.display())));
            }
            match save::check_timm(&loaded.config) {
                Ok(()) => {}
                Err(reason) if args.force => {
                    session.warn(format!("Tallow can read this again, but timm cannot: {reason}"));
                }
                Err(reason) => {
                    bail!("{}: {reason}, or write it with --force for Tallow alone", args.model);
                }
            }
            save::timm(&args.out, &loaded.params, &loaded.config)?;
            "timm"
        }
        ExportFormat::Gguf => {
            if args.out.is_dir() {
                return Err(usage(format!("--out {}: expected a file, got a folder", args.out.display())));
            }
            let quantisation = match args.quantisation {
                Quantisation::Q8_0 => save::Quantisation::Q8_0,
                Quantisation::F16 => save::Quantisation::F16,
                Quantisation::F32 => save::Quantisation::F32,
            };
            save::gguf(&args.out, &loaded.params, &loaded.config, quantisation)?;
            "gguf"
        }
    };
    let exported = Exported { out: &args.out, format, tensors: loaded.params.names().len() };
    session.result(&exported, || format!("{}: {} tensors, {format}", args.out.display(), exported.tensors))
}
