//! The embedder: images as vectors.

use candle_core::{D, DType, Device, Tensor};
use tallow_models::{AnyModel, Mode, Model};

use super::pass::Pass;
use super::{Error, Images, Pretrained, PretrainedBuilder, Result};

/// A pretrained model that turns images into vectors, such that similar images have vectors near each other. Cloning it is cheap,
/// and several threads may use it at once.
///
/// ```no_run
/// use tallow::Embedder;
///
/// let embedder = Embedder::from_pretrained("vit_small_patch14_dinov2.saliency")?.normalised(true);
/// let vectors = embedder.embed(&["cat.jpg", "dog.jpg", "lion.jpg"])?; // [3, 384]
/// let similarities = vectors.matmul(&vectors.t()?)?; // cosines, [3, 3]
/// # Ok::<(), tallow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Embedder {
    pretrained: Pretrained,
    pass: Pass,
    features: Features,
    normalised: bool,
}

/// Which output of a model is an image's vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Features {
    /// What the classification head reads: `[batch, num_features]`.
    #[default]
    Pooled,
    /// Every token of a ViT: `[batch, tokens, embed_dim]`.
    Tokens,
    /// What the classification head gives: `[batch, num_classes]`.
    Logits,
}

impl Embedder {
    /// Opens the model called `name`, as [`Pretrained::builder`] says.
    ///
    /// # Errors
    /// As [`PretrainedBuilder::load`].
    pub fn from_pretrained(name: impl Into<String>) -> Result<Self> {
        Self::builder(name).embedder()
    }

    /// Options for opening the model called `name`; [`PretrainedBuilder::embedder`] opens it.
    pub fn builder(name: impl Into<String>) -> PretrainedBuilder {
        Pretrained::builder(name)
    }

    /// An embedder of a model that is loaded.
    pub fn new(pretrained: Pretrained) -> Self {
        Self { pretrained, pass: Pass::default(), features: Features::default(), normalised: false }
    }

    /// Which output of the model is the vector. Default: [`Features::Pooled`].
    ///
    /// # Errors
    /// If the model has no such features: tokens are those of a ViT, and logits those of a head that was trained, or a projection.
    pub fn features(mut self, features: Features) -> Result<Self> {
        match (features, self.pretrained.model()) {
            (Features::Logits, _) => self.pretrained.check_logits()?,
            (Features::Tokens, model) if !matches!(model, AnyModel::Vit(_)) => {
                return Err(Error::invalid("features", "pooled or logits of a model that is no ViT", "tokens"));
            }
            _ => {}
        }
        self.features = features;
        Ok(self)
    }

    /// Whether vectors are divided by their length (the 2-norm over the last dimension), so that the product of two is their cosine.
    /// Default: no.
    #[must_use]
    pub fn normalised(mut self, normalised: bool) -> Self {
        self.normalised = normalised;
        self
    }

    /// Images of one forward pass, at least 1. Default: 32.
    #[must_use]
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.pass.batch_size = batch_size.max(1);
        self
    }

    /// Threads that decode images. Default: one a core, at most 16.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.pass.threads = threads;
        self
    }

    /// The model under it.
    pub fn pretrained(&self) -> &Pretrained {
        &self.pretrained
    }

    /// The vectors of the images, in their order: `[images, dim]`, or with [`Features::Tokens`] `[images, tokens, dim]`. Float32 on
    /// the CPU.
    ///
    /// # Errors
    /// If there are no images, one cannot be read, or the weights are damaged.
    pub fn embed(&self, images: &(impl Images + ?Sized)) -> Result<Tensor> {
        let rows = self.pass.whole(&self.pretrained, images.images(), |input, name| {
            let features = self.embed_input(input, name)?.to_device(&Device::Cpu)?;
            (0..features.dim(0)?).map(|row| Ok(features.get(row)?)).collect()
        })?;
        if rows.is_empty() {
            return Err(Error::invalid("images", "at least one", "none"));
        }
        Ok(Tensor::stack(&rows, 0)?)
    }

    /// The vectors of a batch of what the model reads, `[batch, channels, height, width]` on its device and of its type; float32 on
    /// that device. `name` names an image in messages.
    ///
    /// # Errors
    /// If a value is no number: the weights are damaged.
    pub fn embed_input(&self, input: &Tensor, name: impl Fn(usize) -> String) -> Result<Tensor> {
        let features = match (self.features, self.pretrained.model()) {
            (Features::Logits, model) => model.forward(input, Mode::Eval)?,
            (Features::Tokens, AnyModel::Vit(vit)) => vit.forward_features(input, Mode::Eval)?,
            (Features::Pooled | Features::Tokens, model) => model.pooled(input, Mode::Eval)?,
        };
        let features = features.to_dtype(DType::F32)?;
        if features.flatten_all()?.to_vec1::<f32>()?.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotFinite { place: format!("{} or an image soon after it", name(0)), what: "features" });
        }
        if !self.normalised {
            return Ok(features);
        }
        let norms = features.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        Ok(features.broadcast_div(&norms.maximum(1e-12f32)?)?)
    }
}
