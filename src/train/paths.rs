//! Where the files lie that a run's settings name: kept absolute beside what the user wrote, so that a run is found again from
//! another working directory.
//!
//! `data`, `model` and `weights` stay in `config.toml` as they were written; `[paths]` there has the absolute place of those
//! that are paths, in the same notation (`data = "folder:/home/me/photos"`). When the run is opened again, that place comes
//! first; where nothing is there any more (the project was moved), what was written is tried from the working directory, then
//! from the folders above the run's.

use std::fs;
use std::path::{Component, Path, PathBuf};

use tallow_models::zoo;
use tallow_weights::expanded;

use super::config::TrainConfig;
use super::run_folder::RunFolder;

/// The settings that may be paths.
pub(super) const KEYS: [&str; 3] = ["data", "model", "weights"];

/// Kinds of data sets that lie at a path.
const DATA: [&str; 4] = ["folder", "idx", "cifar", "parquet"];

/// A setting that is a path, in its parts: `folder:` `photos` ``; `parquet:` `x` `?label=fine`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place<'a> {
    before: &'a str,
    /// Without `~` for the home folder.
    path: PathBuf,
    after: &'a str,
}

impl<'a> Place<'a> {
    /// None where the setting `key` with the value `text` is no path.
    fn of(key: &str, text: &'a str) -> Option<Self> {
        if key == "data" { Self::of_data(text) } else { Self::of_model(text) }
    }

    fn of_data(text: &'a str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (path, after) =
            if kind == "parquet" { rest.split_at(rest.find('?').unwrap_or(rest.len())) } else { (rest, "") };
        DATA.contains(&kind).then(|| Self { before: &text[..=kind.len()], path: expanded(path), after })
    }

    fn of_model(text: &'a str) -> Option<Self> {
        const LOCAL: &str = "local-dir:";
        let (before, path) = text.split_at(if text.starts_with(LOCAL) { LOCAL.len() } else { 0 });
        let on_the_hub = ["hf-hub:", "hf_hub:"].iter().any(|hub| text.starts_with(hub));
        // As `Source::parse` has it: a name of the zoo goes before a path of the same name.
        let looks_like_path = !before.is_empty() || path.contains(['/', '\\']) || [".", ".."].contains(&path);
        let is_path = looks_like_path || (expanded(path).exists() && zoo::find(path).is_err());
        (!on_the_hub && is_path).then(|| Self { before, path: expanded(path), after: "" })
    }

    fn written(&self, path: &Path) -> String {
        format!("{}{}{}", self.before, path.display(), self.after)
    }

    /// The same at an absolute path, seen from the folder `from`.
    fn seen_from(&self, from: &Path) -> PathBuf {
        from.join(&self.path)
    }
}

/// A path from the root. `..` goes where the system goes, links included.
fn absolute(path: &Path) -> PathBuf {
    let goes_up = path.components().any(|part| part == Component::ParentDir);
    let plain = || std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    if goes_up { fs::canonicalize(path).unwrap_or_else(|_| plain()) } else { plain() }
}

/// Whether two settings name the same thing: written alike, or the same file.
fn is_same(key: &str, a: &str, b: &str) -> bool {
    let file = |text| {
        Place::of(key, text).and_then(|place| {
            fs::canonicalize(&place.path).ok().map(|path| (path, place.after.to_string(), place.before.to_string()))
        })
    };
    a == b || file(a).is_some_and(|a| file(b) == Some(a))
}

/// The value of one of [`KEYS`].
fn setting<'a>(config: &'a TrainConfig, key: &str) -> Option<&'a str> {
    match key {
        "data" => Some(&config.data.data),
        "model" => Some(&config.model.model),
        _ => config.model.weights.as_deref(),
    }
}

fn setting_mut<'a>(config: &'a mut TrainConfig, key: &str) -> Option<&'a mut String> {
    match key {
        "data" => Some(&mut config.data.data),
        "model" => Some(&mut config.model.model),
        _ => config.model.weights.as_mut(),
    }
}

/// Whether two configurations say the same about one of [`KEYS`]: they wrote it alike, or it is the same file or folder.
pub(super) fn agree(key: &str, a: &TrainConfig, b: &TrainConfig) -> bool {
    let of = |config: &TrainConfig| {
        setting(config, key).map(|text| config.paths.get(key).map_or(text, |place| place).to_string())
    };
    setting(a, key) == setting(b, key) || matches!((of(a), of(b)), (Some(a), Some(b)) if is_same(key, &a, &b))
}

/// Writes down where the paths among the settings lie, as far as that is not known and something is there.
pub(super) fn fill(config: &mut TrainConfig) {
    for key in KEYS {
        let place = setting(config, key).and_then(|text| Place::of(key, text));
        if let Some(place) = place.filter(|place| place.path.exists()) {
            let written = place.written(&absolute(&place.path));
            config.paths.entry(key.to_string()).or_insert(written);
        }
    }
}

/// What to open for the setting `key`: what was written, or its absolute place where that is another one.
pub(super) fn place(config: &TrainConfig, key: &str) -> Option<String> {
    let text = setting(config, key)?;
    let known = config
        .paths
        .get(key)
        .filter(|known| !is_same(key, text, known) || Place::of(key, text).is_none_or(|p| !p.path.exists()));
    Some(known.map_or(text, |known| known).to_string())
}

/// The settings with every path as it is to be opened.
pub(super) fn placed(config: &TrainConfig) -> TrainConfig {
    let mut placed = config.clone();
    for key in KEYS {
        if let (Some(place), Some(setting)) = (place(config, key), setting_mut(&mut placed, key)) {
            *setting = place;
        }
    }
    placed
}

/// Finds the paths of a run that begins or goes on in `folder`, or is measured again: the settings with their absolute places,
/// and a note for each that is not where it was. What the run there has written another way, but is the same file, takes the
/// run's spelling, so that its samples keep their names.
pub(super) fn locate(config: &TrainConfig, folder: &RunFolder) -> (TrainConfig, Vec<String>) {
    let mut config = config.clone();
    let mut notes = Vec::new();
    let run = if folder.config_path().exists() { folder.config().ok() } else { None };
    for key in KEYS {
        let Some(text) = setting(&config, key).map(String::from) else { continue };
        let own = run.as_ref().filter(|run| setting(run, key) == Some(&text)).and_then(|run| run.paths.get(key));
        // What a run remembers goes first, but for a path that was just given by hand and is there.
        let by_hand = !config.paths.contains_key(key);
        let remembered = config.paths.get(key).or(own).cloned();
        // A folder without a slash in its name is a path only where it is there, or was.
        let bare = || remembered.is_some().then(|| Place { before: "", path: expanded(&text), after: "" });
        let Some(place) = Place::of(key, &text).or_else(bare) else { continue };
        let here = || Some(place.written(&absolute(&place.path)));
        let above = || {
            let root = absolute(folder.root());
            let found = root.ancestors().skip(1).map(|from| place.seen_from(from)).find(|path| path.exists());
            found.map(|path| place.written(&absolute(&path)))
        };
        let is_there = |text: &String| Place::of(key, text).is_some_and(|place| place.path.exists());
        let first = if by_hand { here() } else { remembered.clone() };
        let second = if by_hand { remembered.clone() } else { here() };
        let found = first.filter(is_there).or_else(|| second.filter(is_there)).or_else(|| above().filter(is_there));
        let Some(found) = found else { continue };
        if let Some(remembered) =
            remembered.filter(|remembered| !by_hand && *remembered != found && !is_there(remembered))
        {
            notes.push(format!("{key}: nothing is at {remembered} any more; using {found}"));
        }
        let moved = |known: &String| {
            let alike = |a: Option<Place>, b: Option<Place>| matches!((a, b), (Some(a), Some(b)) if a.before == b.before && a.after == b.after);
            let gone = !is_there(known) && alike(Place::of(key, known), Place::of(key, &found));
            // Whether it is the same data is told by what it holds.
            key == "data" && by_hand && gone && folder.data_path().exists()
        };
        if let Some(known) = run.as_ref().and_then(|run| run.paths.get(key)).filter(|known| moved(known)) {
            notes.push(format!("{key}: nothing is at {known} any more; using {found}"));
        }
        if let Some(run) = &run
            && let Some(own) = setting(run, key).filter(|own| *own != text)
            && run.paths.get(key).is_some_and(|known| is_same(key, known, &found) || moved(known))
            && let Some(setting) = setting_mut(&mut config, key)
        {
            *setting = own.to_string();
        }
        config.paths.insert(key.to_string(), found);
    }
    (config, notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_names() {
        let path = |key, text| Place::of(key, text).map(|place| place.path.to_string_lossy().into_owned());
        for (key, text, expected) in [
            ("data", "folder:photos", Some("photos")),
            ("data", "parquet:some/x.parquet?label=fine", Some("some/x.parquet")),
            ("data", "mnist", None),
            ("data", "hf:owner/name", None),
            ("model", "vit_mnist", None),
            ("model", "hf-hub:owner/name", None),
            ("model", "svm", None),
            ("model", "./vit_mnist", Some("./vit_mnist")),
            ("model", "local-dir:exported", Some("exported")),
            ("weights", "runs/a", Some("runs/a")),
            ("weights", "pretrained", None),
        ] {
            assert_eq!(path(key, text).as_deref(), expected, "{key} {text}");
        }
        let place = Place::of("data", "parquet:some?label=fine").expect("a path");
        assert_eq!(place.written(Path::new("/there/some")), "parquet:/there/some?label=fine");
    }
}
