//! What matrix products run on, as the command line and the environment say, and which commands are worth a measurement.

use std::env;

use crate::error::{Result, usage};
use crate::flags::Command;
use tallow::train::{self, KernelsFrom};
use tallow_models::ops::Kernels;

/// The variable that says it where no flag does.
const VARIABLE: &str = "TALLOW_KERNELS";

/// Embedding so many images takes longer than a measurement is worth.
const MANY: usize = 32;

/// Sets the kernels: what `--kernels` says, else the environment's variable, else what was measured on this machine before.
///
/// # Errors
/// If they are none of this CPU's.
pub fn set(asked: Option<&str>) -> Result {
    let environment = env::var(VARIABLE).ok().filter(|value| !value.is_empty());
    let (source, text) = match (asked, environment.as_deref()) {
        (Some(text), _) => ("--kernels", text),
        (None, Some(text)) => (VARIABLE, text),
        (None, None) => ("", "auto"),
    };
    if text == "auto" {
        train::recall_kernels();
        return Ok(());
    }
    train::force_kernels(text).map_err(|error| usage(error.to_string().replacen("kernels", source, 1)))?;
    Ok(())
}

/// The kernels that were forced, by flag or environment.
pub fn forced() -> Option<Kernels> {
    let (kernels, from) = train::chosen_kernels();
    (from == KernelsFrom::Forced).then_some(kernels)
}

/// Whether a command computes for longer than a second or so, and so is worth measuring for.
pub fn matter(command: &Command) -> bool {
    match command {
        Command::Train(_) | Command::Finetune(_) | Command::Run(_) | Command::Eval(_) | Command::Bench(_) => true,
        Command::Zeroshot(_) | Command::Interpolate(_) => true,
        Command::Pretrain(_) | Command::Knn(_) => true,
        Command::Embed(args) => args.data.is_some() || args.images.len() >= MANY,
        _ => false,
    }
}
