//! `tallow embed`: a model's features of images, or of texts, as a safetensors file.

mod texts;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use tallow_models::{AnyModel, ImgSize};
use tallow_weights::save;

use crate::error::{Result, Told, usage};
use crate::file_name::check_written;
use crate::flags::{EmbedArgs, Features, Split};
use crate::images::{ImageFiles, tell_bad};
use crate::model;
use crate::progress::{self, Progress};
use crate::session::Session;
use tallow::data::{self, Alpha, Checked, DataOptions, LoaderOptions, OnBadImage, Samples, Subset};
use tallow::train::relabelled;
use tallow::{Embedder, Pretrained};

#[derive(Serialize)]
struct Embedded<'a> {
    out: &'a Path,
    images: usize,
    /// Shape of `features`.
    shape: Vec<usize>,
    labels: bool,
}

pub fn run(args: &EmbedArgs, session: &Session) -> Result {
    if let Some(out) = &args.out {
        check_written("--out", out, "safetensors")?;
    }
    if !args.text.is_empty() {
        let parts = args.parts.train_split.is_some() || args.parts.test_split.is_some();
        if parts || args.bad.on_bad_image.is_some() || args.exif.exif.is_some() {
            let flags = "--train-split, --test-split, --on-bad-image, --exif";
            return Err(usage(format!("{flags}: expected images beside them, got --text")));
        }
        return texts::run(args, session);
    }
    let out = args.out.as_deref().ok_or_else(|| usage("--out: expected the file to write, got none"))?;
    let loaded = model::open(&args.model, &args.architecture, &args.checkpoint, session)?;
    model::say_account(&loaded, session);
    let embedder = embedder(args, loaded.clone())?;
    loaded.transform().map_err(model::of_model)?.check_reads_images()?;
    let (samples, classes) = samples(args, &loaded, session)?;
    let samples = readable(args, samples, &loaded, session)?;
    let shape = write(args, out, &embedder, &samples, classes.as_deref(), session)?;
    let embedded = Embedded { out, images: samples.len(), shape, labels: args.data.is_some() };
    session.result(&embedded, || {
        let labels = if embedded.labels { " and labels" } else { "" };
        format!("{}: features {:?}{labels}", out.display(), embedded.shape)
    })
}

/// Writes the features of all samples batch by batch: together they may be larger than memory. Gives their shape. `classes` are
/// the names of the labels, by number.
fn write(
    args: &EmbedArgs,
    out: &Path,
    embedder: &Embedder,
    samples: &Arc<dyn Samples>,
    classes: Option<&[String]>,
    session: &Session,
) -> Result<Vec<usize>> {
    let count = samples.len();
    let names: Vec<String> = (0..count).map(|index| samples.name(index)).collect();
    let input = embedder.pretrained().config().architecture.input_size();
    let mut about = HashMap::from([
        ("model".to_string(), args.model.clone()),
        ("features".into(), format!("{:?}", args.features).to_lowercase()),
        ("images".into(), serde_json::to_string(&names)?),
    ]);
    about.insert("img_size".into(), ImgSize::from([input[1], input[2]]).to_string());
    let parts =
        [("train_split", &args.parts.train_split), ("test_split", &args.parts.test_split), ("data", &args.data)];
    about.extend(parts.into_iter().filter_map(|(key, value)| Some((key.to_string(), value.clone()?))));
    if let Some(classes) = classes {
        about.insert("classes".into(), serde_json::to_string(classes)?);
    }
    if let (Features::Logits, Some(columns)) = (args.features, &embedder.pretrained().config().labels) {
        about.insert("logits".into(), serde_json::to_string(columns)?);
    }
    let labels = args.data.is_some().then(|| (0..count).map(|index| i64::from(samples.label(index))).collect());
    let labels = labels.map(|labels: Vec<i64>| Tensor::new(labels, &Device::Cpu)).transpose()?;

    let options = LoaderOptions::default().with(|o| {
        o.batch_size = args.batch_size;
        o.threads = session.threads();
    });
    let bar = progress::count(session, count, "images");
    let batches =
        embedder.pretrained().batches(samples, (0..count).collect(), options, false).map_err(model::of_model)?;
    let mut batches = batches.map(|batch| {
        let batch = batch.map_err(model::of_model)?;
        let name = |place: usize| batch.indices.get(place).map_or(String::new(), |&index| samples.name(index));
        let features = embedder.embed_input(&batch.input, name).map_err(model::of_model)?;
        bar.inc(batch.indices.len() as u64);
        anyhow::Ok(features)
    });
    let first = batches.next().context("expected at least one image, got none")??;
    let shape = [&[count], &first.dims()[1..]].concat();
    let mut tensors: Vec<_> = labels.iter().map(|labels| ("labels", DType::I64, labels.dims().to_vec())).collect();
    tensors.push(("features", DType::F32, shape.clone()));
    save::stream(out, &tensors, about, |stream| -> Result {
        labels.iter().try_for_each(|labels| stream.write(labels))?;
        stream.write(&first)?;
        batches.try_for_each(|features| Ok(stream.write(&features?)?))
    })?;
    bar.finish_and_clear();
    Ok(shape)
}

/// The model as the flags ask for its features.
fn embedder(args: &EmbedArgs, loaded: Pretrained) -> Result<Embedder> {
    let features = match args.features {
        Features::Logits => {
            model::check_logits(&loaded, &args.architecture, "take pooled or tokens (--features)")?;
            tallow::Features::Logits
        }
        Features::Tokens if !matches!(loaded.model(), AnyModel::Vit(_)) => {
            return Err(usage(format!(
                "--features tokens: {} is no ViT and has none; take pooled or logits",
                args.model
            )));
        }
        Features::Tokens => tallow::Features::Tokens,
        Features::Pooled => tallow::Features::Pooled,
    };
    Embedder::new(loaded).features(features).map_err(model::of_model)
}

/// The images that can be read. All of them are read once before any is embedded: the file's size depends on how many there are.
fn readable(
    args: &EmbedArgs,
    samples: Arc<dyn Samples>,
    loaded: &Pretrained,
    session: &Session,
) -> Result<Arc<dyn Samples>> {
    let alpha = Alpha::of(&loaded.config().preprocessing);
    let bar = progress::count(session, samples.len(), "images read once");
    let checked = Checked::of(&*samples, alpha, &|| bar.inc(1));
    bar.finish_and_clear();
    let what = args.data.as_deref().unwrap_or("images");
    checked.notes(what).iter().for_each(|note| session.warn(note));
    if checked.bad.is_empty() {
        return Ok(samples);
    }
    let good = checked.good();
    if args.bad.on_bad_image.unwrap_or_default() == OnBadImage::Error || good.is_empty() {
        tell_bad(&checked.bad, OnBadImage::Error, session);
        return Err(Told.into());
    }
    tell_bad(&checked.bad, OnBadImage::Skip, session);
    Ok(Arc::new(Subset::new(samples, good)?))
}

/// Samples, and the names of their labels by number, where they have labels.
type Labelled = (Arc<dyn Samples>, Option<Vec<String>>);

fn samples(args: &EmbedArgs, loaded: &Pretrained, session: &Session) -> Result<Labelled> {
    let exif = model::exif(&args.model, &args.exif)?;
    let Some(spec) = &args.data else {
        if args.parts.train_split.is_some() || args.parts.test_split.is_some() {
            return Err(usage("--train-split, --test-split: expected --data beside them, got images"));
        }
        return Ok((Arc::new(ImageFiles::find(&args.images, exif, session)?.limited(args.limit)), None));
    };
    let (limit, test_limit) = if args.split == Split::Train { (args.limit, None) } else { (None, args.limit) };
    let options = DataOptions::default().with(|o| {
        o.limit = limit;
        o.test_limit = test_limit;
        o.train_split = args.parts.train_split.clone();
        o.test_split = args.parts.test_split.clone();
        o.whole = true;
        o.exif = exif;
    });
    let dataset = data::open_with(spec, &options, &session.open_options())?;
    dataset.notes.iter().for_each(|note| session.warn(note));
    let samples = if args.split == Split::Train { dataset.train.clone() } else { dataset.test.clone() };
    if samples.is_empty() {
        bail!("{spec}: expected samples in the training part, got none: it has no such part");
    }
    if args.features != Features::Logits {
        return Ok((samples, Some(dataset.classes)));
    }
    // Whoever compares logits to labels means the same class by the same number.
    let (names, count) = (loaded.config().labels.as_deref(), loaded.config().architecture.num_classes());
    match relabelled(&samples, &dataset, names, count, &mut Progress::new(session)) {
        Ok(samples) => Ok((samples, Some(names.map_or(dataset.classes, <[String]>::to_vec)))),
        Err(error) => {
            session.warn(format!("{error}: labels are written as the data's numbers, which are not the logits'"));
            Ok((samples, Some(dataset.classes)))
        }
    }
}
