//! Everything that a run is made from, as plain data: `config.toml` of its folder.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tallow_models::{Architecture, zoo};
use tallow_weights::{OpenOptions, Preprocessing, quoted};

use super::error::{Error, Result};
pub use super::settings::{
    ComputeSettings, DataSettings, LengthSettings, ModelSettings, OptimizerSettings, PretrainingSettings,
    RegularizationSettings, SETTINGS, ScheduleSettings, Setting, TrainConfig,
};
use super::{kernels, paths};
use crate::data::Mix;

/// A number of epochs, or what the number of training samples asks for (see [`super::defaults::by_data`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Count {
    /// Left open; `"auto"` in TOML.
    Auto,
    /// So many.
    Of(usize),
}

/// The size of batches, or what it follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchSize {
    /// As many samples as the device's memory holds, a power of two up to 1024; `"auto"` in TOML.
    Auto,
    /// What the number of training samples asks for; `"data"` in TOML. See [`super::defaults::by_data`].
    ByData,
    /// So many.
    Of(usize),
}

/// What the settings of a run came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolved {
    /// The version of Tallow.
    pub version: String,
    /// Training samples of an epoch, the validation split taken off.
    pub train_samples: usize,
    /// Samples of the validation split.
    pub val_samples: usize,
    /// Test samples.
    pub test_samples: usize,
    /// Optimiser steps of an epoch.
    pub steps_per_epoch: usize,
    /// The model.
    pub architecture: Architecture,
    /// How its input is made.
    pub preprocessing: Preprocessing,
}

/// The learning rate of epochs that were added to a run: a schedule of its own, without warm-up, over the epochs from `from` to
/// the next extension or the end of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Extension {
    /// The first of these epochs, counted from 0: as many epochs as the run had before.
    pub from: usize,
    /// How the learning rate falls from here.
    pub schedule: ScheduleKind,
    /// Learning rate of its first step.
    pub lr: f64,
    /// Where cosine ends.
    #[serde(default)]
    pub min_lr: f64,
    /// Factor of the exponential and step schedules.
    #[serde(default = "one")]
    pub gamma: f64,
    /// Epochs between two falls of the step schedule.
    #[serde(default = "once")]
    pub step_size: usize,
}

impl Extension {
    /// From epoch `from` on, with this schedule from the rate `lr`; it does not fall, or falls to 0.
    pub fn new(from: usize, schedule: ScheduleKind, lr: f64) -> Self {
        Self { from, schedule, lr, min_lr: 0., gamma: one(), step_size: once() }
    }

    /// The same after `change`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

fn one() -> f64 {
    1.
}

fn once() -> usize {
    1
}

/// What happens to the checkpoint's classification head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Head {
    /// Keep what belongs to the data's classes, as [`tallow_weights::Head::Auto`].
    #[default]
    Auto,
    /// Keep it, as [`tallow_weights::Head::Keep`].
    Keep,
    /// A new one.
    New,
    /// One that is made of the names of the classes by the text tower of the weights, see [`super::zero_shot`].
    ZeroShot,
}

impl Head {
    /// What the load makes of the checkpoint's own head.
    pub(super) fn of_load(self) -> tallow_weights::Head {
        match self {
            Self::Auto => tallow_weights::Head::Auto,
            Self::Keep => tallow_weights::Head::Keep,
            Self::New | Self::ZeroShot => tallow_weights::Head::New,
        }
    }
}

/// How pixels are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Normalize {
    /// As the checkpoint says where there is one, else `standard`.
    #[default]
    Auto,
    /// By the training set's mean and deviation per channel.
    Standard,
    /// Whitened: the training set's mean is subtracted pixel by pixel, and all correlation between values taken out; see
    /// [`crate::data::whitening`].
    Zca,
    /// Pixels in [0, 1] as they are.
    None,
}

/// Optimisers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam (Kingma and Ba 2014); its weight decay is part of the gradient.
    Adam,
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2017).
    #[default]
    Adamw,
}

/// Schedules of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ScheduleKind {
    /// Does not fall.
    Constant,
    /// Half a cosine, step by step, from the peak to `min_lr` at the end of the run.
    #[default]
    Cosine,
    /// Times `gamma` after every epoch.
    Exponential,
    /// Times `gamma` after every `step_size` epochs.
    Step,
}

/// What is done in place of training with labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Method {
    /// A masked autoencoder (He et al. 2021): patches that were left out are reconstructed.
    Mae,
    /// Self-distillation (Caron et al. 2021): the outputs for small crops come to those of an averaged model for large ones.
    Dino,
    /// No training: classes by the nearest neighbours among the model's features.
    Knn,
}

impl Method {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mae => "mae",
            Self::Dino => "dino",
            Self::Knn => "knn",
        }
    }
}

/// Element types of the model's arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16 arithmetic over 32-bit weights.
    Bf16,
    /// 32-bit floats of whose factors large matrix products on AMX read some 16 bits, in two parts of bfloat16.
    F32x2,
    /// bfloat16, and the weights of a ViT's blocks and the rows that they are multiplied by as 8-bit integers, on CPUs with AVX512-VNNI:
    /// for models that only predict.
    Int8,
    /// 32-bit floats of whose factors matrix products on CUDA read 19 bits.
    Tf32,
}

impl Precision {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F32x2 => "f32x2",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
            Self::Tf32 => "tf32",
        }
    }
}

impl TrainConfig {
    /// The settings of [`TrainConfig::default`] for a model and a data set.
    pub fn new(model: &str, data: &str) -> Self {
        Self::default().with(|c| {
            c.model.model = model.into();
            c.data.data = data.into();
        })
    }

    /// The same after `change`, in one expression: `TrainConfig::new("vit_mnist", "mnist").with(|c| c.optimizer.lr = 1e-3)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The number of epochs; 0 while it is left open, as it is no more once a run is set up.
    pub fn epochs(&self) -> usize {
        self.length.epochs.number().unwrap_or(0)
    }

    /// Epochs between two evaluations; 1 while that is left open.
    pub fn eval_every(&self) -> usize {
        self.length.eval_every.number().unwrap_or(1)
    }

    /// Samples of a batch; 1 while that is left open.
    pub fn batch_size(&self) -> usize {
        self.length.batch_size.number().unwrap_or(1)
    }

    /// Checks that every setting makes sense by itself.
    ///
    /// # Errors
    /// [`Error::Config`] names the first one that does not, what was expected and what was got.
    pub fn validate(&self) -> Result<()> {
        let at_least_one = |field: &str, value: usize| check(field, value >= 1, "at least 1", value);
        let share = |field: &str, value: f64| check(field, (0. ..1.).contains(&value), "a number in [0, 1)", value);
        let not_negative =
            |field: &str, value: f64| check(field, value.is_finite() && value >= 0., "a number of at least 0", value);
        let factor =
            |field: &str, value: f64| check(field, value > 0. && value <= 1., "a number above 0, at most 1", value);

        let named = self.name.as_ref().is_none_or(|name| !name.trim().is_empty());
        check("name", named, "a text, or none for the folder's name", "an empty one")?;
        check("model", !self.model.model.is_empty(), "a name of the zoo, hf-hub:OWNER/REPO or a path", "nothing")?;
        check("data", !self.data.data.is_empty(), "a data set such as mnist or folder:DIR", "nothing")?;
        for (field, split) in [("train_split", &self.data.train_split), ("test_split", &self.data.test_split)] {
            let named = split.as_ref().is_none_or(|split| !split.trim().is_empty());
            check(field, named, "names of parts, or none for the usual ones", "an empty one")?;
        }
        for (field, limit) in [("limit", self.data.limit), ("test_limit", self.data.test_limit)] {
            limit.map_or(Ok(()), |limit| at_least_one(field, limit))?;
        }
        share("val_fraction", self.data.val_fraction)?;
        let [least, most] = Mix::ALPHA;
        for (field, alpha) in [("mixup", self.data.mixup), ("cutmix", self.data.cutmix)] {
            let sensible = alpha == 0. || (least..=most).contains(&alpha);
            check(field, sensible, format!("0 for none, or a number from {least} to {most}"), alpha)?;
        }
        Self::check_zca_eps(self.data.zca_eps)?;
        self.data.crop_pct.map_or(Ok(()), |crop_pct| factor("crop_pct", crop_pct))?;
        let LengthSettings { epochs, eval_every, batch_size, .. } = self.length;
        check("epochs", epochs != Count::Of(0), "at least 1", epochs)?;
        let few = epochs.number().is_none_or(|epochs| u32::try_from(epochs).is_ok());
        check("epochs", few, format!("at most {}", u32::MAX), epochs)?;
        check("eval_every", eval_every != Count::Of(0), "at least 1", eval_every)?;
        check("batch_size", batch_size != BatchSize::Of(0), "at least 1", batch_size)?;
        at_least_one("accumulate", self.length.accumulate)?;
        self.length.eval_batch_size.map_or(Ok(()), |size| at_least_one("eval_batch_size", size))?;
        check("lr", self.optimizer.lr.is_finite() && self.optimizer.lr > 0., "a number above 0", self.optimizer.lr)?;
        share("momentum", self.optimizer.momentum)?;
        if self.optimizer.nesterov {
            check(
                "nesterov",
                self.optimizer.momentum > 0.,
                "a momentum above 0 with it",
                format!("momentum {}", self.optimizer.momentum),
            )?;
        }
        not_negative("weight_decay", self.optimizer.weight_decay)?;
        share("betas", self.optimizer.betas[0])?;
        share("betas", self.optimizer.betas[1])?;
        not_negative("eps", self.optimizer.eps)?;
        not_negative("min_lr", self.schedule.min_lr)?;
        check(
            "min_lr",
            self.schedule.min_lr <= self.optimizer.lr,
            format!("at most lr, {}", self.optimizer.lr),
            self.schedule.min_lr,
        )?;
        factor("gamma", self.schedule.gamma)?;
        at_least_one("step_size", self.schedule.step_size)?;
        not_negative("clip_grad", self.regularization.clip_grad)?;
        share("label_smoothing", self.regularization.label_smoothing)?;
        self.regularization.layer_decay.map_or(Ok(()), |decay| factor("layer_decay", decay))?;
        self.regularization.ema.map_or(Ok(()), |decay| share("ema", decay))?;
        self.compute.checkpoint_every.map_or(Ok(()), |steps| at_least_one("checkpoint_every", steps))?;
        let trains = self.compute.dtype != Precision::Int8;
        check("dtype", trains, "f32, f32x2, bf16 or tf32 for a run", "int8, in which models only predict")?;
        self.compute.kernels.as_deref().map_or(Ok(()), kernels::check)?;
        self.pretraining.validate()?;
        self.check_extended()?;
        // TOML's integers have 63 bits and a sign.
        check("seed", i64::try_from(self.compute.seed).is_ok(), format!("at most {}", i64::MAX), self.compute.seed)
    }

    /// Checks that the extensions of a run follow each other inside of its epochs, each with settings that make sense.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub(super) fn check_extended(&self) -> Result<()> {
        let mut before = 0;
        for extension in &self.extended {
            let &Extension { from, lr, min_lr, gamma, step_size, .. } = extension;
            let wrong = |what: &str, expected: String, got: String| {
                Err(Error::config(&format!("extended: {what}"), expected, got))
            };
            let epochs = self.length.epochs;
            if from <= before || epochs.number().is_some_and(|epochs| from >= epochs) {
                let expected = format!("an epoch after {before} and before {epochs}");
                return wrong("from", expected, from.to_string());
            }
            if !lr.is_finite() || lr < 0. {
                return wrong("lr", "a number of at least 0".into(), lr.to_string());
            }
            if !min_lr.is_finite() || min_lr < 0. || min_lr > lr {
                return wrong("min_lr", format!("a number of at least 0 and at most lr, {lr}"), min_lr.to_string());
            }
            if !(gamma > 0. && gamma <= 1.) {
                return wrong("gamma", "a number above 0, at most 1".into(), gamma.to_string());
            }
            if step_size == 0 {
                return wrong("step_size", "at least 1".into(), "0".into());
            }
            before = from;
        }
        Ok(())
    }

    /// Checks `zca_eps`.
    ///
    /// # Errors
    /// As [`TrainConfig::validate`].
    pub fn check_zca_eps(eps: f64) -> Result<()> {
        check("zca_eps", eps.is_finite() && eps >= 1e-8, "a number of at least 1e-8, such as 0.01", eps)
    }

    /// `options` with what the settings say of the weights that are opened.
    ///
    /// # Errors
    /// If `set` has a number of heads that is none, or an architecture is named beside a model that is one.
    pub fn checkpoint_options(&self, options: OpenOptions) -> Result<OpenOptions> {
        let heads = self.model.set.get("num_heads").map(|text| {
            let number = text.parse().ok().filter(|&heads: &usize| heads > 0);
            number.ok_or_else(|| Error::config("num_heads", "a whole number above 0", text))
        });
        let own = self.model.weights.as_deref().is_none_or(|weights| weights == "pretrained");
        if let (Some(arch), true, Ok(_)) = (&self.model.arch, own, zoo::find(&self.model.model)) {
            let expected = "none beside a name of the zoo: it goes with a file of weights";
            return Err(Error::config("arch", expected, format!("{arch} with {}", self.model.model)));
        }
        let (arch, checkpoint_key) = (self.model.arch.clone(), self.model.checkpoint_key.clone());
        // Activations of other families than ViTs are no business of a checkpoint.
        let (num_heads, act) = (heads.transpose()?, self.model.set.get("act").and_then(|text| text.parse().ok()));
        Ok(options.with(|c| (c.arch, c.checkpoint_key, c.num_heads, c.act) = (arch, checkpoint_key, num_heads, act)))
    }

    /// Whether the run reads features of a backbone as it was loaded, in all its epochs or to train its head first.
    pub fn reads_frozen_features(&self) -> bool {
        self.model.weights.is_some()
            && (self.model.freeze.as_deref() == Some("backbone") || self.optimizer.head_first_steps > 0)
    }

    /// Whether the model has a head, which learns the labels of the data.
    pub fn trains_head(&self) -> bool {
        self.pretraining.method.is_none()
    }

    /// How training batches are mixed.
    pub fn mix(&self) -> Mix {
        Mix { mixup: self.data.mixup, cutmix: self.data.cutmix }
    }

    /// Reads a configuration that [`TrainConfig::to_toml`] wrote, this version's or an earlier one's.
    ///
    /// # Errors
    /// If `text` is not TOML, names no model, or has a key that is none of the fields, or a value of another type. `path` is named in
    /// the message.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self> {
        let wrong =
            |got: String| Error::File { path: path.into(), expected: "a run's configuration".into(), got: quoted(got) };
        let config = toml::from_str(text).map_err(|error| wrong(toml_message(&error, text)))?;
        // Every field has a default, so that an empty file would be a configuration, though of another run.
        match toml::from_str::<toml::Table>(text) {
            Ok(table) if table.contains_key("model") => Ok(config),
            _ => Err(wrong("no `model`".into())),
        }
    }

    /// Writes a configuration, so that [`TrainConfig::from_toml`] reads it back equal.
    ///
    /// # Errors
    /// If a number does not fit TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| Error::config("config", "values that TOML can hold", error))
    }

    /// This configuration with the keys of `table` in place of its own: how flags and recipes change defaults. The entries of
    /// `set` are added to those that are there.
    ///
    /// # Errors
    /// If `table` has a key that is none of the fields, or a value of another type.
    pub fn with_table(&self, table: &toml::Table) -> Result<Self> {
        let wrong = |error: toml::de::Error| Error::config("settings", "keys and values of a run", error.message());
        let mut merged = toml::Table::try_from(self)
            .map_err(|error| Error::config("settings", "values that TOML can hold", error))?;
        // Another path lies elsewhere.
        if let Some(toml::Value::Table(paths)) = merged.get_mut("paths") {
            paths.retain(|key, _| !table.contains_key(key));
        }
        for (key, value) in table {
            match (merged.get_mut(key), value) {
                (Some(toml::Value::Table(set)), toml::Value::Table(more)) => set.extend(more.clone()),
                _ => drop(merged.insert(key.clone(), value.clone())),
            }
        }
        merged.try_into().map_err(wrong)
    }

    /// The fields in which two configurations differ, each as `field (this one's against other's)`. What cannot change a
    /// result or only tells about it (`name`, `paths`, `resolved`, `checkpoint_every`, `threads`, `kernels`) is left out, as is another
    /// spelling of the same file or folder.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        const HARMLESS: [&str; 6] = ["name", "paths", "resolved", "checkpoint_every", "threads", "kernels"];
        let (Ok(mine), Ok(theirs)) = (toml::Table::try_from(self), toml::Table::try_from(other)) else {
            return vec!["config".into()];
        };
        let mut keys: Vec<&String> = mine.keys().chain(theirs.keys()).collect();
        keys.sort();
        keys.dedup();
        let show = |value: Option<&toml::Value>| value.map_or("none".into(), toml::Value::to_string);
        let same_path = |key: &str| paths::KEYS.contains(&key) && paths::agree(key, self, other);
        keys.into_iter()
            .filter(|key| !HARMLESS.contains(&key.as_str()) && mine.get(*key) != theirs.get(*key) && !same_path(key))
            .map(|key| format!("{key} ({} against {})", show(mine.get(key)), show(theirs.get(key))))
            .collect()
    }
}

fn check(field: &str, holds: bool, expected: impl ToString, got: impl ToString) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::config(field, expected, got)) }
}

/// The message of a TOML error on one line, with the line it is about.
fn toml_message(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().replace('\n', ", ");
    match error.span() {
        Some(span) => {
            // In front: the message may be cut where it lists all fields.
            format!("line {}: {message}", text[..span.start.min(text.len())].matches('\n').count() + 1)
        }
        None => message,
    }
}

/// What a number that can be left open is in TOML and in words.
macro_rules! number_or_word {
    ($name:ident, $expected:literal, $($variant:ident => $word:literal),+) => {
        impl $name {
            /// The number, where it is one.
            pub fn number(self) -> Option<usize> {
                if let Self::Of(number) = self { Some(number) } else { None }
            }
        }

        impl From<usize> for $name {
            fn from(number: usize) -> Self {
                Self::Of(number)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($word),)+
                    Self::Of(number) => number.fmt(f),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                match self {
                    $(Self::$variant => serializer.serialize_str($word),)+
                    Self::Of(number) => number.serialize(serializer),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Written {
                    Number(usize),
                    Word(String),
                }
                let expected = || de::Error::custom($expected);
                match Written::deserialize(deserializer).map_err(|_| expected())? {
                    Written::Number(number) => Ok(Self::Of(number)),
                    $(Written::Word(word) if word == $word => Ok(Self::$variant),)+
                    Written::Word(_) => Err(expected()),
                }
            }
        }
    };
}

number_or_word!(Count, "expected a number of epochs of at least 1, or \"auto\"", Auto => "auto");

number_or_word!(
    BatchSize,
    "batch_size: expected a number of at least 1, \"auto\" or \"data\"",
    Auto => "auto",
    ByData => "data"
);
