//! Which files of a repository are wanted, told by their names.

use std::collections::BTreeSet;

use super::ChooseFiles;
use super::repo::is_safe_path;
use crate::config::OPEN_CLIP;
use crate::{Error, Result};

/// Files beside the weights that say what they are and how their input is made.
pub(super) const CONFIGS: [&str; 5] =
    ["config.json", "preprocessor_config.json", "processor_config.json", OPEN_CLIP, crate::Whitening::FILE];
/// What cuts texts into tokens for the text tower of a model, the best first: the files of one of these lines.
pub(super) const TOKENIZERS: [&[&str]; 4] =
    [&["tokenizer.json"], &["vocab.json", "merges.txt"], &["bpe_simple_vocab_16e6.txt.gz"], &["spiece.model"]];
/// What goes with them.
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Weights under the names that libraries give them, the best first. An index names the parts that the weights are split in.
pub(super) const WEIGHTS: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
];
/// What other files with weights end in, the best first.
const ENDINGS: [&str; 6] = [".safetensors", ".gguf", ".npz", ".pth", ".pt", ".bin"];

/// The card of a data set, which may say which file belongs to which part.
pub(super) const CARD: &str = "README.md";

/// The problem of a repository without a single Parquet file.
pub(super) const NO_PARQUET: &str = "it holds no Parquet files";

/// Config, tokenizer and weights among `names`. `index` reads the index of weights in parts, if it was downloaded already; without it
/// the parts are not among the result yet.
pub(super) fn model_files(
    place: &str,
    names: &[String],
    index: &dyn Fn(&str) -> Result<Option<String>>,
) -> Result<Vec<String>> {
    let has = |name: &str| names.iter().any(|other| other == name);
    let mut wanted: Vec<String> = CONFIGS.iter().filter(|name| has(name)).map(|name| (*name).to_string()).collect();
    let tokenizer = TOKENIZERS.iter().find(|files| files.iter().all(|name| has(name)));
    if let Some(files) = tokenizer {
        wanted.extend(files.iter().chain([&TOKENIZER_CONFIG]).filter(|name| has(name)).map(|name| (*name).to_string()));
    }
    // What says something of open_clip's weights is read for those alone, or where nothing else is there.
    if has("config.json") && WEIGHTS.iter().find(|name| has(name)).is_some_and(|name| !name.starts_with("open_clip")) {
        wanted.retain(|name| name != OPEN_CLIP);
    }
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

/// The card, and what `choose` wants of the files of a data set; the card alone while it is not there to be read yet.
pub(super) fn dataset_files(
    place: &str,
    names: &[String],
    read: &dyn Fn(&str) -> Result<Option<String>>,
    choose: &ChooseFiles,
) -> Result<Vec<String>> {
    if !names.iter().any(|name| name.to_ascii_lowercase().ends_with(".parquet")) {
        return Err(Error::Hub {
            place: place.into(),
            problem: NO_PARQUET.into(),
            remedy: "only data sets in Parquet can be read; try the revision refs/convert/parquet".into(),
        });
    }
    if !names.iter().any(|name| name == CARD) {
        return choose(names, None);
    }
    let Some(card) = read(CARD)? else { return Ok(vec![CARD.into()]) };
    let mut wanted = choose(names, Some(&card))?;
    wanted.push(CARD.into());
    Ok(wanted)
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
        let clip =
            ["tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "spiece.model", "tf_model.h5"];
        let clip = [&clip[..], &["open_clip_pytorch_model.bin", "pytorch_model.bin", "open_clip_config.json"]].concat();
        let wanted = ["open_clip_config.json", "tokenizer.json", "tokenizer_config.json", "pytorch_model.bin"];
        assert_eq!(chosen(&clip)?, wanted);
        let older = [&clip[1..3], &["model.safetensors"]].concat();
        assert_eq!(chosen(&older)?, ["vocab.json", "merges.txt", "model.safetensors"]);
        assert_eq!(chosen(&["x.npz", "tiny.gguf", "sub/other.gguf"])?, ["tiny.gguf"]);
        assert_eq!(chosen(&["pytorch_model.bin", "config.json"])?, ["config.json", "pytorch_model.bin"]);
        let open_clip = ["open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"];
        assert_eq!(chosen(&open_clip)?, open_clip[..2]);
        assert_eq!(chosen(&[&names[..], &open_clip[..]].concat())?, ["config.json", "model.safetensors"]);
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
    fn the_card_of_a_data_set_is_read_before_its_files_are_chosen() -> Result<()> {
        let names = owned(&["README.md", "a.parquet", "b.parquet"]);
        let choose = |names: &[String], card: Option<&str>| {
            Ok(names.iter().filter(|name| card.is_none_or(|card| card == name.as_str())).cloned().collect())
        };
        assert_eq!(dataset_files("here", &names, &|_| Ok(None), &choose)?, ["README.md"]);
        assert_eq!(
            dataset_files("here", &names, &|_| Ok(Some("b.parquet".into())), &choose)?,
            ["b.parquet", "README.md"]
        );
        assert_eq!(dataset_files("here", &names[1..], &|_| Ok(None), &choose)?, ["a.parquet", "b.parquet"]);
        let none = dataset_files("here", &names[..1], &|_| Ok(None), &choose);
        assert!(none.is_err_and(|e| e.to_string().contains("no Parquet")));
        Ok(())
    }
}
