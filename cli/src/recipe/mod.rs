//! Recipes: TOML files that name runs, the settings that they share, and what each changes.
//!
//! ```toml
//! out = "runs/quickstart"     # default: runs/<name of the file>
//!
//! [shared]                    # settings as in a run's config.toml
//! data = "mnist"
//! set.img_size = 56           # options of the architecture
//! seeds = [0, 1, 2]           # every run with each of them
//!
//! [[run]]
//! name = "pretrained"
//! command = "finetune"        # or train; it can also be shared
//! model = "vit_small_patch14_dinov2.saliency"
//! grid = { lr = [1e-4, 3e-4], drop_path_rate = [0.0, 0.1] }   # four runs; [grid] at the top: in every run
//! # weights = "run:NAME"      # those that an earlier run of the recipe has trained, with the same seed
//! ```

mod grid;
mod with;

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use tallow_weights::expanded;
use toml::{Table, Value};

use crate::error::Result;
use crate::file_name::file_name;
use crate::output::thousands;
use crate::settings::Start;
use grid::{Grid, Key};
pub use with::Overrides;

/// Longer than any recipe; what is larger was not meant as one.
const LARGEST: u64 = 1 << 20;

/// More runs than this were not meant.
const MOST_RUNS: usize = 10_000;

/// Bytes of a run's name: what file systems take as the name of a folder, with a little room.
const LONGEST_NAME: usize = 200;

/// A recipe that was read and checked.
#[derive(Debug)]
pub struct Recipe {
    /// Where the runs and their comparison go.
    pub out: PathBuf,
    /// In the order of the file; those of a grid in the order of its lists, the first key's changing last.
    pub runs: Vec<Run>,
    /// Whether runs have seeds of the recipe.
    pub seeded: bool,
}

/// One run of a recipe.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its name in the report.
    pub name: String,
    /// How it trains.
    pub start: Start,
    /// Its settings: the shared ones, changed by its own, its place in the grid, and its seed.
    pub settings: Table,
    /// The keys of those that are its own.
    pub own: Vec<String>,
}

impl Recipe {
    /// Reads a recipe; `out` takes the place of the file's own, and `with` that of its settings.
    ///
    /// # Errors
    /// If the file cannot be read, is no recipe, or two runs have the same name.
    pub fn read(path: &Path, out: Option<&Path>, with: &Overrides) -> Result<Self> {
        let unreadable =
            || format!("{}: expected a recipe, a TOML file such as recipes/quickstart.toml", path.display());
        let mut text = String::new();
        let file = fs::File::open(path).with_context(unreadable)?;
        if file.take(LARGEST).read_to_string(&mut text).with_context(unreadable)? as u64 == LARGEST {
            bail!("{}, got {LARGEST} bytes or more", unreadable());
        }
        let name = path.file_stem().map_or_else(|| "recipe".into(), |stem| stem.to_string_lossy().into_owned());
        Self::parse(&text, &name, out, with).with_context(|| path.display().to_string())
    }

    fn parse(text: &str, name: &str, out: Option<&Path>, with: &Overrides) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count());
            anyhow::anyhow!("line {}: {}", line + 1, error.message())
        })?;
        if file.run.is_empty() {
            bail!("expected at least one [[run]], got none");
        }
        if file.shared.contains_key("grid") {
            bail!("shared.grid: expected a table [grid] at the top of the file, or a grid in a [[run]]");
        }
        let common = Grid::read(&file.grid)?;
        if let Some(key) = common.keys().find(|key| key.is_in(&file.shared)) {
            bail!("grid.{key}: expected it either in [grid] or in [shared], got both");
        }
        let gridded = gridded(&common, &file.run);
        let out = out.map(Into::into).or(file.out.map(expanded)).unwrap_or_else(|| Path::new("runs").join(name));
        let (mut runs, mut folders, mut seeded) = (Vec::new(), HashSet::new(), false);
        for (number, own) in file.run.into_iter().enumerate() {
            let place = || format!("run {}", number + 1);
            let entry = Entry::new(&file.shared, &common, own, with, &gridded).with_context(place)?;
            seeded |= entry.seeds.is_some();
            let count = entry.count().saturating_add(runs.len());
            if count > MOST_RUNS {
                let (most, count) = (thousands(MOST_RUNS), thousands(count));
                bail!("{}: expected at most {most} runs in a recipe, got {count}; shorten a list", place());
            }
            for run in entry.runs().with_context(place)? {
                if !folders.insert(run.folder_name()) {
                    bail!("{}: name: expected one that no other run has, got {:?} again", place(), run.name);
                }
                runs.push(run);
            }
        }
        Ok(Self { out, runs, seeded })
    }
}

/// How `weights` names another run of the recipe.
const OF_RUN: &str = "run:";

impl Recipe {
    /// The folder of the run whose weights `run` starts from, if it names one of the recipe's: `weights = "run:NAME"`, where a run with the
    /// same seed is meant if there are several of that name.
    ///
    /// # Errors
    /// If there is no such run before it.
    pub fn weights_of(&self, run: &Run) -> Result<Option<PathBuf>> {
        let Some(name) = run.settings.get("weights").and_then(Value::as_str).and_then(|text| text.strip_prefix(OF_RUN))
        else {
            return Ok(None);
        };
        let before = self.runs.iter().take_while(|other| other.name != run.name);
        let seed = run.settings.get("seed");
        let seeded = seed.map(|seed| format!("{name} seed {seed}"));
        let mut meant = before.filter(|other| other.name == name || Some(&other.name) == seeded.as_ref());
        match meant.next() {
            Some(other) => Ok(Some(self.out.join(other.folder_name()))),
            None => bail!("weights: expected run:NAME with the name of a run before this one, got {OF_RUN}{name}"),
        }
    }
}

/// The keys of all grids of a recipe. One that cannot be read is left to its run.
fn gridded(common: &Grid, runs: &[Table]) -> Vec<Key> {
    let own = runs.iter().filter_map(|run| Grid::read(run.get("grid")?.as_table()?).ok());
    let own: Vec<Grid> = own.collect();
    common.keys().chain(own.iter().flat_map(Grid::keys)).cloned().collect()
}

/// A `[[run]]` of the file, which stands for one run or, with a grid or seeds, for several.
struct Entry {
    /// None where the grid alone names its runs.
    name: Option<String>,
    /// The shared settings, changed by its own.
    settings: Table,
    /// The keys of those that are its own.
    own: Vec<String>,
    /// The grid at the top and its own.
    grid: Grid,
    seeds: Option<Vec<i64>>,
}

impl Entry {
    fn new(shared: &Table, common: &Grid, mut own: Table, with: &Overrides, gridded: &[Key]) -> Result<Self> {
        let own_grid = match own.remove("grid") {
            Some(Value::Table(lists)) => Grid::read(&lists)?,
            Some(other) => bail!("grid: expected lists by their keys, such as {{ lr = [0.1, 0.01] }}, got {other}"),
            None => Grid::default(),
        };
        if let Some(key) = common.keys().chain(own_grid.keys()).find(|key| key.is_in(&own)) {
            bail!("grid.{key}: expected it either in a grid or as a setting of the run, got both");
        }
        let own_keys = own.keys().map(String::as_str).chain(own_grid.keys().map(Key::name));
        let own_keys = own_keys.map(Into::into).collect();
        let mut grid = common.clone();
        grid.add(own_grid)?;
        let mut settings = shared.clone();
        for (key, value) in own {
            match (settings.get_mut(&key), value) {
                (Some(Value::Table(common)), Value::Table(more)) => common.extend(more),
                (_, value) => drop(settings.insert(key, value)),
            }
        }
        with.apply(&mut settings, &mut grid, gridded)?;
        for (key, instead) in [
            ("threads", "--threads"),
            ("kernels", "--kernels"),
            ("paths", "data, model or weights"),
            ("resolved", "nothing"),
            ("out", "out at the top of the file"),
        ] {
            if settings.contains_key(key) || grid.keys().any(|of_grid| of_grid.is_setting(key)) {
                bail!("{key}: not a setting of a recipe's run; use {instead}");
            }
        }
        let name = match settings.remove("name") {
            Some(Value::String(name)) if !file_name(&name).is_empty() => Some(name),
            Some(other) => bail!("name: expected a text with letters or digits, got {other}"),
            None if grid.is_empty() => bail!("name: expected one, got none"),
            None => None,
        };
        let seeds = settings.remove("seeds").map(seeds).transpose()?;
        if seeds.is_some() && settings.contains_key("seed") {
            bail!("seed: expected either seed or seeds, got both");
        }
        check_finite(&settings)?;
        Ok(Self { name, settings, own: own_keys, grid, seeds })
    }

    /// How many runs it stands for.
    fn count(&self) -> usize {
        self.grid.count().saturating_mul(self.seeds.as_ref().map_or(1, Vec::len))
    }

    fn runs(&self) -> Result<Vec<Run>> {
        let mut runs = Vec::with_capacity(self.count());
        for point in self.grid.points() {
            let mut settings = self.settings.clone();
            let mut words: Vec<String> = self.name.iter().cloned().collect();
            for (key, value) in &point {
                key.set(&mut settings, (*value).clone())?;
                words.push(format!("{}={}", key.name(), short(value)));
            }
            let Some(seeds) = &self.seeds else {
                runs.push(Run::new(words.join(" "), settings, &self.own)?);
                continue;
            };
            for seed in seeds {
                let mut settings = settings.clone();
                settings.insert("seed".into(), Value::Integer(*seed));
                runs.push(Run::new(format!("{} seed {seed}", words.join(" ")), settings, &self.own)?);
            }
        }
        Ok(runs)
    }
}

/// The list of seeds: one run for each.
fn seeds(value: Value) -> Result<Vec<i64>> {
    let expected = "seeds: expected a list of different whole numbers of at least 0, such as [0, 1, 2]";
    let Value::Array(values) = &value else { bail!("{expected}, got {value}") };
    let seeds: Option<Vec<i64>> = values.iter().map(|value| value.as_integer().filter(|seed| *seed >= 0)).collect();
    match seeds {
        Some(seeds) if !seeds.is_empty() && seeds.iter().collect::<HashSet<_>>().len() == seeds.len() => Ok(seeds),
        _ => bail!("{expected}, got {value}"),
    }
}

/// A number in TOML may be `nan` or `inf`, which no setting takes.
fn check_finite(table: &Table) -> Result {
    for (key, value) in table {
        if !grid::is_finite(value) {
            bail!("{key}: expected finite numbers, got {value}");
        }
    }
    Ok(())
}

impl Run {
    fn new(name: String, mut settings: Table, own: &[String]) -> Result<Self> {
        let expected = "command: expected \"train\", \"finetune\", \"pretrain\" or \"knn\"";
        let named = |command: &str| Start::ALL.into_iter().find(|start| start.command() == command);
        let start = match settings.remove("command") {
            Some(Value::String(command)) => named(&command).with_context(|| format!("{expected}, got {command:?}"))?,
            Some(other) => bail!("{expected}, got {other}"),
            None => bail!("{expected}, got none"),
        };
        let run = Self { name, start, settings, own: own.to_vec() };
        let length = run.folder_name().len();
        if length > LONGEST_NAME {
            let name = run.name.chars().take(40).collect::<String>();
            bail!("name: expected at most {LONGEST_NAME} bytes, as it names a folder, got {length}: {name:?}…");
        }
        Ok(run)
    }

    /// The name of its folder under [`Recipe::out`].
    pub fn folder_name(&self) -> String {
        file_name(&self.name)
    }

    /// The command that does the same run into `folder`.
    pub fn command(&self, folder: &Path) -> String {
        let mut words = vec!["tallow".to_string(), self.start.command().into()];
        words.extend(self.settings.get("model").map(plain));
        for (key, value) in self.settings.iter().filter(|(key, _)| *key != "model") {
            // What does not learn has one batch size.
            let own = if self.start == Start::Neighbours && key == "eval_batch_size" { "batch_size" } else { key };
            let flag = format!("--{}", own.replace('_', "-"));
            match value {
                Value::Table(entries) => {
                    words.extend(
                        entries.iter().flat_map(|(key, value)| [flag.clone(), format!("{key}={}", plain(value))]),
                    );
                }
                Value::Boolean(value) => words.push(format!("{flag}={value}")),
                value => words.extend([flag, plain(value)]),
            }
        }
        words.extend(["--name".into(), self.name.clone(), "--out".into(), folder.display().to_string()]);
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    out: Option<PathBuf>,
    #[serde(default)]
    shared: Table,
    #[serde(default)]
    grid: Table,
    #[serde(default)]
    run: Vec<Table>,
}

/// A value as a flag takes it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// A value in a name: as [`plain`], but without a row of noughts.
fn short(value: &Value) -> String {
    match value {
        Value::Float(number) if *number == 0. || (1e-4..1e6).contains(&number.abs()) => number.to_string(),
        Value::Float(number) => format!("{number:e}"),
        Value::Array(values) => values.iter().map(short).collect::<Vec<_>>().join(","),
        other => plain(other),
    }
}

/// A word as a POSIX shell reads it.
fn quoted(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(safe) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, with: &[&str]) -> Result<Recipe> {
        let with: Vec<String> = with.iter().map(|word| word.to_string()).collect();
        Recipe::parse(text, "r", None, &Overrides::parse(&with)?)
    }

    fn message(text: &str) -> String {
        crate::error::one_line(&parse(text, &[]).unwrap_err())
    }

    fn names(recipe: &Recipe) -> Vec<&str> {
        recipe.runs.iter().map(|run| run.name.as_str()).collect()
    }

    #[test]
    fn weights_of_another_run_are_those_of_the_same_seed_before_it() {
        let text = r#"
            [shared]
            model = "vit_mnist"
            data = "mnist"
            seeds = [0, 7]
            [[run]]
            name = "MAE"
            command = "pretrain"
            method = "mae"
            [[run]]
            name = "tuned"
            command = "finetune"
            weights = "run:MAE"
            [[run]]
            name = "lost"
            command = "knn"
            weights = "run:tuna"
        "#;
        let recipe = parse(text, &[]).unwrap();
        let folder = |at: usize| recipe.weights_of(&recipe.runs[at]);
        assert!(folder(0).unwrap().is_none());
        assert_eq!(folder(3).unwrap(), Some(recipe.out.join(recipe.runs[1].folder_name())));
        let message = folder(4).unwrap_err().to_string();
        assert!(message.contains("a run before this one") && message.contains("run:tuna"), "{message}");
    }

    #[test]
    fn a_run_changes_what_is_shared_and_adds_to_its_set() {
        let text = "[shared]\ndata='mnist'\nlr=1.0\nset.img_size=56\n\
                    [[run]]\nname='a b'\ncommand='train'\nmodel='m'\nlr=2.0\nset.depth=2\n";
        let recipe = parse(text, &[]).unwrap();
        assert_eq!(recipe.out, Path::new("runs/r"));
        let run = &recipe.runs[0];
        assert_eq!(
            run.command(&recipe.out.join(run.folder_name())),
            "tallow train m --data mnist --lr 2.0 --set img_size=56 --set depth=2 --name 'a b' --out runs/r/a-b"
        );
    }

    #[test]
    fn a_grid_gives_the_product_of_its_lists_in_the_order_of_the_file_and_seeds_each_run_of_it() {
        let text = "[shared]\ncommand='train'\nseeds=[0, 7]\n[grid]\nlr=[0.1, 0.01]\n\
                    [[run]]\nname='a'\nset.depth=2\n[run.grid]\nset.embed_dim=[16, 32]\n[[run]]\nseeds=[1]\n";
        let recipe = parse(text, &[]).unwrap();
        assert!(recipe.seeded);
        assert_eq!(
            names(&recipe),
            [
                "a lr=0.1 embed_dim=16 seed 0",
                "a lr=0.1 embed_dim=16 seed 7",
                "a lr=0.1 embed_dim=32 seed 0",
                "a lr=0.1 embed_dim=32 seed 7",
                "a lr=0.01 embed_dim=16 seed 0",
                "a lr=0.01 embed_dim=16 seed 7",
                "a lr=0.01 embed_dim=32 seed 0",
                "a lr=0.01 embed_dim=32 seed 7",
                "lr=0.1 seed 1",
                "lr=0.01 seed 1",
            ]
        );
        assert_eq!(recipe.runs[3].folder_name(), "a-lr-0.1-embed_dim-32-seed-7");
        let settings: Table = toml::from_str("seed=7\nlr=0.1\nset={depth=2, embed_dim=32}").unwrap();
        assert_eq!(recipe.runs[3].settings, settings);
    }

    #[test]
    fn the_key_of_a_grid_is_a_setting_or_else_an_option_of_the_architecture() {
        for grid in ["embed_dim=[16]", "'set.embed_dim'=[16]", "set.embed_dim=[16]"] {
            let recipe = parse(&format!("[[run]]\ncommand='train'\ngrid={{{grid}}}"), &[]).unwrap();
            assert_eq!(names(&recipe), ["embed_dim=16"]);
            assert_eq!(recipe.runs[0].settings, toml::from_str("set.embed_dim=16").unwrap());
        }
        let recipe = parse("[[run]]\ngrid={command=['train','finetune'], betas=[[0.9, 0.99]]}", &[]).unwrap();
        assert_eq!(names(&recipe), ["command=train betas=0.9,0.99", "command=finetune betas=0.9,0.99"]);
        assert_eq!(recipe.runs.iter().map(|run| run.start).collect::<Vec<_>>(), [Start::Scratch, Start::Pretrained]);
    }

    #[test]
    fn what_is_no_recipe_is_refused_with_its_place() {
        assert!(message("run = 3").starts_with("line 1: "));
        assert!(message("[shared]\ndata='mnist'\n[grids]\n").contains("unknown field `grids`"));
        assert_eq!(message(""), "expected at least one [[run]], got none");
        assert_eq!(
            message("[[run]]\nname='a'"),
            "run 1: command: expected \"train\", \"finetune\", \"pretrain\" or \"knn\", got none"
        );
        let twice = "[[run]]\nname='a b'\ncommand='train'\n[[run]]\nname='a-b'\ncommand='train'";
        assert_eq!(message(twice), "run 2: name: expected one that no other run has, got \"a-b\" again");
    }

    #[test]
    fn what_is_no_grid_is_refused_with_its_place() {
        let of_run = |line: &str| message(&format!("[[run]]\nname='a'\ncommand='train'\n{line}"));
        let list = "expected a list of values, such as [0.1, 0.01]";
        assert_eq!(of_run("grid={lr=[]}"), format!("run 1: grid.lr: {list}, got []"));
        assert_eq!(of_run("grid={lr=0.1}"), format!("run 1: grid.lr: {list}, got 0.1"));
        assert_eq!(
            of_run("grid=[1]"),
            "run 1: grid: expected lists by their keys, such as { lr = [0.1, 0.01] }, got [1]"
        );
        assert_eq!(of_run("grid={lr=[0.1, nan]}"), "run 1: grid.lr: expected finite numbers, got nan");
        assert_eq!(of_run("lr=inf"), "run 1: lr: expected finite numbers, got inf");
        assert_eq!(of_run("grid={lr=[1.0, 1.0]}"), "run 1: grid.lr: expected values that differ, got 1.0 twice");
        assert!(of_run("grid={lr=[{a=1}]}").starts_with("run 1: grid.lr: expected numbers, texts"));
        assert_eq!(
            of_run("lr=0.1\ngrid={lr=[0.1]}"),
            "run 1: grid.lr: expected it either in a grid or as a setting of the run, got both"
        );
        assert!(of_run("set.depth=1\ngrid={depth=[1]}").contains("got both"));
        assert_eq!(
            of_run("grid={depth=[1], 'set.depth'=[2]}"),
            "run 1: grid.depth: expected each key once, got it twice"
        );
        assert_eq!(
            of_run("grid={seed=[1]}"),
            "run 1: grid.seed: expected another key; for seeds use seeds = [0, 1, 2]"
        );
        assert!(of_run("grid={threads=[1, 2]}").contains("threads: not a setting of a recipe's run; use --threads"));
        assert!(
            message("[shared]\nlr=1.0\n[grid]\nlr=[1.0]\n[[run]]\nname='a'")
                .contains("[grid] or in [shared], got both")
        );
        assert!(message("[shared]\ngrid={lr=[1.0]}\n[[run]]\nname='a'").starts_with("shared.grid: "));
        for seeds in ["[]", "3", "[-1]", "[1, 1]", "[0.5]", "['a']"] {
            let got = of_run(&format!("seeds={seeds}"));
            assert!(got.starts_with("run 1: seeds: expected a list of different whole numbers"), "{got}");
        }
        assert_eq!(of_run("seed=1\nseeds=[1]"), "run 1: seed: expected either seed or seeds, got both");
        let list = |from: usize| (from..from + 101).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(
            of_run(&format!("grid={{epochs=[{}], limit=[{}]}}", list(1), list(1))),
            "run 1: expected at most 10,000 runs in a recipe, got 10,201; shorten a list"
        );
        assert!(
            of_run(&format!("grid={{model=['{}']}}", "m".repeat(300))).contains("name: expected at most 200 bytes")
        );
    }

    #[test]
    fn with_takes_the_place_of_what_is_shared_of_what_runs_say_and_of_lists_of_the_grid() {
        let text = "[shared]\ncommand='train'\nepochs=20\nseed=3\n[[run]]\nname='a'\nepochs=30\nset.depth=4\n\
                    [[run]]\nname='b'\ngrid={embed_dim=[16, 32, 64]}\n";
        let with =
            ["epochs=5", "depth=1", "embed_dim=16,64", "seeds=0,1", "augment=crop,flip", "freeze=2", "betas=0.9,0.95"];
        let recipe = parse(text, &with).unwrap();
        assert_eq!(
            names(&recipe),
            [
                "a seed 0",
                "a seed 1",
                "b embed_dim=16 seed 0",
                "b embed_dim=16 seed 1",
                "b embed_dim=64 seed 0",
                "b embed_dim=64 seed 1"
            ]
        );
        let expected =
            "epochs=5\naugment='crop,flip'\nfreeze='2'\nbetas=[0.9, 0.95]\nseed=1\n[set]\ndepth='1'\nembed_dim='16'";
        let mut settings = recipe.runs[3].settings.clone();
        assert_eq!(settings.remove("set"), toml::from_str::<Table>(expected).unwrap().remove("set"));
        let of_a = recipe.runs[0].settings["set"].clone();
        assert_eq!(of_a, toml::from_str::<Value>("depth='1'").unwrap(), "several values are for the grid alone");
        let alone = parse("[[run]]\nname='a'\ncommand='train'\nseeds=[0, 1]", &["seed=4"]).unwrap();
        assert_eq!((names(&alone), alone.seeded), (vec!["a"], false));
    }

    #[test]
    fn with_refuses_what_is_no_setting_or_no_value_of_it() {
        let refused = |with: &[&str]| {
            let text = "[[run]]\nname='a'\ncommand='train'";
            crate::error::one_line(&parse(text, with).map(drop).unwrap_err())
        };
        assert_eq!(refused(&["epochs"]), "--with: expected KEY=VALUE, such as epochs=5, got \"epochs\"");
        assert_eq!(refused(&["epochs=1", "epochs=2"]), "--with epochs: expected each key once, got it twice");
        assert!(refused(&["epochs=many"]).starts_with("--with epochs: "));
        assert!(refused(&["epochs=1,2"]).contains("--with epochs: "));
        assert!(refused(&["name=b"]).starts_with("--with name: expected a setting of the runs"));
        assert!(refused(&["seeds="]).contains("seeds: expected a list of different whole numbers"));
    }
}
