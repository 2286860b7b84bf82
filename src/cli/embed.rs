//! `tallow embed`: a model's features of images, as a safetensors file.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use tallow_models::{AnyModel, Mode, Model};

use super::error::{Result, usage};
use super::flags::{EmbedArgs, Features, Split};
use super::images::ImageFiles;
use super::model::Loaded;
use super::progress;
use super::session::Session;
use crate::data::{self, DataOptions, Loader, LoaderOptions, Samples};

#[derive(Serialize)]
struct Embedded<'a> {
    out: &'a std::path::Path,
    images: usize,
    /// Shape of `features`.
    shape: Vec<usize>,
    labels: bool,
}

pub fn run(args: &EmbedArgs, session: &Session) -> Result {
    let loaded = Loaded::open(&args.model, &args.architecture, session)?;
    loaded.say_account(session);
    check(args, &loaded)?;
    let samples = samples(args, session)?;
    let options = LoaderOptions { batch_size: args.batch_size, threads: session.threads(), ..LoaderOptions::default() };
    let bar = progress::count(session, samples.len(), "images");
    let (mut values, mut shape): (Vec<f32>, Vec<usize>) = (Vec::new(), Vec::new());
    for batch in Loader::new(samples.clone(), (0..samples.len()).collect(), loaded.transform()?, options)? {
        let batch = batch?;
        let input = batch.images.to_device(&loaded.device)?.to_dtype(loaded.dtype)?;
        let features = features(&loaded.model, &input, args.features)?.to_dtype(DType::F32)?;
        shape = features.dims()[1..].to_vec();
        values.extend(features.flatten_all()?.to_vec1::<f32>()?);
        bar.inc(batch.indices.len() as u64);
    }
    bar.finish_and_clear();
    shape.insert(0, samples.len());
    let mut tensors = vec![("features".to_string(), Tensor::from_vec(values, shape.as_slice(), &Device::Cpu)?)];
    if args.data.is_some() {
        let labels: Vec<i64> = (0..samples.len()).map(|index| i64::from(samples.label(index))).collect();
        tensors.push(("labels".into(), Tensor::new(labels, &Device::Cpu)?));
    }
    let names: Vec<String> = (0..samples.len()).map(|index| samples.name(index)).collect();
    let about = HashMap::from([
        ("model".to_string(), args.model.clone()),
        ("features".into(), format!("{:?}", args.features).to_lowercase()),
        ("images".into(), serde_json::to_string(&names)?),
    ]);
    let labels = tensors.len() > 1;
    tallow_weights::save::safetensors(&args.out, &tensors, about).context("cannot write the features")?;
    let embedded = Embedded { out: &args.out, images: samples.len(), shape, labels };
    session.result(&embedded, || {
        format!("{}: features {:?}{}", args.out.display(), embedded.shape, if labels { " and labels" } else { "" })
    })
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
    session.fetch_data(spec)?;
    let dataset = data::open(spec, &limited)?;
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
