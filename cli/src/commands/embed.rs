//! `tallow embed`: a model's features of images, as a safetensors file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use tallow_models::{AnyModel, Mode, Model};
use tallow_weights::save;

use crate::error::{Result, Told, usage};
use crate::flags::{EmbedArgs, Features, Split};
use crate::images::{ImageFiles, tell_bad};
use crate::model::{self, Loaded};
use crate::progress::{self, Progress};
use crate::session::Session;
use tallow::data::{self, Checked, DataOptions, Loader, LoaderOptions, OnBadImage, Samples, Subset};
use tallow::train::relabelled;

#[derive(Serialize)]
struct Embedded<'a> {
    out: &'a Path,
    images: usize,
    /// Shape of `features`.
    shape: Vec<usize>,
    labels: bool,
}

pub fn run(args: &EmbedArgs, session: &Session) -> Result {
    if args.out.is_dir() {
        return Err(usage(format!("--out {}: expected a file, got a folder", args.out.display())));
    }
    let loaded = Loaded::open(&args.model, &args.architecture, &args.checkpoint, session)?;
    loaded.say_account(session);
    check(args, &loaded)?;
    loaded.transform()?.check_reads_images()?;
    let (samples, classes) = samples(args, &loaded, session)?;
    let samples = readable(args, samples, &loaded, session)?;
    let shape = write(args, &loaded, &samples, classes.as_deref(), session)?;
    let embedded = Embedded { out: &args.out, images: samples.len(), shape, labels: args.data.is_some() };
    session.result(&embedded, || {
        let labels = if embedded.labels { " and labels" } else { "" };
        format!("{}: features {:?}{labels}", args.out.display(), embedded.shape)
    })
}

/// Writes the features of all samples batch by batch: together they may be larger than memory. Gives their shape. `classes` are
/// the names of the labels, by number.
fn write(
    args: &EmbedArgs,
    loaded: &Loaded,
    samples: &Arc<dyn Samples>,
    classes: Option<&[String]>,
    session: &Session,
) -> Result<Vec<usize>> {
    let count = samples.len();
    let names: Vec<String> = (0..count).map(|index| samples.name(index)).collect();
    let mut about = HashMap::from([
        ("model".to_string(), args.model.clone()),
        ("features".into(), format!("{:?}", args.features).to_lowercase()),
        ("images".into(), serde_json::to_string(&names)?),
    ]);
    if let Some(classes) = classes {
        about.insert("classes".into(), serde_json::to_string(classes)?);
    }
    if let (Features::Logits, Some(columns)) = (args.features, &loaded.config.labels) {
        about.insert("logits".into(), serde_json::to_string(columns)?);
    }
    let labels = args.data.is_some().then(|| (0..count).map(|index| i64::from(samples.label(index))).collect());
    let labels = labels.map(|labels: Vec<i64>| Tensor::new(labels, &Device::Cpu)).transpose()?;

    let options = LoaderOptions { batch_size: args.batch_size, threads: session.threads(), ..LoaderOptions::default() };
    let bar = progress::count(session, count, "images");
    let mut batches = Loader::new(samples.clone(), (0..count).collect(), loaded.transform()?, options)?.map(|batch| {
        let batch = batch?;
        let input = batch.images.to_device(&loaded.device)?.to_dtype(loaded.dtype)?;
        let features = features(&loaded.model, &input, args.features)?.to_dtype(DType::F32)?;
        if features.flatten_all()?.to_vec1::<f32>()?.iter().any(|value| !value.is_finite()) {
            let first = batch.indices.first().map_or(String::new(), |&index| samples.name(index));
            bail!("{first} or an image soon after it: expected finite features, got others; the weights are damaged, get them again");
        }
        bar.inc(batch.indices.len() as u64);
        anyhow::Ok(features)
    });
    let first = batches.next().context("expected at least one image, got none")??;
    let shape = [&[count], &first.dims()[1..]].concat();
    let mut tensors: Vec<_> = labels.iter().map(|labels| ("labels", DType::I64, labels.dims().to_vec())).collect();
    tensors.push(("features", DType::F32, shape.clone()));
    save::stream(&args.out, &tensors, about, |stream| -> Result {
        labels.iter().try_for_each(|labels| stream.write(labels))?;
        stream.write(&first)?;
        batches.try_for_each(|features| Ok(stream.write(&features?)?))
    })?;
    bar.finish_and_clear();
    Ok(shape)
}

fn check(args: &EmbedArgs, loaded: &Loaded) -> Result {
    match (args.features, &loaded.model) {
        (Features::Logits, _) => loaded.check_head("take pooled or tokens (--features)"),
        (Features::Tokens, model) if !matches!(model, AnyModel::Vit(_)) => {
            Err(usage(format!("--features tokens: {} is no ViT and has none; take pooled or logits", args.model)))
        }
        _ => Ok(()),
    }
}

/// The images that can be read. All of them are read once before any is embedded: the file's size depends on how many there are.
fn readable(
    args: &EmbedArgs,
    samples: Arc<dyn Samples>,
    loaded: &Loaded,
    session: &Session,
) -> Result<Arc<dyn Samples>> {
    let alpha = loaded.config.architecture.input_size()[0] == 4;
    let bar = progress::count(session, samples.len(), "images read once");
    let checked = Checked::of(&*samples, alpha, &|| bar.inc(1));
    bar.finish_and_clear();
    let what = args.data.as_deref().unwrap_or("images");
    checked.notes(what).iter().for_each(|note| session.warn(note));
    if checked.bad.is_empty() {
        return Ok(samples);
    }
    let good = checked.good();
    if args.bad.choice() == OnBadImage::Error || good.is_empty() {
        tell_bad(&checked.bad, OnBadImage::Error, session);
        return Err(Told.into());
    }
    tell_bad(&checked.bad, OnBadImage::Skip, session);
    Ok(Arc::new(Subset::new(samples, good)?))
}

/// Samples, and the names of their labels by number, where they have labels.
type Labelled = (Arc<dyn Samples>, Option<Vec<String>>);

fn samples(args: &EmbedArgs, loaded: &Loaded, session: &Session) -> Result<Labelled> {
    let exif = model::exif(&args.model, &args.exif)?;
    let Some(spec) = &args.data else {
        if args.parts.train_split.is_some() || args.parts.test_split.is_some() {
            return Err(usage("--train-split, --test-split: expected --data beside them, got images"));
        }
        return Ok((Arc::new(ImageFiles::find(&args.images, exif, session)?.limited(args.limit)), None));
    };
    let (limit, test_limit) = if args.split == Split::Train { (args.limit, None) } else { (None, args.limit) };
    let options = DataOptions {
        limit,
        test_limit,
        train_split: args.parts.train_split.clone(),
        test_split: args.parts.test_split.clone(),
        whole: true,
        exif,
        ..DataOptions::default()
    };
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
    let (names, count) = (loaded.config.labels.as_deref(), loaded.config.architecture.num_classes());
    match relabelled(&samples, &dataset, names, count, &mut Progress::new(session)) {
        Ok(samples) => Ok((samples, Some(names.map_or(dataset.classes, <[String]>::to_vec)))),
        Err(error) => {
            session.warn(format!("{error}: labels are written as the data's numbers, which are not the logits'"));
            Ok((samples, Some(dataset.classes)))
        }
    }
}

fn features(model: &AnyModel, images: &Tensor, features: Features) -> candle_core::Result<Tensor> {
    match (features, model) {
        (Features::Logits, _) => model.forward(images, Mode::Eval),
        (Features::Tokens, AnyModel::Vit(vit)) => vit.forward_features(images, Mode::Eval),
        (Features::Pooled | Features::Tokens, _) => model.pooled(images, Mode::Eval),
    }
}
