//! `tallow predict`: the most probable classes of images.

use std::sync::Arc;

use anyhow::bail;
use candle_core::DType;
use serde::Serialize;
use tallow_models::{Mode, Model};

use super::error::{Result, usage};
use super::flags::{ArchitectureFlags, PredictArgs};
use super::images::ImageFiles;
use super::model::Loaded;
use super::output::stdout;
use super::progress;
use super::session::Session;
use crate::data::{Loader, LoaderOptions, Samples};
use crate::train::RunFolder;
use crate::train::svm::{self, Svm};

#[derive(Serialize)]
struct Prediction {
    image: String,
    top: Vec<Class>,
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
    let images: Arc<dyn Samples> = Arc::new(ImageFiles::find(&args.images)?);
    if let Some(svm) = svm::of_run(&RunFolder::new(&args.model))? {
        return by_votes(args, &svm, &images, session);
    }
    let loaded = Loaded::open(&args.model, &ArchitectureFlags::default(), session)?;
    if loaded.config.architecture.num_classes() == 0 {
        return Err(usage(format!(
            "{}: expected a classification head, the weights have none; train one (tallow finetune), or take the features \
             (tallow embed)",
            args.model
        )));
    }
    loaded.say_account(session);
    let options = LoaderOptions { batch_size: args.batch_size, threads: session.threads(), ..LoaderOptions::default() };
    let bar = progress::count(session, images.len(), "images");
    let mut predictions = Vec::with_capacity(images.len());
    for batch in Loader::new(images.clone(), (0..images.len()).collect(), loaded.transform()?, options)? {
        let batch = batch?;
        let input = batch.images.to_device(&loaded.device)?.to_dtype(loaded.dtype)?;
        let logits = loaded.model.forward(&input, Mode::Eval)?;
        let probabilities = candle_nn::ops::softmax_last_dim(&logits.to_dtype(DType::F32)?)?.to_vec2::<f32>()?;
        for (&index, probabilities) in batch.indices.iter().zip(&probabilities) {
            if probabilities.iter().any(|p| !p.is_finite()) {
                bail!(
                    "{}: expected finite logits, got others; the weights are damaged, get them again",
                    images.name(index)
                );
            }
            predictions.push(Prediction { image: images.name(index), top: top(probabilities, args.topk, &loaded) });
        }
        bar.inc(batch.indices.len() as u64);
    }
    bar.finish_and_clear();
    say(args, &predictions, session)
}

fn say(args: &PredictArgs, predictions: &[Prediction], session: &Session) -> Result {
    if session.flags().json {
        return stdout(&serde_json::to_string(
            &serde_json::json!({ "model": args.model, "predictions": predictions }),
        )?);
    }
    for prediction in predictions {
        let classes: Vec<String> = prediction.top.iter().map(Class::line).collect();
        stdout(&format!("{}\n{}", prediction.image, classes.join("\n")))?;
    }
    Ok(())
}

/// What an SVM says of images.
fn by_votes(args: &PredictArgs, svm: &Svm, images: &Arc<dyn Samples>, session: &Session) -> Result {
    let mut predictions = Vec::with_capacity(images.len());
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
            predictions.push(Prediction { image: images.name(index), top });
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
