//! The head of a configuration's classes, by the text tower of its weights.

use candle_core::DType;
use tallow_weights::{OpenOptions, Source};

use super::TEMPLATES;
use crate::data::Dataset;
use crate::text::zero_shot::{ClassHead, words_of};
use crate::text::{Templates, TextEncoder, given};
use crate::train::config::TrainConfig;
use crate::train::device;
use crate::train::error::{Error, Result};

/// The head, and what a reader should know of it.
pub(super) fn head(config: &TrainConfig, dataset: &Dataset, options: &OpenOptions) -> Result<(ClassHead, Vec<String>)> {
    let weights = match config.model.weights.as_deref() {
        Some("pretrained") => &config.model.model,
        Some(source) => source,
        None => return Err(Error::config("head", "auto, keep or new, where no weights are loaded", "zero-shot")),
    };
    let (words, note) = words(config, dataset)?;
    let templates = Templates::named(config.model.templates.as_deref().unwrap_or(TEMPLATES))?;
    let device = device(&config.compute.device)?;
    let encoder = TextEncoder::from_source(Source::parse(weights)?).device(&device).dtype(DType::F32);
    let encoder = encoder.open_options(options.clone()).load()?;
    let progress = options.progress.clone();
    let mut told = 0;
    let head = ClassHead::of(&encoder, &words, &templates, &mut |done, total| {
        // Some minutes with many classes.
        if let Some(progress) = progress.as_ref().filter(|_| done >= told + 4096 && done < total) {
            told = done;
            progress.note(&format!("sentences of the classes: {done} of {total}"));
        }
    })?;
    Ok((head, note.into_iter().chain(encoder.notes().iter().cloned()).collect()))
}

/// What the classes of the data are called in sentences, in their order.
fn words(config: &TrainConfig, dataset: &Dataset) -> Result<(Vec<String>, Option<String>)> {
    let classes = &dataset.classes;
    let Some(asked) = &config.model.classes else {
        let words = words_of(classes);
        let changed = words.iter().zip(classes).find(|(word, class)| word != class);
        let note = changed.map(|(word, class)| {
            format!("classes are called in sentences as the data calls them, with spaces for underscores: {word:?} for {class:?}")
        });
        return Ok((words, note));
    };
    let names = given::names("classes", asked)?;
    // The data's own names, in whatever order.
    if names.len() == classes.len() && classes.iter().all(|class| names.contains(class)) {
        return Ok((classes.clone(), None));
    }
    if names.len() != classes.len() {
        let expected = format!("{} names, one for each class of {}", classes.len(), dataset.spec);
        let some: Vec<&str> = names.iter().take(4).map(String::as_str).collect();
        let more = if names.len() > some.len() { ", …" } else { "" };
        return Err(Error::config("classes", expected, format!("{}: {}{more}", names.len(), some.join(", "))));
    }
    let pairs: Vec<String> =
        names.iter().zip(classes).take(4).map(|(name, class)| format!("{name:?} for {class:?}")).collect();
    let more = if names.len() > pairs.len() { ", …" } else { "" };
    Ok((names, Some(format!("classes are called in the data's order: {}{more}", pairs.join(", ")))))
}
