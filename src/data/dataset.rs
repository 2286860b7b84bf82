//! What a data set is: labelled images by index, in a training and a test part; and what its name means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tallow_models::fnv1a;
use tallow_weights::{OpenOptions, expanded};

use super::digest::{Digest, Digested};
use super::parts::{Part, Role, Wishes};
use super::split::{self, Parted, Purpose, SplitBy, Subset};
use super::{Augment, Error, Exif, Look, OnBadImage, Result, check, cifar, circles, folder, idx};

/// Samples are read for a split for so long before that is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// A decoded image: 8 bits a channel, rows from top to bottom, channels interleaved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// 1 (grey), 3 (RGB) or 4 (RGB and alpha).
    pub channels: usize,
    /// `height * width * channels` values.
    pub pixels: Vec<u8>,
}

impl Image {
    /// Checks an image that a program made: it has 1, 3 or 4 channels, and as many values as its size says. `name` is for messages.
    ///
    /// # Errors
    /// If not.
    pub fn check(&self, name: &str) -> Result<()> {
        let Self { width, height, channels, .. } = *self;
        if !matches!(channels, 1 | 3 | 4) {
            return Err(Error::invalid(name, "1 channel (grey), 3 (RGB) or 4 (RGBA)", channels));
        }
        let values = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
        if values != Some(self.pixels.len()) || self.pixels.is_empty() {
            let expected =
                format!("a value for each of {width}x{height} pixels in {channels} channels, and at least one");
            return Err(Error::invalid(name, expected, self.pixels.len()));
        }
        Ok(())
    }

    /// The luma of a colour image (ITU-R 601-2, in Pillow's integers), without its alpha; a grey image as it is.
    pub fn to_grey(&self) -> Self {
        if self.channels == 1 {
            return self.clone();
        }
        let luma = |p: &[u8]| {
            let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        };
        let pixels = self.pixels.chunks_exact(self.channels).map(luma).collect();
        Self { width: self.width, height: self.height, channels: 1, pixels }
    }

    /// Red, green and blue alone; a grey image as it is.
    pub fn to_rgb(&self) -> Self {
        if self.channels != 4 {
            return self.clone();
        }
        let pixels = self.pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
        Self { width: self.width, height: self.height, channels: 3, pixels }
    }

    /// Red, green, blue and alpha; what has no alpha is opaque.
    pub fn to_rgba(&self) -> Self {
        let rgba = |p: &[u8]| match *p {
            [grey] => [grey, grey, grey, 255],
            [r, g, b] => [r, g, b, 255],
            _ => [p[0], p[1], p[2], p[3]],
        };
        let pixels = self.pixels.chunks_exact(self.channels).flat_map(rgba).collect();
        Self { width: self.width, height: self.height, channels: 4, pixels }
    }
}

/// Labelled images by index. Reading is lazy: an image is decoded when it is asked for.
pub trait Samples: Send + Sync {
    /// How many samples there are.
    fn len(&self) -> usize;
    /// The label of sample `index`.
    fn label(&self, index: usize) -> u32;
    /// Decodes sample `index`.
    ///
    /// # Errors
    /// If it cannot be read, or is a point and no image (see [`Samples::point`]).
    fn image(&self, index: usize) -> Result<Image>;
    /// Sample `index` in red, green, blue and alpha, for models that read four channels; what has no alpha is opaque.
    ///
    /// # Errors
    /// As [`Samples::image`].
    fn image_with_alpha(&self, index: usize) -> Result<Image> {
        Ok(self.image(index)?.to_rgba())
    }
    /// Reads sample `index` only to see whether it can be read, with `alpha` as a model of four channels does; gives what is to be
    /// told of it.
    ///
    /// # Errors
    /// As [`Samples::image`].
    fn look(&self, index: usize, _alpha: bool) -> Result<Look> {
        // What is in memory in full needs no look.
        if self.point(index).is_none() && self.image_size().is_none() {
            self.image(index)?;
        }
        Ok(Look::default())
    }
    /// What to call sample `index` in a message or report: a file's path inside of the data set, or its part and index.
    fn name(&self, index: usize) -> String;
    /// The coordinates of sample `index`, where the samples are points and not images. A model reads a point of n
    /// coordinates as they are, with shape `[n, 1, 1]`.
    fn point(&self, _index: usize) -> Option<&[f32]> {
        None
    }
    /// Height, width and channels of every image, where all are of one size.
    fn image_size(&self) -> Option<[usize; 3]> {
        None
    }
    /// The hash of what sample `index` holds: of its file where it has one of its own, else of its pixels or coordinates.
    ///
    /// # Errors
    /// If it cannot be read.
    fn digest(&self, index: usize) -> Result<Digest> {
        match self.point(index) {
            Some(point) => Ok(Digest::of_point(point)),
            None => Ok(Digest::of_image(&self.image(index)?)),
        }
    }
    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a data set is opened.
#[derive(Debug, Clone, PartialEq)]
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
            on_bad_image: OnBadImage::Error,
            exif: Exif::Apply,
        }
    }
}

impl DataOptions {
    fn wishes(&self) -> Wishes<'_> {
        Wishes { train: self.train_split.as_deref(), test: self.test_split.as_deref(), whole: self.whole }
    }
}

/// A data set with its classes.
#[derive(Clone)]
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

/// What a reader of one kind of data set gives to [`open`].
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

/// A part without samples.
pub(super) fn nothing() -> Arc<dyn Samples> {
    struct Nothing;

    impl Samples for Nothing {
        fn len(&self) -> usize {
            0
        }
        fn label(&self, _: usize) -> u32 {
            0
        }
        fn image(&self, index: usize) -> Result<Image> {
            Err(Error::invalid(self.name(index), "a sample", "none"))
        }
        fn name(&self, index: usize) -> String {
            format!("nothing/{index}")
        }
    }

    Arc::new(Nothing)
}

/// Opens the data set that `spec` names: `mnist`, `fashion-mnist`, `cifar10`, `circles`, `idx:DIR`, `cifar:DIR`,
/// `folder:DIR`, or with the feature `parquet` `parquet:PATH` and `hf:OWNER/NAME`.
///
/// # Errors
/// If there is no such data set, it cannot be read or is not what its format says, or the options leave nothing of it.
pub fn open(spec: &str, options: &DataOptions) -> Result<Dataset> {
    open_with(spec, options, &OpenOptions::default())
}

/// As [`open`]; what has to be downloaded comes from the hub as `hub` says, which is told of progress.
///
/// # Errors
/// As [`open`].
pub fn open_with(spec: &str, options: &DataOptions, hub: &OpenOptions) -> Result<Dataset> {
    open_at(spec, spec, options, hub)
}

/// As [`open_with`], where the data set that is called `spec` lies at `place`, another name of it: `folder:photos` at
/// `folder:/home/me/photos`.
///
/// # Errors
/// As [`open`].
pub fn open_at(spec: &str, place: &str, options: &DataOptions, hub: &OpenOptions) -> Result<Dataset> {
    check(options)?;
    let wishes = options.wishes();
    let parts = match place.split_once(':') {
        None => match place {
            "mnist" => idx::mnist()?,
            "fashion-mnist" => idx::fashion_mnist()?,
            #[cfg(feature = "parquet")]
            "cifar10" => cifar::cifar10(hub, wishes)?,
            #[cfg(not(feature = "parquet"))]
            "cifar10" => cifar::cifar10()?,
            "circles" => circles::circles(),
            other => return Err(unknown(other)),
        },
        Some(("idx", dir)) => idx::open(&expanded(dir))?,
        Some(("cifar", path)) => cifar::open(&expanded(path))?,
        Some(("folder", dir)) => folder::open(&expanded(dir), options, wishes)?,
        #[cfg(feature = "parquet")]
        Some(("hf", name)) => super::parquet::open_hub(name, hub, wishes, options.exif)?,
        #[cfg(feature = "parquet")]
        Some(("parquet", path)) => super::parquet::open_local(spec, path, wishes, options.exif)?,
        #[cfg(not(feature = "parquet"))]
        Some(("hf", _)) => {
            let remedy = "build with the feature `parquet`, or download it and write folder:DIR";
            return Err(Error::unusable(spec, "a data set on this machine", "one on the hub", remedy));
        }
        Some(_) => return Err(unknown(place)),
    };
    let dataset = assemble(spec, fixed(spec, parts, wishes)?, options, hub)?;
    match options.on_bad_image {
        OnBadImage::Error => Ok(dataset),
        OnBadImage::Skip => check::without_bad(dataset, &|text| hub.progress.iter().for_each(|who| who.note(text))),
    }
}

/// Formats that know a training and a test part and no others: these are listed, and nothing can be chosen.
fn fixed(spec: &str, mut parts: Parts, wishes: Wishes) -> Result<Parts> {
    if !parts.parts.is_empty() {
        return Ok(parts);
    }
    let has_test = parts.test.is_some();
    let wished = [("`train_split`", wishes.train, "train"), ("`test_split`", wishes.test, "test")];
    for (setting, wish, name) in wished {
        if let Some(wish) = wish.filter(|wish| *wish != name || (name == "test" && !has_test)) {
            let there = if has_test { "train and test" } else { "train alone" };
            let expected = format!("{name}, if it is given; the parts are {there}, and cannot be exchanged");
            return Err(Error::invalid(format!("{spec}: {setting}"), expected, format!("{wish:?}")));
        }
    }
    let part = |name: &str, role, samples: usize| Part {
        name: name.into(),
        role,
        source: spec.into(),
        why: "the format says so".into(),
        samples: Some(samples),
    };
    parts.parts.push(part("train", Role::Train, parts.train.len()));
    parts.parts.extend(parts.val.iter().map(|val| part("val", Role::Val, val.len())));
    parts.parts.extend(parts.test.iter().map(|test| part("test", Role::Test, test.len())));
    Ok(parts)
}

/// Whether `spec` names a data set of points and not of images.
pub fn holds_points(spec: &str) -> bool {
    spec == "circles"
}

fn unknown(spec: &str) -> Error {
    let known = "mnist, fashion-mnist, cifar10, circles, idx:DIR, cifar:DIR, folder:DIR, parquet:PATH or hf:OWNER/NAME";
    if expanded(spec).is_dir() {
        return Error::unusable(
            "data set",
            known,
            format!("{spec:?}"),
            format!("for images in that folder write folder:{spec}"),
        );
    }
    Error::invalid("data set", known, format!("{spec:?}"))
}

fn check(options: &DataOptions) -> Result<()> {
    for (what, limit) in [("limit", options.limit), ("test-limit", options.test_limit)] {
        if limit == Some(0) {
            return Err(Error::unusable(what, "at least 1", 0, "leave it out to use all samples"));
        }
    }
    if !(0.0..1.0).contains(&options.val_fraction) {
        return Err(Error::invalid(
            "val-fraction",
            "a number from 0 up to, but not including, 1",
            options.val_fraction,
        ));
    }
    if !(options.test_fraction > 0.0 && options.test_fraction < 1.0) {
        return Err(Error::invalid("test-fraction", "a number between 0 and 1", options.test_fraction));
    }
    Ok(())
}

/// Splits, limits and checks what a reader gave.
fn assemble(spec: &str, parts: Parts, options: &DataOptions, hub: &OpenOptions) -> Result<Dataset> {
    let Parts { classes, mut train, mut val, test, shape, mut notes, mut parts, augment, sorted } = parts;
    if classes.len() < 2 && !options.whole {
        let remedy = "a single class leaves nothing to tell apart: add samples of another one";
        return Err(Error::unusable(spec, "at least two classes", classes.len(), remedy));
    }
    let splitting = Splitting { spec, classes: &classes, options, hub };
    let test_held_out = test.is_none() && !options.whole;
    let mut test = match test {
        Some(test) => test,
        None if options.whole => {
            notes.push(format!("{spec} has no test part: all {} samples are taken", train.len()));
            parts.iter_mut().filter(|part| part.role == Role::Train).for_each(|part| {
                part.role = Role::Test;
                part.why =
                    format!("{}; there is no test part, and nothing is trained on: all of it is measured", part.why);
            });
            train.clone()
        }
        None => {
            let all = train.len();
            let (rest, test) = splitting.part(train, options.test_fraction, Purpose::Test, &mut notes)?;
            notes.push(format!("{spec} has no test part: {} of {all} samples are held out for it", test.len()));
            split_off(&mut parts, "test", Role::Test, rest.len(), test.len());
            train = rest;
            test
        }
    };
    let mut limited = |samples: Arc<dyn Samples>, limit: Option<usize>, part: &str| -> Result<Arc<dyn Samples>> {
        let Some(limit) = limit.filter(|limit| *limit < samples.len()) else { return Ok(samples) };
        let in_blocks = !sorted && split::is_in_blocks(&*samples);
        if in_blocks {
            notes.push(format!(
                "{spec}: the {part} part is sorted by class: of every class its share is taken, not the first {limit}"
            ));
        }
        let share = sorted || in_blocks;
        let indices = if share { split::proportional(&*samples, limit) } else { (0..limit).collect() };
        Ok(Arc::new(Subset::new(samples, indices)?))
    };
    train = limited(train, options.limit, "training")?;
    test = limited(test, options.test_limit, "test")?;
    if options.val_fraction > 0.0 {
        if val.is_some() {
            notes.push(format!("{spec} has a validation part of its own: no share of the training part is split off"));
        } else {
            let (rest, held_out) = splitting.part(train, options.val_fraction, Purpose::Validation, &mut notes)?;
            split_off(&mut parts, "val", Role::Val, rest.len(), held_out.len());
            (train, val) = (rest, Some(held_out));
        }
    }
    let empty = |part: &str| {
        Error::unusable(
            format!("{spec}: {part} part"),
            "at least one sample",
            "none",
            "add samples or change how it is split",
        )
    };
    if train.is_empty() && !options.whole {
        return Err(empty("training"));
    }
    if test.is_empty() {
        return Err(empty("test"));
    }
    if val.as_ref().is_some_and(|val| val.is_empty()) {
        return Err(empty("validation"));
    }
    parts.sort_by_key(|part| part.role);
    Ok(Dataset { spec: spec.to_string(), classes, train, val, test, test_held_out, shape, notes, parts, augment })
}

/// Adds a part that was split off the training part to the list, and takes its samples off that one.
fn split_off(parts: &mut Vec<Part>, name: &str, role: Role, kept: usize, held_out: usize) {
    let mut training = parts.iter_mut().filter(|part| part.role == Role::Train);
    if let (Some(only), None) = (training.next(), training.next()) {
        only.samples = Some(kept);
    }
    let why = format!("the data has none, so a share of every class is held out for {}", role.name());
    let source = "the training part".into();
    parts.push(Part { name: name.into(), role, source, why, samples: Some(held_out) });
}

/// What the splits of one data set have in common.
struct Splitting<'a> {
    spec: &'a str,
    classes: &'a [String],
    options: &'a DataOptions,
    hub: &'a OpenOptions,
}

impl Splitting<'_> {
    /// The samples that stay, and those that are held out.
    fn part(
        &self,
        samples: Arc<dyn Samples>,
        fraction: f64,
        purpose: Purpose,
        notes: &mut Vec<String>,
    ) -> Result<(Arc<dyn Samples>, Arc<dyn Samples>)> {
        let seed = self.options.split_seed;
        let (samples, Parted { kept, held_out, copies }): (Arc<dyn Samples>, _) = match self.options.split_by {
            SplitBy::Position => (samples.clone(), split::by_position(&*samples, fraction, seed)),
            SplitBy::Content => {
                let digested = Arc::new(self.digested(samples)?);
                let parted = split::by_content(&digested, fraction, seed, purpose);
                (digested, parted)
            }
        };
        for class in copies.iter().filter_map(|&label| self.classes.get(label as usize)) {
            notes
                .push(format!("{}: all images of class {class:?} are the same one: they are split by name", self.spec));
        }
        let subset = |indices| -> Result<Arc<dyn Samples>> { Ok(Arc::new(Subset::new(samples.clone(), indices)?)) };
        Ok((subset(kept)?, subset(held_out)?))
    }

    /// The samples with their digests; where reading them takes long, that is told.
    fn digested(&self, samples: Arc<dyn Samples>) -> Result<Digested> {
        let (began, mut told, total) = (Instant::now(), false, samples.len());
        let mut go_on = |_| {
            if !told && began.elapsed() > PATIENCE {
                told = true;
                let progress = self.hub.progress.iter();
                progress.for_each(|progress| {
                    progress.note(&format!("reading {total} samples of {} to split them", self.spec))
                });
            }
            true
        };
        let digested = Digested::new(samples, &mut go_on);
        digested.ok_or_else(|| Error::invalid(self.spec, "samples that are read to the end", "a stop"))
    }
}
