//! Texts as tokens: the tokenizer that a checkpoint brings with it, used as the library does that the model is from.
//!
//! - transformers: `tokenizer.json`, or CLIP's `vocab.json` with `merges.txt`.
//! - open_clip: `bpe_simple_vocab_16e6.txt.gz`, or the same pairs out of one of the files above; for SigLIP `tokenizer.json`.
//!
//! A text is cut at the model's length, and filled up to it.

mod hugging_face;
mod openai;

use std::fs;
use std::path::Path;

use tallow_models::text::TextPool;
use tallow_weights::text::{Cleaning, TextCheckpoint, Tokenizing};

use self::hugging_face::HuggingFace;
use self::openai::OpenAi;
use super::repair;
use crate::inference::{Error, Result};

/// A larger file with a vocabulary than this is refused.
const MAX_FILE: u64 = 256 << 20;

/// What cuts texts into the tokens of a model.
pub struct Tokenizer {
    cut: Cut,
    context_length: usize,
    /// What a text is filled up with, and whether in front.
    pad: u32,
    pad_in_front: bool,
    /// The token that zeros take the place of.
    stripped: Option<u32>,
}

enum Cut {
    OpenAi(Box<OpenAi>, Cleaning),
    HuggingFace(Box<HuggingFace>, Tidy),
}

/// What is done to a text before a tokenizer of transformers reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tidy {
    /// Nothing.
    No,
    /// As transformers' tokenizer of SigLIP does.
    Siglip,
    /// As open_clip does.
    OpenClip(Cleaning),
}

/// The tokens of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tokens {
    /// As many as the model reads.
    pub ids: Vec<u32>,
    /// How many of them are not there to fill up.
    pub length: usize,
    /// How many stand for the text itself, and not for its beginning or end.
    pub words: usize,
    /// Whether the text was longer than the model reads.
    pub is_cut: bool,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("context_length", &self.context_length).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The tokenizer beside a checkpoint's weights.
    ///
    /// # Errors
    /// If there is none, it cannot be read, or it is of another model: its vocabulary has another size than the model's table of tokens.
    pub fn of(checkpoint: &TextCheckpoint) -> Result<Self> {
        let folder = checkpoint.folder().ok_or_else(|| {
            Error::invalid(checkpoint.origin(), "a folder with a tokenizer", "weights inside the program")
        })?;
        let (config, rows) = (checkpoint.config(), checkpoint.config().vocab_size);
        let context_length = config.context_length;
        let made = match checkpoint.tokenizing() {
            Tokenizing::OpenClip(cleaning) => {
                let cut = OpenAi::of(folder)?;
                check_size(checkpoint, cut.vocabulary(), cut.vocabulary(), cut.largest())?;
                let cut = Cut::OpenAi(Box::new(cut), cleaning);
                Self { cut, context_length, pad: 0, pad_in_front: false, stripped: None }
            }
            tokenizing => {
                let mut own = HuggingFace::of(folder)?;
                let siglip = config.pool == TextPool::Last;
                let tidy = match tokenizing {
                    Tokenizing::OpenClipOverHuggingFace(cleaning) => Tidy::OpenClip(cleaning),
                    _ if !siglip => Tidy::No,
                    _ if own.is_of_siglip_2() => {
                        own.lower()?;
                        Tidy::No
                    }
                    _ => Tidy::Siglip,
                };
                check_size(checkpoint, own.base_vocabulary(), own.vocabulary_below(rows), own.largest())?;
                let (pad, pad_in_front) = own.padding();
                let stripped = checkpoint.strips_sep().then(|| own.separator()).transpose()?;
                Self { cut: Cut::HuggingFace(Box::new(own), tidy), context_length, pad, pad_in_front, stripped }
            }
        };
        Ok(made)
    }

    /// Tokens of a text at most, those at its beginning and end included.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        Ok(self.filled(match &self.cut {
            Cut::OpenAi(cut, cleaning) => cut.encode(&repair::clean(text, *cleaning), self.context_length)?,
            Cut::HuggingFace(cut, tidy) => {
                let text = match *tidy {
                    Tidy::No => text.to_owned(),
                    Tidy::Siglip if cut.first_mark(text).is_some() => {
                        return Ok(self.filled(cut.encode_with_marks(text, self.context_length)?));
                    }
                    Tidy::Siglip => repair::canonicalize_siglip(text),
                    Tidy::OpenClip(cleaning) => repair::clean(text, cleaning),
                };
                cut.encode(&text, self.context_length)?
            }
        }))
    }

    /// Tokens, how many are the text's own, and whether it was cut: filled up.
    fn filled(&self, (mut ids, words, is_cut): (Vec<u32>, usize, bool)) -> Tokens {
        let length = ids.len();
        let filling = std::iter::repeat_n(self.pad, self.context_length.saturating_sub(length));
        match self.pad_in_front {
            true => ids = filling.chain(ids).collect(),
            false => ids.extend(filling),
        }
        ids.iter_mut().filter(|id| Some(**id) == self.stripped).for_each(|id| *id = 0);
        Tokens { ids, length, words, is_cut }
    }
}

/// Refuses a tokenizer with another vocabulary than the model's table has rows. `own` tokens come from the vocabulary itself, `known` with those
/// that were added to it and lie inside of the table; `largest` is the largest number of the vocabulary's own.
fn check_size(checkpoint: &TextCheckpoint, own: usize, known: usize, largest: u32) -> Result<()> {
    let rows = checkpoint.config().vocab_size;
    if own <= rows && largest as usize >= rows {
        let expected =
            format!("a tokenizer whose tokens have numbers below {rows}, as the model's table of tokens has rows");
        let got = format!("one with the number {largest}: it belongs to another model");
        return Err(Error::invalid(checkpoint.origin(), expected, got));
    }
    // Tables are filled up to a multiple of what processors like.
    let filled_up = [8, 16, 32, 64, 128].iter().any(|&by| known.next_multiple_of(by) == rows);
    if own <= rows && (known == rows || filled_up) {
        return Ok(());
    }
    let expected = format!("a tokenizer of {rows} tokens, as the model's table of tokens has rows");
    let got = format!("{} tokens: it belongs to another model", own.max(known));
    Err(Error::invalid(checkpoint.origin(), expected, got))
}

/// The text of a file, none where there is no such file.
fn read(folder: &Path, name: &str) -> Result<Option<String>> {
    let path = folder.join(name);
    match bytes(&path)? {
        None => Ok(None),
        Some(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(Error::File { path, expected: "text in UTF-8".into(), got: "other bytes".into() }),
        },
    }
}

/// The contents of a file, none where there is no such file.
fn bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    let read = || {
        let length = fs::metadata(path)?.len();
        if length > MAX_FILE {
            return Err(std::io::Error::other(format!("expected at most {MAX_FILE} bytes, got {length}")));
        }
        fs::read(path)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.into(), source }),
    }
}

/// No tokenizer lies in the folder.
fn missing(folder: &Path, expected: &str) -> Error {
    let has_sentencepiece =
        ["spiece.model", "tokenizer.model", "sentencepiece.model"].iter().any(|name| folder.join(name).is_file());
    Error::Invalid {
        what: format!("{}: the tokenizer", folder.display()),
        expected: expected.into(),
        got: if has_sentencepiece {
            "a model of sentencepiece alone; save the tokenizer with transformers, which writes tokenizer.json".into()
        } else {
            "none; copy it from where the weights came from".into()
        },
    }
}
