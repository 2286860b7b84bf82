//! `tallow run`: every run of a recipe, then their comparison.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context, anyhow};
use serde::Serialize;
use toml::{Table, Value};

use super::{compare, train as command};
use crate::error::{Interrupted, Result, one_line, usage};
use crate::estimate::{Estimator, about};
use crate::flags::RunArgs;
use crate::recipe::{Overrides, Recipe, Run};
use crate::session::Session;
use crate::{interrupt, settings};
use tallow::train::config::Count;
use tallow::train::setup::check_data;
use tallow::train::{self, DataRecord, RunFolder, Start, TrainConfig, idle};

pub fn run(args: &RunArgs, session: &Session) -> Result {
    let with = Overrides::parse(&args.with)?;
    let recipe = Recipe::read(&args.recipe, args.out.as_deref(), &with)?;
    let file = args.recipe.display();
    if recipe.seeded && session.flags().seed.is_some() {
        return Err(usage(format!("--seed: {file} names seeds of its own; use --with seeds=0,1,2")));
    }
    // All runs are checked before the first one starts.
    let mut planned: Vec<Planned> = recipe
        .runs
        .iter()
        .map(|run| Planned::new(run, &recipe, session).with_context(|| format!("{file}: run {:?}", run.name)))
        .collect::<Result<_>>()?;
    check_idle(&recipe, &planned).with_context(|| file.to_string())?;
    let mut estimator = Estimator::new(&recipe.out, session);
    if args.dry_run {
        for planned in &mut planned {
            planned.plan.seconds = estimator.seconds(&planned.config, &planned.folder);
        }
        return print(&planned, args, session);
    }
    check_data_of_ended(&planned, &file.to_string(), session)?;
    if let Some(words) = with.words() {
        session.note(format!("{file}: with {words}"));
    }

    if planned.iter().filter(|planned| planned.config.reads_frozen_features()).count() > 1 {
        // What several runs have the same backbone compute of the same images is computed once.
        let features = planned[0].folder.shared_features_path();
        std::fs::create_dir_all(&features).with_context(|| features.display().to_string())?;
    }

    let stop = interrupt::stop_flag()?;
    let mut failed = Vec::new();
    for (number, Planned { plan, folder, config }) in planned.iter().enumerate() {
        let name = &plan.name;
        if plan.state == State::Ended {
            session.note(format!("{name}: has ended already, in {}", folder.root().display()));
            continue;
        }
        if !session.flags().quiet {
            let left = left(&planned[number..], &mut estimator).map_or(String::new(), |left| format!(", {left} left"));
            session.note(format!("run {} of {}: {name}{left}", number + 1, planned.len()));
        }
        // `Resume` also begins a run that has no checkpoint yet.
        match command::one(config, folder, Start::Resume, session, stop) {
            Ok(_) => estimator.learn(folder),
            Err(error) => {
                let message = one_line(&error);
                session.note(format!("{name}: failed: {message}"));
                failed.push(format!("{name}: {message}"));
            }
        }
        if stop.load(Ordering::SeqCst) {
            session.note(format!("stopped in {name}; the same command goes on from here"));
            return Err(Interrupted.into());
        }
    }

    let ended: Vec<PathBuf> = planned
        .iter()
        .filter(|planned| planned.folder.summary_path().exists())
        .map(|planned| planned.folder.root().to_path_buf())
        .collect();
    if !ended.is_empty() {
        compare::write(&ended, &recipe.out, session)?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(anyhow!(
        "{file}: {} of {} runs failed: {}; mend the cause and give the same command again, what has ended is not run again",
        failed.len(),
        planned.len(),
        failed.join("; ")
    ))
}

/// Refuses settings that mean nothing: a run's own that means nothing to that run, and a shared one that means nothing to any.
fn check_idle(recipe: &Recipe, planned: &[Planned]) -> Result {
    let runs = || recipe.runs.iter().zip(planned);
    let means_nothing = |(run, planned): (&Run, &Planned), key: &str| {
        run.settings
            .get(key)
            .map(|value| !idle(&Table::from_iter([(key.into(), value.clone())]), &planned.config).is_empty())
    };
    for (run, planned) in runs() {
        for error in idle(&run.settings, &planned.config) {
            let train::Error::Config { field, .. } = &error else { continue };
            let own = run.own.contains(field);
            if own || runs().filter_map(|other| means_nothing(other, field)).all(|nothing| nothing) {
                return Err(anyhow!(error).context(format!("run {:?}", run.name)));
            }
        }
    }
    Ok(())
}

/// Checks that runs that have ended had the data that those to come would have: they are compared.
fn check_data_of_ended(planned: &[Planned], file: &str, session: &Session) -> Result {
    // Runs on the same samples need no second look at them.
    let mut checked: Vec<DataRecord> = Vec::new();
    for Planned { plan, folder, config } in planned.iter().filter(|planned| planned.plan.state == State::Ended) {
        let Some(record) = folder.data()? else { continue };
        if checked.contains(&record) {
            continue;
        }
        match check_data(config, folder, &session.open_options()) {
            Ok(()) => checked.push(record),
            Err(error @ train::Error::DataDiffers { .. }) => {
                return Err(anyhow!(error).context(format!("{file}: run {:?}", plan.name)));
            }
            Err(error) => {
                session.note(format!("{}: whether its data is still the same cannot be checked: {error}", plan.name))
            }
        }
    }
    Ok(())
}

/// Prints what would run, and about how long that would take.
fn print(planned: &[Planned], args: &RunArgs, session: &Session) -> Result {
    let plan: Vec<&Plan> = planned.iter().map(|planned| &planned.plan).collect();
    let seconds: Option<f64> = plan.iter().map(|plan| plan.seconds).sum();
    let result = serde_json::json!({ "recipe": args.recipe, "with": args.with, "seconds": seconds, "runs": plan });
    session.result(&result, || {
        let time = |plan: &Plan| match (plan.state, plan.seconds) {
            (State::Ended, _) => String::new(),
            (_, Some(seconds)) => format!(", {}", about(seconds)),
            (_, None) => ", nobody knows how long, as its data is not at hand".into(),
        };
        let mut lines: Vec<String> =
            plan.iter().map(|plan| format!("# {}{}\n{}", plan.state.words(), time(plan), plan.command)).collect();
        let ended = plan.iter().filter(|plan| plan.state == State::Ended).count();
        let runs = if plan.len() == 1 { "1 run".into() } else { format!("{} runs", plan.len()) };
        let ended = if ended > 0 { format!(", {ended} of them ended") } else { String::new() };
        let left =
            seconds.filter(|seconds| *seconds > 0.).map_or(String::new(), |seconds| format!(", {}", about(seconds)));
        lines.push(format!("# {runs}{ended}{left}"));
        lines.join("\n")
    })
}

/// About how long the rest of the runs takes, where that can be said.
fn left(planned: &[Planned], estimator: &mut Estimator) -> Option<String> {
    let rest = planned.iter().filter(|planned| planned.plan.state != State::Ended);
    let seconds: Option<f64> = rest.map(|planned| estimator.seconds(&planned.config, &planned.folder)).sum();
    seconds.map(about)
}

/// A run with its checked settings and what there is of it already.
struct Planned {
    plan: Plan,
    folder: RunFolder,
    config: TrainConfig,
}

#[derive(Serialize)]
struct Plan {
    name: String,
    folder: PathBuf,
    state: State,
    /// About how long it would take from here; none where nobody knows.
    seconds: Option<f64>,
    command: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    New,
    Interrupted,
    Ended,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::New => "to be run",
            Self::Interrupted => "to go on",
            Self::Ended => "has ended, will not be run again",
        }
    }
}

impl Planned {
    fn new(run: &Run, recipe: &Recipe, session: &Session) -> Result<Self> {
        let root = recipe.out.join(run.folder_name());
        let folder = RunFolder::new(&root);
        folder.check_start(Start::Resume)?;
        let mut table = run.settings.clone();
        if let Some(folder) = recipe.weights_of(run)? {
            table.insert("weights".into(), folder.display().to_string().into());
        }
        table.extend(settings::of_session(session)?);
        table.insert("name".into(), run.name.clone().into());
        // One number of neighbours, such as a point of a grid, is a list of one.
        if let Some(k @ Value::Integer(_)) = table.get("k").cloned() {
            table.insert("k".into(), Value::Array(vec![k]));
        }
        let config = settings::over_defaults(&table, run.start, session)?;
        let state = match (folder.summary_path().exists(), folder.config_path().exists()) {
            (true, _) => State::Ended,
            (false, true) => State::Interrupted,
            (false, false) => State::New,
        };
        if state != State::New {
            let differences = config.differences(&as_left_open(&config, folder.config()?));
            if !differences.is_empty() {
                return Err(anyhow!(
                    "{}: was run with other settings: {}; remove that folder, or choose another one (--out)",
                    root.display(),
                    differences.join(", ")
                ));
            }
        }
        let command = Run { settings: table_of(&table, run, &config), ..run.clone() }.command(&root);
        Ok(Self { plan: Plan { name: run.name.clone(), folder: root, state, seconds: None, command }, folder, config })
    }
}

/// The settings of a run as its recipe names them, with the values of `table`; without those that its command has no use for.
fn table_of(table: &Table, run: &Run, config: &TrainConfig) -> Table {
    let mut named: Table = run.settings.keys().filter_map(|key| Some((key.clone(), table.get(key)?.clone()))).collect();
    for error in idle(&named.clone(), config) {
        if let train::Error::Config { field, .. } = error {
            named.remove(&field);
        }
    }
    named
}

/// The settings of a run that is there, with those left open again that `config` leaves open and the run has settled.
fn as_left_open(config: &TrainConfig, there: TrainConfig) -> TrainConfig {
    there.with(|c| {
        let data = &config.data;
        c.data.interpolation = data.interpolation.and(c.data.interpolation);
        c.data.crop_pct = data.crop_pct.and(c.data.crop_pct);
        c.data.exif = data.exif.and(c.data.exif);
        if data.augment == "auto" {
            c.data.augment = data.augment.clone();
        }
        let length = &config.length;
        if length.batch_size.number().is_none() {
            c.length.batch_size = length.batch_size;
        }
        if length.epochs == Count::Auto {
            c.length.epochs = Count::Auto;
        }
        if length.eval_every == Count::Auto {
            c.length.eval_every = Count::Auto;
        }
        c.pretraining = std::mem::take(&mut c.pretraining).as_left_open(&config.pretraining);
        c.length.eval_batch_size = length.eval_batch_size.and(c.length.eval_batch_size);
        c.schedule.warmup_steps = config.schedule.warmup_steps.and(c.schedule.warmup_steps);
        if config.compute.device == "auto" {
            c.compute.device = config.compute.device.clone();
        }
    })
}
