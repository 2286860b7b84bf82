//! Models as commands name them: their architecture alone, or with weights, ready for inference.

use std::sync::Arc;

use anyhow::bail;
use candle_core::{DType, Device};
use tallow_models::{AnyModel, Architecture, Params, Stage, zoo};
use tallow_weights::account::Tensor as Fate;
use tallow_weights::{Account, CheckpointConfig, LoadOptions, OpenOptions, Source, expanded};

use crate::error::{Result, usage};
use crate::flags::{ArchitectureFlags, CheckpointFlags, ExifFlags};
use crate::session::Session;
use tallow::data::{Exif, Transform};
use tallow::train::{RunFolder, svm};

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
    let (arch, checkpoint_key) = (checkpoint.arch.clone(), checkpoint.checkpoint_key.clone());
    Ok(OpenOptions { arch, checkpoint_key, num_heads: heads.transpose()?, ..session.open_options() })
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
    if let Some(asked) = flags.asked() {
        return Ok(asked);
    }
    let run = match Source::parse(name) {
        _ if svm::Svm::is_in(&expanded(name)) => RunFolder::of_model(name),
        Ok(Source::Folder(path) | Source::File(path)) => RunFolder::of_model(path),
        _ => None,
    };
    Ok(run.map(|run| run.exif()).transpose()?.unwrap_or_default())
}

/// A model with its weights, for inference.
pub struct Loaded {
    /// As the user named it.
    name: String,
    /// Whether the user asked for a number of classes.
    chosen_classes: bool,
    pub config: CheckpointConfig,
    pub params: Params,
    pub model: AnyModel,
    pub account: Account,
    pub device: Device,
    pub dtype: DType,
}

impl Loaded {
    /// Opens the checkpoint called `name` and fits it to the architecture that the flags ask for.
    ///
    /// # Errors
    /// If there is no such checkpoint, or it does not fit.
    pub fn open(
        name: &str,
        flags: &ArchitectureFlags,
        checkpoint_flags: &CheckpointFlags,
        session: &Session,
    ) -> Result<Self> {
        check_network(name)?;
        let options = open_options(name, flags, checkpoint_flags, session)?;
        let (device, dtype) = session.device()?;
        let checkpoint = tallow_weights::open(&Source::parse(name)?, &options)?;
        let (mut config, assumed) = checkpoint.config_or_inferred()?;
        let labelled = config.architecture.num_classes();
        config.architecture = changed(config.architecture, flags)?;
        if config.architecture.num_classes() != labelled {
            config.labels = None;
        }
        config.preprocessing.input_size = config.architecture.input_size();
        let params = Params::new(session.seed(), dtype, &device);
        let ignore_unknown = checkpoint_flags.ignore_unknown.unwrap_or(false);
        let load = LoadOptions { ignore_unknown, ..LoadOptions::default() };
        let mut account = tallow_weights::load(&checkpoint, &config.architecture, &load, &params)?;
        account.notes.extend(assumed);
        // What is written of this model says so too.
        config.head_fault = account
            .initialised()
            .find(|(name, _)| config.architecture.stage_of(name) == Stage::Head)
            .map(|(_, why)| why.to_string());
        config.architecture.build(params.builder())?;
        let mut model = config.architecture.build(params.eval_builder())?;
        model.set_prepacking(true);
        let chosen_classes = flags.overrides().iter().any(|(key, _)| key == "num_classes");
        Ok(Self { name: name.into(), chosen_classes, config, params, model, account, device, dtype })
    }

    /// Whether the model has a head that was trained.
    pub fn has_trained_head(&self) -> bool {
        self.config.architecture.num_classes() > 0 && self.config.head_fault.is_none()
    }

    /// Checks that the model has a head, and that it was trained: what one says that was drawn at random means nothing. `instead`
    /// is what else the user could do.
    ///
    /// # Errors
    /// If not, with the reason.
    pub fn check_head(&self, instead: &str) -> Result {
        let name = &self.name;
        if self.config.architecture.num_classes() == 0 {
            if let Some(rows) = self.account.unused_head().filter(|_| !self.chosen_classes) {
                return Err(usage(format!(
                    "{name}: expected a classification head, its config says 0 classes and its head has {rows} rows; take \
                     them by number (--num-classes {rows}), or {instead}"
                )));
            }
            return Err(usage(format!(
                "{name}: expected a classification head, the weights have none; train one (tallow finetune), or {instead}"
            )));
        }
        let Some(why) = &self.config.head_fault else { return Ok(()) };
        if self.chosen_classes {
            return Err(usage(format!(
                "{name}: expected a trained head, got a new one: {why}; leave out the options that ask for another head"
            )));
        }
        bail!("{name}: expected a trained head, got none: {why}; train one (tallow finetune), or {instead}")
    }

    /// How an image becomes the model's input.
    ///
    /// # Errors
    /// If the checkpoint's preprocessing makes no sense.
    pub fn transform(&self) -> Result<Arc<Transform>> {
        Ok(Arc::new(Transform::of(&self.config)?))
    }

    /// The name of a class, its number where it has none.
    pub fn label(&self, class: usize) -> String {
        let label = self.config.labels.as_ref().and_then(|labels| labels.get(class));
        label.cloned().unwrap_or_else(|| class.to_string())
    }

    /// Says what became of the checkpoint where that is not simply everything, and always with `--verbose`.
    pub fn say_account(&self, session: &Session) {
        let plain = self.account.initialised().next().is_none() && self.account.notes.is_empty();
        if session.flags().verbose || !plain {
            session.note(account_text(&self.account, session.flags().verbose));
        }
    }
}

/// An account in short, or with a line for every tensor of the checkpoint and every parameter that none filled.
pub fn account_text(account: &Account, verbose: bool) -> String {
    let mut text = account.to_string();
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
