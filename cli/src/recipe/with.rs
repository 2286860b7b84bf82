//! `--with KEY=VALUE`: what a recipe and its runs say, changed without editing the file.

use std::str::FromStr;

use toml::{Table, Value};

use super::grid::{Grid, Key};
use crate::error::{Result, usage};
use tallow::train::TrainConfig;

/// Settings that take the place of a recipe's.
#[derive(Debug, Default)]
pub struct Overrides(Vec<(Key, String)>);

impl Overrides {
    /// Reads `epochs=5`, `seeds=0,1,2`, `embed_dim=32` and so on.
    ///
    /// # Errors
    /// If a word is not of this form, or a key comes twice or cannot be changed.
    pub fn parse(words: &[String]) -> Result<Self> {
        let mut overrides: Vec<(Key, String)> = Vec::new();
        for word in words {
            let split = word.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
            let Some((key, value)) = split.filter(|(key, _)| !key.is_empty()) else {
                return Err(usage(format!("--with: expected KEY=VALUE, such as epochs=5, got {word:?}")));
            };
            if ["name", "threads", "kernels", "paths", "resolved", "out", "grid", "set"].contains(&key) {
                return Err(usage(format!(
                    "--with {key}: expected a setting of the runs, such as epochs=5, got {key}"
                )));
            }
            // As a flag is written, or as the setting is.
            let key = Key::new(&key.replace('-', "_"));
            if overrides.iter().any(|(known, _)| *known == key) {
                return Err(usage(format!("--with {key}: expected each key once, got it twice")));
            }
            // What is no value is said before the recipe is read.
            check(&key, value)?;
            overrides.push((key, value.into()));
        }
        Ok(Self(overrides))
    }

    /// Puts them in the place of a run's settings and of lists of its grid. Several values for what is in `gridded`, the keys of
    /// all grids of the recipe, are meant for those alone.
    ///
    /// # Errors
    /// If one is no value of its setting.
    pub fn apply(&self, settings: &mut Table, grid: &mut Grid, gridded: &[Key]) -> Result {
        for (key, text) in &self.0 {
            if key.is_setting("seeds") {
                settings.remove("seed");
                settings.insert("seeds".into(), Value::Array(list(key, text)?));
            } else if grid.keys().any(|of_grid| of_grid == key) {
                grid.replace(key, list(key, text)?)?;
            } else if !gridded.contains(key) || list(key, text).map_or(0, |values| values.len()) < 2 {
                if key.is_setting("seed") {
                    settings.remove("seeds");
                }
                key.set(settings, value(key, text)?)?;
            }
        }
        Ok(())
    }

    /// In words, for whoever reads what is run; none where there are none.
    pub fn words(&self) -> Option<String> {
        let words = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// Whether a text is a value of a key, or a list of such.
fn check(key: &Key, text: &str) -> Result {
    value(key, text).map(drop).or_else(|error| list(key, text).map(drop).map_err(|_| error))
}

/// The values of a list: `[0.1, 0.01]` or `0.1,0.01`.
fn list(key: &Key, text: &str) -> Result<Vec<Value>> {
    if let Some(Value::Array(values)) = literal(text) {
        return Ok(values);
    }
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| value(key, part)).collect()
}

/// The value of a setting: a number, `true` or `false`, numbers in a row, or a text, whatever the setting takes.
fn value(key: &Key, text: &str) -> Result<Value> {
    let as_text = Value::String(text.into());
    if key.is_setting("seeds") {
        return Ok(literal(text).unwrap_or(as_text));
    }
    // Options of an architecture are read by the architecture.
    if key.is_of_architecture() || key.is_setting("command") {
        return Ok(as_text);
    }
    let numbers = || literal(&format!("[{text}]")).filter(|_| text.contains(','));
    let (mut candidates, mut refusal) = ([literal(text), numbers(), Some(as_text)].into_iter().flatten(), None);
    let fits = |value: &Value| {
        let table = Table::from_iter([(key.name().to_string(), value.clone())]);
        TrainConfig::default()
            .with_table(&table)
            .map_err(|error| refusal.get_or_insert(error.to_string()).clone())
            .is_ok()
    };
    let fitting = candidates.find(fits);
    fitting.ok_or_else(|| usage(format!("--with {key}: {}", refusal.unwrap_or_default())))
}

/// A value as TOML writes it.
fn literal(text: &str) -> Option<Value> {
    Value::from_str(text).ok()
}
