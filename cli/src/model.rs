//! Models as commands name them: their architecture alone, or with weights, ready for inference.

use anyhow::bail;
use tallow_models::{Architecture, zoo};
use tallow_weights::account::Tensor as Fate;
use tallow_weights::{Account, CheckpointConfig, LoadOptions, OpenOptions, Source, expanded};

use crate::error::{Result, usage};
use crate::flags::{ArchitectureFlags, CheckpointFlags, ExifFlags};
use crate::session::Session;
use crate::wording::with_flags;
use tallow::Pretrained;
use tallow::data::Exif;
use tallow::inference::HeadFault;
use tallow::text::TextEncoder;
use tallow::train::study::svm;
use tallow::train::{Precision, RunFolder};

/// The architecture that `name` and the flags say, without its weights. A name of the zoo is not looked up elsewhere.
///
/// # Errors
/// If there is no such model, or an option makes no sense.
pub fn architecture(name: &str, flags: &ArchitectureFlags, options: &OpenOptions) -> Result<Architecture> {
    check_network(name)?;
    let architecture = match zoo::find(name) {
        Ok(entry) => entry.architecture,
        Err(_) => config(name, options)?.architecture,
    };
    changed(architecture, flags)
}

/// How the checkpoint called `name` is opened by a command with these flags.
///
/// # Errors
/// If an architecture is named beside a name of the zoo, or the number of heads is none.
pub fn open_options(
    name: &str,
    flags: &ArchitectureFlags,
    checkpoint: &CheckpointFlags,
    session: &Session,
) -> Result<OpenOptions> {
    if let (Some(arch), Ok(_)) = (&checkpoint.arch, zoo::find(name)) {
        return Err(usage(format!(
            "--arch {arch}: expected a file or folder with weights before it, got {name}, which names its architecture itself"
        )));
    }
    let heads = flags.overrides().into_iter().rev().find(|(key, _)| key == "num_heads").map(|(_, value)| {
        let number = value.parse().ok().filter(|&heads: &usize| heads > 0);
        number.ok_or_else(|| usage(format!("--set num_heads: expected a whole number above 0, got {value}")))
    });
    // What is no activation of a ViT's is refused where the setting is made.
    let act =
        flags.overrides().into_iter().rev().find(|(key, _)| key == "act").and_then(|(_, value)| value.parse().ok());
    let (arch, checkpoint_key) = (checkpoint.arch.clone(), checkpoint.checkpoint_key.clone());
    Ok({
        let mut made = session.open_options();
        made.arch = arch;
        made.checkpoint_key = checkpoint_key;
        made.num_heads = heads.transpose()?;
        made.act = act;
        made
    })
}

/// An SVM is no network: it has neither layers nor features.
fn check_network(name: &str) -> Result<()> {
    if name == svm::NAME || svm::Svm::is_in(&expanded(name)) {
        return Err(usage(format!(
            "{name}: expected a network, got a support vector machine, which tallow train, eval, predict, run and compare know"
        )));
    }
    Ok(())
}

/// What the checkpoint called `name` says of itself.
fn config(name: &str, options: &OpenOptions) -> Result<CheckpointConfig> {
    let checkpoint = tallow_weights::open(&Source::parse(name)?, options)?;
    Ok(checkpoint.config_or_inferred()?.0)
}

fn changed(mut architecture: Architecture, flags: &ArchitectureFlags) -> Result<Architecture> {
    for (key, value) in flags.overrides() {
        architecture.set(&key, &value)?;
    }
    architecture.validate()?;
    Ok(architecture)
}

/// What becomes of the orientation that cameras noted in images for the model called `name`: what the flag asks for, else what its run
/// was trained with, if it is a run's. That there is no such model is told where it is opened.
///
/// # Errors
/// If its run's settings cannot be read.
pub fn exif(name: &str, flags: &ExifFlags) -> Result<Exif> {
    if let Some(asked) = flags.exif {
        return Ok(asked);
    }
    let run = match Source::parse(name) {
        _ if svm::Svm::is_in(&expanded(name)) => RunFolder::of_model(name),
        Ok(Source::Folder(path) | Source::File(path)) => RunFolder::of_model(path),
        _ => None,
    };
    Ok(run.map(|run| run.exif()).transpose()?.unwrap_or_default())
}

/// Opens the checkpoint called `name` and fits it to the architecture that the flags ask for.
///
/// # Errors
/// If there is no such checkpoint, or it does not fit.
pub fn open(
    name: &str,
    flags: &ArchitectureFlags,
    checkpoint: &CheckpointFlags,
    session: &Session,
) -> Result<Pretrained> {
    check_network(name)?;
    let options = open_options(name, flags, checkpoint, session)?;
    let (device, dtype) = session.device()?;
    let load = LoadOptions::default().with(|c| c.ignore_unknown = checkpoint.ignore_unknown.unwrap_or(false));
    let builder = Pretrained::builder(name).device(&device).dtype(dtype).seed(session.seed());
    let builder = builder.open_options(options).load_options(load);
    // What a command does with images it says where it opens them.
    let builder = builder.exif(Exif::default());
    let builder = flags.overrides().into_iter().fold(builder, |builder, (key, value)| builder.set(key, value));
    builder.load().map_err(of_model)
}

/// Opens the text tower of the checkpoint called `name`, with its tokenizer, and says what a reader should know of it.
///
/// # Errors
/// If there is no such checkpoint, or it has no text tower or no tokenizer.
pub fn text_encoder(
    name: &str,
    flags: Option<&ArchitectureFlags>,
    checkpoint: &CheckpointFlags,
    session: &Session,
) -> Result<TextEncoder> {
    check_network(name)?;
    if session.precision() == Precision::Int8 {
        return Err(usage("--dtype int8: expected f32 or bf16 for words alone: int8 is for images"));
    }
    let (device, dtype) = session.device()?;
    let options = match flags {
        Some(flags) => open_options(name, flags, checkpoint, session)?,
        None => session.open_options().with(|c| {
            (c.arch, c.checkpoint_key) = (checkpoint.arch.clone(), checkpoint.checkpoint_key.clone());
        }),
    };
    let builder = TextEncoder::builder(name).device(&device).dtype(dtype).open_options(options);
    let encoder = builder.load().map_err(of_model)?;
    encoder.notes().iter().for_each(|note| session.note(format!("note: {note}")));
    Ok(encoder)
}

/// An error of the library's front door as the one that it passes on.
pub fn of_model(error: tallow::Error) -> anyhow::Error {
    match error {
        tallow::Error::Data(error) => (*error).into(),
        tallow::Error::Weights(error) => (*error).into(),
        tallow::Error::Models(error) => error.into(),
        tallow::Error::Candle(error) => error.into(),
        error => error.into(),
    }
}

/// Checks that the model has a head, and that it was trained: what one says that was drawn at random means nothing. `instead`
/// is what else the user could do, and `flags` are those of the architecture.
///
/// # Errors
/// If not, with the reason.
pub fn check_head(model: &Pretrained, flags: &ArchitectureFlags, instead: &str) -> Result {
    faultless(model.check_head(), flags, instead)
}

/// The same, where the projection of a CLIP is as good as a classifier.
///
/// # Errors
/// As there.
pub fn check_logits(model: &Pretrained, flags: &ArchitectureFlags, instead: &str) -> Result {
    faultless(model.check_logits(), flags, instead)
}

fn faultless(head: tallow::Result<()>, flags: &ArchitectureFlags, instead: &str) -> Result {
    let (name, fault) = match head {
        Ok(()) => return Ok(()),
        Err(tallow::Error::Head { model, fault }) => (model, fault),
        Err(other) => return Err(of_model(other)),
    };
    match fault {
        HeadFault::Unclassed { rows } => Err(usage(format!(
            "{name}: expected a classification head, its config says 0 classes and its head has {rows} rows; take \
             them by number (--num-classes {rows}), or {instead}"
        ))),
        HeadFault::LeftOut => Err(usage(format!(
            "{name}: expected a classification head, got none, as --num-classes 0 asks; leave that out, or {instead}"
        ))),
        HeadFault::New { why } if flags.overrides().iter().any(|(key, _)| key == "num_classes") => Err(usage(format!(
            "{name}: expected a trained head, got a new one: {why}; leave out the options that ask for another head"
        ))),
        HeadFault::Projects => Err(usage(format!(
            "{name}: expected a classification head, got a projection into a space shared with texts, which knows no classes; train \
             one (tallow finetune), or {instead}"
        ))),
        HeadFault::New { why } => {
            bail!("{name}: expected a trained head, got none: {why}; train one (tallow finetune), or {instead}")
        }
        _ => Err(usage(format!(
            "{name}: expected a classification head, the weights have none; train one (tallow finetune), or {instead}"
        ))),
    }
}

/// Says what became of the checkpoint where that is not simply everything, and always with `--verbose`.
pub fn say_account(model: &Pretrained, session: &Session) {
    let account = model.account();
    let plain = account.initialised().next().is_none() && account.notes.is_empty();
    if session.flags().verbose || !plain {
        session.note(account_text(account, session.flags().verbose));
    }
}

/// An account in short, or with a line for every tensor of the checkpoint and every parameter that none filled.
pub fn account_text(account: &Account, verbose: bool) -> String {
    let mut text = with_flags(&account.to_string()).into_owned();
    if !verbose {
        return text;
    }
    for tensor in &account.tensors {
        let fate = match &tensor.fate {
            Fate::Used => "used".to_string(),
            Fate::Adapted { how } => format!("adapted: {how}"),
            Fate::LeftOut { why } => format!("left out: {why}"),
        };
        text.push_str(&format!("\n  {} {:?} {fate}", tensor.name, tensor.shape));
    }
    for (name, why) in account.initialised() {
        text.push_str(&format!("\n  {name} new: {why}"));
    }
    text
}
