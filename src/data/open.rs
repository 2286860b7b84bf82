//! What a data set's name means: its reader, its limits, and what is split off its parts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tallow_weights::{OpenOptions, expanded};

use super::dataset::{DataOptions, Dataset, Parts};
use super::digest::Digested;
use super::parts::{Part, Role, Wishes};
use super::samples::Samples;
use super::split::{self, Parted, Purpose, SplitBy, Subset};
use super::{Error, OnBadImage, Result, check, cifar, circles, folder, idx};

/// Samples are read for a split for so long before that is told.
const PATIENCE: Duration = Duration::from_secs(2);

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
    for (what, limit) in [("limit", options.limit), ("test_limit", options.test_limit)] {
        if limit == Some(0) {
            return Err(Error::unusable(what, "at least 1", 0, "leave it out to use all samples"));
        }
    }
    if !(0.0..1.0).contains(&options.val_fraction) {
        return Err(Error::invalid(
            "val_fraction",
            "a number from 0 up to, but not including, 1",
            options.val_fraction,
        ));
    }
    if !(options.test_fraction > 0.0 && options.test_fraction < 1.0) {
        return Err(Error::invalid("test_fraction", "a number between 0 and 1", options.test_fraction));
    }
    Ok(())
}

/// Splits, limits and checks what a reader gave.
fn assemble(spec: &str, parts: Parts, options: &DataOptions, hub: &OpenOptions) -> Result<Dataset> {
    let Parts { classes, mut train, mut val, test, shape, mut notes, mut parts, augment, sorted } = parts;
    if classes.len() < 2 && !options.whole && !options.unlabelled {
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
