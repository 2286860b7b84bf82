//! Tokenizers as transformers has them: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt`.

use std::path::Path;

use serde_json::{Value, json};
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::{Lowercase, NormalizerWrapper, Sequence};
use tokenizers::{Model, NormalizedString, Normalizer};

use super::openai::vocabulary_and_pairs;
use super::{bytes, missing, read, repair};
use crate::inference::{Error, Result};
use tallow_weights::quoted;

/// A tokenizer of transformers.
pub(super) struct HuggingFace {
    tokenizer: tokenizers::Tokenizer,
    /// What `tokenizer_config.json` says.
    said: Value,
}

impl HuggingFace {
    /// The tokenizer in a folder.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let said = match read(folder, "tokenizer_config.json")? {
            None => Value::Null,
            Some(text) => serde_json::from_str(&text).map_err(|error| Error::File {
                path: folder.join("tokenizer_config.json"),
                expected: "a tokenizer's configuration in JSON".into(),
                got: quoted(error),
            })?,
        };
        let path = folder.join("tokenizer.json");
        // Read once, and let go of before anything else is read: it may be large.
        let tokenizer = match bytes(&path)? {
            Some(bytes) => tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| Error::File {
                path,
                expected: "a tokenizer of the library `tokenizers`".into(),
                got: quoted(error),
            })?,
            None => match (read(folder, "vocab.json")?, read(folder, "merges.txt")?) {
                (Some(vocabulary), Some(pairs)) => clip(folder, &vocabulary, &pairs)?,
                _ => return Err(missing(folder, "tokenizer.json, or vocab.json with merges.txt")),
            },
        };
        let mut made = Self { tokenizer, said };
        made.tokenizer.with_padding(None);
        made.tokenizer.with_truncation(None).map_err(|error| unusable(&error))?;
        Ok(made)
    }

    /// Tokens of the vocabulary itself.
    pub(super) fn base_vocabulary(&self) -> usize {
        self.tokenizer.get_vocab_size(false)
    }

    /// The largest number of one of these.
    pub(super) fn largest(&self) -> u32 {
        self.tokenizer.get_vocab(false).into_values().max().unwrap_or(0)
    }

    /// Tokens with a number below this.
    pub(super) fn vocabulary_below(&self, rows: usize) -> usize {
        self.tokenizer.get_vocab(true).values().filter(|&&id| (id as usize) < rows).count()
    }

    /// Whether it is SigLIP 2's, which is Gemma's, and not SigLIP's, by what it is called or else by how it is made.
    pub(super) fn is_of_siglip_2(&self) -> bool {
        match self.said["tokenizer_class"].as_str() {
            Some(class) if class.starts_with("Siglip2") || class.starts_with("Gemma") => true,
            Some(class) if class.starts_with("Siglip") || class.starts_with("T5") => false,
            _ => matches!(self.tokenizer.get_model(), ModelWrapper::BPE(_)),
        }
    }

    /// Brings texts to lower case before anything else, as transformers' tokenizer of SigLIP 2 does: letter by letter, so that a sigma is the
    /// same wherever it stands, and after marks such as `<eos>` were found, which in capitals are none.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub(super) fn lower(&mut self) -> Result<()> {
        let own = self.tokenizer.get_normalizer().cloned();
        let both = std::iter::once(NormalizerWrapper::from(Lowercase)).chain(own).collect();
        self.tokenizer.with_normalizer(Some(Sequence::new(both))).map_err(|error| unusable(&error))?;
        Ok(())
    }

    /// What texts are filled up with, and whether in front.
    pub(super) fn padding(&self) -> (u32, bool) {
        let token = &self.said["pad_token"];
        let named = token.as_str().or(token["content"].as_str());
        let usual = match self.tokenizer.get_model() {
            // SigLIP's: its mark of the end, although its vocabulary has another one for this.
            ModelWrapper::Unigram(_) => ["</s>", "<pad>"],
            _ => ["<pad>", "<|endoftext|>"],
        };
        let id = named.into_iter().chain(usual).find_map(|token| self.tokenizer.token_to_id(token));
        (id.unwrap_or(0), self.said["padding_side"].as_str() == Some("left"))
    }

    /// The number of a mark that the configuration names.
    fn mark(&self, field: &str, usual: &str) -> Option<u32> {
        let token = &self.said[field];
        self.tokenizer.token_to_id(token.as_str().or(token["content"].as_str()).unwrap_or(usual))
    }

    /// The number of the mark that separates two texts, and ends one.
    ///
    /// # Errors
    /// If there is no such mark.
    pub(super) fn separator(&self) -> Result<u32> {
        let of_roberta = self.said["tokenizer_class"].as_str().is_some_and(|class| class.contains("oberta"));
        let usual = if of_roberta { "</s>" } else { "[SEP]" };
        self.mark("sep_token", usual).ok_or_else(|| {
            let expected = format!("the mark {usual}, which the model's config strips (strip_sep_token)");
            Error::invalid("the tokenizer", expected, "a vocabulary without it")
        })
    }

    /// The tokens of a text, with the marks that the tokenizer puts around it; how many are its own; and whether it was cut.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub(super) fn encode(&self, text: &str, context_length: usize) -> Result<(Vec<u32>, usize, bool)> {
        let encoding = self.tokenizer.encode(text, true).map_err(|error| unusable(&error))?;
        let (mut ids, marks) = (encoding.get_ids().to_vec(), encoding.get_special_tokens_mask());
        let words = marks.iter().filter(|&&mark| mark == 0).count();
        let mut at_beginning = marks.iter().take_while(|&&mark| mark == 1).count().min(ids.len() - words);
        // What the configuration says of the marks goes before what the file does, as in transformers.
        if self.said["add_bos_token"] == Value::Bool(false)
            && at_beginning == 1
            && ids.first().copied() == self.mark("bos_token", "<bos>")
        {
            ids.remove(0);
            at_beginning = 0;
        }
        if let Some(end) = self.mark("eos_token", "<eos>").filter(|_| self.said["add_eos_token"] == Value::Bool(true))
            && ids.last() != Some(&end)
        {
            ids.push(end);
        }
        let is_cut = ids.len() > context_length;
        if is_cut {
            // The marks stay, and of the text what fits between them.
            let behind = ids.len() - words - at_beginning;
            let end = ids.split_off(ids.len() - behind);
            ids.truncate(context_length.saturating_sub(end.len()));
            ids.extend(end);
        }
        Ok((ids, words, is_cut))
    }
}

impl HuggingFace {
    /// The first mark such as `</s>` that a text spells out: where it is, how long, and its number.
    pub(super) fn first_mark(&self, text: &str) -> Option<(usize, usize, u32)> {
        let marks = self.tokenizer.get_added_tokens_decoder().into_iter().filter(|(_, token)| token.special);
        let found = marks.filter_map(|(id, mark)| Some((text.find(&mark.content)?, mark.content.len(), id)));
        found.min_by_key(|&(at, length, _)| (at, std::cmp::Reverse(length)))
    }

    /// The tokens of a text in which marks are spelt out, as transformers' tokenizer of SigLIP has them: a mark is its own token, and what
    /// lies between marks is tidied by itself; only what begins the text begins a word.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub(super) fn encode_with_marks(&self, text: &str, context_length: usize) -> Result<(Vec<u32>, usize, bool)> {
        let (mut ids, mut words, mut rest) = (Vec::new(), 0, text);
        loop {
            let mark = self.first_mark(rest);
            let between = mark.map_or(rest, |(at, ..)| &rest[..at]);
            let own = if rest.len() == text.len() { self.beginning(between)? } else { self.behind_mark(between)? };
            words += own.len();
            ids.extend(own);
            let Some((at, length, id)) = mark else { break };
            ids.push(id);
            words += 1;
            rest = &rest[at + length..];
        }
        let end = self.mark("eos_token", "</s>");
        let is_cut = ids.len() + usize::from(end.is_some()) > context_length;
        ids.truncate(context_length.saturating_sub(usize::from(end.is_some())));
        ids.extend(end.filter(|end| ids.last() != Some(end)));
        Ok((ids, words, is_cut))
    }

    fn beginning(&self, text: &str) -> Result<Vec<u32>> {
        let text = repair::canonicalize_siglip(text);
        if text.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.tokenizer.encode(text, false).map_err(|error| unusable(&error))?.get_ids().to_vec())
    }

    fn behind_mark(&self, text: &str) -> Result<Vec<u32>> {
        let text = repair::canonicalize_siglip_behind_mark(text);
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut text = NormalizedString::from(text);
        if let Some(normalizer) = self.tokenizer.get_normalizer() {
            normalizer.normalize(&mut text).map_err(|error| unusable(&error))?;
        }
        let text = text.get().replace(' ', "\u{2581}");
        let tokens = self.tokenizer.get_model().tokenize(&text).map_err(|error| unusable(&error))?;
        Ok(tokens.into_iter().map(|token| token.id).collect())
    }
}

fn unusable(error: &dyn std::fmt::Display) -> Error {
    Error::invalid("the tokenizer", "one that cuts every text into tokens", quoted(error))
}

/// CLIP's tokenizer, as transformers makes it of the two files.
fn clip(folder: &Path, vocabulary: &str, pairs: &str) -> Result<tokenizers::Tokenizer> {
    let (vocabulary, pairs) = vocabulary_and_pairs(folder, vocabulary, pairs)?;
    let [start, end] = ["<|startoftext|>", "<|endoftext|>"];
    let mark = |name: &str| {
        vocabulary.get(name).copied().ok_or_else(|| Error::File {
            path: folder.join("vocab.json"),
            expected: format!("the mark {name}"),
            got: "a vocabulary without it".into(),
        })
    };
    let (start_id, end_id) = (mark(start)?, mark(end)?);
    let added = |id: u32, content: &str| {
        json!({ "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true })
    };
    let words = "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(start_id, start), added(end_id, end)],
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": "\\s+" }, "content": " " },
            { "type": "Lowercase" },
        ] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": words }, "behavior": "Removed", "invert": true },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        ] },
        "post_processor": { "type": "RobertaProcessing", "sep": [end, end_id], "cls": [start, start_id], "trim_offsets": false,
            "add_prefix_space": false },
        "decoder": null,
        "model": { "type": "BPE", "dropout": null, "unk_token": end, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": pairs },
    });
    serde_json::from_value(file).map_err(|error| Error::File {
        path: folder.join("merges.txt"),
        expected: "pairs of tokens of vocab.json".into(),
        got: quoted(error),
    })
}
