//! Groups: runs that differ in nothing but their seed are repetitions of one experiment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::configuration::{Settings, settings};
use super::run::{Epoch, Run, Step};
use super::statistics;

/// Settings that cannot make another experiment of a run.
const HARMLESS: [&str; 7] = ["name", "seed", "threads", "kernels", "device", "checkpoint_every", "eval_batch_size"];

/// Settings that a run fills in by itself from others.
const FILLED_IN: [&str; 3] = ["warmup_steps", "interpolation", "crop_pct"];

/// Runs of one experiment. Numbers are of the runs that have ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// What its runs are called, without their seeds.
    pub name: String,
    /// Indices of its runs; each has a seed of its own.
    pub runs: Vec<usize>,
    /// Test accuracy of the chosen checkpoints, in [0, 1].
    pub test_accuracy: Option<Spread>,
    /// Test loss of the chosen checkpoints.
    pub test_loss: Option<Spread>,
    /// Training accuracy over the last epoch, in [0, 1].
    pub train_accuracy: Option<Spread>,
    /// Seconds of a run.
    pub seconds: Option<Spread>,
    /// Its values of the settings that are not the same in every group, where it states them.
    pub settings: BTreeMap<String, String>,
}

/// The mean of what several runs gave, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation, with n − 1 in the denominator; none for a single run.
    pub deviation: Option<f64>,
    /// How many runs.
    pub count: usize,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let (mean, deviation) = statistics::mean_and_deviation(values)?;
        Some(Self { mean, deviation, count: values.len() })
    }
}

/// What the groups differ in.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sweep {
    /// One setting with a number for each group, in the order of the groups.
    Numbers { setting: String, values: Vec<f64> },
    /// Something else, or several settings.
    Other,
}

impl Group {
    /// The groups of runs, each where its first run is.
    pub(super) fn of(runs: &[Run]) -> Vec<Self> {
        let mut all: Vec<Settings> = runs.iter().map(|run| settings(&run.config)).collect();
        let mut groups = grouped(&all);
        // What starts from repetitions is repeated itself, and so is what starts from that.
        for _ in runs {
            if !name_origins(runs, &mut all, &groups) {
                break;
            }
            groups = grouped(&all);
        }
        let differing = differing(&groups);
        groups
            .into_iter()
            .map(|(mut settings, members)| {
                settings.retain(|setting, _| differing.contains(setting));
                Self::new(runs, &all, members, settings)
            })
            .collect()
    }

    fn new(runs: &[Run], all: &[Settings], members: Vec<usize>, settings: Settings) -> Self {
        let ended = || members.iter().map(|&run| &runs[run]).filter(|run| run.summary.is_some());
        let spread = |value: fn(&Run) -> Option<f64>| Spread::of(&ended().filter_map(value).collect::<Vec<_>>());
        Self {
            name: name(runs, all, &members),
            test_accuracy: Spread::of(&accuracies(runs, &members)),
            test_loss: spread(|run| {
                run.summary.as_ref().map(|summary| summary.test_loss).filter(|loss| loss.is_finite())
            }),
            train_accuracy: spread(|run| run.epochs.last()?.train_accuracy),
            seconds: spread(|run| run.summary.as_ref().map(|summary| summary.seconds)),
            runs: members,
            settings,
        }
    }

    /// Test accuracies of its runs that have ended.
    pub(super) fn accuracies(&self, runs: &[Run]) -> Vec<f64> {
        accuracies(runs, &self.runs)
    }

    /// Its course: that of its run, or the mean of its runs; of those that have ended, or where none has, up to where all are.
    pub(super) fn course(&self, runs: &[Run]) -> Run {
        let mut members: Vec<&Run> = self.runs.iter().map(|&run| &runs[run]).collect();
        if members.iter().any(|run| run.summary.is_some()) {
            members.retain(|run| run.summary.is_some());
        }
        let [first, _, ..] = members[..] else { return Run { figures: vec![], ..members[0].clone() } };
        Run {
            name: self.name.clone(),
            folder: first.folder.clone(),
            steps: mean_steps(&members),
            epochs: mean_epochs(&members),
            summary: None,
            predictions: None,
            config: first.config.clone(),
            load: None,
            figures: vec![],
        }
    }
}

/// Runs that differ in nothing but their seed, with the settings that make their experiment.
fn grouped(all: &[Settings]) -> Vec<(Settings, Vec<usize>)> {
    let seed = |run: usize| all[run].get("seed");
    let mut groups: Vec<(Settings, Vec<usize>)> = vec![];
    let mut alike: BTreeMap<Settings, Vec<usize>> = BTreeMap::new();
    for (run, own) in all.iter().map(experiment).enumerate() {
        let alike = alike.entry(own.clone()).or_default();
        // The same run twice is no repetition, and of a run without a configuration nothing is known.
        let fits =
            |group: &&usize| !own.is_empty() && groups[**group].1.iter().all(|&member| seed(member) != seed(run));
        match alike.iter().find(fits) {
            Some(&group) => groups[group].1.push(run),
            None => {
                alike.push(groups.len());
                groups.push((own, vec![run]));
            }
        }
    }
    groups
}

/// Names the group, in place of the folder, where a run's weights are those of a run with the same seed that is one of a group. Whether
/// there was such a run.
fn name_origins(runs: &[Run], all: &mut [Settings], groups: &[(Settings, Vec<usize>)]) -> bool {
    let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.into());
    let folders: BTreeMap<PathBuf, usize> = runs.iter().zip(0..).map(|(run, i)| (place(&run.folder), i)).collect();
    let name_of = |run: usize| {
        let (_, members) = groups.iter().find(|(_, members)| members.contains(&run) && members.len() > 1)?;
        Some(name(runs, all, members))
    };
    let origin = |settings: &Settings| {
        // Once it is named, it is no folder any more.
        let folder = settings.get("paths.weights").or(settings.get("weights"))?;
        let from = *folders.get(&place(Path::new(folder)))?;
        let same_seed = all[from].get("seed") == settings.get("seed");
        name_of(from).filter(|_| same_seed)
    };
    let origins: Vec<Option<String>> = all.iter().map(origin).collect();
    let found = origins.iter().any(Option::is_some);
    for (settings, origin) in all.iter_mut().zip(origins) {
        if let Some(origin) = origin {
            settings.remove("paths.weights");
            settings.insert("weights".into(), format!("of {origin}"));
        }
    }
    found
}

fn accuracies(runs: &[Run], members: &[usize]) -> Vec<f64> {
    let share = |(hits, samples): (usize, usize)| (samples > 0).then(|| hits as f64 / samples as f64);
    members.iter().filter_map(|&run| runs[run].correct().and_then(share)).collect()
}

/// The settings that make an experiment.
fn experiment(settings: &Settings) -> Settings {
    let tells = |setting: &String| ["resolved.", "paths."].iter().any(|table| setting.starts_with(table));
    let makes = |setting: &String| !HARMLESS.contains(&setting.as_str()) && !tells(setting);
    settings.iter().filter(|(setting, _)| makes(setting)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The settings that are not the same in every group; what runs fill in by themselves only where nothing else differs.
fn differing(groups: &[(Settings, Vec<usize>)]) -> Vec<String> {
    let mut found: Vec<String> = groups.iter().flat_map(|(settings, _)| settings.keys().cloned()).collect();
    found.sort();
    found.dedup();
    found.retain(|setting| groups.iter().any(|(settings, _)| settings.get(setting) != groups[0].0.get(setting)));
    let chosen: Vec<String> = found.iter().filter(|setting| !FILLED_IN.contains(&setting.as_str())).cloned().collect();
    let tells_apart = |settings: &[String]| {
        let values = |group: &Settings| settings.iter().map(|key| group.get(key).cloned()).collect::<Vec<_>>();
        let all: std::collections::BTreeSet<_> = groups.iter().map(|(group, _)| values(group)).collect();
        all.len() == groups.len()
    };
    if tells_apart(&chosen) { chosen } else { found }
}

/// What the runs of a group are called: their name without ` seed N` where they are several.
fn name(runs: &[Run], all: &[Settings], members: &[usize]) -> String {
    let first = members[0];
    let name = &runs[first].name;
    if members.len() == 1 {
        return name.clone();
    }
    let seed = all[first].get("seed").map_or(String::new(), |seed| format!("seed {seed}"));
    let without = name.strip_suffix(&seed).map_or(name.as_str(), str::trim_end);
    if without.is_empty() { name.clone() } else { without.into() }
}

/// What the groups differ in, where that is one thing.
pub(super) fn sweep(groups: &[Group]) -> Sweep {
    let mut keys: Vec<&String> = groups.iter().flat_map(|group| group.settings.keys()).collect();
    keys.sort();
    keys.dedup();
    let [setting] = keys[..] else { return Sweep::Other };
    let number = |group: &Group| group.settings.get(setting)?.parse::<f64>().ok().filter(|value| value.is_finite());
    match groups.iter().map(number).collect::<Option<Vec<f64>>>() {
        Some(values) if values.iter().enumerate().all(|(i, value)| !values[..i].contains(value)) => {
            Sweep::Numbers { setting: setting.clone(), values }
        }
        _ => Sweep::Other,
    }
}

fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.collect::<Option<_>>()?;
    Some(values.iter().sum::<f64>() / values.len() as f64)
}

fn mean_steps(runs: &[&Run]) -> Vec<Step> {
    let length = runs.iter().map(|run| run.steps.len()).min().unwrap_or(0);
    let step = |i: usize| {
        let mean = |value: fn(&Step) -> Option<f64>| mean(runs.iter().map(|run| value(&run.steps[i])));
        let Step { epoch, step, .. } = runs[0].steps[i];
        Step { epoch, step, loss: mean(|s| s.loss), lr: mean(|s| s.lr), grad_norm: mean(|s| s.grad_norm) }
    };
    (0..length).map(step).collect()
}

fn mean_epochs(runs: &[&Run]) -> Vec<Epoch> {
    let length = runs.iter().map(|run| run.epochs.len()).min().unwrap_or(0);
    let epoch = |i: usize| {
        let mean = |value: fn(&Epoch) -> Option<f64>| mean(runs.iter().map(|run| value(&run.epochs[i])));
        Epoch {
            epoch: runs[0].epochs[i].epoch,
            train_accuracy: mean(|epoch| epoch.train_accuracy),
            val_loss: mean(|epoch| epoch.val_loss),
            val_accuracy: mean(|epoch| epoch.val_accuracy),
            test_loss: mean(|epoch| epoch.test_loss),
            test_accuracy: mean(|epoch| epoch.test_accuracy),
            seconds: mean(|epoch| epoch.seconds),
            images_per_second: mean(|epoch| epoch.images_per_second),
        }
    };
    (0..length).map(epoch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_differ_in_their_seed_alone_are_one_group_and_the_same_run_twice_is_none() {
        let runs = [
            Run::of_config("a seed 0", "lr = 0.1\nseed = 0\nthreads = 2\n[resolved]\nversion = '1'"),
            Run::of_config("b", "lr = 0.2\nseed = 0"),
            Run::of_config("a seed 1", "lr = 0.1\nseed = 1\nthreads = 4\n[resolved]\nversion = '2'"),
            Run::of_config("a seed 1 (2)", "lr = 0.1\nseed = 1"),
            Run::of_config("unknown", ""),
            Run::of_config("unknown (2)", ""),
        ];
        let groups = Group::of(&runs);
        let found: Vec<(&str, &[usize])> = groups.iter().map(|g| (g.name.as_str(), &g.runs[..])).collect();
        assert_eq!(
            found,
            [("a", &[0, 2][..]), ("b", &[1]), ("a seed 1 (2)", &[3]), ("unknown", &[4]), ("unknown (2)", &[5])]
        );
    }

    #[test]
    fn what_starts_from_repetitions_with_its_own_seed_is_repeated_too() {
        let started = |name: &str, from: &str, seed: u32| {
            Run::of_config(name, &format!("limit = 200\nseed = {seed}\nweights = 'runs/{from}'"))
        };
        let mut runs: Vec<Run> = (0..3)
            .map(|seed| Run::of_config(&format!("MAE seed {seed}"), &format!("method = 'mae'\nseed = {seed}")))
            .collect();
        runs.iter_mut().for_each(|run| run.folder = Path::new("runs").join(&run.name));
        runs.extend([
            started("tuned seed 0", "MAE seed 0", 0),
            started("tuned seed 1", "MAE seed 1", 1),
            // Another seed than its weights', and weights of a run that nobody knows.
            started("other seed 0", "MAE seed 1", 0),
            started("elsewhere seed 0", "DINO seed 0", 0),
            started("elsewhere seed 1", "DINO seed 1", 1),
        ]);
        let groups = Group::of(&runs);
        let found: Vec<&[usize]> = groups.iter().map(|group| &group.runs[..]).collect();
        assert_eq!(found, [&[0, 1, 2][..], &[3, 4], &[5], &[6], &[7]]);
        assert_eq!((groups[1].name.as_str(), groups[1].settings["weights"].as_str()), ("tuned", "of MAE"));
    }

    #[test]
    fn a_sweep_is_one_setting_with_a_number_of_its_own_in_every_group() {
        let sweep_of = |configs: &[&str]| {
            let runs: Vec<Run> = configs.iter().map(|config| Run::of_config("r", config)).collect();
            sweep(&Group::of(&runs))
        };
        let numbers = |setting: &str, values: &[f64]| Sweep::Numbers { setting: setting.into(), values: values.into() };
        assert_eq!(
            sweep_of(&["[set]\nembed_dim='16'", "[set]\nembed_dim='64'", "[set]\nembed_dim='32'"]),
            numbers("set.embed_dim", &[16., 64., 32.])
        );
        // A batch of another size also takes other steps to warm up.
        assert_eq!(
            sweep_of(&["batch_size=16\nwarmup_steps=8", "batch_size=32\nwarmup_steps=4"]),
            numbers("batch_size", &[16., 32.])
        );
        assert_eq!(sweep_of(&["lr=0.1\nwarmup_steps=8", "lr=0.1\nwarmup_steps=4"]), numbers("warmup_steps", &[8., 4.]));
        assert_eq!(sweep_of(&["lr=0.1\nepochs=1", "lr=0.2\nepochs=2"]), Sweep::Other);
        assert_eq!(sweep_of(&["augment='none'", "augment='flip'"]), Sweep::Other);
        assert_eq!(sweep_of(&["lr=0.1", ""]), Sweep::Other);
    }
}
