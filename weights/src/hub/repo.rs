//! Which repository of the hub is meant, and what names are allowed in it. Names come from users and from the hub's answers;
//! they become paths in the cache, so anything that could lead elsewhere is refused.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS};

use crate::{Error, Result};

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Model,
    Dataset,
}

impl Kind {
    /// What stands before a repository's id in the addresses of its pages and files.
    pub(super) fn url_prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }

    /// What the addresses of the hub's interface call repositories of this kind.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }
}

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repo {
    pub(super) kind: Kind,
    /// `OWNER/NAME`, or `NAME` for the few old ones without an owner.
    pub(super) id: String,
    /// A branch, a tag, `refs/…` or a commit.
    pub(super) revision: String,
}

impl Repo {
    /// Checks the names; no revision means `main`.
    pub(super) fn new(kind: Kind, id: &str, revision: Option<&str>) -> Result<Self> {
        let revision = revision.unwrap_or("main");
        let repo = Self { kind, id: id.to_string(), revision: revision.to_string() };
        let part_is_valid = |part: &str| {
            part.len() <= 96
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && part.chars().any(|c| c.is_ascii_alphanumeric())
                && !part.starts_with(['.', '-'])
                && !part.ends_with(['.', '-'])
                && !part.contains("--")
                && !part.contains("..")
        };
        if id.split('/').count() > 2 || !id.split('/').all(part_is_valid) {
            return Err(Error::Hub {
                place: format!("{id:?}"),
                problem: "not the name of a repository on the hub".into(),
                remedy: "expected OWNER/NAME with letters, digits, '-', '_' and '.', such as timm/vit_small_patch16_224.dino"
                    .into(),
            });
        }
        if !is_safe_path(revision) {
            return Err(Error::Hub {
                place: id.to_string(),
                problem: format!("{revision:?} is not a revision"),
                remedy: "expected a branch, a tag or a commit, such as main".into(),
            });
        }
        Ok(repo)
    }
}

impl fmt::Display for Repo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Model => "hf-hub:",
            Kind::Dataset => "hf:",
        };
        write!(f, "{scheme}{}", self.id)?;
        if self.revision != "main" { write!(f, "@{}", self.revision) } else { Ok(()) }
    }
}

/// Whether `name` is a relative path of ordinary names with `/` between them, on every operating system.
pub(super) fn is_safe_path(name: &str) -> bool {
    name.len() <= 1024
        && name.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with(' ')
                && !part.ends_with([' ', '.'])
                && !part.chars().any(|c| c.is_control() || "\\:*?\"<>|".contains(c))
        })
}

/// `text` as one segment of an address.
pub(super) fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, SEGMENT).to_string()
}

/// What has a meaning in an address, and therefore cannot stand in a segment of its path as it is.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// Whether `text` is the full id of a commit.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_cache_are_refused() {
        for name in
            ["", "..", "../x", "a/../b", "/etc/passwd", "a//b", "a\\..\\b", "C:x", "a/", "x\0", "a\n", "./a", " a"]
        {
            assert!(!is_safe_path(name), "{name:?}");
            assert!(Repo::new(Kind::Model, "timm/x", Some(name)).is_err(), "{name:?}");
        }
        for name in ["config.json", "data/train-00000-of-00001.parquet", ".gitattributes", "refs/pr/1", "ä ö/é.json"]
        {
            assert!(is_safe_path(name), "{name:?}");
        }
    }

    #[test]
    fn segments_of_addresses_are_encoded() {
        assert_eq!(encoded("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(encoded("50 % #é?.json"), "50%20%25%20%23%C3%A9%3F.json");
        assert_eq!(encoded("model-00001-of-00002.safetensors"), "model-00001-of-00002.safetensors");
    }

    #[test]
    fn repository_names_follow_the_hubs_rules() {
        for id in ["", "/", "a/", "/b", "a/b/c", "../x", "a/..", "a b/c", "a/b--c", "-a/b", "a/b.", "a/ö", "a\\b"] {
            assert!(Repo::new(Kind::Model, id, None).is_err(), "{id:?}");
        }
        for id in ["timm/vit_small_patch16_224.augreg_in1k", "gpt2", "uoft-cs/cifar10", "_x/y_"] {
            assert!(Repo::new(Kind::Model, id, None).is_ok(), "{id:?}");
        }
    }
}
