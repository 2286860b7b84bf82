//! Grids: lists of values by their keys, whose product is the runs.

use std::fmt;

use anyhow::bail;
use toml::{Table, Value};

use crate::error::Result;
use crate::settings::is_setting;

/// What a grid or `--with` changes: a setting of a run, or an option of its architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    name: String,
    /// Whether it is an option of the architecture, in the table `set`.
    of_architecture: bool,
}

impl Key {
    /// Reads `lr`, `set.embed_dim`, or `embed_dim`: what is no setting is an option of the architecture.
    pub fn new(text: &str) -> Self {
        match text.strip_prefix("set.") {
            Some(name) => Self { name: name.into(), of_architecture: true },
            None => Self { name: text.into(), of_architecture: text != "command" && !is_setting(text) },
        }
    }

    /// Its name, without the table that it is in.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the setting `name` of a run, or what a recipe puts in its place.
    pub fn is_setting(&self, name: &str) -> bool {
        self.name == name && (!self.of_architecture || !is_setting(name))
    }

    /// Whether it is an option of the architecture.
    pub fn is_of_architecture(&self) -> bool {
        self.of_architecture
    }

    /// Whether `settings` have it.
    pub fn is_in(&self, settings: &Table) -> bool {
        match self.of_architecture {
            true => settings.get("set").and_then(Value::as_table).is_some_and(|set| set.contains_key(&self.name)),
            false => settings.contains_key(&self.name),
        }
    }

    /// Gives it a value.
    pub fn set(&self, settings: &mut Table, value: Value) -> Result {
        if !self.of_architecture {
            settings.insert(self.name.clone(), value);
            return Ok(());
        }
        match settings.entry("set").or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(set) => drop(set.insert(self.name.clone(), value)),
            other => bail!("set: expected options of the architecture by their names, got {other}"),
        }
        Ok(())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Lists of values by their keys, in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct Grid(Vec<(Key, Vec<Value>)>);

impl Grid {
    /// Reads `lr = [0.1, 0.01]`, `embed_dim = [16, 32]` and so on.
    pub fn read(table: &Table) -> Result<Self> {
        let mut grid = Self::default();
        for (key, value) in table {
            match value {
                Value::Table(options) if key == "set" => {
                    for (option, value) in options {
                        grid.push(Key::new(&format!("set.{option}")), value)?;
                    }
                }
                value => grid.push(Key::new(key), value)?,
            }
        }
        Ok(grid)
    }

    fn push(&mut self, key: Key, value: &Value) -> Result {
        if ["seed", "seeds"].contains(&key.name()) {
            bail!("grid.{key}: expected another key; for seeds use seeds = [0, 1, 2]");
        }
        if key.name() == "name" {
            bail!("grid.name: expected another key; a run of a grid is named after its values");
        }
        let Value::Array(values) = value else {
            bail!("grid.{key}: expected a list of values, such as [0.1, 0.01], got {value}");
        };
        let values = values.clone();
        check(&key, &values)?;
        self.add(Self(vec![(key, values)]))
    }

    /// Adds another grid's lists.
    ///
    /// # Errors
    /// If one has a key of the other.
    pub fn add(&mut self, other: Self) -> Result {
        if let Some(key) = other.keys().find(|key| self.keys().any(|known| known == *key)) {
            bail!("grid.{key}: expected each key once, got it twice");
        }
        self.0.extend(other.0);
        Ok(())
    }

    /// Its keys.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.iter().map(|(key, _)| key)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts other values in the place of those of `key`.
    pub fn replace(&mut self, key: &Key, values: Vec<Value>) -> Result {
        check(key, &values)?;
        if let Some((_, there)) = self.0.iter_mut().find(|(known, _)| known == key) {
            *there = values;
        }
        Ok(())
    }

    /// The number of its points.
    pub fn count(&self) -> usize {
        self.0.iter().map(|(_, values)| values.len()).fold(1, usize::saturating_mul)
    }

    /// Every choice of a value for each key; the last key's changes first. Without keys it is one choice of nothing.
    pub fn points(&self) -> Vec<Vec<(&Key, &Value)>> {
        let mut points = vec![vec![]];
        for (key, values) in &self.0 {
            let longer = |point: Vec<(_, _)>| {
                values.iter().map(move |value| point.iter().copied().chain([(key, value)]).collect())
            };
            points = points.into_iter().flat_map(longer).collect();
        }
        points
    }
}

/// The values of a key must be such that runs can have them, and each another.
fn check(key: &Key, values: &[Value]) -> Result {
    if values.is_empty() {
        bail!("grid.{key}: expected a list of values, such as [0.1, 0.01], got []");
    }
    for (i, value) in values.iter().enumerate() {
        if matches!(value, Value::Table(_) | Value::Datetime(_)) {
            bail!("grid.{key}: expected numbers, texts, true or false, got {value}");
        }
        if !is_finite(value) {
            bail!("grid.{key}: expected finite numbers, got {value}");
        }
        if values[..i].contains(value) {
            bail!("grid.{key}: expected values that differ, got {value} twice");
        }
    }
    Ok(())
}

/// Whether all numbers in it are finite.
pub fn is_finite(value: &Value) -> bool {
    match value {
        Value::Float(number) => number.is_finite(),
        Value::Array(values) => values.iter().all(is_finite),
        Value::Table(table) => table.values().all(is_finite),
        _ => true,
    }
}
