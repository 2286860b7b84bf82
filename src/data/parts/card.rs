//! What the card of a data set, its `README.md`, says about files and parts: `configs` in the YAML between its first two `---`.
//!
//! ```yaml
//! configs:
//! - config_name: default
//!   data_files:
//!   - split: train
//!     path: data/train-*
//!   - split: test
//!     path: [data/test-*, more/test.parquet]
//! ```

use saphyr_parser::{Event, Parser};

use crate::data::{Error, Result};

/// More YAML than this is no list of files.
const MAX_BYTES: usize = 1 << 20;
/// Deeper than this is no list of files.
const MAX_DEPTH: usize = 16;

/// One of the data sets that a card names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) name: String,
    pub(super) is_default: bool,
    /// The folder that the patterns begin in.
    pub(super) folder: Option<String>,
    /// The parts with the patterns of their files.
    pub(super) splits: Vec<(String, Vec<String>)>,
}

/// The data sets that the card names with their files or folders, in order.
///
/// # Errors
/// If `configs` is there but cannot be understood.
pub(super) fn configs(place: &str, card: &str) -> Result<Vec<Config>> {
    let Some(text) = section(card) else { return Ok(Vec::new()) };
    let wrong = |got: String| {
        let expected = "configs with config_name and data_files (split and path), as the hub reads them";
        Error::unusable(format!("{place}: README.md"), expected, got, "correct it, or remove configs")
    };
    if text.len() > MAX_BYTES {
        return Err(wrong(format!("{} bytes of it", text.len())));
    }
    let top = parse(&text).map_err(wrong)?;
    let Node::Map(top) = top else { return Err(wrong("another form".into())) };
    let Some((_, Node::List(list))) = top.into_iter().find(|(key, _)| key == "configs") else {
        return Err(wrong("no list".into()));
    };
    let configs: Vec<Config> = list.into_iter().map(|node| config(node).map_err(wrong)).collect::<Result<_>>()?;
    Ok(configs.into_iter().filter(|config| !config.splits.is_empty() || config.folder.is_some()).collect())
}

/// The lines of `configs` in the YAML at the beginning. The rest of it, which may be long and of any kind, is not looked at.
fn section(card: &str) -> Option<String> {
    let mut lines = card.trim_start_matches('\u{feff}').lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let mut header = lines.take_while(|line| !["---", "..."].contains(&line.trim_end()));
    let first = header.find(|line| line.starts_with("configs:"))?;
    let inside = |line: &&str| line.is_empty() || line.starts_with([' ', '\t', '-', '#', ']', '}']);
    let rest: Vec<&str> = header.take_while(inside).collect();
    Some(format!("{first}\n{}\n", rest.join("\n")))
}

fn config(node: Node) -> std::result::Result<Config, String> {
    let Node::Map(fields) = node else { return Err("a config without fields".into()) };
    let mut config = Config { name: "default".into(), ..Config::default() };
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("config_name", Node::Text(name)) => config.name = name,
            ("default", Node::Text(value)) => config.is_default = value.eq_ignore_ascii_case("true"),
            ("data_dir", Node::Text(folder)) => config.folder = Some(folder),
            ("data_files", files) => config.splits = splits(files)?,
            _ => {}
        }
    }
    Ok(config)
}

/// `data_files`: a pattern or a list of patterns for training, a list of parts with their patterns, or these by their names.
fn splits(files: Node) -> std::result::Result<Vec<(String, Vec<String>)>, String> {
    match files {
        Node::Text(pattern) => Ok(vec![("train".into(), vec![pattern])]),
        Node::Map(fields) => fields.into_iter().map(|(split, node)| Ok((split, patterns(node)?))).collect(),
        Node::List(list) if list.iter().all(|node| matches!(node, Node::Text(_))) => {
            Ok(vec![("train".into(), patterns(Node::List(list))?)])
        }
        Node::List(list) => list.into_iter().map(split).collect(),
    }
}

fn split(node: Node) -> std::result::Result<(String, Vec<String>), String> {
    let wrong = || "data_files without split or path".to_string();
    let Node::Map(fields) = node else { return Err(wrong()) };
    let (mut name, mut paths) = (None, None);
    for (key, value) in fields {
        match (key.as_str(), value) {
            ("split", Node::Text(text)) => name = Some(text),
            ("path" | "pattern", value) => paths = Some(patterns(value)?),
            _ => {}
        }
    }
    Ok((name.ok_or_else(wrong)?, paths.ok_or_else(wrong)?))
}

fn patterns(node: Node) -> std::result::Result<Vec<String>, String> {
    match node {
        Node::Text(text) => Ok(vec![text]),
        Node::List(list) => {
            list.into_iter().map(patterns).collect::<std::result::Result<Vec<_>, _>>().map(|v| v.concat())
        }
        Node::Map(_) => Err("fields where patterns of files should be".into()),
    }
}

/// YAML without types: a card has texts, lists and fields.
#[derive(Debug)]
enum Node {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A list or map that is still being read; a map with the key that waits for its value.
enum Open {
    List(Vec<Node>),
    Map(Vec<(String, Node)>, Option<String>),
}

/// Reads YAML without aliases, which could make much of little.
fn parse(text: &str) -> std::result::Result<Node, String> {
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| error.to_string().replace('\n', " "))?;
        let node = match event {
            Event::Scalar(text, ..) => Node::Text(text.into_owned()),
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Node::List(list),
                Some(Open::Map(map, _)) => Node::Map(map),
                None => return Err("an end without a beginning".into()),
            },
            Event::Alias(_) => return Err("an alias".into()),
            _ => continue,
        };
        if open.len() > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} levels"));
        }
        match open.last_mut() {
            None => return Ok(node),
            Some(Open::List(list)) => list.push(node),
            Some(Open::Map(map, key)) => match (key.take(), node) {
                (Some(key), node) => map.push((key, node)),
                (None, Node::Text(text)) => *key = Some(text),
                (None, _) => return Err("a key that is no text".into()),
            },
        }
    }
    Err("nothing".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Vec<Config>> {
        configs("here", &format!("---\nlicense: mit\n{yaml}tags:\n- a: *nowhere\n---\n# Card\nconfigs:\n- none\n"))
    }

    fn plain(splits: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
        splits.iter().map(|(name, paths)| ((*name).into(), paths.iter().map(|p| (*p).into()).collect())).collect()
    }

    #[test]
    fn all_forms_of_data_files_are_read() -> Result<()> {
        let read = read(
            "configs:\n- config_name: a\n  data_files: x.parquet\n- config_name: b\n  default: true\n  data_files:\n  \
             - split: train\n    path: [\"data/train-*\", other.parquet]\n  - split: test\n    path: data/test-*\n\
             - config_name: c\n  data_files: [p, q]\n- config_name: d\n  data_dir: folder\n- config_name: e\n  \
             data_files:\n    train: t\n    validation:\n    - v\n- config_name: f\n  sep: ','\n",
        )?;
        let names: Vec<&str> = read.iter().map(|config| config.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d", "e"], "one without files says nothing");
        assert_eq!(read[0].splits, plain(&[("train", &["x.parquet"])]));
        assert_eq!(read[1].splits, plain(&[("train", &["data/train-*", "other.parquet"]), ("test", &["data/test-*"])]));
        assert!(read[1].is_default && !read[0].is_default);
        assert_eq!(read[2].splits, plain(&[("train", &["p", "q"])]));
        assert_eq!((read[3].folder.as_deref(), read[3].splits.len()), (Some("folder"), 0));
        assert_eq!(read[4].splits, plain(&[("train", &["t"]), ("validation", &["v"])]));
        Ok(())
    }

    #[test]
    fn a_card_without_configs_says_nothing_and_a_broken_one_is_an_error() -> Result<()> {
        assert!(read("")?.is_empty());
        assert!(configs("here", "# A card\nconfigs:\n- config_name: a\n")?.is_empty(), "no YAML at the beginning");
        for broken in [
            "configs: yes\n",
            "configs:\n- a\n",
            "configs:\n- data_files:\n  - split: train\n",
            "configs: [{data_files: *x}]\n",
            "configs: [[[[\n",
        ] {
            let message = read(broken).map_err(|e| e.to_string());
            assert!(
                message.as_ref().is_err_and(|e| e.starts_with("here: README.md: ") && !e.contains('\n')),
                "{message:?}"
            );
        }
        let deep = format!("configs: {}{}\n", "[".repeat(5000), "]".repeat(5000));
        assert!(read(&deep).is_err());
        Ok(())
    }
}
