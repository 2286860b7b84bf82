//! Parts among files, told by their names and by the data set's card, as on the Hugging Face hub.

use std::collections::BTreeMap;

use super::card::{self, Config};
use super::{Candidate, Role, Several, Wishes, assign, listed, word};
use crate::data::{Error, Result};

/// Files that make one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::data) struct FilePart {
    pub(in crate::data) name: String,
    pub(in crate::data) role: Role,
    pub(in crate::data) source: String,
    pub(in crate::data) why: String,
    /// In order.
    pub(in crate::data) files: Vec<String>,
}

/// The files of a data set, sorted into parts.
#[derive(Debug)]
pub(in crate::data) struct Sorted {
    pub(in crate::data) parts: Vec<FilePart>,
    pub(in crate::data) notes: Vec<String>,
}

/// Sorts the Parquet files among `names` into parts. The card's `configs` go before everything, then come files that are
/// called `SPLIT-00000-of-00001`, folders with the word of a part, and files with one; a file of another name is left out,
/// unless all are. `config` chooses where there are several data sets in one place.
///
/// # Errors
/// Those of [`assign`]; and when there are no Parquet files, or several data sets and `config` names none of them.
pub(in crate::data) fn sort(
    place: &str,
    names: &[String],
    card: Option<&str>,
    config: Option<&str>,
    wishes: Wishes,
) -> Result<Sorted> {
    let mut files: Vec<&str> = names.iter().map(String::as_str).filter(|name| is_data(name)).collect();
    files.sort_unstable();
    if files.is_empty() {
        return Err(Error::invalid(place, "files that end in .parquet", "none of them"));
    }
    let mut notes = Vec::new();
    let configs = card.map(|card| card::configs(place, card)).transpose()?.unwrap_or_default();
    let (candidates, several) = if configs.is_empty() {
        let sets = sets(&files);
        let chosen = choose(place, sets.keys().map(String::as_str).collect(), config, None, &mut notes)?;
        sets.into_iter().find(|(name, _)| *name == chosen).map(|(_, set)| set.candidates(&files)).unwrap_or_default()
    } else {
        let default = configs.iter().find(|config| config.is_default).map(|config| config.name.as_str());
        let all = configs.iter().map(|config| config.name.as_str()).collect();
        let chosen = choose(place, all, config, default, &mut notes)?;
        match configs.into_iter().find(|config| config.name == chosen) {
            Some(config) => of_card(place, &config, &files, wishes, &mut notes)?,
            None => (Vec::new(), Several::Apart),
        }
    };
    let assigned = assign(place, candidates, wishes, several)?;
    notes.extend(assigned.notes);
    let of_role = |wanted: Role| {
        let parts = assigned.parts.iter().filter(move |(_, role)| *role == wanted);
        parts.flat_map(|(candidate, _)| candidate.members.iter().map(|(_, at)| *at))
    };
    if let Some(both) =
        of_role(Role::Train).find(|at| of_role(Role::Test).chain(of_role(Role::Val)).any(|other| *at == other))
    {
        let got = format!("{} in two of them", files[both]);
        return Err(Error::unusable(place, "parts without common files", got, "correct configs in README.md"));
    }
    let part = |(candidate, role): (Candidate, Role)| FilePart {
        files: candidate.members.iter().map(|(_, at)| files[*at].to_string()).collect(),
        name: candidate.name,
        role,
        source: candidate.source,
        why: candidate.why,
    };
    Ok(Sorted { parts: assigned.parts.into_iter().map(part).collect(), notes })
}

/// Whether `name` is a Parquet file that is not hidden.
fn is_data(name: &str) -> bool {
    let hidden = name.split('/').any(|part| part.starts_with('.') || part.starts_with("__"));
    !hidden && name.to_ascii_lowercase().ends_with(".parquet")
}

/// The data set that is meant among several in one place.
fn choose(
    place: &str,
    names: Vec<&str>,
    config: Option<&str>,
    default: Option<&str>,
    notes: &mut Vec<String>,
) -> Result<String> {
    let shown = listed(names.iter().copied());
    if let Some(config) = config {
        let found = names.iter().find(|name| **name == config).map(|name| name.to_string());
        return found.ok_or_else(|| {
            let remedy = format!("choose one of {shown}");
            Error::unusable(place, format!("a data set {config:?}"), "none of that name", remedy)
        });
    }
    let usual = names.iter().copied().find(|name| *name == "default");
    let only = if let [only] = names[..] { Some(only) } else { None };
    let Some(chosen) = default.or(only).or(usual) else {
        let got = format!("several: {shown}");
        return Err(Error::unusable(place, "one data set", got, "choose one by appending ?config=NAME"));
    };
    if names.len() > 1 {
        notes.push(format!("{place}: of the data sets {shown} it is {chosen}; ?config=NAME chooses another"));
    }
    Ok(chosen.to_string())
}

/// The parts that a card names.
fn of_card(
    place: &str,
    config: &Config,
    files: &[&str],
    wishes: Wishes,
    notes: &mut Vec<String>,
) -> Result<(Vec<Candidate>, Several)> {
    let folder = config.folder.as_deref().map(relative).filter(|folder| !folder.is_empty());
    let inside = |file: &str| match folder {
        Some(folder) => file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')),
        None => true,
    };
    if config.splits.is_empty() {
        let (places, inner): (Vec<usize>, Vec<&str>) =
            files.iter().copied().enumerate().filter(|(_, file)| inside(file)).unzip();
        let mut set = Set::default();
        for found in sets(&inner).into_values() {
            set.several_named |= found.several_named;
            set.files.extend(found.files);
        }
        let (mut candidates, several) = set.candidates(&inner);
        candidates.iter_mut().flat_map(|c| &mut c.members).for_each(|member| member.1 = places[member.1]);
        if candidates.is_empty() {
            return Err(missing(place, config.folder.as_deref().unwrap_or_default()));
        }
        return Ok((candidates, several));
    }
    let mut candidates = Vec::new();
    for (name, patterns) in &config.splits {
        let mut members: Vec<(String, usize)> = Vec::new();
        for pattern in patterns {
            let full = folder.map_or(relative(pattern).to_string(), |folder| format!("{folder}/{}", relative(pattern)));
            let matching = files.iter().enumerate().filter(|(_, file)| matches(&full, file));
            members.extend(matching.map(|(at, file)| (file.to_string(), at)));
        }
        members.sort_by_key(|(_, at)| *at);
        members.dedup();
        // What was not downloaded is not there offline: of parts that are not used, that is nothing to tell.
        let shown = listed(patterns.iter().map(String::as_str));
        match word(name).map(|word| word.role) {
            Some(Role::Train) if members.is_empty() && wishes.train.is_none() && !wishes.whole => {
                return Err(missing(place, &shown));
            }
            Some(role) if members.is_empty() => {
                notes.push(format!("{place}: README.md names {shown} for {}, but there is no such file", role.name()));
            }
            _ => {}
        }
        if !members.is_empty() {
            candidates.push(Candidate {
                name: name.clone(),
                source: shown,
                word: word(name),
                why: "README.md says so (configs)".into(),
                members,
            });
        }
    }
    if candidates.is_empty() {
        let patterns = config.splits.iter().flat_map(|(_, patterns)| patterns).map(String::as_str);
        return Err(missing(place, &listed(patterns)));
    }
    Ok((candidates, Several::Apart))
}

fn missing(place: &str, pattern: &str) -> Error {
    let expected = format!("Parquet files that match {pattern}, which README.md names (configs)");
    Error::unusable(place, expected, "none", "put the files there, or correct README.md")
}

/// A pattern of a card without what stands for the folder of the card itself.
fn relative(pattern: &str) -> &str {
    pattern.trim_start_matches("./").trim_matches('/')
}

/// Files of one data set, with the names that they are parts by.
#[derive(Debug, Default)]
struct Set {
    /// The part's name, where it comes from, and the file.
    files: Vec<(Name, usize)>,
    /// Whether there are files called `SPLIT-00000-of-00001`, each of which names a part of its own.
    several_named: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    text: String,
    /// What says it: `the folder`, `the file name`.
    from: &'static str,
}

impl Set {
    /// The candidates in the order of their first files, and how several of a kind are taken.
    fn candidates(self, all: &[&str]) -> (Vec<Candidate>, Several) {
        let mut candidates: Vec<Candidate> = Vec::new();
        for (name, at) in self.files {
            let file = all[at];
            let stem = file.rsplit('/').next().unwrap_or(file);
            let stem = stem[..stem.len() - ".parquet".len()].to_string();
            match candidates.iter_mut().find(|candidate| candidate.name == name.text) {
                Some(candidate) => candidate.members.push((stem, at)),
                None => candidates.push(Candidate {
                    word: word(&name.text),
                    why: format!("{} says {:?}", name.from, name.text),
                    source: String::new(),
                    name: name.text,
                    members: vec![(stem, at)],
                }),
            }
        }
        for candidate in &mut candidates {
            let more = candidate.members.len() - 1;
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            candidate.source = format!("{}{more}", all[candidate.members[0].1]);
        }
        (candidates, if self.several_named { Several::Apart } else { Several::Together })
    }
}

/// Tells apart the data sets by the folders that name no part; `data` and none at all are the data set `default`.
fn sets(files: &[&str]) -> BTreeMap<String, Set> {
    let paths: Vec<Vec<&str>> = files.iter().map(|file| file.split('/').collect()).collect();
    let mut sets: BTreeMap<String, Set> = BTreeMap::new();
    if is_conversion(&paths) {
        for (at, path) in paths.iter().enumerate() {
            let set = sets.entry(path[0].into()).or_default();
            set.several_named = true;
            let text = path[1].strip_prefix("partial-").unwrap_or(path[1]).to_string();
            set.files.push((Name { text, from: "the folder of the hub's conversion" }, at));
        }
        return sets;
    }
    // Where the files lie is told by what they differ in, and only then by what they have in common.
    let common = common_folders(&paths);
    let skipped = if paths.iter().any(|path| decide(path, common).is_some()) { common } else { 0 };
    let decided: Vec<Option<(usize, Name)>> = paths.iter().map(|path| decide(path, skipped)).collect();
    let folder_of_parts = |path: &[&str], depth: usize| {
        let mut others = paths.iter().zip(&decided).filter_map(|(other, found)| Some((other, found.as_ref()?)));
        others.any(|(other, (at, _))| *at == depth && *at + 1 < other.len() && other[..depth] == path[..depth])
    };
    for (at, (path, found)) in paths.iter().zip(&decided).enumerate() {
        let last = path.len() - 1;
        let (depth, name) = found.clone().unwrap_or_else(|| {
            // A folder beside those of parts is a part as well, of its own name.
            let beside = (skipped..last).find(|&depth| folder_of_parts(path, depth));
            match beside {
                Some(depth) => (depth, Name { text: path[depth].into(), from: "the folder" }),
                None => (last, Name { text: name_of_file(path[last]).0, from: "the file name" }),
            }
        });
        let folders = path[..depth].iter().enumerate();
        let folders = folders.filter(|(place, folder)| *place < skipped || word(folder).is_none());
        let folders: Vec<&str> =
            folders.filter(|(_, folder)| word(folder).is_none()).map(|(_, folder)| *folder).collect();
        let set = match folders.join("/") {
            set if set.is_empty() || set == "data" => "default".to_string(),
            set => set,
        };
        let set = sets.entry(set).or_default();
        set.several_named |= depth == last && name_of_file(path[last]).1;
        set.files.push((name, at));
    }
    sets
}

/// Whether the files lie as in the hub's own conversion to Parquet: `CONFIG/SPLIT/0000.parquet`.
fn is_conversion(paths: &[Vec<&str>]) -> bool {
    let numbered = |name: &str| name.len() == 12 && name[..4].bytes().all(|c| c.is_ascii_digit());
    let fits = |path: &Vec<&str>| path.len() == 3 && path[2].is_ascii() && numbered(path[2]);
    paths.iter().all(fits) && paths.iter().any(|path| word(path[1]).is_some())
}

/// How many folders all paths begin with.
fn common_folders(paths: &[Vec<&str>]) -> usize {
    let Some(first) = paths.first() else { return 0 };
    let shared = |depth: usize| paths.iter().all(|path| depth + 1 < path.len() && path[depth] == first[depth]);
    (0..first.len()).take_while(|&depth| shared(depth)).count()
}

/// Which of the names in a path says the part, and its name: `SPLIT-00000-of-00001`, else the innermost folder with the word
/// of a part, else the file with one.
fn decide(path: &[&str], skipped: usize) -> Option<(usize, Name)> {
    let last = path.len() - 1;
    let (stem, is_shard) = name_of_file(path[last]);
    let folder = (skipped..last).rev().find(|&depth| word(path[depth]).is_some());
    if is_shard && (word(&stem).is_some() || folder.is_none()) {
        return Some((last, Name { text: stem, from: "the file name" }));
    }
    if let Some(depth) = folder {
        return Some((depth, Name { text: path[depth].into(), from: "the folder" }));
    }
    word(&stem).map(|_| (last, Name { text: stem, from: "the file name" }))
}

/// The name of a part that a file name says, and whether the file is one of several that are called so:
/// `train-00000-of-00002`, also with a hash behind it. Numbers at the end count files: `train1` and `train2` are `train`.
fn name_of_file(file: &str) -> (String, bool) {
    let stem = &file[..file.len() - ".parquet".len()];
    let numbers = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let parts: Vec<&str> = stem.split('-').collect();
    let shard = (1..parts.len().saturating_sub(2))
        .rev()
        .find(|&at| numbers(parts[at]) && parts[at + 1] == "of" && parts.get(at + 2).is_some_and(|text| numbers(text)));
    if let Some(at) = shard {
        return (parts[..at].join("-"), true);
    }
    let name = stem.trim_end_matches(|c: char| c.is_ascii_digit() || "-._ ".contains(c));
    (if name.is_empty() { stem } else { name }.to_string(), false)
}

/// Whether `file` matches a pattern: `*` is any text inside of a folder, `**` any text, `?` any letter, `[…]` one of several. A
/// folder's name without any of these stands for all in it.
fn matches(pattern: &str, file: &str) -> bool {
    let glob = glob(pattern);
    let text: Vec<char> = file.chars().collect();
    // Which beginnings of the text the pattern so far matches.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for piece in &glob {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            match piece {
                Piece::One(set) => next[at] = at > 0 && reached[at - 1] && set.has(text[at - 1]),
                Piece::Any => next[at] = reached[at] || (at > 0 && next[at - 1] && text[at - 1] != '/'),
                Piece::AnyFolders => next[at] = reached[at] || (at > 0 && next[at - 1]),
                // No folder, or text up to the end of one.
                Piece::Folders => {
                    next[at] = reached[at] || (at > 0 && text[at - 1] == '/' && reached[..at].iter().any(|&r| r));
                }
            }
        }
        reached = next;
    }
    let is_plain = !pattern.contains(['*', '?', '[']);
    reached[text.len()] || (is_plain && text.iter().enumerate().any(|(at, letter)| *letter == '/' && reached[at]))
}

enum Piece {
    One(Letters),
    Any,
    AnyFolders,
    /// `**/`.
    Folders,
}

enum Letters {
    This(char),
    All,
    Of { not: bool, ranges: Vec<(char, char)> },
}

impl Letters {
    fn has(&self, letter: char) -> bool {
        match self {
            Self::This(this) => *this == letter,
            Self::All => letter != '/',
            Self::Of { not, ranges } => {
                letter != '/' && ranges.iter().any(|(low, high)| (*low..=*high).contains(&letter)) != *not
            }
        }
    }
}

fn glob(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some(letter) = rest.chars().next() {
        let (piece, length) = match letter {
            '*' if rest.starts_with("**/") => (Piece::Folders, 3),
            '*' if rest.starts_with("**") => (Piece::AnyFolders, 2),
            '*' => (Piece::Any, 1),
            '?' => (Piece::One(Letters::All), 1),
            '[' => match class(rest) {
                Some((letters, length)) => (Piece::One(letters), length),
                None => (Piece::One(Letters::This('[')), 1),
            },
            other => (Piece::One(Letters::This(other)), other.len_utf8()),
        };
        pieces.push(piece);
        rest = &rest[length..];
    }
    pieces
}

/// `[a-z0-9]` or `[!a]` at the beginning of `text`, and its length.
fn class(text: &str) -> Option<(Letters, usize)> {
    let inner = &text[1..];
    let not = inner.starts_with(['!', '^']);
    let inner = &inner[usize::from(not)..];
    let end = inner.char_indices().skip(1).find(|(_, letter)| *letter == ']')?.0;
    let letters: Vec<char> = inner[..end].chars().collect();
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < letters.len() {
        let is_range = at + 2 < letters.len() && letters[at + 1] == '-';
        ranges.push((letters[at], letters[if is_range { at + 2 } else { at }]));
        at += if is_range { 3 } else { 1 };
    }
    Some((Letters::Of { not, ranges }, 2 + usize::from(not) + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_string()).collect()
    }

    /// The parts as text: `train: a b; test: c`, with the card and the config.
    fn parts(names: &[&str], card: Option<&str>, config: Option<&str>) -> Result<String> {
        let sorted = sort("here", &owned(names), card, config, Wishes::default())?;
        let role = |role: Role, name: &str| {
            let files: Vec<&str> = sorted
                .parts
                .iter()
                .filter(|part| part.role == role)
                .flat_map(|part| &part.files)
                .map(|file| file.trim_end_matches(".parquet"))
                .collect();
            if files.is_empty() { String::new() } else { format!("{name} {}; ", files.join(" ")) }
        };
        Ok([(Role::Train, "train"), (Role::Val, "val"), (Role::Test, "test"), (Role::LeftOut, "out")]
            .map(|(of, name)| role(of, name))
            .concat())
    }

    #[test]
    fn parts_are_found_in_all_usual_layouts_and_others_are_left_out() -> Result<()> {
        let cases: [(&[&str], &str); 17] = [
            (
                &["data/train-00001-of-00002", "data/train-00000-of-00002", "data/test-00000-of-00001"],
                "train data/train-00000-of-00002 data/train-00001-of-00002; test data/test-00000-of-00001; ",
            ),
            (
                &[
                    "data/contrast-00000-of-00001",
                    "data/extra-00000-of-00001",
                    "data/test-00000-of-00001",
                    "data/train-00000-of-00001-a09b74b3ef9c3b56",
                    "data/unsupervised-00000-of-00001",
                ],
                "train data/train-00000-of-00001-a09b74b3ef9c3b56; test data/test-00000-of-00001; \
                 out data/contrast-00000-of-00001 data/extra-00000-of-00001 data/unsupervised-00000-of-00001; ",
            ),
            (&["train1", "train2", "test1"], "train train1 train2; test test1; "),
            (&["train2017", "val2017"], "train train2017; test val2017; "),
            (&["plain_text/test-0", "plain_text/train-0"], "train plain_text/train-0; test plain_text/test-0; "),
            (
                &["default/train/0000", "default/validation/0000", "default/contrast/0000"],
                "train default/train/0000; test default/validation/0000; out default/contrast/0000; ",
            ),
            (&["c/partial-train/0000", "c/test/0000"], "train c/partial-train/0000; test c/test/0000; "),
            (&["images"], "train images; "),
            (&["part-0", "part-1"], "train part-0 part-1; "),
            (&["contest_trainer"], "train contest_trainer; "),
            (&["train", "test", "holdout", "latest"], "train train; test test; out holdout latest; "),
            (
                &["data/train/a", "data/train/b", "data/test/a", "data/contrast/a"],
                "train data/train/a data/train/b; test data/test/a; out data/contrast/a; ",
            ),
            (
                &["my_train_file_00001", "my_train_file_00002", "eval"],
                "train my_train_file_00001 my_train_file_00002; test eval; ",
            ),
            (&["train_clean/0", "test_matched/0"], "train train_clean/0; test test_matched/0; "),
            (&["train/test_images_0", "test/images_0"], "train train/test_images_0; test test/images_0; "),
            (&["test_data/train/x", "test_data/test/x"], "train test_data/train/x; test test_data/test/x; "),
            (
                &["train/train-00000-of-00001", "test/test-00000-of-00001"],
                "train train/train-00000-of-00001; test test/test-00000-of-00001; ",
            ),
        ];
        for (names, expected) in cases {
            let names: Vec<String> = names.iter().map(|name| format!("{name}.parquet")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            assert_eq!(parts(&names, None, None)?, expected, "{names:?}");
        }
        Ok(())
    }

    #[test]
    fn of_several_data_sets_one_has_to_be_chosen() -> Result<()> {
        let names = ["a/train-0.parquet", "b/train-0.parquet", "b/test-0.parquet"];
        for config in [None, Some("c")] {
            assert!(parts(&names, None, config).is_err_and(|e| e.to_string().contains("a, b")));
        }
        assert_eq!(parts(&names, None, Some("b"))?, "train b/train-0; test b/test-0; ");
        let names = ["data/contrast/train-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"];
        assert_eq!(parts(&names, None, None)?, "train data/train-00000-of-00001; ");
        assert!(parts(&["README.md", ".hidden.parquet"], None, None).is_err());
        Ok(())
    }

    #[test]
    fn the_card_goes_before_all_names() -> Result<()> {
        let names = ["one/a.parquet", "one/b.parquet", "test/c.parquet", "train/d.parquet"];
        let card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path:\n    - one/*\n  \
                    - split: test\n    path: train/**\n  - split: noise\n    path: test/c.parquet\n\
                    - config_name: other\n  data_files: \"**/d.parquet\"\n---\n";
        assert_eq!(parts(&names, Some(card), None)?, "train one/a one/b; test train/d; out test/c; ");
        assert_eq!(parts(&names, Some(card), Some("other"))?, "train train/d; ");
        assert!(parts(&names, Some(card), Some("third")).is_err_and(|e| e.to_string().contains("default, other")));
        let other = card.replace("config_name: other\n", "config_name: other\n  default: true\n");
        assert_eq!(parts(&names, Some(&other), None)?, "train train/d; ");
        let both = card.replace("train/**", "one/b.parquet");
        assert!(parts(&names, Some(&both), None).is_err_and(|e| e.to_string().contains("one/b.parquet in two")));
        let elsewhere = card.replace("one/*", "nowhere/*").replace("train/**", "x").replace("test/c.parquet", "y");
        assert!(parts(&names, Some(&elsewhere), None).is_err_and(|e| e.to_string().contains("nowhere/*")));
        let folder = "---\nconfigs:\n- config_name: x\n  data_dir: one\n---\n";
        assert_eq!(parts(&names, Some(folder), None)?, "train one/a one/b; ");
        Ok(())
    }

    #[test]
    fn patterns_match_as_the_hubs_do() {
        for (pattern, yes, no) in [
            ("data/train-*", "data/train-0.parquet", "data/more/train-0.parquet"),
            ("data/*", "data/a.parquet", "data/b/a.parquet"),
            ("**/*.parquet", "a.parquet", "a.csv"),
            ("**/test/*", "x/y/test/a", "x/ytest/a"),
            ("data/**", "data/x/y/z", "dat/x"),
            ("a[0-9].p", "a7.p", "ab.p"),
            ("a[!0-9].p", "ab.p", "a7.p"),
            ("a?.p", "ab.p", "a/.p"),
            ("folder", "folder/x/y", "folders/x"),
            ("[", "[", "x"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
        assert!(!matches(&"*a".repeat(200), &"a".repeat(150)), "and soon");
    }
}
