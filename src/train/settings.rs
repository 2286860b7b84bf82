//! Every setting of a run, once: its name, which is its key in TOML and its flag, its type, what it is by default, and its text, which
//! is its documentation and the flag's help.
//!
//! The macro makes of it [`TrainConfig`] with its groups, what is read and written, where all keys stand side by side, and the table
//! [`SETTINGS`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use tallow_models::mlp::Implementation;
use tallow_weights::Interpolation;

use super::config::{BatchSize, Count, Extension, Head, Normalize, OptimizerKind, Precision, Resolved, ScheduleKind};
use crate::data::{Exif, OnBadImage};

/// A setting as a command line tells it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Setting {
    /// Its key, and the name of its field.
    pub name: &'static str,
    /// Its documentation, as it is written above the field.
    doc: &'static str,
}

impl Setting {
    /// The first paragraph of its documentation in one line, with the default in brackets where that is told in words.
    pub fn help(&self) -> String {
        let lines = self.doc.lines().map(str::trim).skip_while(|line| line.is_empty());
        let paragraph = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        let text = paragraph.replace('`', "");
        let text = text.strip_suffix('.').unwrap_or(&text);
        match text.rsplit_once(". Default: ") {
            Some((text, default)) => format!("{text} [default: {default}]"),
            None => text.into(),
        }
    }
}

/// The text of an attribute that is a line of documentation; nothing of others.
macro_rules! line_of_doc {
    (doc = $text:literal) => {
        concat!($text, "\n")
    };
    ($($other:tt)*) => {
        ""
    };
}

macro_rules! settings {
    (
        $(#[$outer:meta])*
        TrainConfig
        first { $($(#[$($first_attr:tt)*])* $first:ident: $first_type:ty = $first_default:expr;)* }
        $(
            $(#[$group_doc:meta])*
            group $group:ident: $Group:ident {
                $($(#[$($attr:tt)*])* $field:ident: $type:ty = $default:expr;)*
            }
        )*
        last { $($(#[$($last_attr:tt)*])* $last:ident: $last_type:ty = $last_default:expr;)* }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(from = "Keys", into = "Keys")]
        #[non_exhaustive]
        pub struct TrainConfig {
            $($(#[$($first_attr)*])* pub $first: $first_type,)*
            $($(#[$group_doc])* pub $group: $Group,)*
            $($(#[$($last_attr)*])* pub $last: $last_type,)*
        }

        $(
            $(#[$group_doc])*
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            #[non_exhaustive]
            pub struct $Group {
                $(
                    $(#[$($attr)*])*
                    #[doc = concat!("\n\nOf [`TrainConfig::default`]: `", stringify!($default), "`.")]
                    pub $field: $type,
                )*
            }

            impl Default for $Group {
                fn default() -> Self {
                    Self { $($field: $default,)* }
                }
            }
        )*

        impl Default for TrainConfig {
            fn default() -> Self {
                Self {
                    $($first: $first_default,)*
                    $($group: $Group::default(),)*
                    $($last: $last_default,)*
                }
            }
        }

        /// All keys side by side, as they are read and written.
        #[derive(Clone, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields, rename = "TrainConfig")]
        struct Keys {
            $($(#[$($first_attr)*])* $first: $first_type,)*
            $($($(#[$($attr)*])* $field: $type,)*)*
            $($(#[$($last_attr)*])* $last: $last_type,)*
        }

        impl Default for Keys {
            fn default() -> Self {
                TrainConfig::default().into()
            }
        }

        impl From<Keys> for TrainConfig {
            fn from(keys: Keys) -> Self {
                Self {
                    $($first: keys.$first,)*
                    $($group: $Group { $($field: keys.$field,)* },)*
                    $($last: keys.$last,)*
                }
            }
        }

        impl From<TrainConfig> for Keys {
            fn from(config: TrainConfig) -> Self {
                Self {
                    $($first: config.$first,)*
                    $($($field: config.$group.$field,)*)*
                    $($last: config.$last,)*
                }
            }
        }

        /// All settings, in the order in which they are written.
        pub const SETTINGS: &[Setting] = &[
            $(Setting { name: stringify!($first), doc: concat!($(line_of_doc!($($first_attr)*)),*) },)*
            $($(Setting { name: stringify!($field), doc: concat!($(line_of_doc!($($attr)*)),*) },)*)*
            $(Setting { name: stringify!($last), doc: concat!($(line_of_doc!($($last_attr)*)),*) },)*
        ];
    };
}

settings! {
    /// Configuration of a run. Two configurations that are equal give the same run.
    ///
    /// The values of [`TrainConfig::default`] are those for a ViT trained from scratch; [`super::defaults`] holds the table for
    /// every family, from scratch and from pretrained weights. In TOML the groups have no names: all keys stand side by side.
    TrainConfig

    first {
        /// The run's name in reports. Default: the name of its folder.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String> = None;
    }

    /// The model and its weights.
    group model: ModelSettings {
        /// A name of the zoo with an optional tag, `hf-hub:OWNER/REPO[@REVISION]`, or a path; or svm, a support vector machine with an
        /// RBF kernel, which takes the options c, gamma and img_size by set, and none of the settings under Training.
        model: String = String::new();
        /// Where the weights come from: pretrained, or what MODEL may be.
        ///
        /// None draws them from the seed.
        #[serde(skip_serializing_if = "Option::is_none")]
        weights: Option<String> = None;
        /// The architecture of weights in a file: a name of the zoo, with a tag for how their images were normalised. Default: what
        /// config.json says, else what the tensors' shapes imply.
        #[serde(skip_serializing_if = "Option::is_none")]
        arch: Option<String> = None;
        /// Which network of a file with several is meant, by its path, such as state_dict_ema or teacher.backbone. Default: averaged
        /// weights, then a teacher or target encoder, then what is left.
        #[serde(skip_serializing_if = "Option::is_none")]
        checkpoint_key: Option<String> = None;
        /// Leave out tensors that could be a part of the model but have no place in it, where that is an error otherwise.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        ignore_unknown: bool = false;
        /// What becomes of the checkpoint's classification head; auto keeps the rows of the classes that it knows, by name.
        head: Head = Head::Auto;
        /// What is not trained: backbone, a number of blocks (with all before them), a range of blocks (blocks.0-5), names with *, or
        /// some of them, separated by commas; running statistics of batch norms still move. With backbone and no augmentation, features
        /// are computed in the first epoch and kept, where they fit into 1 GiB.
        ///
        /// See [`super::freeze::rule`]. Features are kept where only the head is left to train and neither augmentation, mixing nor
        /// dropout make a sample's features differ; they take 4 bytes for each of the head's inputs.
        #[serde(skip_serializing_if = "Option::is_none")]
        freeze: Option<String> = None;
        /// Any other option of the architecture, such as embed_dim=64; can be given several times.
        ///
        /// By timm's names: `img_size = 56`.
        #[serde(deserialize_with = "scalars")]
        set: BTreeMap<String, String> = BTreeMap::new();
    }

    /// The data set, and how its samples become the model's input.
    group data: DataSettings {
        /// mnist, fashion-mnist, cifar10, circles, folder:DIR, idx:DIR, cifar:DIR, parquet:PATH or hf:OWNER/NAME.
        data: String = String::new();
        /// The part to train on, or several with commas between, where the data set has others than the usual ones; . is a folder of
        /// classes itself. Default: train, see docs/data.md.
        ///
        /// See [`crate::data::DataOptions::train_split`].
        #[serde(skip_serializing_if = "Option::is_none")]
        train_split: Option<String> = None;
        /// The part to test on, such as a folder of that name; a folder val/ beside test/ is the validation part. Default: test, else
        /// val, else a share of every class.
        #[serde(skip_serializing_if = "Option::is_none")]
        test_split: Option<String> = None;
        /// Use this many training samples.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<usize> = None;
        /// Use this many test samples.
        #[serde(skip_serializing_if = "Option::is_none")]
        test_limit: Option<usize> = None;
        /// Set apart this share of the training samples as the validation part, which chooses the best checkpoint. A folder val/ beside
        /// test/ is that part without being asked, and no share is set apart then; without test/, val/ is what is tested on. The test
        /// part is only ever measured: it chooses nothing.
        ///
        /// In [0, 1).
        val_fraction: f64 = 0.;
        /// What becomes of images that cannot be read: error names them, those that results are measured on before the first epoch;
        /// skip reads every image once at the start and leaves the bad ones out, with a warning. Default: error.
        on_bad_image: OnBadImage = OnBadImage::Error;
        /// What becomes of the orientation that a camera noted in an image's file: apply turns the image as it says, ignore reads it as
        /// its pixels lie there, as torchvision does. Default: apply.
        ///
        /// The run of a folder that states none was made by a version without this setting, which is `ignore` (see
        /// [`super::RunFolder::config`]).
        #[serde(skip_serializing_if = "Option::is_none")]
        exif: Option<Exif> = None;
        /// Changes to training images, separated by commas: crop or resized-crop, flip, randaugment, jitter, rotate, blur, erase (in
        /// this order, whatever the list's); none; or auto for what suits the data set. Default: auto.
        ///
        /// See [`crate::data::Augment`].
        augment: String = "auto".into();
        /// Mix pairs of training images and their labels (mixup), with weights from Beta(ALPHA, ALPHA); usual are 0.2 to 1.
        ///
        /// From 0.01 to 100, or 0 for none; see [`crate::data::mix`].
        mixup: f64 = 0.;
        /// Put a box of one training image into another, and mix their labels (CutMix); usual is 1. With mixup, a fair coin chooses for
        /// each batch.
        ///
        /// α, from 0.01 to 100, or 0 for none; see [`crate::data::mix`].
        cutmix: f64 = 0.;
        /// How pixels are normalised: as the checkpoint says (auto), or by the training set: its mean and deviation (standard), or ZCA
        /// whitening of the whole input (zca, up to 4,096 values).
        normalize: Normalize = Normalize::Auto;
        /// What ZCA whitening adds to every variance, of pixels in [0, 1].
        ///
        /// At least 1e-8.
        zca_eps: f64 = 0.01;
        /// The filter that resizes images. Default: the checkpoint's, else bicubic.
        #[serde(skip_serializing_if = "Option::is_none")]
        interpolation: Option<Interpolation> = None;
        /// The share of a resized test image that the centre crop keeps. Default: the checkpoint's, else 1.
        ///
        /// In (0, 1].
        #[serde(skip_serializing_if = "Option::is_none")]
        crop_pct: Option<f64> = None;
        /// Give every epoch an order of its own: true or false.
        shuffle: bool = true;
    }

    /// How long is trained, in which batches, and how often is evaluated.
    group length: LengthSettings {
        /// Passes over the training samples: a number, or auto for as many as their number asks for.
        ///
        /// See [`super::defaults::by_data`].
        epochs: Count = Count::Of(10);
        /// Epochs between two evaluations; auto makes ten of them where the number of epochs was left open. Default: auto.
        ///
        /// The last epoch of the run is always evaluated; an entry of `metrics.jsonl` covers all epochs since the one before. With a
        /// number of epochs, auto evaluates every one.
        eval_every: Count = Count::Of(1);
        /// Images in one forward and backward pass: a number; data for what the number of training samples asks for; or auto for the
        /// largest power of two up to 1024 that fits the memory of the device.
        batch_size: BatchSize = BatchSize::Of(64);
        /// Batches whose gradients make one step of the optimiser.
        accumulate: usize = 1;
        /// Images in one pass of evaluation.
        ///
        /// None: the larger of 64 and the batch size.
        #[serde(skip_serializing_if = "Option::is_none")]
        eval_batch_size: Option<usize> = None;
    }

    /// What steps along the gradients, and how.
    group optimizer: OptimizerSettings {
        /// How much of the training of a perceptron (an MLP with one hidden layer of tanh) is written out by hand: all of it; all but
        /// the gradients; SGD alone; nothing. Needs plain SGD (momentum 0). Default: optimizer.
        ///
        /// All give the same run to rounding; see [`super::study::perceptron`] for what they need.
        implementation: Implementation = Implementation::Optimizer;
        /// Steps in which a new head is trained alone, on features of the loaded backbone, before everything is trained from there
        /// (takes one pass over the images, and next to no time beside); 0 for none.
        ///
        /// See [`super::head_first`].
        head_first_steps: usize = 0;
        /// What steps along the gradients.
        optimizer: OptimizerKind = OptimizerKind::Adamw;
        /// Peak learning rate.
        lr: f64 = 5e-4;
        /// Momentum of SGD.
        ///
        /// In [0, 1).
        momentum: f64 = 0.9;
        /// Nesterov's momentum for SGD.
        nesterov: bool = false;
        /// Weight decay; never on biases, norms, position embeddings and tokens.
        ///
        /// Decoupled for AdamW, added to the gradient for SGD and Adam.
        weight_decay: f64 = 0.05;
        /// Decay rates of Adam's two moments, such as 0.9,0.999.
        ///
        /// Each in [0, 1).
        betas: [f64; 2] = [0.9, 0.999];
        /// What Adam adds to the root of the second moment.
        eps: f64 = 1e-8;
    }

    /// The learning rate from step to step.
    group schedule: ScheduleSettings {
        /// How the learning rate falls.
        schedule: ScheduleKind = ScheduleKind::Cosine;
        /// Steps over which the learning rate rises from 0.
        ///
        /// None: a tenth of all steps for cosine, else 0.
        #[serde(skip_serializing_if = "Option::is_none")]
        warmup_steps: Option<usize> = None;
        /// Where cosine ends.
        min_lr: f64 = 0.;
        /// Factor of the exponential and step schedules.
        ///
        /// In (0, 1].
        gamma: f64 = 0.95;
        /// Epochs between two falls of the step schedule.
        step_size: usize = 10;
    }

    /// What holds a model back, so that it learns more.
    group regularization: RegularizationSettings {
        /// Largest global norm of the gradients; 0 leaves them as they are.
        clip_grad: f64 = 1.;
        /// Share of the target that is spread over all classes.
        ///
        /// In [0, 1).
        label_smoothing: f64 = 0.;
        /// Factor on the learning rate from layer to layer, from the head down.
        ///
        /// In (0, 1]; none is one rate for all.
        #[serde(skip_serializing_if = "Option::is_none")]
        layer_decay: Option<f64> = None;
        /// Evaluate and keep a moving average of the weights, with this decay, such as 0.999.
        ///
        /// In [0, 1): after step t, counted from 0, `min(ema, (1 + t) / (10 + t))`. The average is what is evaluated and what the best
        /// checkpoint holds; none is the weights themselves.
        #[serde(skip_serializing_if = "Option::is_none")]
        ema: Option<f64> = None;
    }

    /// How and where is computed, and what stands by when something happens.
    group compute: ComputeSettings {
        /// Compute what lies inside a ViT's blocks again in the backward pass: less memory for more time.
        grad_checkpointing: bool = false;
        /// Train on where a trainable parameter receives no gradient, with a warning.
        ///
        /// The parameter stays as it is. It is an error otherwise.
        allow_missing_gradients: bool = false;
        /// Steps between two checkpoints inside an epoch. Default: ten minutes.
        #[serde(skip_serializing_if = "Option::is_none")]
        checkpoint_every: Option<usize> = None;
        /// Where everything random starts; the same seed gives the same run. Default: 0.
        seed: u64 = 0;
        /// Threads for compute and for loading images. Default: RAYON_NUM_THREADS, else the cores at hand.
        threads: usize = 0;
        /// Where to compute: auto, cpu, `cuda[:N]` or metal. Default: auto, a GPU where this build can use one.
        device: String = "auto".into();
        /// The type of the model's arithmetic; tf32 on CUDA only. Default: f32.
        dtype: Precision = Precision::F32;
    }

    last {
        /// Epochs that were added to the run after it had been planned, with what became of the learning rate: every entry holds from
        /// its epoch on. Written by a resume with more epochs (see [`super::extension`]).
        #[serde(skip_serializing_if = "Vec::is_empty")]
        extended: Vec<Extension> = Vec::new();
        /// Where the paths among `data`, `model` and `weights` lie, absolute and otherwise as they are written there. Written by the
        /// run, which looks there first when it is opened again, then where the setting itself points.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        paths: BTreeMap<String, String> = BTreeMap::new();
        /// What the settings above came to. Written for the reader; a run makes its own.
        #[serde(skip_serializing_if = "Option::is_none")]
        resolved: Option<Resolved> = None;
    }
}

/// Reads `img_size = 56` as well as `img_size = "56"`.
fn scalars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_the_first_paragraph_with_the_default_in_brackets() {
        let help = |name: &str| SETTINGS.iter().find(|setting| setting.name == name).unwrap().help();
        assert_eq!(help("lr"), "Peak learning rate");
        assert_eq!(help("ema"), "Evaluate and keep a moving average of the weights, with this decay, such as 0.999");
        assert_eq!(
            help("crop_pct"),
            "The share of a resized test image that the centre crop keeps [default: the checkpoint's, else 1]"
        );
    }
}
