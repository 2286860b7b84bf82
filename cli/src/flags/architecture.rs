//! Flags that override what a model's name or config says of its architecture.

use clap::Args;
use tallow_models::ImgSize;

#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Architecture")]
pub struct ArchitectureFlags {
    /// Height and width of the input image in pixels: one number for a square, or HEIGHTxWIDTH such as 224x160 (timm's
    /// img_size=(224, 160)); position embeddings are resampled
    #[arg(long, value_name = "PIXELS")]
    pub img_size: Option<ImgSize>,
    /// Height and width of a patch in pixels; the patch embedding is resized
    #[arg(long, value_name = "PIXELS")]
    pub patch_size: Option<usize>,
    /// Channels of the input image: 1 (grey), 3 (RGB) or 4 (RGB and alpha)
    #[arg(long, value_name = "N")]
    pub in_chans: Option<usize>,
    /// Classes of the head [default: those of the data set, if there is one]
    #[arg(long, value_name = "N")]
    pub num_classes: Option<usize>,
    /// How tokens become one vector: token, avg, max, avgmax, map or token+avg
    #[arg(long, value_name = "POOL")]
    pub global_pool: Option<String>,
    /// Stochastic depth: the probability of skipping a branch of the last block; it rises from 0 at the first block
    #[arg(long, value_name = "RATE")]
    pub drop_path_rate: Option<f64>,
    /// Dropout before the head
    #[arg(long, value_name = "RATE")]
    pub drop_rate: Option<f64>,
    /// Dropout after the position embeddings
    #[arg(long, value_name = "RATE")]
    pub pos_drop_rate: Option<f64>,
    /// Dropout after the projections of attention and MLP
    #[arg(long, value_name = "RATE")]
    pub proj_drop_rate: Option<f64>,
    /// Dropout on the attention weights
    #[arg(long, value_name = "RATE")]
    pub attn_drop_rate: Option<f64>,
    /// Shifted patch tokenisation, for small data sets: each patch is read together with those of the image's four diagonal shifts by
    /// half a patch
    #[arg(long)]
    pub spt: bool,
    /// Locality self-attention, for small data sets: the scale of attention scores is learned, and no token attends to itself
    #[arg(long)]
    pub lsa: bool,
    /// Any other option of the architecture, such as --set embed_dim=64; can be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
}

/// Dropout does nothing where nothing is trained: the help of such a command does not list it.
pub fn without_dropout(arg: clap::Arg) -> clap::Arg {
    const TRAINING: [&str; 5] = ["drop_path_rate", "drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate"];
    let hidden = TRAINING.contains(&arg.get_id().as_str());
    if hidden { arg.hide(true) } else { arg }
}

impl ArchitectureFlags {
    /// For images of a size that was written down.
    pub fn sized(img_size: Option<&String>) -> Self {
        Self { img_size: img_size.and_then(|size| size.parse().ok()), ..Self::default() }
    }

    /// What is overridden, by timm's names. `--set` comes last and so wins.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let named = [
            ("img_size", self.img_size.map(|v| v.to_string())),
            ("patch_size", self.patch_size.map(|v| v.to_string())),
            ("in_chans", self.in_chans.map(|v| v.to_string())),
            ("num_classes", self.num_classes.map(|v| v.to_string())),
            ("global_pool", self.global_pool.clone()),
            ("drop_path_rate", self.drop_path_rate.map(|v| v.to_string())),
            ("drop_rate", self.drop_rate.map(|v| v.to_string())),
            ("pos_drop_rate", self.pos_drop_rate.map(|v| v.to_string())),
            ("proj_drop_rate", self.proj_drop_rate.map(|v| v.to_string())),
            ("attn_drop_rate", self.attn_drop_rate.map(|v| v.to_string())),
            ("spt", self.spt.then(|| "true".into())),
            ("lsa", self.lsa.then(|| "true".into())),
        ];
        let named = named.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?)));
        named.chain(self.set.iter().cloned()).collect()
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("expected KEY=VALUE, such as embed_dim=64".into()),
    }
}
