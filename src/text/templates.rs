//! Sentences that the name of a class is put into, in the place of `{}`: a text tower has read sentences, not single words.
//!
//! Radford et al. 2021, section 3.1.4; the lists are open_clip's, in its order.

use std::io::ErrorKind;
use std::path::PathBuf;

use tallow_weights::expanded;

use super::given::lines;
use crate::inference::{Error, Result};

/// The sentences that a classifier is made with, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates {
    name: String,
    sentences: Vec<String>,
}

impl Templates {
    /// The names of lists that are built in.
    pub const NAMES: [&str; 3] = ["openai-80", "openai-7", "simple"];

    /// The list called `name` (`openai-80`: the 80 of OpenAI's paper; `openai-7`: the seven that do best of them; `simple`: "a photo of a {}."
    /// alone), a single sentence with `{}` in it, or a file with one in every line.
    ///
    /// # Errors
    /// If the file cannot be read, or a sentence has no place for the name.
    pub fn named(name: &str) -> Result<Self> {
        let owned = |sentences: &[&str]| sentences.iter().map(|sentence| (*sentence).to_owned()).collect();
        let sentences: Vec<String> = match name {
            "openai-80" => owned(&OPENAI_80),
            "openai-7" => owned(&OPENAI_7),
            "simple" => return Ok(Self::simple()),
            sentence if sentence.contains("{}") => vec![sentence.to_owned()],
            file => {
                let path: PathBuf = expanded(file);
                let sentences = lines(&path).map_err(|error| match error {
                    Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => Error::invalid(
                        "templates",
                        format!("{}, a sentence with {{}} in it, or a file of such sentences", Self::NAMES.join(", ")),
                        format!("{name:?}, and no such file is there"),
                    ),
                    other => other,
                })?;
                if let Some(other) = sentences.iter().find(|sentence| !sentence.contains("{}")) {
                    let expected = "a sentence with {} in every line, where the name of the class goes".into();
                    return Err(Error::File { path, expected, got: format!("{other:?}") });
                }
                if sentences.is_empty() {
                    return Err(Error::File { path, expected: "at least one sentence".into(), got: "none".into() });
                }
                sentences
            }
        };
        Ok(Self { name: name.into(), sentences })
    }

    /// "a photo of a {}." alone.
    pub fn simple() -> Self {
        Self { name: "simple".into(), sentences: vec!["a photo of a {}.".into()] }
    }

    /// As it was named.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The sentences, each with `{}`.
    pub fn sentences(&self) -> &[String] {
        &self.sentences
    }

    /// The sentences with a name in them.
    pub fn of(&self, class: &str) -> Vec<String> {
        self.sentences.iter().map(|sentence| sentence.replace("{}", class)).collect()
    }
}

/// open_clip's `OPENAI_IMAGENET_TEMPLATES`.
pub const OPENAI_80: [&str; 80] = [
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
];

/// open_clip's `SIMPLE_IMAGENET_TEMPLATES`.
pub const OPENAI_7: [&str; 7] = [
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sentences_and_files_are_templates() {
        assert_eq!(Templates::named("openai-80").unwrap().sentences().len(), 80);
        assert_eq!(Templates::named("openai-7").unwrap().of("cat")[2], "a origami cat.");
        assert_eq!(Templates::named("simple").unwrap().of("red fox"), ["a photo of a red fox."]);
        assert_eq!(Templates::named("{}").unwrap().of("cat"), ["cat"]);
        let error = Templates::named("openai-8").unwrap_err().to_string();
        assert!(
            error.starts_with("templates: expected openai-80, openai-7, simple, a sentence with {} in it"),
            "{error}"
        );
    }
}
