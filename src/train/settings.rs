//! Every setting of a run is written here once: its name, which is also its key in TOML and its flag, its type, its default, and its
//! text, which is both its documentation and the flag's help.
//!
//! From this list the macro makes [`TrainConfig`] with its groups, the form in which it is read and written, with all keys side by
//! side, and the table [`SETTINGS`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use tallow_models::mlp::Implementation;
use tallow_weights::Interpolation;

use super::config::{
    BatchSize, Count, Extension, Head, Method, Normalize, OptimizerKind, Precision, Resolved, ScheduleKind,
};
use crate::data::{Exif, OnBadImage};

/// A setting as a command line presents it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Setting {
    /// Its key, and the name of its field.
    pub name: &'static str,
    /// Its documentation, as it is written above the field.
    doc: &'static str,
}

impl Setting {
    /// The first paragraph of its documentation in one line. If that ends with a sentence about the default, it stands in brackets.
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
        /// RBF kernel, whose options c, gamma and img_size are given by set, and which has none of the settings under Training.
        model: String = String::new();
        /// Where the weights come from: pretrained, or anything that MODEL may be.
        ///
        /// If this is `None`, they are drawn from the seed.
        #[serde(skip_serializing_if = "Option::is_none")]
        weights: Option<String> = None;
        /// The architecture of weights in a file: a name of the zoo, with a tag for how their images were normalised. Default: what
        /// config.json says, else what the tensors' shapes imply.
        #[serde(skip_serializing_if = "Option::is_none")]
        arch: Option<String> = None;
        /// Which network to take from a file with several, by its path, such as state_dict_ema or teacher.backbone. Default: averaged
        /// weights, then a teacher or target encoder, then any other.
        #[serde(skip_serializing_if = "Option::is_none")]
        checkpoint_key: Option<String> = None;
        /// Leave out tensors that could be a part of the model but have no place in it, instead of refusing the file.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        ignore_unknown: bool = false;
        /// What happens to the checkpoint's classification head: keep uses it, new replaces it, auto keeps the rows of classes that the
        /// data has too, matched by name, and zero-shot makes one of the names of the classes, by the text tower of a CLIP or SigLIP.
        head: Head = Head::Auto;
        /// The sentences that a zero-shot head puts the names of classes into: openai-80, openai-7, simple (a photo of a {}.), a sentence with {}
        /// in it, or a file with one in every line. Default: openai-80.
        #[serde(skip_serializing_if = "Option::is_none")]
        templates: Option<String> = None;
        /// What a zero-shot head calls the classes: names separated by commas, or a file with one in every line, in the data's order. Default:
        /// the data's names, with spaces for underscores.
        #[serde(skip_serializing_if = "Option::is_none")]
        classes: Option<String> = None;
        /// What is not trained: backbone, a number of blocks (with all that comes before them), a range of blocks (blocks.0-5), names with
        /// *, or several of these, separated by commas; running statistics of batch norms are still updated. With backbone and no
        /// augmentation, features are computed in the first epoch and reused in the others if they fit into 1 GiB.
        ///
        /// See [`super::freeze::rule`]. Features are reused if only the head is trained and neither augmentation, mixing nor dropout makes
        /// the features of a sample change; they take 4 bytes for each of the head's inputs.
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
        /// The part to train on, or several, separated by commas, if the data set has other parts than the usual ones; . means the folder
        /// itself, with its folders as the classes. Default: train, see docs/data.md.
        ///
        /// See [`crate::data::DataOptions::train_split`].
        #[serde(skip_serializing_if = "Option::is_none")]
        train_split: Option<String> = None;
        /// The part to test on, such as the name of a folder; a folder val/ beside test/ is the validation part. Default: test, or else val,
        /// or else a share of every class.
        #[serde(skip_serializing_if = "Option::is_none")]
        test_split: Option<String> = None;
        /// Use this many training samples.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<usize> = None;
        /// Use this many test samples.
        #[serde(skip_serializing_if = "Option::is_none")]
        test_limit: Option<usize> = None;
        /// Set this share of the training samples aside as the validation part, which chooses the best checkpoint. If there is a folder
        /// val/ beside test/, that is the validation part and no share is set aside; if there is no test/, val/ is what is tested on. The
        /// test part is only measured and never chooses a checkpoint.
        ///
        /// In [0, 1).
        val_fraction: f64 = 0.;
        /// What happens to images that cannot be read: error stops and names them, those of the test and validation parts before the first
        /// epoch; skip reads every image once at the start and leaves the bad ones out, with a warning. Default: error.
        on_bad_image: OnBadImage = OnBadImage::Error;
        /// What happens to the orientation that a camera noted in an image's file: apply turns the image accordingly, ignore reads the
        /// pixels as they lie in the file, as torchvision does. Default: apply.
        ///
        /// If the folder of a run does not state it, the run was made by a version without this setting, which is `ignore` (see
        /// [`super::RunFolder::config`]).
        #[serde(skip_serializing_if = "Option::is_none")]
        exif: Option<Exif> = None;
        /// Random changes to training images, separated by commas: crop or resized-crop, flip, randaugment, jitter, rotate, blur, erase
        /// (always applied in this order); or none; or auto for what suits the data set. Default: auto.
        ///
        /// See [`crate::data::Augment`].
        augment: String = "auto".into();
        /// Mix pairs of training images and their labels (mixup), with weights from Beta(ALPHA, ALPHA); usual values are 0.2 to 1.
        ///
        /// From 0.01 to 100, or 0 for none; see [`crate::data::mix`].
        mixup: f64 = 0.;
        /// Put a box of one training image into another and mix their labels (CutMix); the usual value is 1. If mixup is given too, a fair
        /// coin chooses between them for each batch.
        ///
        /// α, from 0.01 to 100, or 0 for none; see [`crate::data::mix`].
        cutmix: f64 = 0.;
        /// How pixels are normalised: as the checkpoint says (auto), by the mean and deviation of the training set (standard), by ZCA
        /// whitening of the whole input, fitted to the training set (zca, up to 4,096 values), or not at all (none).
        normalize: Normalize = Normalize::Auto;
        /// What ZCA whitening adds to every variance; pixels are in [0, 1].
        ///
        /// At least 1e-8.
        zca_eps: f64 = 0.01;
        /// The filter that resizes images. Default: the checkpoint's, or else bicubic.
        #[serde(skip_serializing_if = "Option::is_none")]
        interpolation: Option<Interpolation> = None;
        /// The share of a resized test image that the centre crop keeps. Default: the checkpoint's, or else 1.
        ///
        /// In (0, 1].
        #[serde(skip_serializing_if = "Option::is_none")]
        crop_pct: Option<f64> = None;
        /// Whether the training samples are shuffled anew for every epoch: true or false.
        shuffle: bool = true;
    }

    /// How long the run trains, in which batches, and how often it is evaluated.
    group length: LengthSettings {
        /// Passes over the training samples: a number, or auto to choose by how many samples there are.
        ///
        /// See [`super::defaults::by_data`].
        epochs: Count = Count::Of(10);
        /// Epochs between two evaluations; auto evaluates ten times if the number of epochs is auto, too, and otherwise after every epoch.
        /// Default: auto.
        ///
        /// The last epoch of the run is always evaluated; an entry of `metrics.jsonl` covers all epochs since the previous evaluation.
        eval_every: Count = Count::Of(1);
        /// Images in one forward and backward pass: a number; or data to choose by how many training samples there are; or auto for the
        /// largest power of two up to 1024 that fits into the memory of the device.
        batch_size: BatchSize = BatchSize::Of(64);
        /// Batches whose gradients are added up for one step of the optimiser.
        accumulate: usize = 1;
        /// Images in one pass of evaluation.
        ///
        /// `None` is the larger of 64 and the batch size.
        #[serde(skip_serializing_if = "Option::is_none")]
        eval_batch_size: Option<usize> = None;
    }

    /// The optimiser and its settings.
    group optimizer: OptimizerSettings {
        /// How much of the training of a perceptron (an MLP with one hidden layer of tanh) is written out by hand: all of it (manual), all
        /// but the gradients (autograd), SGD alone (layers), or nothing (optimizer). The first three need plain SGD (momentum 0). Default:
        /// optimizer.
        ///
        /// All give the same run up to rounding; see [`super::study::perceptron`] for what they need.
        implementation: Implementation = Implementation::Optimizer;
        /// Steps in which a new head is first trained alone, on features of the loaded backbone, before all layers are trained; 0 for none.
        /// This takes one pass over the images and almost no further time.
        ///
        /// See [`super::head_first`].
        head_first_steps: usize = 0;
        /// The optimiser.
        optimizer: OptimizerKind = OptimizerKind::Adamw;
        /// Peak learning rate.
        lr: f64 = 5e-4;
        /// Momentum of SGD.
        ///
        /// In [0, 1).
        momentum: f64 = 0.9;
        /// Nesterov's momentum for SGD.
        nesterov: bool = false;
        /// Weight decay; it is never applied to biases, norms, position embeddings and tokens.
        ///
        /// It is decoupled for AdamW, and added to the gradient for SGD and Adam.
        weight_decay: f64 = 0.05;
        /// Decay rates of Adam's two moments, such as 0.9,0.999.
        ///
        /// Each in [0, 1).
        betas: [f64; 2] = [0.9, 0.999];
        /// What Adam adds to the square root of the second moment.
        eps: f64 = 1e-8;
    }

    /// The learning rate from step to step.
    group schedule: ScheduleSettings {
        /// How the learning rate falls.
        schedule: ScheduleKind = ScheduleKind::Cosine;
        /// Steps over which the learning rate rises from 0.
        ///
        /// `None` is a tenth of all steps for cosine, and 0 otherwise.
        #[serde(skip_serializing_if = "Option::is_none")]
        warmup_steps: Option<usize> = None;
        /// The learning rate at which the cosine schedule ends.
        min_lr: f64 = 0.;
        /// Factor by which the exponential and step schedules lower the learning rate.
        ///
        /// In (0, 1].
        gamma: f64 = 0.95;
        /// Epochs between two steps of the step schedule.
        step_size: usize = 10;
    }

    /// Regularisation: what keeps a model from overfitting and training from diverging.
    group regularization: RegularizationSettings {
        /// The largest global norm of the gradients, above which they are scaled down; 0 for no limit.
        clip_grad: f64 = 1.;
        /// Label smoothing: the share of the target that is spread evenly over all classes.
        ///
        /// In [0, 1).
        label_smoothing: f64 = 0.;
        /// Factor by which the learning rate falls from each layer to the one below it, beginning at the head.
        ///
        /// In (0, 1]; `None` is the same rate for all layers.
        #[serde(skip_serializing_if = "Option::is_none")]
        layer_decay: Option<f64> = None;
        /// Evaluate and keep a moving average of the weights, with this decay, such as 0.999.
        ///
        /// In [0, 1). The decay after step t, counted from 0, is `min(ema, (1 + t) / (10 + t))`. The average is what is evaluated and what
        /// the best checkpoint holds; with `None`, that is the weights themselves.
        #[serde(skip_serializing_if = "Option::is_none")]
        ema: Option<f64> = None;
    }

    /// Training without labels, and what is measured without any training. Everything is left open in a run that trains with labels.
    group pretraining: PretrainingSettings {
        /// What is done in place of training with labels: mae (masked autoencoder) or dino (self-distillation) pre-train a ViT, knn trains
        /// nothing and classifies by the nearest neighbours.
        #[serde(skip_serializing_if = "Option::is_none")]
        method: Option<Method> = None;
        /// MAE: the share of an image's patches that the encoder does not see. Default: 0.75.
        ///
        /// In (0, 1).
        #[serde(skip_serializing_if = "Option::is_none")]
        mask_ratio: Option<f64> = None;
        /// MAE: width of the decoder's tokens. Default: half of the encoder's, at most 512; for encoders of at most 128 numbers a token the
        /// encoder's.
        #[serde(skip_serializing_if = "Option::is_none")]
        decoder_dim: Option<usize> = None;
        /// MAE: blocks of the decoder. Default: 4, or 2 for encoders of at most 128 numbers a token.
        #[serde(skip_serializing_if = "Option::is_none")]
        decoder_depth: Option<usize> = None;
        /// MAE: attention heads of the decoder; they divide its width. Default: the encoder's.
        #[serde(skip_serializing_if = "Option::is_none")]
        decoder_heads: Option<usize> = None;
        /// MAE: reconstruct every patch less its own mean and divided by its own deviation. Default: true.
        #[serde(skip_serializing_if = "Option::is_none")]
        norm_pix: Option<bool> = None;
        /// DINO: crops of the model's size, which the teacher sees too. Default: 2.
        ///
        /// At least 2.
        #[serde(skip_serializing_if = "Option::is_none")]
        global_crops: Option<usize> = None;
        /// DINO: smaller crops, which the student sees alone. Default: 8, or 2 for ViTs of at most 128 numbers a token.
        #[serde(skip_serializing_if = "Option::is_none")]
        local_crops: Option<usize> = None;
        /// DINO: the least and the largest share of an image's area in a global crop, such as 0.4,1. Default: 0.4,1, or 0.7,1 for images
        /// of at most 64 pixels, or 0.5,1 for such in grey.
        #[serde(skip_serializing_if = "Option::is_none")]
        global_crops_scale: Option<[f64; 2]> = None;
        /// DINO: the least and the largest share of an image's area in a local crop. Default: 0.05,0.4, or 0.2,0.5 for images of at most
        /// 64 pixels, or 0.5,1 for such in grey.
        #[serde(skip_serializing_if = "Option::is_none")]
        local_crops_scale: Option<[f64; 2]> = None;
        /// DINO: height and width of a local crop in pixels, a multiple of the patches'. Default: about 3/7 of the image's, as 96 of 224.
        #[serde(skip_serializing_if = "Option::is_none")]
        local_crops_size: Option<usize> = None;
        /// DINO: outputs of the head. Default: 65536, or for images of at most 64 pixels four times the model's width, at
        /// most 1024.
        #[serde(skip_serializing_if = "Option::is_none")]
        out_dim: Option<usize> = None;
        /// DINO: width of the head's two hidden layers. Default: 2048, or four times the model's width if that is less.
        #[serde(skip_serializing_if = "Option::is_none")]
        head_hidden_dim: Option<usize> = None;
        /// DINO: width of what the head's last layer reads. Default: 256.
        #[serde(skip_serializing_if = "Option::is_none")]
        head_bottleneck_dim: Option<usize> = None;
        /// DINO: the temperature that divides the student's outputs. Default: 0.1.
        #[serde(skip_serializing_if = "Option::is_none")]
        student_temperature: Option<f64> = None;
        /// DINO: the temperature that divides the teacher's outputs after the warm-up. Default: 0.04.
        #[serde(skip_serializing_if = "Option::is_none")]
        teacher_temperature: Option<f64> = None;
        /// DINO: the teacher's temperature in the first epoch. Default: 0.04.
        #[serde(skip_serializing_if = "Option::is_none")]
        warmup_teacher_temperature: Option<f64> = None;
        /// DINO: epochs over which the teacher's temperature goes from its first value to its last. Default: 0.
        #[serde(skip_serializing_if = "Option::is_none")]
        warmup_teacher_epochs: Option<usize> = None;
        /// DINO: how much of the teacher stays in the first step; it rises to 1 by half a cosine. Default: 0.996, or 0.95
        /// for ViTs of at most 128 numbers a token.
        ///
        /// In [0, 1].
        #[serde(skip_serializing_if = "Option::is_none")]
        teacher_momentum: Option<f64> = None;
        /// DINO: how much of the centre of the teacher's outputs stays in a step. Default: 0.9.
        ///
        /// In [0, 1].
        #[serde(skip_serializing_if = "Option::is_none")]
        center_momentum: Option<f64> = None;
        /// DINO: the weight decay of the last step; it rises or falls to there by half a cosine. Default: 0.4, or 0.04 for
        /// ViTs of at most 128 numbers a token.
        #[serde(skip_serializing_if = "Option::is_none")]
        weight_decay_end: Option<f64> = None;
        /// DINO: epochs in which the head's last layer stays as it is. Default: 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        freeze_last_layer: Option<usize> = None;
        /// DINO: the weight of DINOv2's KoLeo regulariser, which keeps the features of a batch apart. Default: 0, or 0.1 for images of at
        /// most 64 pixels.
        #[serde(skip_serializing_if = "Option::is_none")]
        koleo: Option<f64> = None;
        /// While pre-training, classify the test part by its nearest neighbours among this many labelled training images, if there are
        /// labels; 0 for not at all. Default: 2000.
        #[serde(skip_serializing_if = "Option::is_none")]
        knn_limit: Option<usize> = None;
        /// Numbers of nearest neighbours that vote, separated by commas. Default: 10,20,100,200.
        #[serde(skip_serializing_if = "Option::is_none")]
        k: Option<Vec<usize>> = None;
        /// The temperature T of the neighbours' votes: one of cosine s counts exp(s/T). Default: 0.07.
        #[serde(skip_serializing_if = "Option::is_none")]
        temperature: Option<f64> = None;
    }

    /// How and where the run computes, and how often it saves checkpoints.
    group compute: ComputeSettings {
        /// Compute what lies inside a ViT's blocks again in the backward pass, which takes less memory and more time.
        grad_checkpointing: bool = false;
        /// Go on with a warning if a trainable parameter receives no gradient, instead of stopping with an error.
        ///
        /// The parameter then keeps its value.
        allow_missing_gradients: bool = false;
        /// Steps between two checkpoints inside an epoch. Default: ten minutes.
        #[serde(skip_serializing_if = "Option::is_none")]
        checkpoint_every: Option<usize> = None;
        /// The seed of everything random; the same seed gives the same run with the same kernels. Default: 0.
        seed: u64 = 0;
        /// Threads for computing and for loading images. Default: RAYON_NUM_THREADS, or else the available cores.
        threads: usize = 0;
        /// What the CPU's matrix products run on: amx, avx512, avx2 or gemm, if the CPU has it; fixed to choose by the CPU's instructions
        /// alone; or auto to measure once on this machine. Default: TALLOW_KERNELS, or else auto.
        ///
        /// A run writes down what it computes with, and goes on with it. That may be a list: the kernels of large products, of small
        /// ones, and of those in bfloat16.
        #[serde(skip_serializing_if = "Option::is_none")]
        kernels: Option<String> = None;
        /// Where to compute: auto, cpu, `cuda[:N]` or metal. Default: auto, which takes a GPU if this build can use one.
        device: String = "auto".into();
        /// The type of the model's arithmetic; f32x2 on the CPU only, tf32 on CUDA only, int8 on CPUs that have it and only to predict.
        /// Default: f32.
        dtype: Precision = Precision::F32;
    }

    last {
        /// Epochs that were added to the run after it had been planned, with their learning rate; every entry applies from its epoch on. A
        /// resume with more epochs writes it (see [`super::extension`]).
        #[serde(skip_serializing_if = "Vec::is_empty")]
        extended: Vec<Extension> = Vec::new();
        /// The absolute paths of those of `data`, `model` and `weights` that are paths. The run writes them, and when it is opened again it
        /// looks there first, and then where the setting itself points.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        paths: BTreeMap<String, String> = BTreeMap::new();
        /// The values that the settings above resulted in. They are written for the reader; a run computes its own.
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
            "The share of a resized test image that the centre crop keeps [default: the checkpoint's, or else 1]"
        );
    }
}
