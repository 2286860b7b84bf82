//! CLIP's own tokenizer: pairs of bytes are merged, the most frequent first, inside of words.
//!
//! OpenAI's `simple_tokenizer.py`, which open_clip has as `SimpleTokenizer`. The file of pairs is the vocabulary: all bytes, all bytes at
//! the end of a word, a token for every pair, and the two marks.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use regex::Regex;
use serde::Deserialize;
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Merges, Vocab};

use super::{bytes, missing, read};
use crate::inference::{Error, Result};
use tallow_weights::quoted;

/// The pairs as OpenAI published them.
const OPENAI_VOCABULARY: &str = "bpe_simple_vocab_16e6.txt.gz";
/// Pairs that CLIP takes of them, all others being too rare.
const PAIRS: usize = 49152 - 256 - 2;
/// What stands at the end of a word.
const END_OF_WORD: &str = "</w>";

/// CLIP's tokenizer.
pub(super) struct OpenAi {
    words: Regex,
    merging: BPE,
    characters: [char; 256],
    vocabulary: usize,
    largest: u32,
    start: u32,
    end: u32,
}

impl OpenAi {
    /// The tokenizer in a folder: OpenAI's file, or the pairs of one for transformers.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let path = folder.join(OPENAI_VOCABULARY);
        if let Some(packed) = bytes(&path)? {
            let mut text = String::new();
            let wrong =
                |got: String| Error::File { path: path.clone(), expected: "pairs of tokens, compressed".into(), got };
            GzDecoder::new(packed.as_slice())
                .take(super::MAX_FILE)
                .read_to_string(&mut text)
                .map_err(|error| wrong(quoted(error)))?;
            let lines: Vec<&str> = text.split('\n').skip(1).take(PAIRS).collect();
            return Self::from_lines(&path, &lines).ok_or_else(|| wrong("a line that is no pair".into()))?;
        }
        if let (Some(vocabulary), Some(pairs)) = (read(folder, "vocab.json")?, read(folder, "merges.txt")?) {
            let path = folder.join("vocab.json");
            let (vocabulary, pairs) = vocabulary_and_pairs(folder, &vocabulary, &pairs)?;
            return Self::new(&path, vocabulary, pairs);
        }
        let path = folder.join("tokenizer.json");
        match read(folder, "tokenizer.json")? {
            None => {
                Err(missing(folder, &format!("{OPENAI_VOCABULARY}, vocab.json with merges.txt, or tokenizer.json")))
            }
            Some(text) => {
                let file: Library = serde_json::from_str(&text).map_err(|error| Error::File {
                    path: path.clone(),
                    expected: "a tokenizer that merges pairs".into(),
                    got: quoted(error),
                })?;
                let pairs = file.model.merges.into_iter().map(|pair| match pair {
                    Pair::Two(first, second) => Some((first, second)),
                    Pair::Line(line) => self::pair(&line),
                });
                let pairs = pairs.collect::<Option<Merges>>().ok_or_else(|| Error::File {
                    path: path.clone(),
                    expected: "pairs of tokens".into(),
                    got: "a line that is no pair".into(),
                })?;
                let mut vocabulary = file.model.vocab;
                vocabulary.extend(file.added_tokens.into_iter().map(|token| (token.content, token.id)));
                Self::new(&path, vocabulary, pairs)
            }
        }
    }

    /// From the lines of pairs alone, which say the vocabulary. None where one is no pair.
    fn from_lines(path: &Path, lines: &[&str]) -> Option<Result<Self>> {
        let bytes = ordered_characters();
        let mut tokens: Vec<String> = bytes.iter().map(|(_, c)| c.to_string()).collect();
        tokens.extend(bytes.iter().map(|(_, c)| format!("{c}{END_OF_WORD}")));
        // An empty line, as at the end of a shortened file, has a number too.
        tokens.extend(lines.iter().map(|line| line.split_whitespace().collect::<String>()));
        tokens.extend(["<start_of_text>", "<end_of_text>"].map(String::from));
        let pairs =
            lines.iter().filter(|line| !line.trim().is_empty()).map(|line| pair(line)).collect::<Option<_>>()?;
        Some(Self::new(path, tokens.into_iter().zip(0..).collect(), pairs))
    }

    fn new(path: &Path, vocabulary: HashMap<String, u32>, pairs: Merges) -> Result<Self> {
        let wrong = |expected: &str, got: String| Error::File { path: path.into(), expected: expected.into(), got };
        let mark = |names: [&str; 2]| names.iter().find_map(|name| vocabulary.get(*name).copied());
        let [Some(start), Some(end)] =
            [["<start_of_text>", "<|startoftext|>"], ["<end_of_text>", "<|endoftext|>"]].map(mark)
        else {
            return Err(wrong("CLIP's marks of a text's beginning and end", "a vocabulary without them".into()));
        };
        let (size, largest) = (vocabulary.len(), vocabulary.values().copied().max().unwrap_or(0));
        let merging = BPE::builder()
            .vocab_and_merges(vocabulary.into_iter().collect::<Vocab>(), pairs)
            .end_of_word_suffix(END_OF_WORD.into())
            .build()
            .map_err(|error| wrong("pairs of tokens of the vocabulary", quoted(error)))?;
        // As open_clip has it; in this crate's syntax white space is the same.
        let words = "(?i)<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";
        let words = Regex::new(words).map_err(|error| wrong("a pattern of words", quoted(error)))?;
        let mut characters = ['\0'; 256];
        ordered_characters().into_iter().for_each(|(byte, c)| characters[usize::from(byte)] = c);
        Ok(Self { words, merging, characters, vocabulary: size, largest, start, end })
    }

    /// Tokens that there are.
    pub(super) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The largest number of one.
    pub(super) fn largest(&self) -> u32 {
        self.largest
    }

    /// The tokens of a text that was tidied, with the marks around it; how many are its own; and whether it was cut.
    ///
    /// # Errors
    /// Those of the crate that merges.
    pub(super) fn encode(&self, text: &str, context_length: usize) -> Result<(Vec<u32>, usize, bool)> {
        let mut ids = vec![self.start];
        for word in self.words.find_iter(text) {
            match word.as_str() {
                "<start_of_text>" => ids.push(self.start),
                "<end_of_text>" => ids.push(self.end),
                word => {
                    let word: String = word.bytes().map(|byte| self.characters[usize::from(byte)]).collect();
                    let tokens = self.merging.tokenize(&word);
                    let tokens =
                        tokens.map_err(|error| Error::invalid("a text", "one that has tokens", quoted(error)))?;
                    ids.extend(tokens.into_iter().map(|token| token.id));
                }
            }
        }
        let words = ids.len() - 1;
        ids.push(self.end);
        let is_cut = ids.len() > context_length;
        if is_cut {
            ids.truncate(context_length);
            ids.last_mut().into_iter().for_each(|last| *last = self.end);
        }
        Ok((ids, words, is_cut))
    }
}

/// The vocabulary and the pairs of `vocab.json` and `merges.txt`.
///
/// # Errors
/// If they hold something else.
pub(super) fn vocabulary_and_pairs(
    folder: &Path,
    vocabulary: &str,
    pairs: &str,
) -> Result<(HashMap<String, u32>, Merges)> {
    let vocabulary: HashMap<String, u32> = serde_json::from_str(vocabulary).map_err(|error| Error::File {
        path: folder.join("vocab.json"),
        expected: "the numbers of tokens, in JSON".into(),
        got: quoted(error),
    })?;
    let lines = pairs.lines().filter(|line| !line.starts_with("#version") && !line.trim().is_empty());
    let pairs = lines.map(pair).collect::<Option<Merges>>().ok_or_else(|| Error::File {
        path: folder.join("merges.txt"),
        expected: "two tokens in every line".into(),
        got: "another line".into(),
    })?;
    check_complete(folder, &vocabulary, &pairs)?;
    Ok((vocabulary, pairs))
}

/// Refuses pairs that do not make all tokens of the vocabulary: some are missing, and texts would be cut into others.
fn check_complete(folder: &Path, vocabulary: &HashMap<String, u32>, pairs: &Merges) -> Result<()> {
    let made: HashSet<String> = pairs.iter().map(|(first, second)| format!("{first}{second}")).collect();
    let is_made = |token: &str| {
        let is_mark = token.starts_with('<') && token.ends_with('>') && token.len() > 2;
        let one = token.strip_suffix(END_OF_WORD).unwrap_or(token).chars().count() <= 1;
        is_mark || one || made.contains(token)
    };
    match vocabulary.keys().filter(|token| !is_made(token)).count() {
        0 => Ok(()),
        lost => Err(Error::File {
            path: folder.join("merges.txt"),
            expected: format!("the pairs that make the {} tokens of vocab.json", vocabulary.len()),
            got: format!(
                "{} pairs, which do not make {lost} of them: the file was cut, or is another model's",
                pairs.len()
            ),
        }),
    }
}

fn pair(line: &str) -> Option<(String, String)> {
    let mut tokens = line.split_whitespace();
    match (tokens.next(), tokens.next(), tokens.next()) {
        (Some(first), Some(second), None) => Some((first.into(), second.into())),
        _ => None,
    }
}

/// All bytes in the order of CLIP's vocabulary, each with the character that stands for it: itself where it can be seen.
fn ordered_characters() -> Vec<(u8, char)> {
    let seen = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let own = (0..=255u8).filter(seen).map(|byte| (byte, char::from(byte)));
    let others = (0..=255u8).filter(|byte| !seen(byte)).zip(0x100u32..);
    let others = others.map(|(byte, code)| (byte, char::from_u32(code).unwrap_or_default()));
    own.chain(others).collect()
}

/// What is read of a `tokenizer.json`.
#[derive(Deserialize)]
struct Library {
    model: Merging,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Merging {
    vocab: HashMap<String, u32>,
    merges: Vec<Pair>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Pair {
    Line(String),
    Two(String, String),
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
}
