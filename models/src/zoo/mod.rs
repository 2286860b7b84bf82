//! The zoo: architectures and their pretrained weights by name, search with wildcards.
//!
//! ```
//! let entry = tallow_models::zoo::find("vit_small_patch16_224.augreg_in1k")?;
//! assert_eq!(entry.architecture.num_parameters()?, 22_050_664);
//! assert_eq!(entry.pretrained.and_then(|p| p.hub), Some("timm/vit_small_patch16_224.augreg_in1k"));
//! assert!(tallow_models::zoo::list("*dinov2*").len() >= 6);
//! # Ok::<(), tallow_models::Error>(())
//! ```

mod pretrained;
mod refused;

pub use pretrained::Pretrained;

use std::sync::LazyLock;

use crate::nearest::nearest;
use crate::{Architecture, Error, Result};

/// All architectures by name, family by family.
static ARCHITECTURES: LazyLock<Vec<(&'static str, Architecture)>> = LazyLock::new(Architecture::named);

/// An architecture of the zoo.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// The model, with the image size and the number of classes of `pretrained`, if there is one.
    pub architecture: Architecture,
    /// The weights that the search asked for: those of the tag, or the architecture's default. None where there are none.
    pub pretrained: Option<&'static Pretrained>,
    /// All weights of this architecture that the search matches, the default first.
    pub weights: Vec<&'static Pretrained>,
}

/// The architecture called `name`, with a tag (`vit_small_patch16_224.dino`) or without.
///
/// # Errors
/// [`Error::UnknownArchitecture`] with the nearest names, [`Error::RefusedArchitecture`] where timm has it and the zoo has not,
/// [`Error::UnknownTag`] with those that exist.
pub fn find(name: &str) -> Result<Entry> {
    let (name, tag) = match name.split_once('.') {
        Some((name, tag)) => (name, Some(tag)),
        None => (name, None),
    };
    let Some((name, architecture)) = architecture(name) else {
        if let Some((name, reason)) = refused().find(|(refused, _)| *refused == name) {
            return Err(Error::RefusedArchitecture { name: name.into(), reason: reason.into() });
        }
        return Err(Error::UnknownArchitecture { name: name.into(), nearest: nearest(name, names()) });
    };
    let weights = weights_of(name);
    let pretrained = match tag {
        None => weights.first().copied(),
        Some(tag) => Some(*weights.iter().find(|w| w.tag == tag).ok_or_else(|| Error::UnknownTag {
            name: name.into(),
            tag: tag.into(),
            known: weights.iter().map(|w| w.tag.into()).collect(),
        })?),
    };
    Ok(entry(name, architecture, pretrained, weights))
}

/// The architectures whose name, or whose `name.tag`, matches `pattern`, in the order of the table. `*` stands for any
/// text and `?` for one character; a pattern without either matches every name that contains it. With a tag in the
/// pattern, only the weights that match are listed.
pub fn list(pattern: &str) -> Vec<Entry> {
    let pattern = if pattern.contains(['*', '?']) { pattern.to_string() } else { format!("*{pattern}*") };
    let mut entries = Vec::new();
    for name in names() {
        let Some((name, architecture)) = architecture(name) else { continue };
        let all = weights_of(name);
        let weights: Vec<_> = match matches(&pattern, name) {
            true => all,
            false => all.into_iter().filter(|w| matches(&pattern, &format!("{name}.{}", w.tag))).collect(),
        };
        if matches(&pattern, name) || !weights.is_empty() {
            entries.push(entry(name, architecture, weights.first().copied(), weights));
        }
    }
    entries
}

/// timm's ViTs that the zoo has not, each with what it has that none of the zoo's has.
pub fn refused() -> impl Iterator<Item = (&'static str, &'static str)> {
    refused::REFUSED.iter().flat_map(|(reason, names)| names.iter().map(|name| (*name, *reason)))
}

/// All names, in the order of the table.
pub fn names() -> impl Iterator<Item = &'static str> {
    ARCHITECTURES.iter().map(|(name, _)| *name)
}

fn architecture(name: &str) -> Option<(&'static str, Architecture)> {
    ARCHITECTURES.iter().find(|(known, _)| *known == name).cloned()
}

fn entry(
    name: &'static str,
    mut architecture: Architecture,
    pretrained: Option<&'static Pretrained>,
    weights: Vec<&'static Pretrained>,
) -> Entry {
    if let Some(p) = pretrained {
        architecture = architecture.with_num_classes(p.num_classes).with_img_size(p.input_size[1]);
    }
    Entry { name, architecture, pretrained, weights }
}

fn weights_of(name: &str) -> Vec<&'static Pretrained> {
    pretrained::WEIGHTS.iter().filter(|w| w.architecture == name).collect()
}

/// Whether all of `text` matches `pattern`, in which `*` stands for any text and `?` for one character.
///
/// ```
/// assert!(tallow_models::zoo::matches("blocks.*.attn.*", "blocks.11.attn.qkv.weight"));
/// ```
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` was, and how much text it stands for so far.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}
