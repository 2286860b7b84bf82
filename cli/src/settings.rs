//! From flags or a recipe's table to the checked settings of a run.

use tallow_models::{Architecture, zoo};
use toml::{Table, Value};

use crate::error::{Result, usage};
use crate::flags::{ArchitectureFlags, PretrainFlags, TrainArgs};
use crate::session::Session;
use crate::{kernels, model};
use tallow::data::{Augment, whitening};
use tallow::train::config::{Method, Normalize, SETTINGS};
use tallow::train::defaults::{self, Family};
use tallow::train::study::{knn, perceptron, svm};
use tallow::train::{Extension, RunFolder, TrainConfig, freeze, idle, pretraining};

/// The ways to make a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// From values drawn from the seed, unless `weights` says otherwise.
    Scratch,
    /// From the model's own weights, unless `weights` says otherwise.
    Pretrained,
    /// Without labels, by a method that is named.
    Unlabelled,
    /// Without any training: by the nearest neighbours.
    Neighbours,
}

impl Start {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Scratch, Self::Pretrained, Self::Unlabelled, Self::Neighbours];

    /// The command that does so.
    pub fn command(self) -> &'static str {
        match self {
            Self::Scratch => "train",
            Self::Pretrained => "finetune",
            Self::Unlabelled => "pretrain",
            Self::Neighbours => "knn",
        }
    }
}

/// What a command line asks for. The settings of a run that goes on are the run's own, changed by the flags: where the
/// two differ, the library refuses to resume.
///
/// # Errors
/// If a setting makes no sense, or nothing tells the model's family.
pub fn of_command(
    args: &TrainArgs,
    pretraining: Option<&PretrainFlags>,
    session: &Session,
    start: Start,
) -> Result<TrainConfig> {
    let too_large = |_| usage(format!("settings: expected whole numbers of at most {}, got a larger one", i64::MAX));
    let mut table = Table::try_from(&args.training).map_err(too_large)?;
    if let Some(pretraining) = pretraining {
        table.extend(Table::try_from(pretraining).map_err(too_large)?);
    }
    if let Some(model) = &args.model {
        table.insert("model".into(), model.clone().into());
    }
    table.extend(Table::try_from(&args.checkpoint).unwrap_or_default());
    table.extend(of_architecture(&args.architecture));
    table.extend(of_session(session)?);
    if args.resume
        && let Some(out) = &args.out
    {
        let folder = RunFolder::new(out);
        if folder.config_path().exists() {
            return with_more_epochs(folder.config()?, table);
        }
        if args.model.is_none() || args.training.data.is_none() {
            return Err(usage(format!(
                "--resume: {}: no run to go on with (no config.toml there); name MODEL and --data to begin one",
                out.display()
            )));
        }
    }
    let config = over_defaults(&table, start, session)?;
    check_idle(&table, &config)?;
    Ok(config)
}

/// Refuses what was given and means nothing to the run.
///
/// # Errors
/// With the first such setting.
pub fn check_idle(given: &Table, config: &TrainConfig) -> Result {
    idle(given, config).into_iter().next().map_or(Ok(()), |error| Err(error.into()))
}

/// The settings of a run that goes on, changed by `table`. With more epochs a schedule that is named is that of the new ones, and
/// so are the settings of a schedule beside it.
fn with_more_epochs(run: TrainConfig, mut table: Table) -> Result<TrainConfig> {
    let more = table.get("epochs").and_then(Value::as_integer).is_some_and(|epochs| epochs > run.epochs() as i64);
    let Some(schedule) = table.get("schedule").filter(|_| more).cloned() else { return Ok(run.with_table(&table)?) };
    let mut extension =
        Table::try_from(Extension::new(run.epochs(), run.schedule.schedule, run.optimizer.lr).with(|m| {
            m.min_lr = run.schedule.min_lr;
            m.gamma = run.schedule.gamma;
            m.step_size = run.schedule.step_size;
        }))?;
    extension.insert("schedule".into(), schedule);
    for key in ["lr", "min_lr", "gamma", "step_size"] {
        extension.extend(table.remove(key).map(|value| (key.into(), value)));
    }
    table.remove("schedule");
    let mut config = run.with_table(&table)?;
    config.extended.push(extension.try_into()?);
    config.validate()?;
    Ok(config)
}

/// Whether `key` is a setting of a run.
pub fn is_setting(key: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.name == key)
}

/// `table` over the defaults of its model's family.
///
/// # Errors
/// If a setting makes no sense, or nothing tells the model's family.
pub fn over_defaults(table: &Table, start: Start, session: &Session) -> Result<TrainConfig> {
    let model = table.get("model").and_then(Value::as_str).unwrap_or_default();
    if model == svm::NAME {
        if start != Start::Scratch {
            return Err(usage(format!(
                "svm: tallow {} has no use for one; train one (tallow train svm)",
                start.command()
            )));
        }
        let config = TrainConfig::default().with_table(table)?;
        svm::check(&config)?;
        return Ok(config);
    }
    if start == Start::Neighbours {
        return of_neighbours(table, session);
    }
    let method = table.get("method").and_then(Value::as_str);
    if (start == Start::Unlabelled) != matches!(method, Some("mae" | "dino")) {
        let expected = "mae or dino, with tallow pretrain (in a recipe: command = \"pretrain\")";
        return Err(usage(format!("--method: expected {expected}, got {}", method.unwrap_or("none"))));
    }
    let pretrained = start == Start::Pretrained || table.contains_key("weights");
    let asked = TrainConfig::default().with_table(table)?;
    let options = asked.checkpoint_options(session.open_options())?;
    let architecture = model::architecture(model, &ArchitectureFlags::default(), &options)?;
    let regime = if start == Start::Unlabelled {
        defaults::Regime::of(&asked)
    } else if pretrained {
        defaults::Regime::of(&asked.with(|c| c.model.weights = Some(String::new())))
    } else {
        defaults::Regime::Scratch
    };
    let mut config = defaults::defaults(Family::of(&architecture), regime).with_table(table)?;
    defaults::pool_of_dino(&mut config, &architecture);
    config.validate()?;
    pretraining::check_settings(&config)?;
    check_words(&config, architecture)?;
    Ok(config)
}

/// The settings of nearest neighbours; those of training, which a recipe's runs may share, mean nothing to them. A name of the zoo
/// without a tag, which would name weights, stands for the untrained network.
fn of_neighbours(table: &Table, session: &Session) -> Result<TrainConfig> {
    TrainConfig::default().with_table(table)?;
    let own = table.iter().filter(|(key, _)| knn::is_setting(key));
    let own: Table = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut config = TrainConfig::default().with_table(&own)?;
    config.pretraining.method = Some(Method::Knn);
    let untrained = zoo::find(&config.model.model).is_ok_and(|entry| entry.name == config.model.model);
    if config.model.weights.is_none() && !untrained {
        config.model.weights = Some("pretrained".into());
    }
    let options = config.checkpoint_options(session.open_options())?;
    let architecture = model::architecture(&config.model.model, &ArchitectureFlags::default(), &options)?;
    knn::check(&config)?;
    check_words(&config, architecture)?;
    Ok(config)
}

/// The settings that global flags stand for.
///
/// # Errors
/// If the seed does not fit TOML.
pub fn of_session(session: &Session) -> Result<Table> {
    let flags = session.flags();
    let mut table = Table::from_iter([("threads".to_string(), Value::Integer(session.threads() as i64))]);
    table.extend(kernels::forced().map(|kernels| ("kernels".into(), kernels.to_string().into())));
    table.extend(flags.device.clone().map(|device| ("device".into(), device.into())));
    table.extend(flags.dtype.clone().map(|dtype| ("dtype".into(), dtype.into())));
    if let Some(seed) = flags.seed {
        let seed =
            i64::try_from(seed).map_err(|_| usage(format!("--seed: expected at most {}, got {seed}", i64::MAX)))?;
        table.insert("seed".into(), seed.into());
    }
    Ok(table)
}

/// What the flags of the architecture stand for.
pub fn of_architecture(flags: &ArchitectureFlags) -> Table {
    let overrides: Table = flags.overrides().into_iter().map(|(key, value)| (key, value.into())).collect();
    if overrides.is_empty() { Table::new() } else { Table::from_iter([("set".to_string(), overrides.into())]) }
}

/// Checks what the settings say in words, which only the model gives a meaning to, before data or weights are read: a mistake
/// in the last run of a recipe is not to be found after the first ones have been trained.
fn check_words(config: &TrainConfig, architecture: Architecture) -> Result {
    // With a head, as the data will ask for one.
    let mut architecture = architecture.with_num_classes(2);
    for (key, value) in &config.model.set {
        architecture.set(key, value)?;
    }
    perceptron::check(config, &architecture)?;
    architecture.validate()?;
    if config.data.normalize == Normalize::Zca {
        whitening::check_size(architecture.input_size())?;
    }
    if let Some(text) = &config.model.freeze {
        drop(freeze::rule(text, &architecture)?);
    }
    if config.data.augment.trim() != "auto" {
        Augment::parse_list(&config.data.augment)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::flags::Cli;

    fn command(name: &str) -> clap::Command {
        let mut command = Cli::command();
        command.build();
        command.find_subcommand(name).expect("a command").clone()
    }

    fn train_command() -> clap::Command {
        command("train")
    }

    #[test]
    fn every_setting_of_a_run_has_a_flag_of_its_name() {
        let commands = ["train", "pretrain", "knn"].map(command);
        // What the run itself writes down has none.
        let written = ["model", "extended", "paths", "resolved"];
        for setting in SETTINGS.iter().filter(|setting| !written.contains(&setting.name)) {
            let flag = setting.name.replace('_', "-");
            let mut arguments = commands.iter().flat_map(clap::Command::get_arguments);
            let argument = arguments.find(|arg| arg.get_long() == Some(&flag));
            let help = argument.unwrap_or_else(|| panic!("--{flag}")).get_help();
            assert_eq!(help.expect("a text").to_string(), setting.help(), "--{flag}");
        }
    }

    #[test]
    fn every_value_that_help_offers_is_one_of_the_setting() {
        for argument in train_command().get_arguments() {
            let Some(key) = argument.get_long().map(|flag| flag.replace('-', "_")) else { continue };
            if !["exif", "normalize", "interpolation", "head", "implementation", "optimizer", "schedule", "dtype"]
                .contains(&key.as_str())
            {
                continue;
            }
            let values = argument.get_possible_values();
            assert!(!values.is_empty(), "--{key}");
            for value in values {
                let table = Table::from_iter([(key.clone(), Value::from(value.get_name()))]);
                TrainConfig::default().with_table(&table).expect("a setting");
            }
        }
    }
}
