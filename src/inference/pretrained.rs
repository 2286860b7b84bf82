//! A model with its weights, ready for inference, and how an image becomes what it reads.

use std::fmt;
use std::sync::{Arc, OnceLock};

use candle_core::{DType, Device, Tensor};
use tallow_models::ops::computes_integers;
use tallow_models::{AnyModel, ImgSize, Mode, Model, Params, Stage};
use tallow_weights::{Account, CheckpointConfig, Head, LoadOptions, OpenOptions, Source};

use super::{Classifier, Embedder, Error, HeadFault, Result, run};
use crate::data::{self, Exif, Loader, LoaderOptions, Samples, Transform};

/// A pretrained model. Cloning it gives another handle on the same one, and several threads may use it at once. It records no
/// autograd history.
///
/// ```no_run
/// use tallow::Pretrained;
///
/// let pretrained = Pretrained::builder("vit_small_patch14_dinov2.saliency").img_size(224).load()?;
/// println!("{}: {}", pretrained.name(), pretrained.account());
/// let embedder = tallow::Embedder::new(pretrained);
/// # Ok::<(), tallow::Error>(())
/// ```
#[derive(Clone)]
pub struct Pretrained(Arc<Inner>);

struct Inner {
    name: String,
    config: CheckpointConfig,
    params: Params,
    model: AnyModel,
    account: Account,
    device: Device,
    dtype: DType,
    exif: Exif,
    head: std::result::Result<(), HeadFault>,
    transform: OnceLock<Arc<Transform>>,
}

impl fmt::Debug for Pretrained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pretrained")
            .field("name", &self.0.name)
            .field("architecture", &self.0.config.architecture)
            .field("device", &self.0.device)
            .finish_non_exhaustive()
    }
}

/// How a pretrained model is opened.
#[derive(Debug, Clone)]
#[must_use]
pub struct PretrainedBuilder {
    name: String,
    source: Option<Source>,
    overrides: Vec<(String, String)>,
    device: Device,
    dtype: DType,
    seed: u64,
    exif: Option<Exif>,
    open: OpenOptions,
    load: LoadOptions,
}

impl PretrainedBuilder {
    /// Where the model computes. Default: the CPU.
    pub fn device(mut self, device: &Device) -> Self {
        self.device = device.clone();
        self
    }

    /// The type of the weights: float32, bfloat16, float16 or float64. Default: float32.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// The height and width of what the model reads, one number for both; position embeddings are resampled. Default: as the checkpoint says.
    pub fn img_size(self, img_size: impl Into<ImgSize>) -> Self {
        self.set("img_size", img_size.into())
    }

    /// Another value for an option of the architecture: `set("num_classes", 10)`. The last one of a name counts.
    pub fn set(mut self, option: impl Into<String>, value: impl ToString) -> Self {
        self.overrides.push((option.into(), value.to_string()));
        self
    }

    /// What happens to the orientation that cameras noted. Default: if the model is from a run, what that was trained with; otherwise
    /// the orientation is applied.
    pub fn exif(mut self, exif: Exif) -> Self {
        self.exif = Some(exif);
        self
    }

    /// How the checkpoint is found and read: cache, token, who is told of downloads. Default: as the environment says.
    pub fn open_options(mut self, options: OpenOptions) -> Self {
        self.open = options;
        self
    }

    /// How the weights are fitted to the model. Default: [`LoadOptions::default`].
    pub fn load_options(mut self, options: LoadOptions) -> Self {
        self.load = options;
        self
    }

    /// What happens to the head if the number of classes changes. Default: [`Head::Auto`].
    pub fn head(mut self, head: Head) -> Self {
        self.load.head = head;
        self
    }

    /// The seed that parameters without a value in the checkpoint are drawn from. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Opens the checkpoint, builds the model and fills it.
    ///
    /// # Errors
    /// If there is no such checkpoint, it does not fit, or an option makes no sense.
    pub fn load(self) -> Result<Pretrained> {
        let Self { name, source, overrides, device, dtype, seed, exif, open, load } = self;
        if !matches!(dtype, DType::F32 | DType::BF16 | DType::F16 | DType::F64) {
            return Err(Error::invalid("dtype", "F32, BF16, F16 or F64", format!("{dtype:?}")));
        }
        let source = source.map_or_else(|| Source::parse(&name), Ok)?;
        let params = Params::new(seed, dtype, &device);
        let mut labelled = 0;
        let (config, account) = filled(&source, &open, &load, &params, |config| {
            labelled = config.architecture.num_classes();
            overrides.iter().try_for_each(|(option, value)| config.architecture.set(option, value))?;
            if config.architecture.num_classes() != labelled {
                config.labels = None;
                (config.projection, config.projection_bias) = (false, false);
            }
            Ok(())
        })?;
        let exif = exif.map_or_else(|| run::exif_of(&source), Ok)?;
        let chosen_classes = overrides.iter().any(|(option, _)| option == "num_classes");
        let without_head = match account.unused_head().filter(|_| !chosen_classes) {
            Some(rows) => HeadFault::Unclassed { rows },
            None if chosen_classes && labelled > 0 => HeadFault::LeftOut,
            None => HeadFault::Absent,
        };
        Inner::build(name, config, params, account, exif, without_head)
    }

    /// [`PretrainedBuilder::load`], then a classifier of the model.
    ///
    /// # Errors
    /// As there, and as [`Classifier::new`].
    pub fn classifier(self) -> Result<Classifier> {
        Classifier::new(self.load()?)
    }

    /// [`PretrainedBuilder::load`], then an embedder of the model.
    ///
    /// # Errors
    /// As there.
    pub fn embedder(self) -> Result<Embedder> {
        Ok(Embedder::new(self.load()?))
    }
}

/// Opens a checkpoint, lets `change` say which model is made of what it says of itself, and provides the values of that to `params`: the
/// model as it is, and what became of the checkpoint's tensors.
pub(crate) fn filled(
    source: &Source,
    open: &OpenOptions,
    load: &LoadOptions,
    params: &Params,
    change: impl FnOnce(&mut CheckpointConfig) -> Result<()>,
) -> Result<(CheckpointConfig, Account)> {
    let checkpoint = tallow_weights::open(source, open)?;
    let (mut config, assumed) = checkpoint.config_or_inferred()?;
    change(&mut config)?;
    config.architecture.validate()?;
    config.preprocessing.input_size = config.architecture.input_size();
    let mut account = tallow_weights::load(&checkpoint, &config.architecture, load, params)?;
    account.notes.extend(assumed);
    Ok((config, account))
}

impl Inner {
    /// Builds the model over parameters that are provided. `without_head` says why it has no head, where it has none.
    fn build(
        name: String,
        mut config: CheckpointConfig,
        params: Params,
        account: Account,
        exif: Exif,
        without_head: HeadFault,
    ) -> Result<Pretrained> {
        // What is written of this model says so too.
        config.head_fault = account
            .initialised()
            .find(|(name, _)| config.architecture.stage_of(name) == Stage::Head)
            .map(|(_, why)| why.to_string());
        let mut model = config.architecture.build(params.eval_builder())?;
        params.check_taken()?;
        model.set_prepacking(true);
        if computes_integers() && !model.is_packed() {
            let expected = format!("f32 or bf16 for {name}");
            return Err(Error::invalid(
                "dtype",
                expected,
                "int8, which is for ViTs whose blocks are one operation each",
            ));
        }
        let head = match (config.architecture.num_classes(), &config.head_fault) {
            (0, _) => Err(without_head),
            (_, Some(why)) => Err(HeadFault::New { why: why.clone() }),
            (_, None) if config.projection => Err(HeadFault::Projects),
            (_, None) => Ok(()),
        };
        let (device, dtype, transform) = (params.device().clone(), params.dtype(), OnceLock::new());
        Ok(Pretrained(Arc::new(Self { name, config, params, model, account, device, dtype, exif, head, transform })))
    }
}

impl Pretrained {
    /// The model whose parameters were provided to `params` already, ready for inference.
    ///
    /// # Errors
    /// If a parameter was not provided, or something else was.
    #[cfg(feature = "text")]
    pub(crate) fn assembled(name: &str, config: CheckpointConfig, params: Params, account: Account) -> Result<Self> {
        Inner::build(name.into(), config, params, account, Exif::default(), HeadFault::Absent)
    }

    /// Options for opening the model called `name`: a name of the zoo, with a tag or without (`vit_small_patch16_224.augreg_in1k`),
    /// `hf-hub:OWNER/REPO[@REVISION]`, a file or folder with weights, or the folder of a run.
    pub fn builder(name: impl Into<String>) -> PretrainedBuilder {
        PretrainedBuilder {
            name: name.into(),
            source: None,
            overrides: Vec::new(),
            device: Device::Cpu,
            dtype: DType::F32,
            seed: 0,
            exif: None,
            open: OpenOptions::default(),
            load: LoadOptions::default(),
        }
    }

    /// [`Pretrained::builder`] for weights whose place is known.
    pub fn from_source(source: Source) -> PretrainedBuilder {
        PretrainedBuilder { source: Some(source.clone()), ..Self::builder(source.to_string()) }
    }

    /// Opens the model called `name` as [`Pretrained::builder`] says, with nothing changed.
    ///
    /// # Errors
    /// As [`PretrainedBuilder::load`].
    pub fn from_pretrained(name: impl Into<String>) -> Result<Self> {
        Self::builder(name).load()
    }

    /// As it was named.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The architecture, the labels, and how an image becomes the model's input.
    pub fn config(&self) -> &CheckpointConfig {
        &self.0.config
    }

    /// The model.
    pub fn model(&self) -> &AnyModel {
        &self.0.model
    }

    /// Its parameters. They must not be changed: the model keeps the layout of its weights.
    pub fn params(&self) -> &Params {
        &self.0.params
    }

    /// What became of every tensor of the checkpoint.
    pub fn account(&self) -> &Account {
        &self.0.account
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// The type of its weights.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// What happens to the orientation that cameras noted.
    pub fn exif(&self) -> Exif {
        self.0.exif
    }

    /// Checks that the model has a trained head; the answers of any other head mean nothing.
    ///
    /// # Errors
    /// [`Error::Head`] if not.
    pub fn check_head(&self) -> Result<()> {
        self.0.head.clone().map_err(|fault| Error::Head { model: self.0.name.clone(), fault })
    }

    /// Checks that what the head gives is what it was trained to give: logits of classes, or the projection of an image into a space
    /// shared with texts.
    ///
    /// # Errors
    /// [`Error::Head`] if not.
    pub fn check_logits(&self) -> Result<()> {
        match &self.0.head {
            Err(HeadFault::Projects) => Ok(()),
            _ => self.check_head(),
        }
    }

    /// The name of a class, or its number if it has no name.
    pub fn label(&self, class: usize) -> String {
        let label = self.0.config.labels.as_ref().and_then(|labels| labels.get(class));
        label.cloned().unwrap_or_else(|| class.to_string())
    }

    /// How an image becomes the model's input.
    ///
    /// # Errors
    /// If the checkpoint's preprocessing makes no sense.
    pub fn transform(&self) -> Result<Arc<Transform>> {
        if let Some(transform) = self.0.transform.get() {
            return Ok(transform.clone());
        }
        let transform = Arc::new(Transform::of(&self.0.config)?);
        Ok(self.0.transform.get_or_init(|| transform).clone())
    }

    /// Logits `[batch, num_classes]` of what the model reads, `[batch, channels, height, width]` on its device and of its type.
    ///
    /// # Errors
    /// If the input has another shape, type or place.
    pub fn forward(&self, input: &Tensor) -> Result<Tensor> {
        Ok(self.0.model.forward(input, Mode::Eval)?)
    }

    /// The samples at `order` as batches of what the model reads, decoded and transformed in threads. A sample that cannot be read
    /// ends the iteration, or, where that is `tolerant`, is left out of its batch and told with it ([`InputBatch::bad`]).
    ///
    /// # Errors
    /// If the model reads no images, the batch size is 0, or an index is out of range.
    pub fn batches(
        &self,
        samples: &Arc<dyn Samples>,
        order: Vec<usize>,
        options: LoaderOptions,
        tolerant: bool,
    ) -> Result<Batches> {
        let transform = self.transform()?;
        let start = if tolerant { Loader::tolerant } else { Loader::new };
        let loader = start(samples.clone(), order, transform, options)?;
        Ok(Batches { loader, device: self.0.device.clone(), dtype: self.0.dtype })
    }
}

/// Batches of what a model reads; see [`Pretrained::batches`].
pub struct Batches {
    loader: Loader,
    device: Device,
    dtype: DType,
}

/// A batch of what a model reads.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InputBatch {
    /// The samples' indices.
    pub indices: Vec<usize>,
    /// `[batch, channels, height, width]`, float32 on the CPU.
    pub images: Tensor,
    /// The same on the model's device and of its type.
    pub input: Tensor,
    /// Samples that are left out as they cannot be read, with the reason.
    pub bad: Vec<(usize, Arc<data::Error>)>,
}

impl Iterator for Batches {
    type Item = Result<InputBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.loader.next()? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error.into())),
        };
        let input = batch.images.to_device(&self.device).and_then(|images| images.to_dtype(self.dtype));
        let batch = |input| InputBatch { indices: batch.indices, images: batch.images, input, bad: batch.bad };
        Some(input.map(batch).map_err(Error::from))
    }
}
