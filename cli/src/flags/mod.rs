//! The command line: every command and flag, as clap reads them. What they mean is checked elsewhere.

mod architecture;
mod checkpoint;
mod global;
mod training;

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tallow_models::ImgSize;
use tallow_weights::expanded;

pub use architecture::ArchitectureFlags;
pub use checkpoint::CheckpointFlags;
pub use global::GlobalFlags;
pub use training::{KnnArgs, PretrainArgs, PretrainFlags, TrainArgs};

use tallow::data::{Exif, OnBadImage};

/// A zoo of vision models that really train: fine-tuning, training from scratch, and one report that compares them.
#[derive(Debug, Parser)]
#[command(
    name = "tallow",
    version,
    max_term_width = 110,
    allow_negative_numbers = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "MODEL is a name of the zoo with an optional tag (vit_small_patch16_224.augreg_in1k), hf-hub:OWNER/REPO[@REVISION], \
                  or a path: a folder with config.json and weights, a file with weights, or the folder of a run.\n\
                  DATA is mnist, fashion-mnist, cifar10, circles, folder:DIR (DIR/train/CLASS/* or DIR/CLASS/*), idx:DIR, \
                  cifar:DIR, parquet:PATH, or hf:OWNER/NAME.\n\n\
                  Environment:\n  \
                  HF_HOME, HF_HUB_CACHE  Where downloads are kept\n  \
                  HF_TOKEN               Your token of the hub, for models that need one\n  \
                  HF_ENDPOINT            The address of another hub\n  \
                  HF_HUB_OFFLINE=1       Download nothing, use what is in the cache\n  \
                  RAYON_NUM_THREADS      The number of threads, if --threads is not given\n  \
                  TALLOW_KERNELS         What matrix products run on, if --kernels is not given
  \
                  TALLOW_CUDA_KERNELS    On CUDA: off computes with Candle's operations alone, on without the check of each\n                         \
                  kernel against them at its first use\n\n\
                  Examples:\n  \
                  tallow run recipes/quickstart.toml\n  \
                  tallow finetune vit_small_patch14_dinov2.saliency --data folder:photos --img-size 224\n  \
                  tallow predict runs/my-run photo.jpg"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalFlags,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "a process has one of it")]
pub enum Command {
    /// List architectures and their pretrained weights
    #[command(after_help = "Examples:\n  tallow list\n  tallow list 'vit_small*dinov2*'\n  tallow list deit --json")]
    List(ListArgs),
    /// Show a model's layers, shapes and parameters, and the account of loading its weights
    #[command(after_help = "Examples:\n  tallow info vit_small_patch16_224\n  \
                            tallow info vit_small_patch14_dinov2.saliency --img-size 56 -v\n  tallow info runs/my-run")]
    #[command(mut_args(architecture::without_dropout))]
    Info(InfoArgs),
    /// Download models and data sets into the cache, verified
    #[command(after_help = "Examples:\n  tallow fetch vit_small_patch16_224.augreg_in21k_ft_in1k\n  \
                            tallow fetch hf-hub:timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k@main\n  \
                            tallow fetch openai/clip-vit-base-patch32 timm/ViT-B-16-SigLIP2\n  \
                            tallow fetch hf:ylecun/mnist")]
    Fetch(FetchArgs),
    /// Train a model from scratch, or from the checkpoint that --weights names
    #[command(mut_args(training::with_help))]
    #[command(after_help = "Examples:\n  tallow train vit_mnist --data mnist --epochs 5\n  \
                            tallow train cnn_cifar10 --data folder:photos --num-classes 2 --augment crop,flip\n  \
                            tallow train mlp_circles --data circles --implementation manual\n  \
                            tallow train svm --data mnist --limit 2000 --set c=10\n  \
                            tallow train vit_mnist --data mnist --out runs/a --resume")]
    Train(TrainArgs),
    /// Train a model from its pretrained weights, with defaults for fine-tuning
    #[command(mut_args(training::with_help))]
    #[command(after_help = "Examples:\n  \
                            tallow finetune vit_small_patch14_dinov2.saliency --data folder:photos --img-size 224\n  \
                            tallow finetune vit_small_patch14_dinov2.saliency --data mnist --img-size 56 --limit 2000\n  \
                            tallow finetune hf-hub:timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k --data folder:photos \
                            --freeze backbone\n\n\
                            Without --img-size the model reads images at its own size. That of vit_small_patch14_dinov2 is 518, whose \
                            steps take about 8 times as long as those of 224. A size is a multiple of the patches' (224 = 16 × 14)")]
    #[command(mut_arg("model", |model| model
        .help("A name of the zoo with an optional tag, hf-hub:OWNER/REPO[@REVISION], or a path")))]
    Finetune(TrainArgs),
    /// Classify by the names of classes alone, with a CLIP or SigLIP, and measure that as a run
    #[command(after_help = "Examples:\n  \
                            tallow zeroshot hf-hub:openai/clip-vit-base-patch32 --data folder:photos\n  \
                            tallow zeroshot models/siglip --data cifar10 --templates openai-7 --limit 1000\n  \
                            tallow zeroshot models/clip --data folder:photos --classes 'red fox,grey wolf' --templates 'a photo of a {}.'\n\n\
                            tallow finetune MODEL --data DATA --head zero-shot begins where this ends, and tallow compare sets the two beside \
                            each other.")]
    #[command(mut_args(architecture::without_dropout))]
    Zeroshot(ZeroshotArgs),
    /// Measure the models between a base and what was fine-tuned from it, and write the best (WiSE-FT)
    #[command(after_help = "Examples:\n  tallow interpolate runs/zeroshot runs/finetuned --alpha 0:1:0.1\n  \
                            tallow interpolate hf-hub:openai/clip-vit-base-patch32 runs/finetuned --data folder:sketches\n  \
                            tallow interpolate runs/zeroshot runs/finetuned --alpha 0.5 --out models/between")]
    Interpolate(InterpolateArgs),
    /// Train a ViT without labels, as a masked autoencoder (MAE) or by self-distillation (DINO), for tallow finetune --weights RUN
    #[command(mut_args(training::without_labels))]
    #[command(after_help = "Examples:\n  tallow pretrain vit_mnist --method mae --data mnist --out runs/mae\n  \
                            tallow pretrain vit_small_patch16_224 --method dino --data folder:photos --img-size 96\n  \
                            tallow finetune vit_mnist --weights runs/mae --data mnist --limit 200\n  \
                            tallow knn runs/dino --data mnist --limit 1000\n\n\
                            Labels are not learned: a folder of images at any depth is data. Where there are labels, what the nearest \
                            neighbours of test images come to is measured from time to time, and is the run's accuracy. docs/pretraining.md \
                            has the methods")]
    Pretrain(PretrainArgs),
    /// Classify the test part by its nearest neighbours among a frozen model's features of the training part: what these are worth
    /// before anything is trained on them
    #[command(mut_args(training::with_help))]
    #[command(mut_args(architecture::without_dropout))]
    #[command(after_help = "Examples:\n  tallow knn runs/my-run --data mnist --limit 1000\n  \
                            tallow knn vit_small_patch14_dinov2.saliency --data folder:photos --img-size 224 -k 20\n\n\
                            A name of the zoo alone (vit_small_patch16_224) stands for the untrained network; with a tag or with --weights \
                            pretrained for its weights. Neighbours are found exactly, by the cosine of their features; one of cosine s has \
                            exp(s / T) votes. The run's accuracy is that of k = 20, or else of the first k")]
    Knn(KnnArgs),
    /// Measure a run's chosen checkpoint again, on its own test set or on other data
    #[command(
        after_help = "Examples:\n  tallow eval runs/my-run\n  tallow eval runs/my-run --data folder:new-photos --json"
    )]
    Eval(EvalArgs),
    /// Predict the classes of images
    #[command(after_help = "Examples:\n  tallow predict runs/my-run photo.jpg other.png\n  \
                            tallow predict vit_small_patch16_224.augreg_in1k photo.jpg --topk 3\n  \
                            tallow predict runs/my-run photos/ --json\n  \
                            tallow predict hf-hub:openai/clip-vit-base-patch32 photo.jpg --labels 'a cat,a dog'\n  \
                            tallow predict vit_small_patch14_dinov2.saliency photo.jpg --img-size 224 --attention attention")]
    #[command(mut_args(architecture::without_dropout))]
    Predict(PredictArgs),
    /// Draw position encodings, or the filters of a model's first layer, as SVG and PNG
    #[command(after_help = "Examples:\n  tallow draw positions --len 1000 --dim 160 --out positions\n  \
                            tallow draw positions vit_small_patch14_dinov2.saliency --out positions\n  \
                            tallow draw filters runs/my-run --out filters")]
    #[command(mut_args(architecture::without_dropout))]
    Draw(DrawArgs),
    /// Write a model's features of images, with their labels, or of texts, to a safetensors file
    #[command(after_help = "Examples:\n  \
                            tallow embed vit_small_patch14_dinov2.saliency --data mnist --img-size 56 --limit 1000 --out f.safetensors\n  \
                            tallow embed vit_small_patch14_dinov2.saliency a.jpg b.jpg --img-size 224 --features tokens --out f.safetensors\n  \
                            tallow embed hf-hub:openai/clip-vit-base-patch32 --text 'a photo of a cat' --json")]
    #[command(mut_args(architecture::without_dropout))]
    Embed(EmbedArgs),
    /// Find the embedded images that are nearest to words or to an image
    #[command(after_help = "Examples:\n  \
                            tallow embed models/clip photos/ --features logits --out photos.safetensors\n  \
                            tallow search photos.safetensors --text 'a red fox in the snow' --topk 9 --sheet foxes.png\n  \
                            tallow search photos.safetensors fox.jpg --json")]
    Search(SearchArgs),
    /// Perform every run of a recipe, then compare them
    #[command(
        after_help = "Examples:\n  tallow run recipes/quickstart.toml\n  tallow run recipes/quickstart.toml --dry-run\n  \
                            tallow run recipes/quickstart.toml --with epochs=1 --with limit=500 --out runs/short\n\n\
                            A recipe has settings that runs share ([shared]), the runs ([[run]]: name, command, settings), lists\n\
                            of values to try (grid = { lr = [0.1, 0.01] } in a run, or [grid] for all) and seeds = [0, 1, 2].\n\
                            A run that has ended is not run again; one that was interrupted goes on where it stopped."
    )]
    Run(RunArgs),
    /// Compare runs in one HTML report: curves, table, significance, confusion matrices, worst mistakes
    #[command(
        after_help = "Examples:\n  tallow compare runs/a runs/b --out runs/a-and-b\n  tallow compare runs/quickstart/*/ --json"
    )]
    Compare(CompareArgs),
    /// Describe what a data set holds, and draw its images as training sees them
    #[command(after_help = "Examples:\n  tallow data mnist\n  \
                            tallow data folder:photos --img-size 224 --augment resized-crop,flip,jitter --sheet sheet.png\n  \
                            tallow data cifar10 --augment crop,flip,randaugment,erase --count 20 --sheet sheet.png")]
    Data(DataArgs),
    /// Measure images per second and peak memory of training, inference or loading, or the peak of the CPU
    #[command(after_help = "Examples:\n  tallow bench vit_small_patch16_224 --mode train --batch-size 16 --json\n  \
                            tallow bench vit_mnist --mode infer --batch-size 128 --steps 50\n  \
                            tallow bench vit_small_patch16_224 --mode load --data folder:photos\n  tallow bench --mode peak")]
    Bench(BenchArgs),
    /// Write weights for other programs
    #[command(after_help = "Examples:\n  tallow export runs/my-run --format timm --out exported\n  \
                            tallow export runs/my-run --format gguf --out model.gguf\n\n\
                            timm reads the folder: timm.create_model('local-dir:exported', pretrained=True)")]
    #[command(mut_args(architecture::without_dropout))]
    Export(ExportArgs),
    /// Say which devices, features, threads and caches there are, what would be used, and why
    #[command(after_help = "Examples:\n  tallow doctor\n  tallow doctor --json")]
    Doctor,
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  tallow completions bash > ~/.local/share/bash-completion/completions/tallow\n  \
                            tallow completions zsh > ~/.zfunc/_tallow"
    )]
    Completions(CompletionsArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Part of a name, or a pattern with * and ?
    pub pattern: Option<String>,
}

#[derive(Debug, Args)]
pub struct InfoArgs {
    /// A name of the zoo, hf-hub:OWNER/REPO[@REVISION], or a path
    pub model: String,
    #[command(flatten)]
    pub architecture: ArchitectureFlags,
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,
}

#[derive(Debug, Args)]
pub struct FetchArgs {
    /// Models (names of the zoo with a tag, OWNER/REPO[@REVISION]) and data sets (hf:OWNER/NAME)
    #[arg(required = true, value_name = "MODEL|DATA")]
    pub what: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ZeroshotArgs {
    /// A CLIP or SigLIP with both towers: hf-hub:OWNER/REPO[@REVISION], or a path
    pub model: String,
    /// A data set: mnist, folder:DIR, … (see tallow --help)
    #[arg(long)]
    pub data: String,
    #[arg(long, value_name = "NAMES", help = training::help_of("classes"))]
    pub classes: Option<String>,
    #[arg(long, value_name = "SENTENCES", help = training::help_of("templates"))]
    pub templates: Option<String>,
    #[command(flatten)]
    pub parts: PartFlags,
    /// At most this many test samples
    #[arg(long, value_name = "N", value_parser = positive)]
    pub limit: Option<usize>,
    /// Images in one forward pass
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive)]
    pub batch_size: usize,
    #[command(flatten)]
    pub bad: BadImageFlags,
    #[command(flatten)]
    pub exif: ExifFlags,
    /// The run's name in reports [default: the name of its folder]
    #[arg(long)]
    pub name: Option<String>,
    /// The folder of the run [default: runs/MODEL-DATA-N]
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub architecture: ArchitectureFlags,
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,
}

#[derive(Debug, Args)]
pub struct InterpolateArgs {
    /// Where alpha is 0: the folder of a run or model with the run's parameters, or the CLIP or SigLIP that its zero-shot head was made by
    pub base: String,
    /// Where alpha is 1: the folder of a run
    #[arg(value_parser = path())]
    pub run: PathBuf,
    /// Values from 0 to 1: FROM:TO:STEP, or some, separated by commas
    #[arg(long, value_name = "VALUES", default_value = "0:1:0.1", value_parser = Alphas::parse)]
    pub alpha: Alphas,
    /// Other data with the same classes to measure on as well; if it has no test part, all of it
    #[arg(long)]
    pub data: Option<String>,
    /// The folder to write: the chosen model, the accuracies, and their picture [default: interpolated in the run's folder]
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub out: Option<PathBuf>,
}

/// Values between 0 and 1.
#[derive(Debug, Clone)]
pub struct Alphas(pub Vec<f64>);

impl Alphas {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected FROM:TO:STEP such as 0:1:0.1, or numbers from 0 to 1 such as 0,0.5,1".to_string();
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|value| (0. ..=1.).contains(value));
        let parts: Vec<&str> = text.split(':').collect();
        let values = match parts.as_slice() {
            [list] => list.split(',').map(number).collect::<Option<Vec<_>>>(),
            [from, to, step] => match (number(from), number(to), number(step)) {
                (Some(from), Some(to), Some(step)) if step >= 1e-3 && from <= to => {
                    let count = ((to - from) / step + 1e-9).floor() as usize;
                    // Sums of steps would miss the round values.
                    let value = |at: usize| ((from + at as f64 * step) * 1e9).round() / 1e9;
                    Some((0..=count).map(value).collect())
                }
                _ => None,
            },
            _ => None,
        };
        values.filter(|values| !values.is_empty()).map(Self).ok_or_else(wrong)
    }
}

#[derive(Debug, Args)]
pub struct SearchArgs {
    /// A file that tallow embed wrote
    #[arg(value_parser = path())]
    pub embeddings: PathBuf,
    /// An image to search by, in place of words
    #[arg(value_parser = path(), required_unless_present = "text", conflicts_with = "text")]
    pub image: Option<PathBuf>,
    /// Words to search by, if the embeddings are of a CLIP or SigLIP with both towers
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// The model that the embeddings are by [default: the one that they name]
    #[arg(long)]
    pub model: Option<String>,
    /// How many images to find
    #[arg(long, value_name = "K", default_value_t = 9, value_parser = positive)]
    pub topk: usize,
    /// A PNG to draw of the images that were found
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub sheet: Option<PathBuf>,
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub bad: BadImageFlags,
    #[command(flatten)]
    pub exif: ExifFlags,
    /// The folder of a run
    #[arg(value_parser = path())]
    pub run: PathBuf,
    /// Data to measure on instead of the run's own, with the same classes
    #[arg(long)]
    pub data: Option<String>,
    /// The part to measure on; if other data has no test part, all of it is measured
    #[arg(long, value_enum, default_value_t = Split::Test)]
    pub split: Split,
    #[command(flatten)]
    pub parts: PartFlags,
    /// At most this many samples
    #[arg(long, value_name = "N", value_parser = positive)]
    pub limit: Option<usize>,
    /// Images in one forward pass
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch_size: Option<usize>,
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The folder of a run, a name of the zoo with a tag, hf-hub:OWNER/REPO[@REVISION], or a path
    #[arg(value_name = "RUN|MODEL")]
    pub model: String,
    /// Images, or folders of images
    #[arg(required = true, value_name = "IMAGE", value_parser = path())]
    pub images: Vec<PathBuf>,
    /// Classes in words, separated by commas or in the lines of a file, for a CLIP or SigLIP with both towers: 'a cat,a dog'
    #[arg(long, value_name = "TEXTS", conflicts_with = "attention")]
    pub labels: Option<String>,
    /// The sentences that --labels are put into: openai-80, openai-7, simple, a sentence with {} in it, or a file of sentences
    /// [default: {}, the words alone]
    #[arg(long, value_name = "SENTENCES", requires = "labels")]
    pub templates: Option<String>,
    /// How many of the most probable classes to show
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = positive)]
    pub topk: usize,
    /// Images in one forward pass
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    pub batch_size: usize,
    #[command(flatten)]
    pub bad: BadImageFlags,
    #[command(flatten)]
    pub exif: ExifFlags,
    /// A folder for pictures, one for each image: what a ViT's class token attends to in the last block, and the rollout over
    /// all blocks
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub attention: Option<PathBuf>,
    #[command(flatten)]
    pub architecture: ArchitectureFlags,
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,
}

#[derive(Debug, Args)]
pub struct DrawArgs {
    #[command(subcommand)]
    pub what: Drawing,
}

/// What `draw` draws.
#[derive(Debug, Subcommand)]
pub enum Drawing {
    /// Draw the sinusoidal position encodings of a sequence as a heat map, or how similar a ViT's position embeddings are
    #[command(after_help = "Examples:\n  tallow draw positions --len 100 --dim 16 --out positions\n  \
                            tallow draw positions vit_small_patch14_dinov2.saliency --out positions\n  \
                            tallow draw positions runs/my-run --out positions")]
    #[command(mut_args(architecture::without_dropout))]
    Positions(PositionsArgs),
    /// Draw the filters of a model's first layer: a CNN's first convolution, or a ViT's patch embedding
    #[command(after_help = "Examples:\n  tallow draw filters vit_small_patch14_dinov2.saliency --out filters\n  \
                            tallow draw filters runs/my-run --out filters\n\n\
                            Up to 64 filters are all drawn; if there are more, their first 28 principal components are.")]
    #[command(mut_args(architecture::without_dropout))]
    Filters(FiltersArgs),
}

#[derive(Debug, Args)]
pub struct PositionsArgs {
    /// A ViT: the folder of a run, a name of the zoo with a tag, hf-hub:OWNER/REPO[@REVISION], or a path. Its positions are
    /// drawn by their cosine similarity with each other
    #[arg(value_name = "RUN|MODEL")]
    pub model: Option<String>,
    /// Positions in the sequence, if no model is given
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = drawable, conflicts_with = "model")]
    pub len: usize,
    /// Width of the encodings, if no model is given
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = drawable, conflicts_with = "model")]
    pub dim: usize,
    /// The picture, without an ending: .svg and .png are appended
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub out: PathBuf,
    #[command(flatten)]
    pub architecture: ArchitectureFlags,
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,
}

#[derive(Debug, Args)]
pub struct FiltersArgs {
    /// The folder of a run, a name of the zoo with a tag, hf-hub:OWNER/REPO[@REVISION], or a path
    #[arg(value_name = "RUN|MODEL")]
    pub model: String,
    /// The picture, without an ending: .svg and .png are appended
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub out: PathBuf,
    #[command(flatten)]
    pub architecture: ArchitectureFlags,
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,
}

#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// The folder of a run, a name of the zoo with a tag, hf-hub:OWNER/REPO[@REVISION], or a path
    #[arg(value_name = "RUN|MODEL")]
    pub model: String,
    /// Images, or folders of images, if neither --data nor --text is given
    #[arg(value_name = "IMAGE", required_unless_present_any = ["data", "text"], conflicts_with = "data", value_parser = path())]
    pub images: Vec<PathBuf>,
    /// A data set: mnist, folder:DIR, … (see tallow --help)
    #[arg(long)]
    pub data: Option<String>,
    /// A text in place of images, for a CLIP or SigLIP with both towers; can be given several times
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["images", "data"])]
    pub text: Vec<String>,
    /// The file to write: tensors `features` and `labels`; with --text it can be left out, and --json prints the vectors
    #[arg(long, value_name = "FILE", value_parser = path(), required_unless_present = "text")]
    pub out: Option<PathBuf>,
    /// What to write for every image
    #[arg(long, value_enum, default_value_t = Features::Pooled, conflicts_with = "text")]
    pub features: Features,
    /// The part of the data set; if it has no test part, all of it is taken
    #[arg(long, value_enum, default_value_t = Split::Test, requires = "data")]
    pub split: Split,
    #[command(flatten)]
    pub parts: PartFlags,
    /// At most this many images
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "text")]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub bad: BadImageFlags,
    #[command(flatten)]
    pub exif: ExifFlags,
    /// Images in one forward pass
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive, conflicts_with = "text")]
    pub batch_size: usize,
    #[command(flatten)]
    pub architecture: ArchitectureFlags,
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The recipe, a TOML file
    #[arg(value_parser = path())]
    pub recipe: PathBuf,
    /// Where the runs and their comparison go [default: the recipe's `out`, else runs/<name of the recipe>]
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub out: Option<PathBuf>,
    /// Another value for a setting of all runs, in place of the recipe's and of each run's own, or another list of values for a
    /// grid. Keys are those of the recipe: epochs=5, limit=10000, seeds=0,1,2, embed_dim=32. It can be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub with: Vec<String>,
    /// Print the runs as commands and about how long they would take, without running any
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Folders of runs
    #[arg(required = true, value_name = "RUN", value_parser = path())]
    pub runs: Vec<PathBuf>,
    /// Where report.html and its curves go [default: comparison, beside the first run]
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DataArgs {
    /// mnist, fashion-mnist, cifar10, circles, folder:DIR, idx:DIR, cifar:DIR, parquet:PATH or hf:OWNER/NAME
    #[arg(value_name = "DATA")]
    pub data: String,
    #[command(flatten)]
    pub parts: PartFlags,
    /// Look at this many training samples
    #[arg(long, value_name = "N", value_parser = positive)]
    pub limit: Option<usize>,
    #[command(flatten)]
    pub bad: BadImageFlags,
    #[command(flatten)]
    pub exif: ExifFlags,
    /// A PNG to draw: the first images of every class as the test sees them, then as the first epochs of training do
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub sheet: Option<PathBuf>,
    /// Images on the sheet
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = positive, requires = "sheet")]
    pub count: usize,
    /// Changes to training images, as in tallow train: crop, resized-crop, flip, randaugment, jitter, rotate, blur, erase; none; or
    /// auto for what suits the data set [default: auto]
    #[arg(long, value_name = "LIST")]
    pub augment: Option<String>,
    /// Height and width of the model's input in pixels: one number for a square, or HEIGHTxWIDTH such as 224x160 [default: the
    /// images' own size where they have one in common, else 224]
    #[arg(long, value_name = "PIXELS")]
    pub img_size: Option<ImgSize>,
    /// How pixels are normalised; the sheet shows images before normalisation, with erased pixels as 0 after it. With zca it shows
    /// whitened inputs, with 0 as grey, and the statistics of the whitened training images are measured
    #[arg(long, value_name = "HOW", default_value = "standard", value_parser = ["standard", "zca", "none"])]
    pub normalize: String,
    #[arg(long, value_name = "NUMBER", help = training::help_of("zca_eps"))]
    pub zca_eps: Option<f64>,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A name of the zoo, or a path; --mode peak needs none
    pub model: Option<String>,
    /// What is measured
    #[arg(long, value_enum, default_value_t = BenchMode::Train)]
    pub mode: BenchMode,
    /// Measure a step of this pre-training, by turns with one of training with labels
    #[arg(long, value_parser = ["mae"])]
    pub method: Option<String>,
    #[arg(long, value_name = "SHARE", requires = "method", help = training::help_of("mask_ratio"))]
    pub mask_ratio: Option<f64>,
    #[arg(long, value_name = "N", requires = "method", value_parser = positive, help = training::help_of("decoder_dim"))]
    pub decoder_dim: Option<usize>,
    #[arg(long, value_name = "N", requires = "method", value_parser = positive, help = training::help_of("decoder_depth"))]
    pub decoder_depth: Option<usize>,
    /// The data set that --mode load reads: mnist, folder:DIR, … (see tallow --help); train and infer compute on noise
    #[arg(long, required_if_eq("mode", "load"))]
    pub data: Option<String>,
    #[command(flatten)]
    pub exif: ExifFlags,
    /// Images in a step [default: 16]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batch_size: Option<usize>,
    /// Steps that are measured, after three steps to warm up [default: 10]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub steps: Option<usize>,
    /// After warming up, take a turn for each line of standard input, which is a number of steps: the answer is a line with images
    /// per second, and at the end of the input one with the peak memory
    #[arg(long, conflicts_with = "steps")]
    pub turns: bool,
    #[arg(long, help = training::help_of("grad_checkpointing"))]
    pub grad_checkpointing: bool,
    #[command(flatten)]
    pub architecture: ArchitectureFlags,
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,
}

impl BenchArgs {
    /// Images in a step.
    pub fn batch_size(&self) -> usize {
        self.batch_size.unwrap_or(16)
    }

    /// Steps that are measured.
    pub fn steps(&self) -> usize {
        self.steps.unwrap_or(10)
    }
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The folder of a run, a name of the zoo with a tag, hf-hub:OWNER/REPO[@REVISION], or a path
    #[arg(value_name = "RUN|MODEL")]
    pub model: String,
    /// timm: a folder with model.safetensors and config.json; gguf: one file
    #[arg(long, value_enum, default_value_t = ExportFormat::Timm)]
    pub format: ExportFormat,
    /// The folder or file to write
    #[arg(long, value_name = "PATH", value_parser = path())]
    pub out: PathBuf,
    /// How GGUF stores matrices [default: q8_0]
    #[arg(long, value_enum)]
    pub quantisation: Option<Quantisation>,
    /// The student of a DINO run, in place of its teacher
    #[arg(long)]
    pub student: bool,
    /// Write timm's layout even if timm cannot express the model, so that only Tallow can read it
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub architecture: ArchitectureFlags,
    #[command(flatten)]
    pub checkpoint: CheckpointFlags,
}

/// What becomes of images that cannot be read, for commands that train nothing.
#[derive(Debug, Args)]
pub struct BadImageFlags {
    /// What happens to images that cannot be read: error names them all, and the exit status is 1; skip leaves them out, with notes
    /// [default: error, and in eval what the run was trained with]
    #[arg(long, value_name = "WHAT", value_parser = one_of::<OnBadImage>(&["error", "skip"]))]
    pub on_bad_image: Option<OnBadImage>,
}

/// What becomes of the orientation that cameras noted, for commands that train nothing.
#[derive(Debug, Args)]
pub struct ExifFlags {
    /// What happens to the orientation that a camera noted in an image's file: apply turns the image accordingly, ignore reads the pixels
    /// as they lie in the file, as torchvision does [default: if the model is a run, what it was trained with, otherwise apply]
    #[arg(long, value_name = "WHAT", value_parser = one_of::<Exif>(&["apply", "ignore"]))]
    pub exif: Option<Exif>,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Which parts of a data set are for training and for testing.
#[derive(Debug, Default, Args)]
pub struct PartFlags {
    /// The part for training, or several, separated by commas [default: train, see docs/data.md]
    #[arg(long, value_name = "NAME")]
    pub train_split: Option<String>,
    /// The part for testing, such as the name of a folder [default: test, or else val]
    #[arg(long, value_name = "NAME")]
    pub test_split: Option<String>,
}

/// A part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Split {
    Train,
    Test,
}

/// What `embed` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Features {
    /// What the head gives: [images, classes]
    Logits,
    /// What the head reads: [images, features]
    Pooled,
    /// All tokens after the final norm: [images, tokens, dim]
    Tokens,
}

/// What `bench` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchMode {
    /// Forward, loss, backward and optimiser
    Train,
    /// A forward pass
    Infer,
    /// Decoding and transforming images of --data for the model, which is not run
    Load,
    /// Multiply-adds on numbers in registers, with every instruction set of the CPU: the speed that no model can exceed
    Peak,
}

/// Formats that `export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    Timm,
    Gguf,
}

/// How GGUF stores matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Quantisation {
    #[value(name = "q8_0")]
    Q8_0,
    F16,
    F32,
}

/// A path, in which `~` is the home folder.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(expanded)
}

/// One of `names`, as the value that it is the name of.
fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = tallow::data::Error> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| name.parse::<T>())
}

/// A side of a heat map.
fn drawable(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=4096) => Ok(number),
        _ => Err("expected a whole number from 1 to 4096".into()),
    }
}

/// A whole number above 0.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected a number above 0".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("expected a whole number above 0".into()),
    }
}
