//! Which files of a repository are wanted, told by their names.

use std::collections::{BTreeMap, BTreeSet};

use super::repo::is_safe_path;
use crate::{Error, Result};

/// Files beside the weights that say what they are and how their input is made.
pub(super) const CONFIGS: [&str; 4] =
    ["config.json", "preprocessor_config.json", "processor_config.json", crate::Whitening::FILE];
/// Weights under the names that libraries give them, the best first. An index names the parts that the weights are split in.
pub(super) const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// What other files with weights end in, the best first.
const ENDINGS: [&str; 6] = [".safetensors", ".gguf", ".npz", ".pth", ".pt", ".bin"];

/// The problem of a repository without a single Parquet file.
pub(super) const NO_PARQUET: &str = "it holds no Parquet files";

/// Config and weights among `names`. `index` reads the index of weights in parts, if it was downloaded already; without it
/// the parts are not among the result yet.
pub(super) fn model_files(
    place: &str,
    names: &[String],
    index: &dyn Fn(&str) -> Result<Option<String>>,
) -> Result<Vec<String>> {
    let has = |name: &str| names.iter().any(|other| other == name);
    let mut wanted: Vec<String> = CONFIGS.iter().filter(|name| has(name)).map(|name| (*name).to_string()).collect();
    let weights = match WEIGHTS.iter().find(|name| has(name)) {
        Some(name) => (*name).to_string(),
        None => only_weights(place, names)?,
    };
    if weights.ends_with(".index.json")
        && let Some(text) = index(&weights)?
    {
        for part in parts(place, &weights, &text)? {
            if !has(&part) {
                return Err(Error::Hub {
                    place: place.into(),
                    problem: format!("{weights} names the part {part:?}, which is not there"),
                    remedy: "use another revision or another model".into(),
                });
            }
            wanted.push(part);
        }
    }
    wanted.push(weights);
    Ok(wanted)
}

/// The weights of a repository that uses none of the usual names.
fn only_weights(place: &str, names: &[String]) -> Result<String> {
    for ending in ENDINGS {
        let found: Vec<&String> = names.iter().filter(|name| name.ends_with(ending) && !name.contains('/')).collect();
        match found.as_slice() {
            [] => {}
            [one] => return Ok((*one).clone()),
            [..] => {
                return Err(Error::Hub {
                    place: place.into(),
                    problem: format!("it holds several files with weights: {}", listed(found.iter().copied())),
                    remedy: "download the right one and give its path".into(),
                });
            }
        }
    }
    Err(Error::Hub {
        place: place.into(),
        problem: format!(
            "it holds no weights: expected model.safetensors, pytorch_model.bin, *.gguf or *.npz, got {}",
            if names.is_empty() { "no files".into() } else { listed(names) }
        ),
        remedy: "check the name and the revision".into(),
    })
}

/// The files that an index of weights in parts names.
fn parts(place: &str, name: &str, text: &str) -> Result<BTreeSet<String>> {
    let wrong = |got: String| Error::Format {
        origin: format!("{place}: {name}"),
        expected: "\"weight_map\" with the name of a file for each tensor".into(),
        got,
    };
    let index: serde_json::Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let map = index.get("weight_map").and_then(|map| map.as_object()).ok_or_else(|| wrong("none".into()))?;
    map.values()
        .map(|part| match part.as_str() {
            Some(part) if is_safe_path(part) && !part.contains('/') => Ok(part.to_string()),
            _ => Err(wrong(part.to_string())),
        })
        .collect()
}

/// What parts of a data set are called, and the words in file names that say so (those of Hugging Face's `datasets`).
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("validation", &["validation", "valid", "val", "dev"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// Sorts the Parquet files among `names` into `train`, `validation` and `test`, by the words in their names or else in those
/// of their folders; a file without such a word is for training. Splits without files are left out.
///
/// Folders that do not name a split tell apart several data sets in one place; `config` chooses one. `data` and none at all
/// are the data set `default`.
///
/// # Errors
/// When there are no Parquet files, and when there are several data sets and `config` does not name one of them.
pub fn split_files(place: &str, names: &[String], config: Option<&str>) -> Result<Vec<(&'static str, Vec<String>)>> {
    let mut sets: BTreeMap<String, BTreeMap<usize, Vec<String>>> = BTreeMap::new();
    for name in names.iter().filter(|name| name.to_ascii_lowercase().ends_with(".parquet")) {
        let parts: Vec<&str> = name.split('/').collect();
        let split = parts.iter().rev().find_map(|part| split_of(part)).unwrap_or(0);
        let folders = &parts[..parts.len() - 1];
        let set = folders.iter().filter(|folder| split_of(folder).is_none()).copied().collect::<Vec<_>>().join("/");
        let set = if set.is_empty() || set == "data" { "default".to_string() } else { set };
        sets.entry(set).or_default().entry(split).or_default().push(name.clone());
    }
    let choices = listed(sets.keys());
    let chosen = match config {
        Some(config) => sets.remove(config),
        None if sets.len() == 1 => sets.pop_first().map(|(_, set)| set),
        None => sets.remove("default"),
    };
    match (chosen, config) {
        (Some(set), _) => Ok(set
            .into_iter()
            .map(|(split, mut files)| {
                files.sort();
                (SPLITS[split].0, files)
            })
            .collect()),
        (None, _) if choices.is_empty() => Err(Error::Hub {
            place: place.into(),
            problem: NO_PARQUET.into(),
            remedy: "only data sets in Parquet can be read; try the revision refs/convert/parquet".into(),
        }),
        (None, Some(config)) => Err(Error::Hub {
            place: place.into(),
            problem: format!("it holds no data set {config:?}"),
            remedy: format!("choose one of {choices}"),
        }),
        (None, None) => Err(Error::Hub {
            place: place.into(),
            problem: format!("it holds several data sets: {choices}"),
            remedy: "choose one by appending ?config=NAME".into(),
        }),
    }
}

/// Which split a name speaks of, as an index into [`SPLITS`].
fn split_of(name: &str) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    words.find_map(|word| SPLITS.iter().position(|(_, keywords)| keywords.contains(&word)))
}

/// The first few of some names.
fn listed<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_string()).collect()
    }

    fn chosen(names: &[&str]) -> Result<Vec<String>> {
        model_files("here", &owned(names), &|_| Ok(None))
    }

    #[test]
    fn safetensors_are_preferred_and_other_files_left_alone() -> Result<()> {
        let names = ["README.md", "pytorch_model.bin", "model.safetensors", "config.json", "onnx/model.onnx", "a.gguf"];
        assert_eq!(chosen(&names)?, ["config.json", "model.safetensors"]);
        assert_eq!(chosen(&["x.npz", "tiny.gguf", "sub/other.gguf"])?, ["tiny.gguf"]);
        assert_eq!(chosen(&["pytorch_model.bin", "config.json"])?, ["config.json", "pytorch_model.bin"]);
        assert!(chosen(&["a.gguf", "b.gguf"]).is_err_and(|e| e.to_string().contains("a.gguf, b.gguf")));
        assert!(chosen(&["README.md"]).is_err_and(|e| e.to_string().contains("README.md")));
        Ok(())
    }

    #[test]
    fn an_index_cannot_name_files_elsewhere() {
        let names = owned(&["model.safetensors.index.json", "model-1.safetensors"]);
        for part in ["../../secret", "/etc/passwd", "sub/model-1.safetensors", ""] {
            let text = serde_json::json!({"weight_map": {"w": part}}).to_string();
            assert!(model_files("here", &names, &|_| Ok(Some(text.clone()))).is_err(), "{part}");
        }
        for text in ["", "[]", "{\"weight_map\": 3}", "{\"weight_map\": {\"w\": 3}}"] {
            assert!(model_files("here", &names, &|_| Ok(Some(text.into()))).is_err(), "{text}");
        }
    }

    #[test]
    fn splits_are_found_in_all_usual_layouts() -> Result<()> {
        type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a [&'a str])]);
        let cases: [Case; 5] = [
            (
                &[
                    "data/train-00001-of-00002.parquet",
                    "data/train-00000-of-00002.parquet",
                    "data/test-00000-of-00001.parquet",
                ],
                &[
                    ("train", &["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]),
                    ("test", &["data/test-00000-of-00001.parquet"]),
                ],
            ),
            (
                &["plain_text/test-0.parquet", "plain_text/train-0.parquet", "README.md"],
                &[("train", &["plain_text/train-0.parquet"]), ("test", &["plain_text/test-0.parquet"])],
            ),
            (
                &["default/train/0000.parquet", "default/validation/0000.parquet"],
                &[("train", &["default/train/0000.parquet"]), ("validation", &["default/validation/0000.parquet"])],
            ),
            (&["images.parquet"], &[("train", &["images.parquet"])]),
            // "contest" and "trainer" are other words.
            (&["contest_trainer.parquet"], &[("train", &["contest_trainer.parquet"])]),
        ];
        for (names, expected) in cases {
            let got = split_files("here", &owned(names), None)?;
            let expected: Vec<_> = expected.iter().map(|(split, files)| (*split, owned(files))).collect();
            assert_eq!(got, expected);
        }
        Ok(())
    }

    #[test]
    fn of_several_data_sets_one_has_to_be_chosen() -> Result<()> {
        let names = owned(&["a/train-0.parquet", "b/train-0.parquet", "b/test-0.parquet"]);
        assert!(split_files("here", &names, None).is_err_and(|e| e.to_string().contains("a, b")));
        assert!(split_files("here", &names, Some("c")).is_err_and(|e| e.to_string().contains("a, b")));
        assert_eq!(split_files("here", &names, Some("b"))?.len(), 2);
        let names = owned(&["other/train-0.parquet", "data/train-0.parquet"]);
        assert_eq!(split_files("here", &names, None)?, [("train", owned(&["data/train-0.parquet"]))]);
        Ok(())
    }
}
