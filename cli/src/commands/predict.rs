//! `tallow predict`: the most probable classes of images, and what a ViT attends to in them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use candle_core::{DType, Tensor};
use serde::Serialize;
use tallow_models::{Mode, Model};

use crate::attention::AttentionFolder;
use crate::error::{Result, Told, one_line, usage};
use crate::flags::PredictArgs;
use crate::images::{ImageFiles, tell_bad, tell_one};
use crate::model::{self, Loaded};
use crate::output::stdout;
use crate::progress;
use crate::session::Session;
use tallow::data::{self, Checked, Loader, LoaderOptions, OnBadImage, Samples, Subset};
use tallow::train::RunFolder;
use tallow::train::svm::{self, Svm};

#[derive(Default, Serialize)]
struct Prediction {
    image: String,
    /// Why the image cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Empty where the model has no head that was trained.
    top: Vec<Class>,
    /// The picture of its attention, where one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    attention: Option<PathBuf>,
}

#[derive(Serialize)]
struct Class {
    class: usize,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f32>,
    /// What an SVM has in place of probabilities: the duels with other classes that this one won, and all of its duels.
    #[serde(skip_serializing_if = "Option::is_none")]
    duels_won: Option<[usize; 2]>,
}

pub fn run(args: &PredictArgs, session: &Session) -> Result {
    let exif = model::exif(&args.model, &args.exif)?;
    let images: Arc<dyn Samples> = Arc::new(ImageFiles::find(&args.images, exif, session)?);
    if let Some(svm) = svm::of_run(&RunFolder::new(&args.model))? {
        return by_votes(args, &svm, &images, session);
    }
    let loaded = Loaded::open(&args.model, &args.architecture, &args.checkpoint, session)?;
    check_head(args, &loaded, session)?;
    loaded.say_account(session);
    let attention = args.attention.as_deref();
    let mut attention = attention.map(|folder| AttentionFolder::new(folder, &loaded, &args.model)).transpose()?;
    let transform = loaded.transform()?;
    transform.check_reads_images()?;
    // What is odd about images is told before their classes are.
    let alpha = loaded.config.architecture.input_size()[0] == 4;
    Checked::of(&*images, alpha, &|| {}).notes("images").iter().for_each(|note| session.warn(note));
    let options = LoaderOptions { batch_size: args.batch_size, threads: session.threads(), ..LoaderOptions::default() };
    let bar = progress::count(session, images.len(), "images");
    let mut predictions = Vec::with_capacity(images.len());
    for batch in Loader::tolerant(images.clone(), (0..images.len()).collect(), transform.clone(), options)? {
        let batch = batch?;
        bar.inc(batch.bad.len() as u64);
        let of_bad = |(index, error): &(usize, Arc<_>)| (*index, Prediction::of_bad(images.name(*index), error));
        predictions.extend(batch.bad.iter().map(of_bad));
        batch.bad.iter().for_each(|(_, error)| bar.suspend(|| tell_one(error, args.bad.choice(), session)));
        if batch.indices.is_empty() {
            continue;
        }
        let input = batch.images.to_device(&loaded.device)?.to_dtype(loaded.dtype)?;
        let names: Vec<String> = batch.indices.iter().map(|&index| images.name(index)).collect();
        let tops = classes(&loaded, &input, &names, args.topk)?;
        for (i, (image, top)) in names.into_iter().zip(tops).enumerate() {
            let attention = match &mut attention {
                Some(folder) => {
                    let seen = transform.picture(&batch.images.get(i)?)?;
                    Some(folder.draw(&image, &seen, &input.narrow(0, i, 1)?)?)
                }
                None => None,
            };
            predictions.push((batch.indices[i], Prediction { image, top, attention, error: None }));
        }
        bar.inc(batch.indices.len() as u64);
    }
    bar.finish_and_clear();
    // Bad ones were told before the good ones of their batch.
    predictions.sort_by_key(|(index, _)| *index);
    let predictions: Vec<Prediction> = predictions.into_iter().map(|(_, prediction)| prediction).collect();
    say(args, &predictions, session)
}

fn say(args: &PredictArgs, predictions: &[Prediction], session: &Session) -> Result {
    let bad = predictions.iter().any(|prediction| prediction.error.is_some());
    let ended = if bad && args.bad.choice() == OnBadImage::Error { Err(Told.into()) } else { Ok(()) };
    if session.flags().json {
        let predictions = serde_json::json!({ "model": args.model, "predictions": predictions });
        return stdout(&serde_json::to_string(&predictions)?).and(ended);
    }
    for prediction in predictions.iter().filter(|prediction| prediction.error.is_none()) {
        let mut lines = vec![prediction.image.clone()];
        lines.extend(prediction.top.iter().map(Class::line));
        lines.extend(prediction.attention.iter().map(|path| format!("attention {}", path.display())));
        stdout(&lines.join("\n"))?;
    }
    ended
}

impl Prediction {
    /// What stands in the place of an image that cannot be read.
    fn of_bad(image: String, error: &data::Error) -> Self {
        Self { image, error: Some(error.to_string()), ..Self::default() }
    }
}

/// What an SVM says of images.
fn by_votes(args: &PredictArgs, svm: &Svm, images: &Arc<dyn Samples>, session: &Session) -> Result {
    if args.attention.is_some() {
        return Err(usage(format!("{}: expected a ViT for --attention, got a support vector machine", args.model)));
    }
    let checked = Checked::of(&**images, false, &|| {});
    checked.notes("images").iter().for_each(|note| session.warn(note));
    tell_bad(&checked.bad, args.bad.choice(), session);
    let mut predictions: Vec<Prediction> =
        checked.bad.iter().map(|bad| Prediction::of_bad(bad.name.clone(), &bad.error)).collect();
    let images: &Arc<dyn Samples> = &(Arc::new(Subset::new(images.clone(), checked.good())?) as _);
    for batch in svm.batches(images)? {
        let (indices, values) = batch?;
        for (index, x) in indices.into_iter().zip(values.chunks_exact(svm.width)) {
            let votes = svm.votes(x);
            let class = |class: usize| Class {
                class,
                label: svm.classes[class].clone(),
                probability: None,
                duels_won: Some([votes.won[class], votes.duels]),
            };
            let top = votes.ranking().into_iter().take(args.topk).map(class).collect();
            predictions.push(Prediction { image: images.name(index), top, ..Prediction::default() });
        }
    }
    say(args, &predictions, session)
}

impl Class {
    fn line(&self) -> String {
        match (self.probability, self.duels_won) {
            (Some(probability), _) => format!("{:6.2} %  {}", 100. * probability, self.label),
            (None, Some([won, of])) => format!("{won:3} of {of} duels  {}", self.label),
            (None, None) => self.label.clone(),
        }
    }
}

/// Checks that the model has a head that was trained, unless its attention is to be seen, which needs none.
fn check_head(args: &PredictArgs, loaded: &Loaded, session: &Session) -> Result {
    let checked = loaded.check_head("take the features (tallow embed), or see the attention (--attention DIR)");
    match checked {
        Err(error) if args.attention.is_some() => {
            if loaded.config.head_fault.is_some() {
                session.warn(format!("no classes are named: {}", one_line(&error)));
            }
            Ok(())
        }
        other => other,
    }
}

/// The most probable classes of every image of a batch; none where the model has no head that was trained.
fn classes(loaded: &Loaded, input: &Tensor, names: &[String], k: usize) -> Result<Vec<Vec<Class>>> {
    if !loaded.has_trained_head() {
        return Ok(names.iter().map(|_| Vec::new()).collect());
    }
    let logits = loaded.model.forward(input, Mode::Eval)?;
    let probabilities = candle_nn::ops::softmax_last_dim(&logits.to_dtype(DType::F32)?)?.to_vec2::<f32>()?;
    let top = |(name, probabilities): (&String, &Vec<f32>)| {
        if probabilities.iter().any(|p| !p.is_finite()) {
            bail!("{name}: expected finite logits, got others; the weights are damaged, get them again");
        }
        Ok(top(probabilities, k, loaded))
    };
    names.iter().zip(&probabilities).map(top).collect()
}

/// The `k` most probable classes, best first; of equals the first comes first.
fn top(probabilities: &[f32], k: usize, loaded: &Loaded) -> Vec<Class> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    let class = |class: usize| Class {
        class,
        label: loaded.label(class),
        probability: Some(probabilities[class]),
        duels_won: None,
    };
    order.into_iter().take(k).map(class).collect()
}
