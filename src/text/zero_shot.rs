//! Classifiers that are made of the names of their classes: the vision tower's projection, its features brought to length one, and a head
//! whose rows are the vectors of the classes, multiplied with the logit scale.
//!
//! ```no_run
//! use tallow::text::ZeroShot;
//!
//! let classifier = ZeroShot::new(&["a cat", "a dog"]).sentences("{}")?.classifier("hf-hub:openai/clip-vit-base-patch32")?;
//! println!("{}", classifier.predict("photo.jpg")?[0]);
//! # Ok::<(), tallow::Error>(())
//! ```
//!
//! A class is the mean of the vectors of its sentences, each of length one, and of length one itself: what open_clip's
//! `build_zero_shot_classifier` makes. The model is a ViT like any other, with [`VitConfig::head_proj`] and [`VitConfig::head_norm`]: it can
//! be trained further, saved and opened again.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use tallow_models::{Architecture, Params, VitConfig};
use tallow_weights::account::Parameter;
use tallow_weights::{Account, CheckpointConfig, Head, LoadOptions, OpenOptions, Source};

use super::encoder::normalised;
use super::tokenizer::Tokens;
use super::{TextEncoder, templates::Templates};
use crate::inference::{Classifier, Error, Pretrained, Result, filled};

/// The rows of a head, made of words.
#[derive(Debug, Clone)]
pub struct ClassHead {
    /// The vectors of the classes, each of length one, `[classes, dim]`.
    vectors: Tensor,
    logit_scale: f64,
    logit_bias: f64,
    /// What it was made of, in words.
    made_of: String,
}

impl ClassHead {
    /// The head for classes that are called `words`; `done` is told how many sentences there are vectors of, and of how many.
    ///
    /// # Errors
    /// If there are no classes, two are called the same, or a name has no word that the tokenizer knows.
    pub fn of(
        encoder: &TextEncoder,
        words: &[String],
        templates: &Templates,
        done: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        encoder.check_images()?;
        check_names(words)?;
        let sentences: Vec<String> = words.iter().flat_map(|word| templates.of(word)).collect();
        let (classes, each) = (words.len(), templates.sentences().len());
        match encoder.tokens(words) {
            Ok(tokens) => check_tokens(words, &tokens)?,
            // A class without a word of its own would be as near to every image as any other.
            Err(Error::Invalid { expected, .. }) => {
                let nameless = words.iter().find(|word| encoder.tokens(&[word.as_str()]).is_err());
                let got = format!("{:?}", nameless.map_or("", |word| word));
                return Err(Error::invalid("the name of a class", expected, got));
            }
            Err(error) => return Err(error),
        }
        let total = sentences.len();
        let vectors = encoder.embed_while(&sentences, &mut |at| done(at, total))?;
        let vectors = normalised(&vectors)?.reshape((classes, each, ()))?.mean(1)?;
        Ok(Self {
            vectors: normalised(&vectors)?,
            logit_scale: encoder.logit_scale(),
            logit_bias: encoder.logit_bias().unwrap_or(0.),
            made_of: format!("the names of {classes} classes, {each} sentences each ({})", templates.name()),
        })
    }

    /// The vectors of the classes, each of length one, `[classes, dim]`: float32 on the CPU.
    pub fn vectors(&self) -> &Tensor {
        &self.vectors
    }

    /// The vision tower that `own` describes, with a head of this kind.
    ///
    /// # Errors
    /// If it is no ViT, or gives vectors of another width.
    pub fn architecture(&self, own: &CheckpointConfig) -> Result<Architecture> {
        let (classes, width) = self.vectors.dims2()?;
        let Architecture::Vit(vit) = &own.architecture else {
            let got = format!("a {}", own.architecture.family());
            return Err(Error::invalid("the model", "a ViT with a text tower beside it", got));
        };
        // The projection of a CLIP stands where others have a classifier; SigLIP has none.
        let head_proj = own.projection.then_some(vit.num_classes);
        let got = head_proj.unwrap_or_else(|| vit.pool_width());
        if got != width {
            let expected = format!("vectors of images of {width} values, as the text tower gives");
            return Err(Error::invalid("the model", expected, got));
        }
        Ok(Architecture::Vit(vit.clone().with(|c| {
            (c.head_proj, c.head_proj_bias) = (head_proj, head_proj.is_some() && own.projection_bias);
            c.head_norm = true;
            c.num_classes = classes;
        })))
    }

    /// Provides the head to `params`, for which the backbone was loaded already, and says so in the account.
    ///
    /// # Errors
    /// Those of Candle.
    pub fn provide(&self, params: &Params, account: &mut Account) -> Result<()> {
        let (classes, _) = self.vectors.dims2()?;
        params.provide("head.weight", (&self.vectors * self.logit_scale)?);
        params.provide("head.bias", Tensor::full(self.logit_bias as f32, classes, &Device::Cpu)?);
        for parameter in account.parameters.iter_mut().filter(|parameter| parameter.name.starts_with("head.")) {
            parameter.fate = Parameter::Filled { from: vec![self.made_of.clone()] };
        }
        account.notes.push(format!("the head was made of {}", self.made_of));
        Ok(())
    }
}

/// What the names of classes are in sentences: folders are called `red_fox`, and sentences say "red fox".
pub fn words_of(classes: &[String]) -> Vec<String> {
    classes.iter().map(|class| class.replace('_', " ").trim().to_owned()).collect()
}

/// Refuses classes that words cannot tell apart.
fn check_names(words: &[String]) -> Result<()> {
    if words.is_empty() {
        return Err(Error::invalid("classes", "at least one name", "none"));
    }
    let mut seen: HashMap<String, usize> = HashMap::new();
    for (at, word) in words.iter().enumerate() {
        if let Some(first) = seen.insert(word.trim().to_lowercase(), at) {
            let got = format!("{word:?} for class {first} and class {at}");
            return Err(Error::invalid("classes", "names that differ, as words alone tell the classes apart", got));
        }
    }
    Ok(())
}

/// Refuses classes that the tokenizer cannot tell apart: it may drop punctuation, or white space.
fn check_tokens(words: &[String], tokens: &[Tokens]) -> Result<()> {
    let mut seen: HashMap<&[u32], usize> = HashMap::new();
    for (at, tokens) in tokens.iter().enumerate() {
        if let Some(first) = seen.insert(&tokens.ids, at) {
            let got = format!(
                "{:?} and {:?}, which are the same tokens, for class {first} and class {at}",
                words[first], words[at]
            );
            return Err(Error::invalid("classes", "names that differ, as words alone tell the classes apart", got));
        }
    }
    Ok(())
}

/// A classifier by words that is to be opened.
#[derive(Debug, Clone)]
#[must_use]
pub struct ZeroShot {
    words: Vec<String>,
    templates: Templates,
    device: Device,
    dtype: DType,
    open: OpenOptions,
    overrides: Vec<(String, String)>,
}

impl ZeroShot {
    /// For classes that are called `words`, put into the sentence "a photo of a {}.".
    pub fn new<T: AsRef<str>>(words: &[T]) -> Self {
        Self {
            words: words.iter().map(|word| word.as_ref().to_owned()).collect(),
            templates: Templates::simple(),
            device: Device::Cpu,
            dtype: DType::F32,
            open: OpenOptions::default(),
            overrides: Vec::new(),
        }
    }

    /// The sentences that names are put into, as [`Templates::named`] reads them.
    ///
    /// # Errors
    /// As there.
    pub fn sentences(self, name: &str) -> Result<Self> {
        Ok(self.templates(Templates::named(name)?))
    }

    /// The sentences that names are put into.
    pub fn templates(mut self, templates: Templates) -> Self {
        self.templates = templates;
        self
    }

    /// Where the model computes, and the type of its weights. Default: the CPU, float32.
    pub fn device(mut self, device: &Device, dtype: DType) -> Self {
        (self.device, self.dtype) = (device.clone(), dtype);
        self
    }

    /// How the checkpoint is found and read. Default: as the environment says.
    pub fn open_options(mut self, options: OpenOptions) -> Self {
        self.open = options;
        self
    }

    /// Another value for an option of the vision tower's architecture.
    pub fn set(mut self, option: impl Into<String>, value: impl ToString) -> Self {
        self.overrides.push((option.into(), value.to_string()));
        self
    }

    /// Opens both towers of the checkpoint called `name` and makes the head.
    ///
    /// # Errors
    /// If there is no such checkpoint, it lacks a tower or the tokenizer, or words cannot tell the classes apart.
    pub fn load(self, name: &str) -> Result<Pretrained> {
        let source = Source::parse(name)?;
        let encoder = TextEncoder::from_source(source.clone()).device(&self.device).dtype(self.dtype);
        let encoder = encoder.open_options(self.open.clone()).load()?;
        let head = ClassHead::of(&encoder, &self.words, &self.templates, &mut |_, _| {})?;
        let params = Params::new(0, self.dtype, &self.device);
        let load = LoadOptions::default().with(|c| c.head = Head::New);
        let (config, mut account) = filled(&source, &self.open, &load, &params, |config| {
            config.architecture = head.architecture(config)?;
            self.overrides.iter().try_for_each(|(option, value)| config.architecture.set(option, value))?;
            config.labels = Some(self.words);
            (config.projection, config.projection_bias) = (false, false);
            Ok(())
        })?;
        account.notes.extend(encoder.notes().iter().cloned());
        head.provide(&params, &mut account)?;
        Pretrained::assembled(name, config, params, account)
    }

    /// [`ZeroShot::load`], then a classifier of the model.
    ///
    /// # Errors
    /// As there.
    pub fn classifier(self, name: &str) -> Result<Classifier> {
        Classifier::new(self.load(name)?)
    }
}

/// Whether the head of a model was made of words, or trained from such a one on.
pub fn is_made_of_words(architecture: &Architecture) -> bool {
    matches!(architecture, Architecture::Vit(VitConfig { head_norm: true, .. }))
}
