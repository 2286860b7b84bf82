//! `tallow export`: weights for other programs.

use serde::Serialize;
use tallow_weights::save;

use super::error::{Result, usage};
use super::flags::{ArchitectureFlags, ExportArgs, ExportFormat, Quantisation};
use super::model::Loaded;
use super::session::Session;

#[derive(Serialize)]
struct Exported<'a> {
    out: &'a std::path::Path,
    format: &'static str,
    tensors: usize,
}

pub fn run(args: &ExportArgs, session: &Session) -> Result {
    let flags = ArchitectureFlags { num_classes: args.num_classes, ..ArchitectureFlags::default() };
    let loaded = Loaded::open(&args.model, &flags, session)?;
    loaded.say_account(session);
    check_head(args, &loaded, session)?;
    let format = match args.format {
        ExportFormat::Timm => {
            if args.out.is_file() {
                return Err(usage(format!("--out {}: expected a folder, got a file", args.out.display())));
            }
            if let Err(reason) = save::check_timm(&loaded.config) {
                session.warn(format!("Tallow can read this again, but timm cannot: {reason}"));
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

/// A head that was drawn at random is written only where it was asked for, and is marked as untrained.
fn check_head(args: &ExportArgs, loaded: &Loaded, session: &Session) -> Result {
    let classes = loaded.config.architecture.num_classes();
    match (args.num_classes, &loaded.config.head_fault) {
        (Some(_), Some(_)) => {
            session
                .warn(format!("the head for {classes} classes is new, and is marked as untrained in what is written"));
            Ok(())
        }
        (None, Some(_)) => loaded.check_head(&format!(
            "export without the head (--num-classes 0), or with an untrained one (--num-classes {classes})"
        )),
        (_, None) => Ok(()),
    }
}
