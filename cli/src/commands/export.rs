//! `tallow export`: weights for other programs.

use anyhow::bail;
use serde::Serialize;
use tallow_models::Architecture;
use tallow_weights::{expanded, save};

use crate::error::{Result, usage};
use crate::file_name::check_written;
use crate::flags::{ExportArgs, ExportFormat, Quantisation};
use crate::model;
use crate::session::Session;
use tallow::Pretrained;
use tallow::train::RunFolder;
use tallow::train::config::Method;

#[derive(Serialize)]
struct Exported<'a> {
    out: &'a std::path::Path,
    format: &'static str,
    tensors: usize,
}

pub fn run(args: &ExportArgs, session: &Session) -> Result {
    // Before anything is said of the model: a place that cannot be written to is the first thing to put right.
    if let Some(file) = args.out.ancestors().skip(1).find(|above| above.is_file()) {
        bail!("{}: {} is a file, expected a folder", args.out.display(), file.display());
    }
    match args.format {
        ExportFormat::Timm if args.quantisation.is_some() => {
            return Err(usage("--quantisation: expected --format gguf beside it: timm's layout has float32"));
        }
        ExportFormat::Gguf if args.force => {
            return Err(usage("--force: expected --format timm: GGUF is for Tallow alone anyway"));
        }
        _ => {}
    }
    let name = if args.student { student(&args.model)? } else { args.model.clone() };
    let loaded = model::open(&name, &args.architecture, &args.checkpoint, session)?;
    model::say_account(&loaded, session);
    check_head(args, &loaded, session)?;
    let format = match args.format {
        ExportFormat::Timm => {
            if args.out.is_file() {
                return Err(usage(format!("--out {}: expected a folder, got a file", args.out.display())));
            }
            if args.out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
                && !args.out.is_dir()
            {
                let out = args.out.display();
                return Err(usage(format!(
                    "--out {out}: expected a folder, got the name of a file; add --format gguf for a file"
                )));
            }
            match save::check_timm(loaded.config()) {
                Ok(()) => {}
                // Of its other models timm has none of the kind: nobody expects it to build one.
                Err(reason) if args.force || !matches!(loaded.config().architecture, Architecture::Vit(_)) => {
                    session.warn(format!("Tallow can read this again, but timm cannot: {reason}"));
                }
                Err(reason) => {
                    bail!("{}: {reason}, or write it with --force for Tallow alone", args.model);
                }
            }
            if !loaded.config().preprocessing.is_timms() {
                session.note(
                    "Tallow will make the input of images as before, and timm otherwise: its config has no words for all of it \
                     (docs/images.md)",
                );
            }
            save::timm(&args.out, loaded.params(), loaded.config())?;
            "timm"
        }
        ExportFormat::Gguf => {
            check_written("--out", &args.out, "gguf")?;
            let quantisation = match args.quantisation.unwrap_or(Quantisation::Q8_0) {
                Quantisation::Q8_0 => save::Quantisation::Q8_0,
                Quantisation::F16 => save::Quantisation::F16,
                Quantisation::F32 => save::Quantisation::F32,
            };
            save::gguf(&args.out, loaded.params(), loaded.config(), quantisation)?;
            "gguf"
        }
    };
    let exported = Exported { out: &args.out, format, tensors: loaded.params().names().len() };
    session.result(&exported, || format!("{}: {} tensors, {format}", args.out.display(), exported.tensors))
}

/// The student of the DINO run called `name`: what the run goes on from.
fn student(name: &str) -> Result<String> {
    let expected = || usage(format!("--student: expected the folder of a DINO run, got {name}"));
    let folder = RunFolder::of_model(expanded(name)).ok_or_else(expected)?;
    if folder.config()?.pretraining.method != Some(Method::Dino) {
        return Err(expected());
    }
    Ok(folder.last_path().display().to_string())
}

/// A head that was drawn at random is written only where it was asked for, and is marked as untrained.
fn check_head(args: &ExportArgs, loaded: &Pretrained, session: &Session) -> Result {
    let classes = loaded.config().architecture.num_classes();
    match (args.architecture.num_classes, &loaded.config().head_fault) {
        (Some(_), Some(_)) => {
            session
                .warn(format!("the head for {classes} classes is new, and is marked as untrained in what is written"));
            Ok(())
        }
        (None, Some(_)) => {
            let instead = format!(
                "export without the head (--num-classes 0), or with an untrained one (--num-classes {classes})"
            );
            model::check_head(loaded, &args.architecture, &instead)
        }
        (_, None) => Ok(()),
    }
}
