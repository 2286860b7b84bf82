//! Recipes: TOML files that name runs, the settings that they share, and what each changes.
//!
//! ```toml
//! out = "runs/quickstart"     # default: runs/<name of the file>
//!
//! [shared]                    # settings as in a run's config.toml
//! data = "mnist"
//! set.img_size = 56           # options of the architecture
//!
//! [[run]]
//! name = "pretrained"
//! command = "finetune"        # or train
//! model = "vit_small_patch14_dinov2.saliency"
//! lr = 1e-4
//! ```

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use toml::{Table, Value};

use super::error::Result;
use super::settings::Start;
use super::train::file_name;

/// Longer than any recipe; what is larger was not meant as one.
const LARGEST: u64 = 1 << 20;

/// A recipe that was read and checked.
#[derive(Debug)]
pub struct Recipe {
    /// Where the runs and their comparison go.
    pub out: PathBuf,
    /// In the order of the file.
    pub runs: Vec<Run>,
}

/// One run of a recipe.
#[derive(Debug)]
pub struct Run {
    /// Its name in the report.
    pub name: String,
    /// How it trains.
    pub start: Start,
    /// Its settings: the shared ones, changed by its own.
    pub settings: Table,
}

impl Recipe {
    /// Reads a recipe; `out` takes the place of the file's own.
    ///
    /// # Errors
    /// If the file cannot be read, is no recipe, or two runs have the same name.
    pub fn read(path: &Path, out: Option<&Path>) -> Result<Self> {
        let unreadable =
            || format!("{}: expected a recipe, a TOML file such as recipes/quickstart.toml", path.display());
        let mut text = String::new();
        let file = fs::File::open(path).with_context(unreadable)?;
        if file.take(LARGEST).read_to_string(&mut text).with_context(unreadable)? as u64 == LARGEST {
            bail!("{}, got {LARGEST} bytes or more", unreadable());
        }
        let name = path.file_stem().map_or_else(|| "recipe".into(), |stem| stem.to_string_lossy().into_owned());
        Self::parse(&text, &name, out).with_context(|| path.display().to_string())
    }

    fn parse(text: &str, name: &str, out: Option<&Path>) -> Result<Self> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start.min(text.len())].matches('\n').count());
            anyhow::anyhow!("line {}: {}", line + 1, error.message())
        })?;
        if file.run.is_empty() {
            bail!("expected at least one [[run]], got none");
        }
        let out = out.map(Into::into).or(file.out).unwrap_or_else(|| Path::new("runs").join(name));
        let mut runs: Vec<Run> = Vec::new();
        for (number, own) in file.run.into_iter().enumerate() {
            let run = Run::new(&file.shared, own).with_context(|| format!("run {}", number + 1))?;
            if runs.iter().any(|other| other.folder_name() == run.folder_name()) {
                bail!("run {}: name: expected one that no other run has, got {:?} again", number + 1, run.name);
            }
            runs.push(run);
        }
        Ok(Self { out, runs })
    }
}

impl Run {
    fn new(shared: &Table, own: Table) -> Result<Self> {
        let mut settings = shared.clone();
        for (key, value) in own {
            match (settings.get_mut(&key), value) {
                (Some(Value::Table(common)), Value::Table(more)) => common.extend(more),
                (_, value) => drop(settings.insert(key, value)),
            }
        }
        for (key, instead) in [("threads", "--threads"), ("resolved", "nothing"), ("out", "out at the top of the file")]
        {
            if settings.contains_key(key) {
                bail!("{key}: not a setting of a recipe's run; use {instead}");
            }
        }
        let name = match settings.remove("name") {
            Some(Value::String(name)) if !file_name(&name).is_empty() => name,
            Some(other) => bail!("name: expected a text with letters or digits, got {other}"),
            None => bail!("name: expected one, got none"),
        };
        let start = match settings.remove("command") {
            Some(Value::String(command)) if command == "train" => Start::Scratch,
            Some(Value::String(command)) if command == "finetune" => Start::Pretrained,
            Some(other) => bail!("command: expected \"train\" or \"finetune\", got {other}"),
            None => bail!("command: expected \"train\" or \"finetune\", got none"),
        };
        Ok(Self { name, start, settings })
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
            let flag = format!("--{}", key.replace('_', "-"));
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

/// A word as a POSIX shell reads it.
fn quoted(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(safe) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        super::super::error::one_line(&Recipe::parse(text, "r", None).unwrap_err())
    }

    #[test]
    fn a_run_changes_what_is_shared_and_adds_to_its_set() {
        let text = "[shared]\ndata='mnist'\nlr=1.0\nset.img_size=56\n\
                    [[run]]\nname='a b'\ncommand='train'\nmodel='m'\nlr=2.0\nset.depth=2\n";
        let recipe = Recipe::parse(text, "r", None).unwrap();
        assert_eq!(recipe.out, Path::new("runs/r"));
        let run = &recipe.runs[0];
        assert_eq!(
            run.command(&recipe.out.join(run.folder_name())),
            "tallow train m --data mnist --lr 2.0 --set depth=2 --set img_size=56 --name 'a b' --out runs/r/a-b"
        );
    }

    #[test]
    fn what_is_no_recipe_is_refused_with_its_place() {
        assert!(message("run = 3").starts_with("line 1: "));
        assert!(message("[shared]\ndata='mnist'\n[grid]\n").contains("unknown field `grid`"));
        assert_eq!(message(""), "expected at least one [[run]], got none");
        assert_eq!(message("[[run]]\nname='a'"), "run 1: command: expected \"train\" or \"finetune\", got none");
        let twice = "[[run]]\nname='a b'\ncommand='train'\n[[run]]\nname='a-b'\ncommand='train'";
        assert_eq!(message(twice), "run 2: name: expected one that no other run has, got \"a-b\" again");
    }
}
