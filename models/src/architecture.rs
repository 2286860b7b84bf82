//! Any model of the zoo as plain data ([`Architecture`]) and as a module ([`AnyModel`]), and what all models share.

use std::fmt::Display;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Cnn, CnnConfig, Error, ImgSize, Mlp, MlpConfig, ParamSpec, Params, Vit, VitConfig};

/// Whether a forward pass is for training (dropout, stochastic depth, batch statistics) or for evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Nothing is random; batch norm uses its running statistics.
    #[default]
    Eval,
    /// Training. All masks of this pass are drawn from `seed` and the place of the layer in the model, so that the same
    /// seed gives the same pass: use another one for every step.
    Train {
        /// The seed of this step.
        seed: u64,
    },
}

impl Mode {
    /// Whether this is a training pass.
    pub fn is_train(self) -> bool {
        matches!(self, Mode::Train { .. })
    }
}

/// What every model of the zoo does.
pub trait Model: Send + Sync {
    /// Logits `[batch, num_classes]` of images `[batch, channels, height, width]`; where `num_classes` is 0, what
    /// [`Model::pooled`] gives.
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor>;

    /// What the classification head reads: `[batch, num_features]` (timm's pre-logits).
    fn pooled(&self, images: &Tensor, mode: Mode) -> Result<Tensor>;
}

/// A model as plain data: everything that is needed to build it, and nothing about weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum Architecture {
    /// A vision transformer.
    Vit(VitConfig),
    /// A convolutional network.
    Cnn(CnnConfig),
    /// A multi-layer perceptron.
    Mlp(MlpConfig),
}

/// A built model of any family.
#[derive(Debug, Clone)]
pub enum AnyModel {
    /// A vision transformer.
    Vit(Box<Vit>),
    /// A convolutional network.
    Cnn(Cnn),
    /// A multi-layer perceptron.
    Mlp(Mlp),
}

/// The part of a model that a parameter belongs to, from the input to the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// What turns an image into the first features: patch embedding, tokens, positions.
    Stem,
    /// One block, counted from 0: a transformer block, a convolution with its norm, a hidden linear layer.
    Block(usize),
    /// Between the last block and the head: final norm, attention pool.
    Neck,
    /// The classifier.
    Head,
}

impl Architecture {
    /// Builds the model over a builder, as Candle's own constructors do.
    ///
    /// # Errors
    /// If the configuration makes no sense ([`crate::Error::Config`]), or a parameter of the builder has another shape.
    pub fn build(&self, vb: VarBuilder) -> Result<AnyModel> {
        Ok(match self {
            Self::Vit(config) => AnyModel::Vit(Box::new(Vit::new(config, vb)?)),
            Self::Cnn(config) => AnyModel::Cnn(Cnn::new(config, vb)?),
            Self::Mlp(config) => AnyModel::Mlp(Mlp::new(config, vb)?),
        })
    }

    /// Checks that the configuration makes sense and that the model is of a size that can be built. Building does it too.
    ///
    /// # Errors
    /// [`crate::Error::Config`] with the field, what it can be, and what it is.
    pub fn validate(&self) -> crate::Result<()> {
        match self {
            Self::Vit(config) => config.validate(),
            Self::Cnn(config) => config.validate(),
            Self::Mlp(config) => config.validate(),
        }
    }

    /// Names and shapes of all parameters and buffers, in order, without allocating them.
    ///
    /// # Errors
    /// If the configuration makes no sense.
    pub fn parameters(&self) -> crate::Result<Vec<ParamSpec>> {
        self.validate()?;
        Params::declared_by(|vb| self.build(vb))
    }

    /// The number of values in all parameters, buffers not counted.
    ///
    /// # Errors
    /// If the configuration makes no sense.
    pub fn num_parameters(&self) -> crate::Result<usize> {
        Ok(self.parameters()?.iter().filter(|spec| !spec.is_buffer()).map(ParamSpec::elem_count).sum())
    }

    /// The shape of one input image, `[channels, height, width]`.
    pub fn input_size(&self) -> [usize; 3] {
        match self {
            Self::Vit(c) => c.input_size(),
            Self::Cnn(c) => c.input_size(),
            Self::Mlp(c) => c.input_size(),
        }
    }

    /// The number of classes; 0 where the model has no head.
    pub fn num_classes(&self) -> usize {
        match self {
            Self::Vit(c) => c.num_classes,
            Self::Cnn(c) => c.num_classes,
            Self::Mlp(c) => c.num_classes,
        }
    }

    /// The width of what the head reads.
    pub fn num_features(&self) -> usize {
        match self {
            Self::Vit(c) => c.num_features(),
            Self::Cnn(c) => c.num_features(),
            Self::Mlp(c) => c.num_features(),
        }
    }

    /// The same architecture with another number of classes; 0 leaves out the head.
    #[must_use]
    pub fn with_num_classes(mut self, num_classes: usize) -> Self {
        match &mut self {
            Self::Vit(c) => c.num_classes = num_classes,
            Self::Cnn(c) => c.num_classes = num_classes,
            Self::Mlp(c) => c.num_classes = num_classes,
        }
        self
    }

    /// The same architecture for images of another height and width in pixels; one number means a square.
    #[must_use]
    pub fn with_img_size(mut self, img_size: impl Into<ImgSize>) -> Self {
        let img_size = img_size.into();
        match &mut self {
            Self::Vit(c) => c.img_size = img_size,
            Self::Cnn(c) => c.img_size = img_size,
            Self::Mlp(c) => c.img_size = img_size,
        }
        self
    }

    /// The same architecture for images with another number of channels.
    #[must_use]
    pub fn with_in_chans(mut self, in_chans: usize) -> Self {
        match &mut self {
            Self::Vit(c) => c.in_chans = in_chans,
            Self::Cnn(c) => c.in_chans = in_chans,
            Self::Mlp(c) => c.in_chans = in_chans,
        }
        self
    }

    /// Sets the option `key`, a field of the configuration, from text: `set("embed_dim", "64")`, `set("global_pool", "avg")`,
    /// `set("init_values", "none")`, `set("hidden", "128,64")`, `set("img_size", "224x160")` (height and width).
    ///
    /// It does not ask whether the whole still makes sense, as the next option may change that: see
    /// [`Architecture::validate`].
    ///
    /// # Errors
    /// [`Error::UnknownOption`] lists the keys; [`Error::Config`] if the value is of another type.
    pub fn set(&mut self, key: &str, value: &str) -> crate::Result<()> {
        match self {
            Self::Vit(c) => set(c, key, value),
            Self::Cnn(c) => set(c, key, value),
            Self::Mlp(c) => set(c, key, value),
        }
    }

    /// The part of the model that the parameter called `name` belongs to.
    pub fn stage_of(&self, name: &str) -> Stage {
        let first = name.split('.').next().unwrap_or(name);
        let number = |text: &str| text.parse::<usize>().ok();
        match self {
            Self::Vit(_) => match first {
                "blocks" => name.split('.').nth(1).and_then(number).map_or(Stage::Neck, Stage::Block),
                "norm" | "fc_norm" | "attn_pool" => Stage::Neck,
                "head" | "head_dist" => Stage::Head,
                _ => Stage::Stem,
            },
            Self::Cnn(_) | Self::Mlp(_) => match number(first.trim_start_matches(|c: char| c.is_ascii_alphabetic())) {
                Some(n) if n > self.num_blocks() => Stage::Head,
                Some(n) => Stage::Block(n.saturating_sub(1)),
                None => Stage::Stem,
            },
        }
    }

    /// The number of blocks: transformer blocks, or the layers before the head.
    pub fn num_blocks(&self) -> usize {
        match self {
            Self::Vit(c) => c.depth,
            // Three convolutions and fc4.
            Self::Cnn(_) => crate::cnn::FILTERS.len() + 1,
            Self::Mlp(c) => c.hidden.len(),
        }
    }

    /// The layer of a parameter for layer-wise decay of the learning rate, whose scale is
    /// `decay^(num_layers - 1 - layer_id)`: for a ViT, as timm has it, 0 for the stem, `i + 1` for block `i`, the final norm
    /// with the last block, and what comes after it last.
    pub fn layer_id(&self, name: &str) -> usize {
        let vit = usize::from(matches!(self, Self::Vit(_)));
        match self.stage_of(name) {
            Stage::Stem => 0,
            Stage::Block(i) => i + vit,
            Stage::Neck if name.starts_with("norm.") => self.num_blocks(),
            Stage::Neck | Stage::Head => self.num_layers() - 1,
        }
    }

    /// The number of layers that [`Architecture::layer_id`] tells apart.
    pub fn num_layers(&self) -> usize {
        self.num_blocks() + if matches!(self, Self::Vit(_)) { 2 } else { 1 }
    }

    /// Floating-point operations of a forward pass for one image: two for every multiply-add of a linear layer, a convolution
    /// or an attention, nothing else counted, as PyTorch's `FlopCounterMode` does. The multiply-adds (MACs) that papers and
    /// timm's tables call FLOPs are half of it. A training step takes about three times as many.
    pub fn flops(&self) -> u64 {
        2 * match self {
            Self::Vit(c) => vit_multiply_adds(c),
            Self::Cnn(c) => cnn_multiply_adds(c),
            Self::Mlp(c) => c.layer_dims().iter().map(|&(input, output)| input as u64 * output as u64).sum(),
        }
    }
}

fn vit_multiply_adds(c: &VitConfig) -> u64 {
    let [patches, tokens, dim, hidden] = [c.num_patches(), c.num_tokens(), c.embed_dim, c.mlp_dim()].map(|n| n as u64);
    let patch_embed = patches * dim * (c.patch_chans() * c.patch_size * c.patch_size) as u64;
    let block = tokens * dim * (4 * dim + 2 * hidden) + 2 * tokens * tokens * dim;
    let pool = match c.global_pool {
        crate::vit::GlobalPool::Map => {
            let keys = if c.pool_include_prefix { tokens } else { patches };
            // Queries and projection of one latent, keys and values of all, attention, MLP.
            2 * dim * dim + keys * 2 * dim * dim + 2 * keys * dim + 2 * dim * hidden
        }
        _ => 0,
    };
    let rows = if c.global_pool == crate::vit::GlobalPool::None { tokens } else { 1 + u64::from(c.distilled) };
    patch_embed + c.depth as u64 * block + pool + rows * (c.num_features() * c.num_classes) as u64
}

fn cnn_multiply_adds(c: &CnnConfig) -> u64 {
    let inputs = [c.in_chans, crate::cnn::FILTERS[0], crate::cnn::FILTERS[1]];
    let convolutions: usize = (0..3)
        .map(|i| {
            c.map_sizes()[i].iter().product::<usize>() * inputs[i] * crate::cnn::FILTERS[i] * crate::cnn::KERNEL.pow(2)
        })
        .sum();
    (convolutions + c.num_features() * (c.flattened() + c.num_classes)) as u64
}

/// Sets one field of a configuration through its serialised form.
fn set<C: Serialize + DeserializeOwned>(config: &mut C, key: &str, text: &str) -> crate::Result<()> {
    let Ok(Value::Object(fields)) = serde_json::to_value(&*config) else {
        return Err(config_error(key, "a configuration of plain fields", "another"));
    };
    if !fields.contains_key(key) {
        let known: Vec<String> = fields.keys().cloned().collect();
        let nearest = crate::zoo::nearest(key, known.iter().map(String::as_str));
        return Err(Error::UnknownOption { key: key.into(), nearest, known });
    }
    // What the text can mean: a number, a boolean or a list; nothing; a name; a list without brackets.
    let readings = [
        serde_json::from_str(text).ok(),
        (text == "none").then_some(Value::Null),
        Some(Value::String(text.into())),
        serde_json::from_str(&format!("[{text}]")).ok(),
    ];
    let mut complaint = None;
    for reading in readings.into_iter().flatten() {
        let mut fields = fields.clone();
        fields.insert(key.into(), reading);
        match serde_json::from_value(Value::Object(fields)) {
            Ok(changed) => {
                *config = changed;
                return Ok(());
            }
            Err(error) => complaint = complaint.or(Some(error)),
        }
    }
    Err(config_error(key, complaint.map_or_else(String::new, |error| expectation(&error.to_string())), text))
}

/// What serde expected, without Rust's names of types: "invalid type: string "x", expected usize" says "a whole number".
fn expectation(complaint: &str) -> String {
    match complaint.split_once("expected ").map_or(complaint, |(_, expected)| expected) {
        "usize" => "a whole number".into(),
        "f64" => "a number".into(),
        expected => expected.into(),
    }
}

/// No model is larger than this, by far; more is a slip of the keyboard or a hostile file.
const MAX_PARAMETERS: u64 = 10_000_000_000;

pub(crate) fn check_parameters(count: u64) -> crate::Result<()> {
    check(count <= MAX_PARAMETERS, "model", || format!("at most {MAX_PARAMETERS} parameters"), count)
}

/// Checks a width or a count: at least 1, and bounded, so that sizes can be multiplied without overflow.
pub(crate) fn check_size(field: &str, got: usize, max: usize) -> crate::Result<()> {
    check((1..=max).contains(&got), field, || format!("1 to {max}"), got)
}

pub(crate) fn check_rate(field: &str, got: f64) -> crate::Result<()> {
    check((0. ..1.).contains(&got), field, || "a rate from 0 to below 1".into(), got)
}

pub(crate) fn check(
    holds: bool,
    field: &str,
    expected: impl FnOnce() -> String,
    got: impl Display,
) -> crate::Result<()> {
    if holds { Ok(()) } else { Err(config_error(field, expected(), got)) }
}

fn config_error(field: &str, expected: impl Into<String>, got: impl Display) -> Error {
    Error::Config { field: field.into(), expected: expected.into(), got: got.to_string() }
}

/// Checks that a batch `[batch, channels, height, width]` is not empty and fits the model.
pub(crate) fn check_images(images: &Tensor, expected: [usize; 3]) -> Result<()> {
    match images.dims() {
        [batch, image @ ..] if *batch > 0 && image == expected => Ok(()),
        got => Err(candle_core::Error::wrap(Error::Images { expected, got: got.into() })),
    }
}

impl AnyModel {
    /// Gradient checkpointing, which ViTs have ([`Vit::set_grad_checkpointing`]); it changes nothing in other models.
    pub fn set_grad_checkpointing(&mut self, on: bool) {
        if let Self::Vit(vit) = self {
            vit.set_grad_checkpointing(on);
        }
    }

    /// Keeps the layout of weights between forward passes of a model that only predicts, which ViTs do
    /// ([`Vit::set_prepacking`]); it changes nothing in other models.
    pub fn set_prepacking(&mut self, on: bool) {
        if let Self::Vit(vit) = self {
            vit.set_prepacking(on);
        }
    }

    /// What the head reads, `[batch, num_features]`, to logits `[batch, num_classes]`: with features that were computed once,
    /// the head alone can be trained.
    ///
    /// # Errors
    /// If the model is a distilled ViT, whose two heads read two tokens.
    pub fn head(&self, pooled: &Tensor) -> Result<Tensor> {
        match self {
            Self::Vit(m) => m.head(pooled),
            Self::Cnn(m) => m.head(pooled),
            Self::Mlp(m) => m.head(pooled),
        }
    }
}

impl Model for AnyModel {
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        match self {
            Self::Vit(m) => m.forward(images, mode),
            Self::Cnn(m) => m.forward(images, mode),
            Self::Mlp(m) => m.forward(images, mode),
        }
    }

    fn pooled(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        match self {
            Self::Vit(m) => m.pooled(images, mode),
            Self::Cnn(m) => m.pooled(images, mode),
            Self::Mlp(m) => m.pooled(images, mode),
        }
    }
}
