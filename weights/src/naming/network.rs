//! A ViT among the tensors of a file: what its names begin with, and what wrappers put into them.

use std::collections::BTreeSet;

use super::Naming;
use crate::format::TensorInfo;

/// A ViT among the tensors of a checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) naming: Naming,
    /// What stands before its names, once the names of wrappers are taken out of them.
    pub(crate) prefix: String,
    /// The same of the other networks beside it, with what they are called.
    pub(crate) others: Vec<(String, String)>,
    /// What was taken out of the names.
    pub(crate) wrappers: Wrappers,
}

/// Which parts of names are taken for those of wrappers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrappers {
    /// FSDP's, those of activation checkpointing and `torch.compile`, and DDP's `module`.
    All,
    /// All but `module`.
    Private,
    None,
}

impl Network {
    /// What another network is called whose tensor this is.
    pub(super) fn owner(&self, name: &str) -> Option<&str> {
        let own = if name.starts_with(&self.prefix) { self.prefix.len() as isize } else { -1 };
        let others = self.others.iter().filter(|(prefix, _)| name.starts_with(prefix) && prefix.len() as isize > own);
        others.max_by_key(|(prefix, _)| prefix.len()).map(|(_, called)| called.as_str())
    }
}

impl Wrappers {
    /// Those whose parts can be left out of the names without making two of them equal.
    pub(crate) fn of(infos: &[TensorInfo]) -> Self {
        let count = |names: &mut Vec<String>| {
            names.sort_unstable();
            names.dedup();
            names.len()
        };
        let all = count(&mut infos.iter().map(|info| info.name.clone()).collect());
        let same = |wrappers: &Self| count(&mut infos.iter().map(|info| wrappers.without(&info.name)).collect()) == all;
        [Self::All, Self::Private].into_iter().find(same).unwrap_or(Self::None)
    }

    /// A name without the parts that wrappers put into it.
    pub(crate) fn without(self, name: &str) -> String {
        if self == Self::None || !(name.contains("_mod") || name.contains("module")) {
            return name.to_owned();
        }
        name.split('.').filter(|part| !self.wraps(part)).collect::<Vec<_>>().join(".")
    }

    fn wraps(self, part: &str) -> bool {
        const PRIVATE: [&str; 5] =
            ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_fpw_module", "_forward_module"];
        PRIVATE.contains(&part) || (self == Self::All && part == "module")
    }

    /// What stands before the names in a dictionary.
    pub(crate) fn before(self, dictionary: &str) -> String {
        let path = self.without(dictionary);
        if path.is_empty() { path } else { format!("{path}.") }
    }
}

/// The words of a name, in lower case: `model_ema`, `modelEma` and `model.ema` are the same two.
pub(crate) fn words(name: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut word = String::new();
    let mut lower = false;
    for c in name.chars() {
        let begins = !c.is_alphanumeric() || (lower && c.is_uppercase());
        if begins && !word.is_empty() {
            words.insert(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        lower = c.is_lowercase();
    }
    words.insert(word);
    words.remove("");
    words
}
