//! Everything that a run is made from, as plain data: `config.toml` of its folder.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};
use tallow_models::mlp::Implementation;
use tallow_models::{Architecture, zoo};
pub use tallow_weights::Head;
use tallow_weights::{Interpolation, OpenOptions, Preprocessing};

use super::error::{Error, Result};
use super::paths;
use crate::data::{Exif, Mix, OnBadImage};

/// Configuration of a run. Two configurations that are equal give the same run.
///
/// The values of [`TrainConfig::default`] are those for a ViT trained from scratch; [`super::defaults`] holds the table for
/// every family, from scratch and from pretrained weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// The run's name in reports. Default: the name of its folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A name of the zoo with an optional tag, `hf-hub:OWNER/REPO[@REVISION]`, or a path. No default.
    pub model: String,
    /// Where the weights come from: `pretrained` for the model's own, or what [`TrainConfig::model`] may be. Default: none,
    /// which draws them from the seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
    /// The architecture of weights in a file: a name of the zoo, with the weights' tag or without. Default: what their config says,
    /// else what their shapes imply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// Which network of a file with several is meant, by its path, as `state_dict_ema`. Default: averaged weights, then a teacher
    /// or target encoder, then what is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_key: Option<String>,
    /// Leaves out tensors that could be a part of the model but have no place in it, where that is an error otherwise. Default
    /// false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_unknown: bool,
    /// What becomes of the classification head of loaded weights. Default auto.
    pub head: Head,
    /// What is not trained: `backbone` (all but the head), a number of blocks counted from the input, a range of them
    /// (`blocks.0-5`), or names with `*`, separated by commas; see [`super::freeze::rule`]. Default: none. A batch norm that is
    /// frozen keeps its weight and bias; its running statistics move on, as in PyTorch's training mode. Where only the head is left
    /// to train and neither augmentation, mixing nor dropout make a sample's features differ, they are computed once and kept in
    /// memory, 4 bytes for each of the head's inputs, up to 1 GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<String>,
    /// The data set: `mnist`, `folder:DIR`, … No default.
    pub data: String,
    /// The parts of the data set to train on, by name, separated by commas; `.` is a folder of classes itself. Default: its
    /// training part, see [`crate::data::DataOptions::train_split`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_split: Option<String>,
    /// The parts of the data set to test on, likewise. Default: its test part, or a share of every class that is held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_split: Option<String>,
    /// Training samples to use. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Test samples to use. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_limit: Option<usize>,
    /// Share of the training samples that is set apart to choose the best checkpoint, in [0, 1), where the data set has no validation
    /// part of its own beside a test part. Default 0.
    pub val_fraction: f64,
    /// What becomes of images that cannot be read: an error that names them (those of the test and validation parts before the first
    /// epoch), or, with `skip`, every image is read once at the start and the bad ones are left out, with a warning. Default error.
    pub on_bad_image: OnBadImage,
    /// What becomes of the orientation that a camera noted in an image's file: the image is turned as it says (`apply`), or read as
    /// its pixels lie in the file (`ignore`), as torchvision does. Default apply; the run of a folder that states none was made by a
    /// version without this setting, which is `ignore` (see [`super::RunFolder::config`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exif: Option<Exif>,
    /// Changes to training images, separated by commas: `crop` or `resized-crop`, `flip`, `randaugment`, `jitter`, `rotate`,
    /// `blur`, `erase`, which come in this order whatever the list's (see [`crate::data::Augment`]); `none`; or `auto` for
    /// what suits the data set. Default auto.
    pub augment: String,
    /// α of mixup, from 0.01 to 100, or 0 for none: every training image is a weighted mean of two of its batch, as is its
    /// label; see [`crate::data::mix`]. Default 0.
    pub mixup: f64,
    /// α of CutMix, from 0.01 to 100, or 0 for none: every training image has a box of another one of its batch, and its label a
    /// part of the other's. With mixup, a fair coin chooses for each batch. Default 0.
    pub cutmix: f64,
    /// How pixels are normalised. Default auto.
    pub normalize: Normalize,
    /// What ZCA whitening adds to every variance, of pixels in [0, 1], at least 1e-8. Default 0.01.
    pub zca_eps: f64,
    /// The filter that resizes images. Default: the checkpoint's, else bicubic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interpolation: Option<Interpolation>,
    /// The share of a resized test image that the centre crop keeps, in (0, 1]. Default: the checkpoint's, else 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_pct: Option<f64>,
    /// Whether every epoch has an order of its own. Default true.
    pub shuffle: bool,
    /// Passes over the training samples; [`TrainConfig::AUTO`], in TOML `"auto"`, for as many as the number of samples asks for
    /// (see [`super::defaults::by_data`]). Default 10.
    #[serde(with = "auto")]
    pub epochs: usize,
    /// Epochs between two evaluations, of which the last one of the run is always one; an entry of `metrics.jsonl` covers all
    /// epochs since the one before. [`TrainConfig::AUTO`], in TOML `"auto"`: with as many epochs as the data asks for, ten
    /// evaluations; else every epoch. Default 1.
    #[serde(with = "auto")]
    pub eval_every: usize,
    /// Samples of one forward and backward pass; [`TrainConfig::AUTO_BATCH_SIZE`], in TOML `"auto"`, for as many as the
    /// device's memory holds (a power of two up to 1024); [`TrainConfig::BATCH_SIZE_BY_DATA`], in TOML `"data"`, for what the
    /// number of training samples asks for. Default 64.
    #[serde(with = "batch_size")]
    pub batch_size: usize,
    /// Batches whose gradients make one optimiser step. Default 1.
    pub accumulate: usize,
    /// Samples of one evaluation pass. Default: the larger of 64 and [`TrainConfig::batch_size`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_batch_size: Option<usize>,
    /// How much of a perceptron's training is written out by hand (`manual`, `autograd`, `layers`); all give the same run to
    /// rounding. See [`super::study::perceptron`] for what they need. Default optimizer, nothing.
    pub implementation: Implementation,
    /// Steps in which a head that is new is trained alone, on features of the loaded backbone, before everything is trained from
    /// there; see [`super::head_first`]. 0 for none. Default 0.
    pub head_first_steps: usize,
    /// What steps along the gradients. Default adamw.
    pub optimizer: OptimizerKind,
    /// Peak learning rate. Default 5e-4.
    pub lr: f64,
    /// Momentum of SGD, in [0, 1). Default 0.9.
    pub momentum: f64,
    /// Nesterov's momentum for SGD. Default false.
    pub nesterov: bool,
    /// Weight decay: decoupled for AdamW, added to the gradient for SGD and Adam. Never on 1-d parameters, position
    /// embeddings and tokens. Default 0.05.
    pub weight_decay: f64,
    /// Decay rates of Adam's two moments, each in [0, 1). Default [0.9, 0.999].
    pub betas: [f64; 2],
    /// What Adam adds to the root of the second moment. Default 1e-8.
    pub eps: f64,
    /// How the learning rate falls. Default cosine.
    pub schedule: ScheduleKind,
    /// Steps over which the learning rate rises linearly. Default: a tenth of all steps for cosine, else 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<usize>,
    /// Where cosine ends. Default 0.
    pub min_lr: f64,
    /// Factor of the exponential and step schedules, in (0, 1]. Default 0.95.
    pub gamma: f64,
    /// Epochs between two falls of the step schedule. Default 10.
    pub step_size: usize,
    /// Largest global 2-norm of the gradients; 0 leaves them as they are. Default 1.
    pub clip_grad: f64,
    /// Share of the target that is spread over all classes, in [0, 1). Default 0.
    pub label_smoothing: f64,
    /// Factor on the learning rate from layer to layer, from the head down, in (0, 1]. Default: none, one rate for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// Decay of the moving average of the weights, in [0, 1): after step t, counted from 0, `min(ema, (1 + t) / (10 + t))`. The
    /// average is what is evaluated and what the best checkpoint holds. Default: none, the weights themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Computes what lies inside a ViT's blocks again in the backward pass instead of keeping it: less memory for more time.
    /// Default false.
    pub grad_checkpointing: bool,
    /// Warns of trainable parameters that receive no gradient, and leaves them as they are, where it is an error otherwise.
    /// Default false.
    pub allow_missing_gradients: bool,
    /// Optimiser steps between two checkpoints inside an epoch. Default: none, ten minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every: Option<usize>,
    /// What all that is random follows from. Default 0.
    pub seed: u64,
    /// Threads for compute and data; 0 for one a core. Default 0.
    pub threads: usize,
    /// `auto`, `cpu`, `cuda`, `cuda:N` or `metal`. Default auto.
    pub device: String,
    /// Element type of the model's arithmetic. Default f32.
    pub dtype: Precision,
    /// Changes to the architecture that the model's name or config says, by timm's names: `img_size = 56`.
    #[serde(deserialize_with = "scalars")]
    pub set: BTreeMap<String, String>,
    /// Epochs that were added to the run after it had been planned, with what became of the learning rate: every entry holds from
    /// its epoch on. Written by a resume with more epochs (see [`super::extension`]). Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extended: Vec<Extension>,
    /// Where the paths among `data`, `model` and `weights` lie, absolute and otherwise as they are written there. Written by the
    /// run, which looks there first when it is opened again, then where the setting itself points. Default: none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub paths: BTreeMap<String, String>,
    /// What the settings above came to. Written for the reader; a run makes its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<Resolved>,
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

fn one() -> f64 {
    1.
}

fn once() -> usize {
    1
}

/// How pixels are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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

/// Element types of the model's arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16 arithmetic over 32-bit weights.
    Bf16,
    /// 32-bit floats of whose factors matrix products on CUDA read 19 bits.
    Tf32,
}

impl TrainConfig {
    /// See [`TrainConfig::batch_size`].
    pub const AUTO_BATCH_SIZE: usize = usize::MAX;

    /// See [`TrainConfig::batch_size`].
    pub const BATCH_SIZE_BY_DATA: usize = usize::MAX - 1;

    /// See [`TrainConfig::epochs`] and [`TrainConfig::eval_every`].
    pub const AUTO: usize = usize::MAX;

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
        check("model", !self.model.is_empty(), "a name of the zoo, hf-hub:OWNER/REPO or a path", "nothing")?;
        check("data", !self.data.is_empty(), "a data set such as mnist or folder:DIR", "nothing")?;
        for (field, split) in [("train_split", &self.train_split), ("test_split", &self.test_split)] {
            let named = split.as_ref().is_none_or(|split| !split.trim().is_empty());
            check(field, named, "names of parts, or none for the usual ones", "an empty one")?;
        }
        for (field, limit) in [("limit", self.limit), ("test_limit", self.test_limit)] {
            limit.map_or(Ok(()), |limit| at_least_one(field, limit))?;
        }
        share("val_fraction", self.val_fraction)?;
        let [least, most] = Mix::ALPHA;
        for (field, alpha) in [("mixup", self.mixup), ("cutmix", self.cutmix)] {
            let sensible = alpha == 0. || (least..=most).contains(&alpha);
            check(field, sensible, format!("0 for none, or a number from {least} to {most}"), alpha)?;
        }
        Self::check_zca_eps(self.zca_eps)?;
        self.crop_pct.map_or(Ok(()), |crop_pct| factor("crop_pct", crop_pct))?;
        at_least_one("epochs", self.epochs)?;
        let few = self.epochs == Self::AUTO || u32::try_from(self.epochs).is_ok();
        check("epochs", few, format!("at most {}", u32::MAX), self.epochs)?;
        at_least_one("eval_every", self.eval_every)?;
        at_least_one("batch_size", self.batch_size)?;
        at_least_one("accumulate", self.accumulate)?;
        self.eval_batch_size.map_or(Ok(()), |size| at_least_one("eval_batch_size", size))?;
        check("lr", self.lr.is_finite() && self.lr > 0., "a number above 0", self.lr)?;
        share("momentum", self.momentum)?;
        if self.nesterov {
            check("nesterov", self.momentum > 0., "a momentum above 0 with it", format!("momentum {}", self.momentum))?;
        }
        not_negative("weight_decay", self.weight_decay)?;
        share("betas", self.betas[0])?;
        share("betas", self.betas[1])?;
        not_negative("eps", self.eps)?;
        not_negative("min_lr", self.min_lr)?;
        check("min_lr", self.min_lr <= self.lr, format!("at most lr, {}", self.lr), self.min_lr)?;
        factor("gamma", self.gamma)?;
        at_least_one("step_size", self.step_size)?;
        not_negative("clip_grad", self.clip_grad)?;
        share("label_smoothing", self.label_smoothing)?;
        self.layer_decay.map_or(Ok(()), |decay| factor("layer_decay", decay))?;
        self.ema.map_or(Ok(()), |decay| share("ema", decay))?;
        self.checkpoint_every.map_or(Ok(()), |steps| at_least_one("checkpoint_every", steps))?;
        super::extension::check(self)?;
        // TOML's integers have 63 bits and a sign.
        check("seed", i64::try_from(self.seed).is_ok(), format!("at most {}", i64::MAX), self.seed)
    }

    /// Checks [`TrainConfig::zca_eps`].
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
        let heads = self.set.get("num_heads").map(|text| {
            let number = text.parse().ok().filter(|&heads: &usize| heads > 0);
            number.ok_or_else(|| Error::config("num_heads", "a whole number above 0", text))
        });
        let own = self.weights.as_deref().is_none_or(|weights| weights == "pretrained");
        if let (Some(arch), true, Ok(_)) = (&self.arch, own, zoo::find(&self.model)) {
            let expected = "none beside a name of the zoo: it goes with a file of weights";
            return Err(Error::config("arch", expected, format!("{arch} with {}", self.model)));
        }
        let (arch, checkpoint_key) = (self.arch.clone(), self.checkpoint_key.clone());
        let num_heads = heads.transpose()?;
        Ok(options.with(|c| (c.arch, c.checkpoint_key, c.num_heads) = (arch, checkpoint_key, num_heads)))
    }

    /// Whether the run reads features of a backbone as it was loaded, in all its epochs or to train its head first.
    pub fn reads_frozen_features(&self) -> bool {
        self.weights.is_some() && (self.freeze.as_deref() == Some("backbone") || self.head_first_steps > 0)
    }

    /// How training batches are mixed.
    pub fn mix(&self) -> Mix {
        Mix { mixup: self.mixup, cutmix: self.cutmix }
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// If `text` is not TOML, or has a key that is none of the fields, or a value of another type. `path` is named in the
    /// message.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self> {
        toml::from_str(text).map_err(|error| Error::File {
            path: path.into(),
            expected: "a run's configuration".into(),
            got: toml_message(&error, text),
        })
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
    pub fn with(&self, table: &toml::Table) -> Result<Self> {
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
    /// result or only tells about it (`name`, `paths`, `resolved`, `checkpoint_every`, `threads`) is left out, as is another
    /// spelling of the same file or folder.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        const HARMLESS: [&str; 5] = ["name", "paths", "resolved", "checkpoint_every", "threads"];
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
        Some(span) => format!("{message} in line {}", text[..span.start.min(text.len())].matches('\n').count() + 1),
        None => message,
    }
}

/// A number in TOML, or a word in place of one that has no meaning as a number.
macro_rules! number_or_word {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $($number:path => $word:literal),+) => {
        $(#[$doc])*
        pub mod $name {
            use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

            use super::TrainConfig;

            #[derive(Serialize, Deserialize)]
            #[serde(untagged)]
            enum Written {
                Number(usize),
                Word(String),
            }

            /// Writes one.
            ///
            /// # Errors
            /// The serializer's.
            pub fn serialize<S: Serializer>(number: &usize, serializer: S) -> Result<S::Ok, S::Error> {
                match *number {
                    $($number => Written::Word($word.into()),)+
                    number => Written::Number(number),
                }
                .serialize(serializer)
            }

            /// Reads one.
            ///
            /// # Errors
            /// If it is neither a number nor one of the words.
            pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
                let expected = || de::Error::custom($expected);
                match Written::deserialize(deserializer).map_err(|_| expected())? {
                    Written::Number(number) => Ok(number),
                    $(Written::Word(word) if word == $word => Ok($number),)+
                    Written::Word(_) => Err(expected()),
                }
            }
        }
    };
}

number_or_word!(
    /// A batch size in TOML: a number, `"auto"` or `"data"`.
    batch_size,
    "batch_size: expected a number of at least 1, \"auto\" or \"data\"",
    TrainConfig::AUTO_BATCH_SIZE => "auto",
    TrainConfig::BATCH_SIZE_BY_DATA => "data"
);

number_or_word!(
    /// A number of epochs in TOML, or `"auto"`.
    auto,
    "expected a number of epochs of at least 1, or \"auto\"",
    TrainConfig::AUTO => "auto"
);

/// Reads `img_size = 56` as well as `img_size = "56"`.
fn scalars<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Bool(bool),
        Int(i64),
        Float(f64),
        Text(String),
        /// Height and width, as config files hold them.
        Sides([usize; 2]),
    }
    let values = BTreeMap::<String, Scalar>::deserialize(deserializer)?;
    Ok(values
        .into_iter()
        .map(|(key, value)| match value {
            Scalar::Bool(v) => (key, v.to_string()),
            Scalar::Int(v) => (key, v.to_string()),
            Scalar::Float(v) => (key, v.to_string()),
            Scalar::Text(v) => (key, v),
            Scalar::Sides([height, width]) => (key, format!("{height}x{width}")),
        })
        .collect())
}
