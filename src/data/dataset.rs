//! What a data set is: samples in a training and a test part, with the classes of their labels; and how it is opened.

use std::sync::Arc;

use tallow_models::fnv1a;

use super::parts::{Part, Wishes};
use super::{Augment, Exif, OnBadImage, Samples, SplitBy};

/// How a data set is opened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DataOptions {
    /// Take only so many training samples. From data sets in random order (MNIST, CIFAR) the first; from those that may be
    /// sorted by class (folders, the hub's, others whose labels come in blocks) the first of every class, in proportion, in
    /// their order.
    pub limit: Option<usize>,
    /// The same for the test part.
    pub test_limit: Option<usize>,
    /// Share of the training samples, in [0, 1), that is split off for validation, class by class. 0: no validation part,
    /// unless the folder brings one (`DIR/{train,val,test}`). It is taken from what `limit` leaves.
    pub val_fraction: f64,
    /// Share of the samples, in (0, 1), that is split off for testing where the data set has no test part.
    pub test_fraction: f64,
    /// The seed of these two splits. Runs can be compared sample by sample only if they share it, so it is not the seed of
    /// the run.
    pub split_seed: u64,
    /// What these two splits follow from.
    pub split_by: SplitBy,
    /// The parts to train on, by name, separated by commas; `.` is a folder of classes itself. Default: the training part as
    /// `docs/data.md` says.
    pub train_split: Option<String>,
    /// The parts to test on, likewise.
    pub test_split: Option<String>,
    /// The data is only measured, not trained on: nothing is split off, and where there is no test part, all samples are the
    /// test part, and the training part as well. Default false.
    pub whole: bool,
    /// Labels are not read: a data set of one class will do, and so will a folder whose images lie in no folders of classes, all of which
    /// are then of one class. Default false.
    pub unlabelled: bool,
    /// Images that cannot be read, and classes of a folder without images: go on without them, with notes, for which every image
    /// is read once when the data set is opened; or an error, when they are met. Default: an error.
    pub on_bad_image: OnBadImage,
    /// What becomes of the orientation that a camera noted in an image's file. Default: it is applied.
    pub exif: Exif,
}

impl Default for DataOptions {
    /// Everything, no validation part, one fifth for testing where a test part is missing.
    fn default() -> Self {
        Self {
            limit: None,
            test_limit: None,
            val_fraction: 0.0,
            test_fraction: 0.2,
            split_seed: 0,
            split_by: SplitBy::default(),
            train_split: None,
            test_split: None,
            whole: false,
            unlabelled: false,
            on_bad_image: OnBadImage::Error,
            exif: Exif::Apply,
        }
    }
}

impl DataOptions {
    /// The same after `change`, in one expression: `DataOptions::default().with(|o| o.limit = Some(1000))`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn wishes(&self) -> Wishes<'_> {
        Wishes { train: self.train_split.as_deref(), test: self.test_split.as_deref(), whole: self.whole }
    }
}

/// A data set with its classes.
#[derive(Clone)]
#[non_exhaustive]
pub struct Dataset {
    /// How the user named it: `mnist`, `folder:photos`.
    pub spec: String,
    /// Class names by label.
    pub classes: Vec<String>,
    /// The training part.
    pub train: Arc<dyn Samples>,
    /// The part that the best checkpoint is chosen on, if there is one.
    pub val: Option<Arc<dyn Samples>>,
    /// The part that results are reported on.
    pub test: Arc<dyn Samples>,
    /// Whether the test part was split off here, as the data set has none of its own.
    pub test_held_out: bool,
    /// `[channels, height, width]` of the samples, where they all have the same: `[1, 28, 28]` for MNIST, `[2, 1, 1]` for
    /// points in the plane.
    pub shape: Option<[usize; 3]>,
    /// What the user should know about how it was read: files that were skipped, parts that were split.
    pub notes: Vec<String>,
    /// Which folder or file became which part, and why, before limits.
    pub parts: Vec<Part>,
    /// The augmentation that suits it, where the user asks for none in particular.
    pub augment: Vec<Augment>,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataset")
            .field("spec", &self.spec)
            .field("classes", &self.classes)
            .field("train", &self.train.len())
            .field("val", &self.val.as_ref().map(|v| v.len()))
            .field("test", &self.test.len())
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

impl Dataset {
    /// Samples that a program brings itself, to train and to test on; `spec` is what reports call them.
    pub fn new(spec: &str, classes: Vec<String>, train: Arc<dyn Samples>, test: Arc<dyn Samples>) -> Self {
        Self {
            spec: spec.into(),
            classes,
            train,
            val: None,
            test,
            test_held_out: false,
            shape: None,
            notes: Vec::new(),
            parts: Vec::new(),
            augment: Vec::new(),
        }
    }

    /// Identifies the test samples by their names and labels, in order: two runs whose data sets have the same
    /// fingerprint were tested on the same samples. 16 hexadecimal digits (FNV-1a).
    pub fn test_fingerprint(&self) -> String {
        let mut samples = Vec::new();
        for index in 0..self.test.len() {
            samples.extend_from_slice(self.test.name(index).as_bytes());
            samples.push(0xff); // never in UTF-8, so that a name ends
            samples.extend_from_slice(&self.test.label(index).to_le_bytes());
        }
        format!("{:016x}", fnv1a(&samples))
    }
}

/// What a reader of one kind of data set gives to [`super::open`].
pub(crate) struct Parts {
    pub classes: Vec<String>,
    pub train: Arc<dyn Samples>,
    pub val: Option<Arc<dyn Samples>>,
    /// Without one, a share of the training part is split off.
    pub test: Option<Arc<dyn Samples>>,
    pub shape: Option<[usize; 3]>,
    pub notes: Vec<String>,
    /// Which folder or file became which part. Empty where the format knows a training and a test part and no others.
    pub parts: Vec<Part>,
    pub augment: Vec<Augment>,
    /// Whether the samples may be sorted by class, so that the first few would be of one class.
    pub sorted: bool,
}
