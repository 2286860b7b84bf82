//! `tallow eval`: a run's chosen checkpoint, measured again.

use anyhow::anyhow;
use serde::Serialize;

use crate::error::Result;
use crate::flags::{EvalArgs, Split};
use crate::output::thousands;
use crate::progress::Progress;
use crate::session::Session;
use tallow::report::statistics::wilson;
use tallow::train::{Recollection, RunEvaluation, RunFolder, evaluate_run};

#[derive(Serialize)]
struct Evaluated<'a> {
    run: &'a std::path::Path,
    data: String,
    split: &'static str,
    samples: usize,
    /// None where the model gives no probabilities.
    loss: Option<f64>,
    accuracy: f64,
    /// 95 % (Wilson).
    interval: Option<[f64; 2]>,
    top5: f64,
    /// Of the run's own data: how many samples the run recorded of the part, and what became of them. None for other data, or a
    /// run that recorded none.
    recorded: Option<usize>,
    missing: Option<usize>,
    changed: Option<usize>,
    new: Option<usize>,
    renamed: Option<usize>,
    relabelled: Option<usize>,
    /// Of other data: how many samples the run was trained on.
    trained_on: Option<usize>,
}

pub fn run(args: &EvalArgs, session: &Session) -> Result {
    let options = RunEvaluation::default().with(|o| {
        o.data = args.data.clone();
        o.train_split = args.parts.train_split.clone();
        o.test_split = args.parts.test_split.clone();
        o.train_part = args.split == Split::Train;
        o.limit = args.limit;
        o.on_bad_image = args.bad.on_bad_image;
        o.exif = args.exif.exif;
        o.device = session.flags().device.clone();
        o.dtype = session.flags().dtype.is_some().then(|| session.precision());
        o.batch_size = args.batch_size;
        o.hub = session.open_options();
    });
    if !args.run.join("config.toml").is_file() {
        return Err(anyhow!("{}: expected the folder of a run, got none (no config.toml there)", args.run.display()));
    }
    let measured = evaluate_run(&RunFolder::new(&args.run), &options, &mut Progress::new(session))?;
    if args.data.is_some() {
        measured.dataset.notes.iter().for_each(|note| session.warn(note));
    }
    let evaluation = &measured.evaluation;
    let samples = evaluation.labels.len();
    let split = if options.train_part { "train" } else { "test" };
    let recollection = measured.recollection.as_ref();
    let count = |of: fn(&Recollection) -> &Vec<String>| recollection.map(|found| of(found).len());
    let evaluated = Evaluated {
        run: &args.run,
        data: measured.dataset.spec.clone(),
        split,
        samples,
        loss: Some(evaluation.loss).filter(|loss| loss.is_finite()),
        accuracy: evaluation.accuracy,
        interval: wilson((evaluation.accuracy * samples as f64).round() as usize, samples),
        top5: evaluation.top5,
        recorded: recollection.map(|found| found.recorded),
        missing: count(|found| &found.missing),
        changed: count(|found| &found.changed),
        new: count(|found| &found.new),
        renamed: count(|found| &found.renamed),
        relabelled: count(|found| &found.relabelled),
        trained_on: measured.trained_on,
    };
    session.result(&evaluated, || {
        let interval = evaluated
            .interval
            .map_or(String::new(), |[low, high]| format!(" (95 %: {:.2} to {:.2})", 100. * low, 100. * high));
        let loss = evaluated.loss.map_or(String::new(), |loss| format!("loss      {loss:.4}\n"));
        let found = recollection.map_or(String::new(), |found| {
            format!("\n{}", found.in_words(if options.train_part { "training" } else { split }))
        });
        // With five classes or fewer it is always 100 %.
        let top5 = match measured.dataset.classes.len() {
            0..=5 => String::new(),
            _ => format!("top 5     {:.2} %\n", 100. * evaluated.top5),
        };
        format!(
            "accuracy  {:.2} %{interval}\n{top5}{loss}samples   {} of {}, {} part{found}",
            100. * evaluated.accuracy,
            thousands(samples),
            evaluated.data,
            evaluated.split,
        )
    })
}
