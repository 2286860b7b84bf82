//! `tallow predict`: the most probable classes of images, and what a ViT attends to in them.

use std::path::PathBuf;
use std::sync::Arc;

use candle_core::Tensor;
use serde::Serialize;

use crate::attention::AttentionFolder;
use crate::error::{Result, Told, one_line, usage};
use crate::flags::PredictArgs;
use crate::images::{ImageFiles, tell_bad, tell_one};
use crate::model;
use crate::output::stdout;
use crate::progress;
use crate::session::Session;
use tallow::data::{self, Alpha, Checked, LoaderOptions, OnBadImage, Samples, Subset};
use tallow::text::{ZeroShot, given};
use tallow::train::RunFolder;
use tallow::train::study::svm::{self, Svm};
use tallow::{Classifier, Pretrained};

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
    let loaded = match &args.labels {
        Some(labels) => by_words(args, labels, session)?,
        None => model::open(&args.model, &args.architecture, &args.checkpoint, session)?,
    };
    let classifier = classifier(args, &loaded, session)?;
    model::say_account(&loaded, session);
    let attention = args.attention.as_deref();
    let mut attention = attention.map(|folder| AttentionFolder::new(folder, &loaded, &args.model)).transpose()?;
    let transform = loaded.transform().map_err(model::of_model)?;
    transform.check_reads_images()?;
    // What is odd about images is told before their classes are.
    let alpha = Alpha::of(&loaded.config().preprocessing);
    Checked::of(&*images, alpha, &|| {}).notes("images").iter().for_each(|note| session.warn(note));
    let options = LoaderOptions::default().with(|o| {
        o.batch_size = args.batch_size;
        o.threads = session.threads();
    });
    let bar = progress::count(session, images.len(), "images");
    let mut predictions = Vec::with_capacity(images.len());
    let batches = loaded.batches(&images, (0..images.len()).collect(), options, true).map_err(model::of_model)?;
    for batch in batches {
        let batch = batch.map_err(model::of_model)?;
        bar.inc(batch.bad.len() as u64);
        let of_bad = |(index, error): &(usize, Arc<_>)| (*index, Prediction::of_bad(images.name(*index), error));
        predictions.extend(batch.bad.iter().map(of_bad));
        batch
            .bad
            .iter()
            .for_each(|(_, error)| bar.suspend(|| tell_one(error, args.bad.on_bad_image.unwrap_or_default(), session)));
        if batch.indices.is_empty() {
            continue;
        }
        let names: Vec<String> = batch.indices.iter().map(|&index| images.name(index)).collect();
        let tops = classes(classifier.as_ref(), &batch.input, &names)?;
        for (i, (image, top)) in names.into_iter().zip(tops).enumerate() {
            let attention = match &mut attention {
                Some(folder) => {
                    let seen = transform.picture(&batch.images.get(i)?)?;
                    Some(folder.draw(&image, &seen, &batch.input.narrow(0, i, 1)?)?)
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
    let ended =
        if bad && args.bad.on_bad_image.unwrap_or_default() == OnBadImage::Error { Err(Told.into()) } else { Ok(()) };
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

/// The model as a classifier of the classes that are called `labels`.
fn by_words(args: &PredictArgs, labels: &str, session: &Session) -> Result<Pretrained> {
    let words = given::names("labels", labels).map_err(model::of_model)?;
    let (device, dtype) = session.device()?;
    let options = model::open_options(&args.model, &args.architecture, &args.checkpoint, session)?;
    let classifier =
        ZeroShot::new(&words).sentences(args.templates.as_deref().unwrap_or("{}")).map_err(model::of_model)?;
    let classifier = classifier.device(&device, dtype).open_options(options);
    let overrides = args.architecture.overrides().into_iter();
    let classifier = overrides.fold(classifier, |classifier, (key, value)| classifier.set(key, value));
    classifier.load(&args.model).map_err(model::of_model)
}

/// What an SVM says of images.
fn by_votes(args: &PredictArgs, svm: &Svm, images: &Arc<dyn Samples>, session: &Session) -> Result {
    if args.attention.is_some() {
        return Err(usage(format!("{}: expected a ViT for --attention, got a support vector machine", args.model)));
    }
    let checked = Checked::of(&**images, Alpha::Dropped, &|| {});
    checked.notes("images").iter().for_each(|note| session.warn(note));
    tell_bad(&checked.bad, args.bad.on_bad_image.unwrap_or_default(), session);
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

/// The model as what names classes; none where it has no head that was trained and its attention is to be seen, which needs none.
fn classifier(args: &PredictArgs, loaded: &Pretrained, session: &Session) -> Result<Option<Classifier>> {
    let instead = "take the features (tallow embed), or see the attention (--attention DIR)";
    match model::check_head(loaded, &args.architecture, instead) {
        Ok(()) => Ok(Some(Classifier::new(loaded.clone()).map_err(model::of_model)?.top_k(args.topk))),
        Err(error) if args.attention.is_some() => {
            if loaded.config().head_fault.is_some() {
                session.warn(format!("no classes are named: {}", one_line(&error)));
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The most probable classes of every image of a batch; none where nothing names classes.
fn classes(classifier: Option<&Classifier>, input: &Tensor, names: &[String]) -> Result<Vec<Vec<Class>>> {
    let Some(classifier) = classifier else {
        return Ok(names.iter().map(|_| Vec::new()).collect());
    };
    let tops = classifier.classes(input, |place| names[place].clone()).map_err(model::of_model)?;
    Ok(tops.into_iter().map(|top| top.into_iter().map(Class::from).collect()).collect())
}

impl From<tallow::Class> for Class {
    fn from(class: tallow::Class) -> Self {
        Self { class: class.index, label: class.label, probability: Some(class.probability), duels_won: None }
    }
}
