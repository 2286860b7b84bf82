//! `tallow embed`: a model's features of images, as a safetensors file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use tallow_models::{AnyModel, Mode, Model};
use tallow_weights::save::{self, SafetensorsStream};

use super::error::{Result, usage};
use super::flags::{EmbedArgs, Features, Split};
use super::images::ImageFiles;
use super::model::Loaded;
use super::progress;
use super::session::Session;
use crate::data::{self, DataOptions, Loader, LoaderOptions, Samples};

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
    let loaded = Loaded::open(&args.model, &args.architecture, session)?;
    loaded.say_account(session);
    check(args, &loaded)?;
    let samples = samples(args, session)?;
    let mut shape = Vec::new();
    save::replace(&args.out, |unfinished| {
        shape = write(unfinished, args, &loaded, &samples, session)?;
        anyhow::Ok(())
    })
    .context("cannot write the features")?;
    let embedded = Embedded { out: &args.out, images: samples.len(), shape, labels: args.data.is_some() };
    session.result(&embedded, || {
        let labels = if embedded.labels { " and labels" } else { "" };
        format!("{}: features {:?}{labels}", args.out.display(), embedded.shape)
    })
}

/// Writes the features of all samples batch by batch: together they may be larger than memory. Gives their shape.
fn write(
    path: &Path,
    args: &EmbedArgs,
    loaded: &Loaded,
    samples: &Arc<dyn Samples>,
    session: &Session,
) -> Result<Vec<usize>> {
    let count = samples.len();
    let names: Vec<String> = (0..count).map(|index| samples.name(index)).collect();
    let about = HashMap::from([
        ("model".to_string(), args.model.clone()),
        ("features".into(), format!("{:?}", args.features).to_lowercase()),
        ("images".into(), serde_json::to_string(&names)?),
    ]);
    let labels = args.data.is_some().then(|| (0..count).map(|index| i64::from(samples.label(index))).collect());
    let labels = labels.map(|labels: Vec<i64>| Tensor::new(labels, &Device::Cpu)).transpose()?;

    let options = LoaderOptions { batch_size: args.batch_size, threads: session.threads(), ..LoaderOptions::default() };
    let bar = progress::count(session, count, "images");
    let (mut stream, mut shape) = (None, Vec::new());
    for batch in Loader::new(samples.clone(), (0..count).collect(), loaded.transform()?, options)? {
        let batch = batch?;
        let input = batch.images.to_device(&loaded.device)?.to_dtype(loaded.dtype)?;
        let features = features(&loaded.model, &input, args.features)?.to_dtype(DType::F32)?;
        if stream.is_none() {
            shape = [&[count], &features.dims()[1..]].concat();
            let mut tensors: Vec<_> =
                labels.iter().map(|labels| ("labels", DType::I64, labels.dims().to_vec())).collect();
            tensors.push(("features", DType::F32, shape.clone()));
            let mut begun = SafetensorsStream::create(path, &tensors, about.clone())?;
            labels.iter().try_for_each(|labels| begun.write(labels))?;
            stream = Some(begun);
        }
        stream.iter_mut().try_for_each(|stream| stream.write(&features))?;
        bar.inc(batch.indices.len() as u64);
    }
    bar.finish_and_clear();
    stream.context("expected at least one image, got none")?.finish()?;
    Ok(shape)
}

fn check(args: &EmbedArgs, loaded: &Loaded) -> Result {
    let classes = loaded.config.architecture.num_classes();
    match (args.features, &loaded.model) {
        (Features::Logits, _) if classes == 0 => Err(usage(format!(
            "--features logits: {} has no classification head; take pooled or tokens, or train a head (tallow finetune)",
            args.model
        ))),
        (Features::Tokens, model) if !matches!(model, AnyModel::Vit(_)) => {
            Err(usage(format!("--features tokens: {} is no ViT and has none; take pooled or logits", args.model)))
        }
        _ => Ok(()),
    }
}

fn samples(args: &EmbedArgs, session: &Session) -> Result<Arc<dyn Samples>> {
    let Some(spec) = &args.data else {
        return Ok(Arc::new(ImageFiles::find(&args.images)?.limited(args.limit)));
    };
    let limited = match args.split {
        Split::Train => DataOptions { limit: args.limit, ..DataOptions::default() },
        Split::Test => DataOptions { test_limit: args.limit, ..DataOptions::default() },
    };
    let dataset = data::open_with(spec, &limited, &session.open_options())?;
    dataset.notes.iter().for_each(|note| session.warn(note));
    Ok(if args.split == Split::Train { dataset.train } else { dataset.test })
}

fn features(model: &AnyModel, images: &Tensor, features: Features) -> candle_core::Result<Tensor> {
    match (features, model) {
        (Features::Logits, _) => model.forward(images, Mode::Eval),
        (Features::Tokens, AnyModel::Vit(vit)) => vit.forward_features(images, Mode::Eval),
        (Features::Pooled | Features::Tokens, _) => model.pooled(images, Mode::Eval),
    }
}
