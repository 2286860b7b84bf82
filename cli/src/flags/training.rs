//! Flags of a training run. Every one is a field of [`tallow::train::TrainConfig`] under the same name; what is not given
//! keeps the default for the model's family (see [`tallow::train::defaults`]).

use std::path::PathBuf;

use clap::Args;
use serde::{Serialize, Serializer};

use super::{ArchitectureFlags, CheckpointFlags, path, positive};
use tallow::train::{TrainConfig, config};

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// A name of the zoo with an optional tag, hf-hub:OWNER/REPO[@REVISION], or a path; or svm, a support vector machine with an RBF
    /// kernel, which takes --set c=, --set gamma= and none of the settings under Training
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
    /// Go on with the run in --out where it stopped, with its own settings; a larger --epochs adds epochs to it, whose learning rate
    /// goes on as it was, or by --schedule and --lr
    #[arg(long, requires = "out", help_heading = "The run's folder")]
    pub resume: bool,
}

#[derive(Debug, Default, Args, Serialize)]
#[command(next_help_heading = "Training", allow_negative_numbers = true)]
pub struct TrainingFlags {
    /// mnist, fashion-mnist, cifar10, circles, folder:DIR, idx:DIR, cifar:DIR, parquet:PATH or hf:OWNER/NAME
    #[arg(long, required_unless_present = "resume", help_heading = "Data")]
    pub data: Option<String>,
    /// The part to train on, or several with commas between, where the data set has others than the usual ones; . is a folder of
    /// classes itself [default: train, see docs/data.md]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub train_split: Option<String>,
    /// The part to test on, such as a folder of that name; a folder val/ beside test/ is the validation part [default: test, else val,
    /// else a share of every class]
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    pub test_split: Option<String>,
    /// Use this many training samples
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Data")]
    pub limit: Option<usize>,
    /// Use this many test samples
    #[arg(long, value_name = "N", value_parser = positive, help_heading = "Data")]
    pub test_limit: Option<usize>,
    /// Set apart this share of the training samples as the validation part, which chooses the best checkpoint. A folder val/ beside
    /// test/ is that part without being asked, and no share is set apart then; without test/, val/ is what is tested on. The test
    /// part is only ever measured: it chooses nothing
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    pub val_fraction: Option<f64>,
    /// What becomes of images that cannot be read: error names them, those that results are measured on before the first epoch;
    /// skip reads every image once at the start and leaves the bad ones out, with a warning [default: error]
    #[arg(long, value_name = "WHAT", value_parser = ["error", "skip"], help_heading = "Data")]
    pub on_bad_image: Option<String>,
    /// What becomes of the orientation that a camera noted in an image's file: apply turns the image as it says, ignore reads it as its
    /// pixels lie there, as torchvision does [default: apply]
    #[arg(long, value_name = "WHAT", value_parser = ["apply", "ignore"], help_heading = "Data")]
    pub exif: Option<String>,
    /// Changes to training images, separated by commas: crop or resized-crop, flip, randaugment, jitter, rotate, blur, erase (in
    /// this order, whatever the list's); none; or auto for what suits the data set [default: auto]
    #[arg(long, value_name = "LIST", help_heading = "Data")]
    pub augment: Option<String>,
    /// Mix pairs of training images and their labels (mixup), with weights from Beta(ALPHA, ALPHA); usual are 0.2 to 1
    #[arg(long, value_name = "ALPHA", help_heading = "Data")]
    pub mixup: Option<f64>,
    /// Put a box of one training image into another, and mix their labels (CutMix); usual is 1. With --mixup, a fair coin chooses
    /// for each batch
    #[arg(long, value_name = "ALPHA", help_heading = "Data")]
    pub cutmix: Option<f64>,
    /// How pixels are normalised: as the checkpoint says (auto), or by the training set: its mean and deviation (standard), or ZCA
    /// whitening of the whole input (zca, up to 4,096 values)
    #[arg(long, value_name = "HOW", value_parser = ["auto", "standard", "zca", "none"], help_heading = "Data")]
    pub normalize: Option<String>,
    /// What ZCA whitening adds to every variance, of pixels in [0, 1]
    #[arg(long, value_name = "NUMBER", help_heading = "Data")]
    pub zca_eps: Option<f64>,
    /// The filter that resizes images [default: the checkpoint's, else bicubic]
    #[arg(long, value_name = "FILTER", value_parser = ["nearest", "bilinear", "bicubic", "lanczos"], help_heading = "Data")]
    pub interpolation: Option<String>,
    /// The share of a resized test image that the centre crop keeps [default: the checkpoint's, else 1]
    #[arg(long, value_name = "SHARE", help_heading = "Data")]
    pub crop_pct: Option<f64>,
    /// Give every epoch an order of its own: true or false
    #[arg(long, value_name = "BOOL", help_heading = "Data")]
    pub shuffle: Option<bool>,

    /// Where the weights come from: pretrained, or what MODEL may be
    #[arg(long, value_name = "SOURCE", help_heading = "Weights")]
    pub weights: Option<String>,
    /// What becomes of the checkpoint's classification head; auto keeps the rows of the classes that it knows, by name
    #[arg(long, value_parser = ["auto", "keep", "new"], help_heading = "Weights")]
    pub head: Option<String>,
    /// What is not trained: backbone, a number of blocks (with all before them), a range of blocks (blocks.0-5), names with *, or
    /// some of them, separated by commas; running statistics of batch norms still move. With backbone and --augment none, features
    /// are computed in the first epoch and kept, where they fit into 1 GiB
    #[arg(long, value_name = "WHAT", help_heading = "Weights")]
    pub freeze: Option<String>,

    /// Passes over the training samples: a number, or auto for as many as their number asks for
    #[arg(long, value_name = "N", value_parser = epochs)]
    #[serde(serialize_with = "written_epochs")]
    pub epochs: Option<usize>,
    /// Epochs between two evaluations; auto makes ten of them where the number of epochs was left open [default: auto]
    #[arg(long, value_name = "N", value_parser = epochs)]
    #[serde(serialize_with = "written_epochs")]
    pub eval_every: Option<usize>,
    /// Images in one forward and backward pass: a number; data for what the number of training samples asks for; or auto for the
    /// largest power of two up to 1024 that fits the memory of the device
    #[arg(long, value_name = "N", value_parser = batch_size)]
    #[serde(serialize_with = "written_batch_size")]
    pub batch_size: Option<usize>,
    /// Batches whose gradients make one step of the optimiser
    #[arg(long, value_name = "N", value_parser = positive)]
    pub accumulate: Option<usize>,
    /// Images in one pass of evaluation
    #[arg(long, value_name = "N", value_parser = positive)]
    pub eval_batch_size: Option<usize>,
    /// How much of the training of a perceptron (an MLP with one hidden layer of tanh) is written out by hand: all of it; all but
    /// the gradients; SGD alone; nothing. Needs plain SGD (--momentum 0) [default: optimizer]
    #[arg(long, value_parser = ["manual", "autograd", "layers", "optimizer"])]
    pub implementation: Option<String>,
    /// Steps in which a new head is trained alone, on features of the loaded backbone, before everything is trained from there
    /// (takes one pass over the images, and next to no time beside); 0 for none
    #[arg(long, value_name = "STEPS")]
    pub head_first_steps: Option<usize>,
    /// What steps along the gradients
    #[arg(long, value_parser = ["sgd", "adam", "adamw"])]
    pub optimizer: Option<String>,
    /// Peak learning rate
    #[arg(long, value_name = "RATE")]
    pub lr: Option<f64>,
    /// Momentum of SGD
    #[arg(long, value_name = "FACTOR")]
    pub momentum: Option<f64>,
    /// Nesterov's momentum for SGD
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub nesterov: Option<bool>,
    /// Weight decay; never on biases, norms, position embeddings and tokens
    #[arg(long, value_name = "RATE")]
    pub weight_decay: Option<f64>,
    /// Decay rates of Adam's two moments, such as 0.9,0.999
    #[arg(long, value_name = "B1,B2", value_parser = betas)]
    pub betas: Option<[f64; 2]>,
    /// What Adam adds to the root of the second moment
    #[arg(long, value_name = "NUMBER")]
    pub eps: Option<f64>,
    /// How the learning rate falls
    #[arg(long, value_parser = ["constant", "cosine", "exponential", "step"])]
    pub schedule: Option<String>,
    /// Steps over which the learning rate rises from 0
    #[arg(long, value_name = "N")]
    pub warmup_steps: Option<usize>,
    /// Where cosine ends
    #[arg(long, value_name = "RATE")]
    pub min_lr: Option<f64>,
    /// Factor of the exponential and step schedules
    #[arg(long, value_name = "FACTOR")]
    pub gamma: Option<f64>,
    /// Epochs between two falls of the step schedule
    #[arg(long, value_name = "N", value_parser = positive)]
    pub step_size: Option<usize>,
    /// Largest global norm of the gradients; 0 leaves them as they are
    #[arg(long, value_name = "NORM")]
    pub clip_grad: Option<f64>,
    /// Share of the target that is spread over all classes
    #[arg(long, value_name = "SHARE")]
    pub label_smoothing: Option<f64>,
    /// Factor on the learning rate from layer to layer, from the head down
    #[arg(long, value_name = "FACTOR")]
    pub layer_decay: Option<f64>,
    /// Evaluate and keep a moving average of the weights, with this decay, such as 0.999
    #[arg(long, value_name = "DECAY")]
    pub ema: Option<f64>,
    /// Compute what lies inside a ViT's blocks again in the backward pass: less memory for more time
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub grad_checkpointing: Option<bool>,
    /// Train on where a trainable parameter receives no gradient, with a warning
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_missing_gradients: Option<bool>,

    /// The run's name in reports [default: the name of its folder]
    #[arg(long, help_heading = "The run's folder")]
    pub name: Option<String>,
    /// Steps between two checkpoints inside an epoch [default: ten minutes]
    #[arg(long, value_name = "STEPS", value_parser = positive, help_heading = "The run's folder")]
    pub checkpoint_every: Option<usize>,
}

fn betas(text: &str) -> Result<[f64; 2], String> {
    let wrong = || "expected two numbers in [0, 1), such as 0.9,0.999".to_string();
    let (first, second) = text.split_once(',').ok_or_else(wrong)?;
    Ok([first.trim().parse().map_err(|_| wrong())?, second.trim().parse().map_err(|_| wrong())?])
}

fn batch_size(text: &str) -> Result<usize, String> {
    match text {
        "auto" => Ok(TrainConfig::AUTO_BATCH_SIZE),
        "data" => Ok(TrainConfig::BATCH_SIZE_BY_DATA),
        number => positive(number).map_err(|error| format!("{error}, or auto, or data")),
    }
}

fn epochs(text: &str) -> Result<usize, String> {
    match text {
        "auto" => Ok(TrainConfig::AUTO),
        number => positive(number).map_err(|error| format!("{error}, or auto")),
    }
}

fn written_batch_size<S: Serializer>(size: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
    match size {
        Some(size) => config::batch_size::serialize(size, serializer),
        None => serializer.serialize_none(),
    }
}

fn written_epochs<S: Serializer>(epochs: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
    match epochs {
        Some(epochs) => config::auto::serialize(epochs, serializer),
        None => serializer.serialize_none(),
    }
}
