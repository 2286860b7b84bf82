//! The text tower with its tokenizer, ready to be used.

use std::fmt;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::Module;
use tallow_models::Params;
use tallow_models::text::{TextConfig, TextTower};
use tallow_weights::text::TextCheckpoint;
use tallow_weights::{OpenOptions, Source};

use super::tokenizer::{Tokenizer, Tokens};
use crate::inference::{Error, Result};

/// Texts of one forward pass, unless [`TextEncoderBuilder::batch_size`] says otherwise.
const BATCH_SIZE: usize = 64;

/// A text tower that turns texts into vectors. Cloning it gives another handle on the same one, and several threads may use it at once.
#[derive(Clone)]
pub struct TextEncoder(Arc<Inner>);

struct Inner {
    name: String,
    tower: TextTower,
    tokenizer: Tokenizer,
    logit_scale: f64,
    logit_bias: Option<f64>,
    notes: Vec<String>,
    unprojected: Option<String>,
    device: Device,
    batch_size: usize,
}

impl fmt::Debug for TextEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextEncoder")
            .field("name", &self.0.name)
            .field("config", self.0.tower.config())
            .finish_non_exhaustive()
    }
}

/// How a text tower is opened.
#[derive(Debug, Clone)]
#[must_use]
pub struct TextEncoderBuilder {
    source: std::result::Result<Source, String>,
    device: Device,
    dtype: DType,
    open: OpenOptions,
    batch_size: usize,
}

impl TextEncoderBuilder {
    /// Where it computes. Default: the CPU.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = device.clone();
        self
    }

    /// The type of its weights. Default: float32.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// How the checkpoint is found and read. Default: as the environment says.
    pub fn open_options(mut self, options: OpenOptions) -> Self {
        self.open = options;
        self
    }

    /// Texts of one forward pass, at least 1. Default: 64.
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size.max(1);
        self
    }

    /// Opens the checkpoint and its tokenizer.
    ///
    /// # Errors
    /// If there is no such checkpoint, it has no text tower or no tokenizer, or these do not belong together.
    pub fn load(self) -> Result<TextEncoder> {
        let source = match self.source {
            Ok(source) => source,
            Err(name) => Source::parse(&name)?,
        };
        let checkpoint = TextCheckpoint::open(&source, &self.open)?;
        // The tokenizer first: it is small, and what is missing most often.
        let tokenizer = Tokenizer::of(&checkpoint)?;
        let params = Params::new(0, self.dtype, &self.device);
        checkpoint.load(&params)?;
        let tower = TextTower::new(checkpoint.config(), params.eval_builder())?;
        params.check_taken()?;
        Ok(TextEncoder(Arc::new(Inner {
            name: source.to_string(),
            tower,
            tokenizer,
            logit_scale: checkpoint.logit_scale(),
            logit_bias: checkpoint.logit_bias(),
            notes: checkpoint.notes().to_vec(),
            unprojected: checkpoint.unprojected().map(str::to_owned),
            device: self.device,
            batch_size: self.batch_size,
        })))
    }
}

impl TextEncoder {
    /// Options for opening the checkpoint called `name`: a CLIP or SigLIP with both of its towers, as
    /// [`Pretrained::builder`](crate::Pretrained::builder) names models.
    pub fn builder(name: impl Into<String>) -> TextEncoderBuilder {
        let (device, open) = (Device::Cpu, OpenOptions::default());
        TextEncoderBuilder { source: Err(name.into()), device, dtype: DType::F32, open, batch_size: BATCH_SIZE }
    }

    /// [`TextEncoder::builder`] for weights whose place is known.
    pub fn from_source(source: Source) -> TextEncoderBuilder {
        TextEncoderBuilder { source: Ok(source), ..Self::builder("") }
    }

    /// Opens the checkpoint called `name`.
    ///
    /// # Errors
    /// As [`TextEncoderBuilder::load`].
    pub fn from_pretrained(name: impl Into<String>) -> Result<Self> {
        Self::builder(name).load()
    }

    /// Where it came from.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What the tower is made of.
    pub fn config(&self) -> &TextConfig {
        self.0.tower.config()
    }

    /// What cuts texts into its tokens.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// What the cosine of an image and a text is multiplied with to become a logit.
    pub fn logit_scale(&self) -> f64 {
        self.0.logit_scale
    }

    /// What is added to it then, where the model has such a number.
    pub fn logit_bias(&self) -> Option<f64> {
        self.0.logit_bias
    }

    /// What a reader should know of the load.
    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// Checks that this model's vectors of images lie where those of its texts do.
    ///
    /// # Errors
    /// If its projection of images is left out where it is loaded, since it is an MLP.
    pub fn check_images(&self) -> Result<()> {
        match &self.0.unprojected {
            None => Ok(()),
            Some(tensor) => Err(Error::invalid(
                self.name(),
                "images that are projected to where texts are by one linear layer",
                format!(
                    "an MLP ({tensor}; open_clip's timm_proj), which no model here has: its images cannot be compared with words"
                ),
            )),
        }
    }

    /// The tokens of texts.
    ///
    /// # Errors
    /// If there are no texts, or one has no word that the tokenizer knows.
    pub fn tokens<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<Tokens>> {
        if texts.is_empty() {
            return Err(Error::invalid("texts", "at least one", "none"));
        }
        let tokens = |(at, text): (usize, &T)| {
            let tokens = self.0.tokenizer.encode(text.as_ref())?;
            match tokens.words {
                0 => {
                    let got = format!("{:?}", text.as_ref().chars().take(60).collect::<String>());
                    Err(Error::invalid(format!("text {}", at + 1), "at least one word that the tokenizer knows", got))
                }
                _ => Ok(tokens),
            }
        };
        texts.iter().enumerate().map(tokens).collect()
    }

    /// The vectors of texts, `[texts, num_features]`, as the tower gives them: float32 on the CPU.
    ///
    /// # Errors
    /// As [`TextEncoder::tokens`]; if a value is no number, the weights are damaged.
    pub fn embed<T: AsRef<str>>(&self, texts: &[T]) -> Result<Tensor> {
        self.embed_while(texts, &mut |_| {})
    }

    /// As [`TextEncoder::embed`], divided by their lengths (the 2-norm), as open_clip and transformers compare them.
    ///
    /// # Errors
    /// As there.
    pub fn embed_normalised<T: AsRef<str>>(&self, texts: &[T]) -> Result<Tensor> {
        normalised(&self.embed(texts)?)
    }

    /// As [`TextEncoder::embed`]; `done` is told after every forward pass how many texts there are vectors of.
    ///
    /// # Errors
    /// As there.
    pub fn embed_while<T: AsRef<str>>(&self, texts: &[T], done: &mut dyn FnMut(usize)) -> Result<Tensor> {
        let tokens = self.tokens(texts)?;
        let mut vectors = Vec::new();
        for (at, batch) in tokens.chunks(self.0.batch_size).enumerate() {
            // What comes behind the last text's end has no part in the result of a tower with a causal mask.
            let length = match self.config().ends_with_text() {
                true => batch.iter().map(|tokens| tokens.length).max().unwrap_or(1),
                false => self.0.tokenizer.context_length(),
            };
            let ids: Vec<u32> = batch.iter().flat_map(|tokens| tokens.ids[..length].iter().copied()).collect();
            let ids = Tensor::from_vec(ids, (batch.len(), length), &self.0.device)?;
            let vector = self.0.tower.forward(&ids)?.to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            vectors.push(vector);
            done(at * self.0.batch_size + batch.len());
        }
        let vectors = Tensor::cat(&vectors, 0)?;
        if vectors.flatten_all()?.to_vec1::<f32>()?.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotFinite { place: self.0.name.clone(), what: "vectors of texts" });
        }
        Ok(vectors)
    }
}

/// Rows divided by their lengths.
///
/// # Errors
/// Those of Candle.
pub(super) fn normalised(rows: &Tensor) -> Result<Tensor> {
    let lengths = rows.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    Ok(rows.broadcast_div(&lengths.maximum(1e-12f32)?)?)
}
