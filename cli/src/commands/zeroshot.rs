//! `tallow zeroshot`: how well a CLIP or SigLIP classifies by the names of classes alone, as a run like any other.

use std::path::Path;

use serde::Serialize;
use toml::{Table, Value};

use crate::error::{Interrupted, Result};
use crate::flags::ZeroshotArgs;
use crate::model::account_text;
use crate::output::{rate, seconds, thousands};
use crate::progress::Progress;
use crate::session::Session;
use crate::{interrupt, settings};
use tallow::report::{self, statistics::wilson};
use tallow::text::Templates;
use tallow::train::zero_shot::{self, TEMPLATES};
use tallow::train::{Outcome, RunFolder, Summary, TrainConfig};

#[derive(Serialize)]
struct Measured<'a> {
    run: &'a Path,
    model: &'a str,
    data: &'a str,
    samples: usize,
    accuracy: f64,
    /// 95 % (Wilson).
    interval: Option<[f64; 2]>,
    top5: f64,
    loss: f64,
    templates: &'a str,
    sentences: usize,
    classes: &'a [String],
    /// How often each class was called each class: `[class][called]`.
    confusion: Vec<Vec<usize>>,
    seconds: f64,
    images_per_second: f64,
}

pub fn run(args: &ZeroshotArgs, session: &Session) -> Result {
    session.device()?;
    if let Some(out) = &args.out {
        RunFolder::new(out).check_start(tallow::train::Start::New)?;
    }
    let config = config(args, session)?;
    let name = config.model.templates.clone().unwrap_or_else(|| TEMPLATES.into());
    // A slip in the name of the sentences is told before the model is read.
    let sentences = Templates::named(&name).map_err(crate::model::of_model)?.sentences().len();
    let stop = interrupt::stop_flag()?;
    let folder = RunFolder::new(args.out.clone().map_or_else(|| super::train::free_folder(&config), Ok)?);
    let mut progress = Progress::new(session);
    let outcome = zero_shot::run(&config, &session.open_options(), &folder, &mut progress, stop);
    if outcome.is_err() && args.out.is_none() {
        // Removed where nothing came of the run, and left alone where there is something in it.
        let _ = std::fs::remove_dir(folder.root());
    }
    let Outcome::Finished(summary) = outcome? else { return Err(Interrupted.into()) };
    if let Ok(text) = std::fs::read_to_string(folder.load_path()) {
        session.note_once(account_text(&serde_json::from_str(&text)?, session.flags().verbose));
    }
    report::single(&folder)?;
    let confusion = folder.predictions()?.confusion(summary.classes.len());
    let measured = Measured {
        run: folder.root(),
        model: &summary.model,
        data: &summary.data,
        samples: summary.test_samples,
        accuracy: summary.test_accuracy,
        interval: wilson((summary.test_accuracy * summary.test_samples as f64).round() as usize, summary.test_samples),
        top5: summary.test_top5,
        loss: summary.test_loss,
        templates: &name,
        sentences,
        classes: &summary.classes,
        confusion,
        seconds: summary.seconds,
        images_per_second: summary.images_per_second,
    };
    session.result(&measured, || text(&measured, &summary, &folder))
}

/// The settings of the run: those with which `finetune` would begin.
fn config(args: &ZeroshotArgs, session: &Session) -> Result<TrainConfig> {
    let mut table = Table::new();
    let mut set = |key: &str, value: Option<Value>| table.extend(value.map(|value| (key.to_owned(), value)));
    let text = |value: &Option<String>| value.clone().map(Value::from);
    let number = |value: Option<usize>| value.and_then(|value| i64::try_from(value).ok()).map(Value::from);
    set("model", Some(args.model.clone().into()));
    set("data", Some(args.data.clone().into()));
    set("head", Some("zero-shot".into()));
    set("classes", text(&args.classes));
    set("templates", text(&args.templates));
    set("name", text(&args.name));
    set("train_split", text(&args.parts.train_split));
    set("test_split", text(&args.parts.test_split));
    set("test_limit", number(args.limit));
    set("eval_batch_size", number(Some(args.batch_size)));
    set("on_bad_image", args.bad.on_bad_image.map(|choice| choice.name().into()));
    set("exif", args.exif.exif.map(|choice| choice.name().into()));
    set("augment", Some("none".into()));
    table.extend(Table::try_from(&args.checkpoint).unwrap_or_default());
    table.extend(settings::of_architecture(&args.architecture));
    table.extend(settings::of_session(session)?);
    settings::over_defaults(&table, settings::Start::Pretrained, session)
}

fn text(measured: &Measured, summary: &Summary, folder: &RunFolder) -> String {
    let interval = measured
        .interval
        .map_or(String::new(), |[low, high]| format!(" (95 %: {:.2} to {:.2})", 100. * low, 100. * high));
    let top5 = if measured.classes.len() > 5 {
        format!("top 5          {:.2} %\n", 100. * measured.top5)
    } else {
        String::new()
    };
    format!(
        "zero-shot      {:.2} %{interval} of {} samples, {} classes, {} ({})\n{top5}time           {}, {} images/s\n\
         run            {}\nreport         {}",
        100. * measured.accuracy,
        thousands(measured.samples),
        measured.classes.len(),
        crate::output::counted(measured.sentences, "sentence") + " each",
        measured.templates,
        seconds(summary.seconds),
        rate(summary.images_per_second),
        folder.root().display(),
        folder.report_path().display(),
    )
}
