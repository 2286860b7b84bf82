//! What the runs were made from: where their configurations differ.

use std::collections::BTreeMap;

use super::run::Run;

/// Settings by their names, with the tables that they are in: `set.img_size`.
pub(super) type Settings = BTreeMap<String, String>;

/// A setting that is not the same in every run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    /// Its name, with the tables that it is in: `set.img_size`.
    pub setting: String,
    /// Its value in each run; none where a run does not state it.
    pub values: Vec<Option<String>>,
}

/// The settings that are not the same in every run, in alphabetical order, and after them what they came to (the table
/// `resolved`); the run's name is not a setting, nor is where its files lay.
pub(super) fn differences(runs: &[Run]) -> Vec<Difference> {
    let without_name = |run: &Run| {
        let mut settings = settings(&run.config);
        settings.retain(|setting, _| setting != "name" && !setting.starts_with("paths."));
        settings
    };
    let flat: Vec<Settings> = runs.iter().map(without_name).collect();
    let mut settings: Vec<&String> = flat.iter().flat_map(|run| run.keys()).collect();
    settings.sort_by_key(|setting| (setting.starts_with("resolved."), *setting));
    settings.dedup();
    settings
        .into_iter()
        .filter(|setting| flat.iter().any(|run| run.get(*setting) != flat[0].get(*setting)))
        .map(|setting| Difference {
            setting: setting.clone(),
            values: flat.iter().map(|run| run.get(setting).cloned()).collect(),
        })
        .collect()
}

/// All settings of a configuration.
pub(super) fn settings(config: &toml::Table) -> Settings {
    let mut settings = Settings::new();
    flatten("", config, &mut settings);
    settings
}

fn flatten(prefix: &str, table: &toml::Table, out: &mut Settings) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, out),
            toml::Value::String(text) => drop(out.insert(name, text.clone())),
            other => drop(out.insert(name, other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(config: &str) -> Run {
        Run::of_config("", config)
    }

    #[test]
    fn only_what_differs_is_listed_with_each_runs_value() {
        let runs = [
            run("name = 'a'\nlr = 1e-4\nseed = 0\nweights = 'pretrained'\n\
                 [paths]\ndata = 'folder:/a'\n[resolved]\ntrain_samples = 10\n[set]\nimg_size = 56"),
            run("name = 'b'\nlr = 0.0005\nseed = 0\n[set]\nimg_size = 28"),
        ];
        let found = differences(&runs);
        let setting = |name: &str, a: &str, b: Option<&str>| Difference {
            setting: name.into(),
            values: vec![Some(a.into()), b.map(str::to_string)],
        };
        assert_eq!(
            found,
            [
                setting("lr", "0.0001", Some("0.0005")),
                setting("set.img_size", "56", Some("28")),
                setting("weights", "pretrained", None),
                setting("resolved.train_samples", "10", None)
            ]
        );
    }
}
