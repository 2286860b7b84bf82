//! Flags of a training run. Every one is a field of [`tallow::train::TrainConfig`] under the same name, whose documentation is the flag's
//! help ([`with_help`]); what is not given keeps the default for the model's family (see [`tallow::train::defaults`]).

use std::path::PathBuf;

use clap::{Arg, Args};
use serde::Serialize;

use super::{ArchitectureFlags, CheckpointFlags, path, positive};
use tallow::train::config::{BatchSize, Count, SETTINGS};

#[derive(Debug, Args)]
pub struct TrainArgs {
    #[arg(required_unless_present = "resume")]
    pub model: Option<String>,
    #[command(flatten)]
    pub training: TrainingFlags,
    #[command(flatten)]
    pub architecture: ArchitectureFlags,
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,
    /// The folder of the run [default: runs/MODEL-DATA-N]
    #[arg(long, value_name = "DIR", value_parser = path(), help_heading = "The run's folder")]
    pub out: Option<PathBuf>,
    /// Continue the run in --out where it stopped, with its own settings; a larger --epochs adds epochs, whose learning rate continues the
    /// run's schedule or follows --schedule and --lr
    #[arg(long, requires = "out", help_heading = "The run's folder")]
    pub resume: bool,
}

#[derive(Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Training", allow_negative_numbers = true)]
pub struct TrainingFlags {
    #[arg(long, required_unless_present = "resume", help_heading = "Data")]
    pub data: Option<String>,
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub train_split: Option<String>,
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub test_split: Option<String>,
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Data")]
    pub limit: Option<usize>,
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Data")]
    pub test_limit: Option<usize>,
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    pub val_fraction: Option<f64>,
    #[arg(long, value_name = "WHAT", value_parser = ["error", "skip"], help_heading = "Data")]
    pub on_bad_image: Option<String>,
    #[arg(long, value_name = "WHAT", value_parser = ["apply", "ignore"], help_heading = "Data")]
    pub exif: Option<String>,
    #[arg(long, value_name = "LIST", help_heading = "Data")]
    pub augment: Option<String>,
    #[arg(long, value_name = "ALPHA", help_heading = "Data")]
    pub mixup: Option<f64>,
    #[arg(long, value_name = "ALPHA", help_heading = "Data")]
    pub cutmix: Option<f64>,
    #[arg(long, value_name = "HOW", value_parser = ["auto", "standard", "zca", "none"], help_heading = "Data")]
    pub normalize: Option<String>,
    #[arg(long, value_name = "NUMBER", help_heading = "Data")]
    pub zca_eps: Option<f64>,
    #[arg(long, value_name = "FILTER", value_parser = ["nearest", "bilinear", "bicubic", "lanczos"], help_heading = "Data")]
    pub interpolation: Option<String>,
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    pub crop_pct: Option<f64>,
    #[arg(long, value_name = "BOOL", help_heading = "Data")]
    pub shuffle: Option<bool>,

    #[arg(long, value_name = "SOURCE", help_heading = "Weights")]
    pub weights: Option<String>,
    #[arg(long, value_parser = ["auto", "keep", "new", "zero-shot"], help_heading = "Weights")]
    pub head: Option<String>,
    #[arg(long, value_name = "SENTENCES", help_heading = "Weights")]
    pub templates: Option<String>,
    #[arg(long, value_name = "NAMES", help_heading = "Weights")]
    pub classes: Option<String>,
    #[arg(long, value_name = "WHAT", help_heading = "Weights")]
    pub freeze: Option<String>,

    #[arg(long, value_name = "N", value_parser = epochs)]
    pub epochs: Option<Count>,
    #[arg(long, value_name = "N", value_parser = epochs)]
    pub eval_every: Option<Count>,
    #[arg(long, value_name = "N", value_parser = batch_size)]
    pub batch_size: Option<BatchSize>,
    #[arg(long, value_name = "N", value_parser = positive)]
    pub accumulate: Option<usize>,
    #[arg(long, value_name = "N", value_parser = positive)]
    pub eval_batch_size: Option<usize>,
    #[arg(long, value_parser = ["manual", "autograd", "layers", "optimizer"])]
    pub implementation: Option<String>,
    #[arg(long, value_name = "STEPS")]
    pub head_first_steps: Option<usize>,
    #[arg(long, value_parser = ["sgd", "adam", "adamw"])]
    pub optimizer: Option<String>,
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,
    #[arg(long, value_name = "FACTOR")]
    pub momentum: Option<f64>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub nesterov: Option<bool>,
    #[arg(long, value_name = "RATE")]
    pub weight_decay: Option<f64>,
    #[arg(long, value_name = "B1,B2", value_parser = betas)]
    pub betas: Option<[f64; 2]>,
    #[arg(long, value_name = "NUMBER")]
    pub eps: Option<f64>,
    #[arg(long, value_parser = ["constant", "cosine", "exponential", "step"])]
    pub schedule: Option<String>,
    #[arg(long, value_name = "N")]
    pub warmup_steps: Option<usize>,
    #[arg(long, value_name = "RATE")]
    pub min_lr: Option<f64>,
    #[arg(long, value_name = "FACTOR")]
    pub gamma: Option<f64>,
    #[arg(long, value_name = "N", value_parser = positive)]
    pub step_size: Option<usize>,
    #[arg(long, value_name = "NORM")]
    pub clip_grad: Option<f64>,
    #[arg(long, value_name = "SHARE")]
    pub label_smoothing: Option<f64>,
    #[arg(long, value_name = "FACTOR")]
    pub layer_decay: Option<f64>,
    #[arg(long, value_name = "DECAY")]
    pub ema: Option<f64>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub grad_checkpointing: Option<bool>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_missing_gradients: Option<bool>,

    #[arg(long, help_heading = "The run's folder")]
    pub name: Option<String>,
    #[arg(long, value_name = "STEPS", value_parser = positive, help_heading = "The run's folder")]
    pub checkpoint_every: Option<usize>,
}

#[derive(Debug, Args)]
pub struct PretrainArgs {
    #[command(flatten)]
    pub train: TrainArgs,
    #[command(flatten)]
    pub pretraining: PretrainFlags,
}

/// Settings of training without labels.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Pre-training", allow_negative_numbers = true)]
pub struct PretrainFlags {
    /// What is done: mae, a masked autoencoder; or dino, self-distillation
    #[arg(long, value_parser = ["mae", "dino"], required_unless_present = "resume")]
    pub method: Option<String>,
    #[arg(long, value_name = "SHARE")]
    pub mask_ratio: Option<f64>,
    #[arg(long, value_name = "N", value_parser = positive)]
    pub decoder_dim: Option<usize>,
    #[arg(long, value_name = "N", value_parser = positive)]
    pub decoder_depth: Option<usize>,
    #[arg(long, value_name = "N", value_parser = positive)]
    pub decoder_heads: Option<usize>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub norm_pix: Option<bool>,
    #[arg(long, value_name = "N")]
    pub global_crops: Option<usize>,
    #[arg(long, value_name = "N")]
    pub local_crops: Option<usize>,
    #[arg(long, value_name = "LEAST,MOST", value_parser = shares)]
    pub global_crops_scale: Option<[f64; 2]>,
    #[arg(long, value_name = "LEAST,MOST", value_parser = shares)]
    pub local_crops_scale: Option<[f64; 2]>,
    #[arg(long, value_name = "PIXELS", value_parser = positive)]
    pub local_crops_size: Option<usize>,
    #[arg(long, value_name = "N", value_parser = positive)]
    pub out_dim: Option<usize>,
    #[arg(long, value_name = "N", value_parser = positive)]
    pub head_hidden_dim: Option<usize>,
    #[arg(long, value_name = "N", value_parser = positive)]
    pub head_bottleneck_dim: Option<usize>,
    #[arg(long, value_name = "T")]
    pub student_temperature: Option<f64>,
    #[arg(long, value_name = "T")]
    pub teacher_temperature: Option<f64>,
    #[arg(long, value_name = "T")]
    pub warmup_teacher_temperature: Option<f64>,
    #[arg(long, value_name = "N")]
    pub warmup_teacher_epochs: Option<usize>,
    #[arg(long, value_name = "SHARE")]
    pub teacher_momentum: Option<f64>,
    #[arg(long, value_name = "SHARE")]
    pub center_momentum: Option<f64>,
    #[arg(long, value_name = "RATE")]
    pub weight_decay_end: Option<f64>,
    #[arg(long, value_name = "EPOCHS")]
    pub freeze_last_layer: Option<usize>,
    #[arg(long, value_name = "WEIGHT")]
    pub koleo: Option<f64>,
    #[arg(long, value_name = "N")]
    pub knn_limit: Option<usize>,
}

#[derive(Debug, Args)]
pub struct KnnArgs {
    /// The folder of a run, a name of the zoo with an optional tag, hf-hub:OWNER/REPO[@REVISION], or a path
    #[arg(value_name = "RUN|MODEL")]
    pub model: String,
    #[command(flatten)]
    pub flags: KnnFlags,
    /// Images in one forward pass
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch_size: Option<usize>,
    #[command(flatten)]
    pub architecture: ArchitectureFlags,
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,
    /// The folder of the run [default: runs/knn-MODEL-DATA-N]
    #[arg(long, value_name = "DIR", value_parser = path(), help_heading = "The run's folder")]
    pub out: Option<PathBuf>,
}

/// Settings of a run by nearest neighbours.
#[derive(Debug, Args, Serialize)]
#[command(next_help_heading = "Nearest neighbours", allow_negative_numbers = true)]
pub struct KnnFlags {
    #[arg(long, help_heading = "Data")]
    pub data: String,
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub train_split: Option<String>,
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub test_split: Option<String>,
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Data")]
    pub limit: Option<usize>,
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Data")]
    pub test_limit: Option<usize>,
    #[arg(long, value_name = "WHAT", value_parser = ["error", "skip"], help_heading = "Data")]
    pub on_bad_image: Option<String>,
    #[arg(long, value_name = "WHAT", value_parser = ["apply", "ignore"], help_heading = "Data")]
    pub exif: Option<String>,
    #[arg(long, value_name = "HOW", value_parser = ["auto", "standard", "zca", "none"], help_heading = "Data")]
    pub normalize: Option<String>,
    #[arg(long, value_name = "NUMBER", help_heading = "Data")]
    pub zca_eps: Option<f64>,
    #[arg(long, value_name = "FILTER", value_parser = ["nearest", "bilinear", "bicubic", "lanczos"], help_heading = "Data")]
    pub interpolation: Option<String>,
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    pub crop_pct: Option<f64>,
    #[arg(long, value_name = "SOURCE", help_heading = "Weights")]
    pub weights: Option<String>,
    #[arg(short, long, value_name = "K,…", value_delimiter = ',', value_parser = positive)]
    pub k: Option<Vec<usize>>,
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    #[arg(long, help_heading = "The run's folder")]
    pub name: Option<String>,
}

/// A flag that is a setting of a run, with the setting's own text.
pub fn with_help(arg: Arg) -> Arg {
    match SETTINGS.iter().find(|setting| arg.get_id() == setting.name) {
        Some(setting) => arg.help(setting.help()),
        None => arg,
    }
}

/// As [`with_help`]; what means nothing without labels is not listed.
pub fn without_labels(arg: Arg) -> Arg {
    const LABELS: [&str; 11] = [
        "mixup",
        "cutmix",
        "val_fraction",
        "label_smoothing",
        "layer_decay",
        "ema",
        "freeze",
        "head",
        "head_first_steps",
        "implementation",
        "num_classes",
    ];
    let hidden = LABELS.contains(&arg.get_id().as_str());
    let arg = with_help(arg);
    if hidden { arg.hide(true) } else { arg }
}

/// The text of a setting of a run, for the flag of a command that trains nothing and means the same by it.
pub fn help_of(name: &str) -> String {
    SETTINGS.iter().find(|setting| setting.name == name).map(|setting| setting.help()).unwrap_or_default()
}

fn shares(text: &str) -> Result<[f64; 2], String> {
    let wrong = || "expected two shares above 0 and at most 1, the smaller one first, such as 0.4,1".to_string();
    let (least, most) = text.split_once(',').ok_or_else(wrong)?;
    let shares = [least, most].map(|share| share.trim().parse::<f64>());
    let [Ok(least), Ok(most)] = shares else { return Err(wrong()) };
    if 0. < least && least <= most && most <= 1. { Ok([least, most]) } else { Err(wrong()) }
}

fn betas(text: &str) -> Result<[f64; 2], String> {
    let wrong = || "expected two numbers in [0, 1), such as 0.9,0.999".to_string();
    let (first, second) = text.split_once(',').ok_or_else(wrong)?;
    Ok([first.trim().parse().map_err(|_| wrong())?, second.trim().parse().map_err(|_| wrong())?])
}

fn batch_size(text: &str) -> Result<BatchSize, String> {
    match text {
        "auto" => Ok(BatchSize::Auto),
        "data" => Ok(BatchSize::ByData),
        number => positive(number).map(BatchSize::Of).map_err(|error| format!("{error}, or auto, or data")),
    }
}

fn epochs(text: &str) -> Result<Count, String> {
    match text {
        "auto" => Ok(Count::Auto),
        number => positive(number).map(Count::Of).map_err(|error| format!("{error}, or auto")),
    }
}
