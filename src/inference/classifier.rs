//! The classifier: which classes images belong to.

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::pass::Pass;
use super::{Error, Images, Pretrained, PretrainedBuilder, Result};
use crate::data;

/// A pretrained model that predicts the classes of images. Cloning it is cheap, and several threads may use it at once.
///
/// ```no_run
/// use tallow::{Classifier, Pretrained};
///
/// let classifier = Pretrained::builder("runs/flowers").img_size(224).classifier()?.top_k(3);
/// let predictions = classifier.predict("rose.jpg")?;
/// for class in &predictions[0].classes {
///     println!("{:6.2} %  {}", 100. * class.probability, class.label);
/// }
/// # Ok::<(), tallow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Classifier {
    pretrained: Pretrained,
    pass: Pass,
    top_k: usize,
}

/// What a classifier says of an image.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// The image's path, or its place among those that were given: `image 1`.
    pub image: String,
    /// The most probable classes, best first; there is at least one.
    pub classes: Vec<Class>,
}

/// A class and how probable it is.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Class {
    /// The class's number: its place among the logits.
    pub index: usize,
    /// Its name, or its number where the model knows no names.
    pub label: String,
    /// In [0, 1].
    pub probability: f32,
}

impl Prediction {
    /// The most probable class.
    pub fn best(&self) -> &Class {
        &self.classes[0]
    }
}

/// The image and its most probable class: `rose.jpg: rose (97.3 %)`.
impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({:.1} %)", self.image, self.best().label, 100. * self.best().probability)
    }
}

impl Classifier {
    /// The number of classes of a prediction, unless [`Classifier::top_k`] sets another.
    pub const TOP_K: usize = 5;

    /// Opens the model called `name`, as [`Pretrained::builder`] says.
    ///
    /// # Errors
    /// As [`PretrainedBuilder::load`] and [`Classifier::new`].
    pub fn from_pretrained(name: impl Into<String>) -> Result<Self> {
        Self::builder(name).classifier()
    }

    /// Options for opening the model called `name`; [`PretrainedBuilder::classifier`] opens it.
    pub fn builder(name: impl Into<String>) -> PretrainedBuilder {
        Pretrained::builder(name)
    }

    /// A classifier of a model that is loaded.
    ///
    /// # Errors
    /// If it has no head that was trained.
    pub fn new(pretrained: Pretrained) -> Result<Self> {
        pretrained.check_head()?;
        Ok(Self { pretrained, pass: Pass::default(), top_k: Self::TOP_K })
    }

    /// How many classes a prediction holds, at least 1. Default: 5.
    #[must_use]
    pub fn top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k.max(1);
        self
    }

    /// Images of one forward pass, at least 1. Default: 32.
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.pass.batch_size = batch_size.max(1);
        self
    }

    /// Threads that decode images. Default: one a core, at most 16.
    pub fn threads(mut self, threads: usize) -> Self {
        self.pass.threads = threads;
        self
    }

    /// The model under it.
    pub fn pretrained(&self) -> &Pretrained {
        &self.pretrained
    }

    /// The predictions for the images, in their order.
    ///
    /// # Errors
    /// If an image cannot be read, or the weights are damaged.
    pub fn predict(&self, images: &(impl Images + ?Sized)) -> Result<Vec<Prediction>> {
        self.pass.whole(&self.pretrained, images.images(), |input, name| self.predictions(input, name))
    }

    /// As [`Classifier::predict`], but every image has its own result: one that cannot be read does not stop the others.
    ///
    /// # Errors
    /// If the weights are damaged, or the model reads no images.
    pub fn predict_each(
        &self,
        images: &(impl Images + ?Sized),
    ) -> Result<Vec<std::result::Result<Prediction, Arc<data::Error>>>> {
        self.pass.each(&self.pretrained, images.images(), |input, name| self.predictions(input, name))
    }

    fn predictions(&self, input: &Tensor, name: &dyn Fn(usize) -> String) -> Result<Vec<Prediction>> {
        let classes = self.classes(input, name)?.into_iter().enumerate();
        Ok(classes.map(|(image, classes)| Prediction { image: name(image), classes }).collect())
    }

    /// The most probable classes of a batch of what the model reads, `[batch, channels, height, width]` on its device and of its type;
    /// best first, and of equal ones the first. `name` names an image in messages.
    ///
    /// # Errors
    /// If a logit is no number: the weights are damaged.
    pub fn classes(&self, input: &Tensor, name: impl Fn(usize) -> String) -> Result<Vec<Vec<Class>>> {
        let logits = self.pretrained.forward(input)?.to_dtype(DType::F32)?;
        let probabilities = softmax_last_dim(&logits)?.to_vec2::<f32>()?;
        probabilities
            .iter()
            .enumerate()
            .map(|(image, probabilities)| {
                if probabilities.iter().any(|p| !p.is_finite()) {
                    return Err(Error::NotFinite { place: name(image), what: "logits" });
                }
                Ok(self.best(probabilities))
            })
            .collect()
    }

    fn best(&self, probabilities: &[f32]) -> Vec<Class> {
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        let class =
            |index: usize| Class { index, label: self.pretrained.label(index), probability: probabilities[index] };
        order.into_iter().take(self.top_k).map(class).collect()
    }
}
