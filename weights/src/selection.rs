//! Which of the networks in a file is meant.
//!
//! Training scripts keep more than one in a file: the raw weights and their average, a teacher and its student, an online and a
//! target encoder. A network is told by its patch embedding, and called by the path to it: `state_dict_ema`,
//! `teacher.backbone`, `model.vit`. `docs/checkpoints.md` has the rules in words.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use crate::format::TensorInfo;
use crate::naming::{self, Naming, Network, Wrappers, around, words};
use crate::{Error, Result};

/// What is known of the network that is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// The network that was asked for by its path.
    pub(crate) key: Option<String>,
    /// Width and number of blocks, where a config says them.
    pub(crate) sizes: Option<(usize, usize)>,
}

/// The choice that was made.
#[derive(Debug)]
pub(crate) struct Selection {
    /// For every tensor its name in the checkpoint, or why it lies outside of it.
    pub(crate) fates: Vec<std::result::Result<String, String>>,
    /// The ViT, in the names of the checkpoint. None where there is no ViT at all.
    pub(crate) network: Option<Network>,
    /// What a reader should know about the choice.
    pub(crate) notes: Vec<String>,
}

/// A tensor by its path, without the names of wrappers.
struct Item<'a> {
    path: String,
    /// The dictionary that it is in, as the file writes it.
    dictionary: &'a str,
    info: &'a TensorInfo,
}

/// A network that could be meant.
struct Candidate {
    naming: Naming,
    /// What stands before its names.
    prefix: String,
    /// The dictionary that its patch embedding is in, as the file writes it.
    dictionary: String,
    /// Width and number of blocks.
    sizes: (usize, usize),
    /// Whether all blocks are there and alike.
    complete: bool,
}

/// The wrappers that training scripts use most, the preferred first, where nothing else decides.
const WRAPPERS: [&str; 9] =
    ["state_dict", "model_state_dict", "model_state", "model", "net", "network", "backbone", "encoder", "student"];

/// Chooses among the networks of a file whose tensors are `infos`, each in one of `dictionaries` (empty: all in one).
///
/// # Errors
/// If a network was asked for that is not there.
pub(crate) fn select(origin: &str, infos: &[TensorInfo], dictionaries: &[String], wish: &Wish) -> Result<Selection> {
    let wrappers = Wrappers::of(infos);
    let items: Vec<Item> = infos
        .iter()
        .map(|info| wrappers.without(&info.name))
        .enumerate()
        .map(|(index, path)| Item {
            path,
            dictionary: dictionaries.get(index).map_or("", String::as_str),
            info: &infos[index],
        })
        .collect();
    let mut candidates = candidates(&items);
    if candidates.is_empty() {
        return plain(origin, &items, wrappers, wish);
    }
    if let Some(key) = &wish.key {
        keep_those_called(origin, key, &mut candidates)?;
    }
    let (mut chosen, mut why) = (0, String::new());
    let kept: Vec<usize> = (0..candidates.len()).filter(|&at| candidates[at].1).collect();
    let candidates: Vec<Candidate> = candidates.into_iter().map(|(candidate, _)| candidate).collect();
    if let Some((at, reason)) = preferred(&candidates, &kept, wish) {
        (chosen, why) = (at, reason);
    }
    let taken = &candidates[chosen];
    let mut notes = Vec::new();
    if candidates.len() > 1 && kept.len() != 1 {
        let others: Vec<String> = (0..candidates.len())
            .filter(|&at| at != chosen)
            .map(|at| format!("{:?}", candidates[at].called()))
            .collect();
        notes.push(format!(
            "the file holds {} networks: {:?} was taken{why}, {} not; `checkpoint_key` chooses another",
            candidates.len(),
            taken.called(),
            others.join(", ")
        ));
    }
    Ok(parted(&items, &candidates, chosen, wrappers, notes))
}

/// The networks of the file, each with whether it is still in question.
fn candidates(items: &[Item]) -> Vec<(Candidate, bool)> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|&a, &b| items[a].path.cmp(&items[b].path));
    let mut found = Vec::new();
    for item in items {
        let Some((naming, prefix)) = naming::anchor(&item.path, &item.info.shape) else { continue };
        let words = words(prefix);
        // A text tower, and what belongs to an optimiser, are none, whatever their tensors are called.
        let text = ["text", "txt", "textual"].iter().any(|word| words.contains(*word));
        // A text tower, and what belongs to an optimiser, are none, whatever their tensors are called. JAX has targets in `opt/`.
        let other = text || (naming != Naming::Jax && around::is_of_an_optimiser(prefix));
        if other || found.len() == MAX_NETWORKS {
            continue;
        }
        let members = under(items, &order, prefix);
        let (depth, complete) = blocks(naming, members.map(|at| &items[order[at]].path[prefix.len()..]));
        let width = match naming {
            Naming::Jax => item.info.shape.last(),
            _ => item.info.shape.first(),
        };
        let candidate = Candidate {
            naming,
            prefix: prefix.to_owned(),
            dictionary: item.dictionary.to_owned(),
            sizes: (width.copied().unwrap_or(0), depth),
            complete,
        };
        found.push((candidate, true));
    }
    found
}

/// More networks than this are not looked at.
const MAX_NETWORKS: usize = 64;

/// The items whose paths begin with `prefix`, in `order`.
fn under(items: &[Item], order: &[usize], prefix: &str) -> Range<usize> {
    let start = order.partition_point(|&at| items[at].path.as_str() < prefix);
    let count = order[start..].partition_point(|&at| items[at].path.starts_with(prefix));
    start..start + count
}

/// How many blocks the names speak of, and whether they are all there and hold the same.
fn blocks<'a>(naming: Naming, names: impl Iterator<Item = &'a str>) -> (usize, bool) {
    let mut numbered: BTreeMap<usize, usize> = BTreeMap::new();
    for name in names {
        if let Some(number) = naming.block_of(name) {
            *numbered.entry(number).or_default() += 1;
        }
    }
    let stacked = naming == Naming::Jax && numbered.is_empty();
    let depth = numbered.len();
    let alike = numbered.values().collect::<BTreeSet<_>>().len() == 1;
    (depth, stacked || (alike && numbered.keys().copied().eq(0..depth)))
}

/// Takes all out of question that are not called `key`.
fn keep_those_called(origin: &str, key: &str, candidates: &mut [(Candidate, bool)]) -> Result<()> {
    let called = |candidate: &Candidate, exactly: bool| candidate.is_called(key, exactly);
    let exactly = candidates.iter().any(|(candidate, _)| called(candidate, true));
    for (candidate, kept) in candidates.iter_mut() {
        *kept = called(candidate, exactly);
    }
    if candidates.iter().any(|(_, kept)| *kept) {
        return Ok(());
    }
    let known: Vec<String> = candidates.iter().map(|(candidate, _)| format!("{:?}", candidate.called())).collect();
    Err(Error::config(origin, "checkpoint_key", format!("one of {}", known.join(", ")), format!("{key:?}")))
}

/// The best of the candidates `kept`, and why it is, as the end of a sentence.
fn preferred(candidates: &[Candidate], kept: &[usize], wish: &Wish) -> Option<(usize, String)> {
    let rank = |at: usize| candidates[at].rank();
    // Without a config, a teacher that is built otherwise than what it teaches is another network: distillation.
    let pupil = kept
        .iter()
        .copied()
        .filter(|&at| rank(at) != Rank::Better && candidates[at].complete)
        .min_by_key(|&at| rank(at));
    let sizes = wish.sizes.or(pupil.map(|at| candidates[at].sizes));
    let fits = |at: usize| sizes.is_none_or(|sizes| candidates[at].sizes == sizes);
    let order = |at: usize| {
        (!fits(at), !candidates[at].complete, rank(at), candidates[at].wrapper(), candidates[at].parts().len(), at)
    };
    let chosen = kept.iter().copied().min_by_key(|&at| order(at))?;
    let passed: Vec<usize> = kept.iter().copied().filter(|&at| rank(at) < rank(chosen)).collect();
    let names =
        |all: &[usize]| all.iter().map(|&at| format!("{:?}", candidates[at].called())).collect::<Vec<_>>().join(", ");
    // Without all of its blocks it may still be of the same width.
    let cut = |at: usize| !candidates[at].complete && sizes.is_none_or(|(width, _)| candidates[at].sizes.0 == width);
    let (cut, other): (Vec<usize>, Vec<usize>) =
        passed.into_iter().filter(|&at| !fits(at) || !candidates[at].complete).partition(|&at| cut(at));
    let mut why = Vec::new();
    if !other.is_empty() {
        let (width, depth) = candidates[other[0]].sizes;
        let than = if wish.sizes.is_some() { "the config says" } else { "what it teaches" };
        why.push(format!("{} is another network ({width} wide, {depth} blocks) than {than}", names(&other)));
    }
    if !cut.is_empty() {
        why.push(format!("{} is not complete", names(&cut)));
    }
    if why.is_empty() && kept.iter().any(|&at| rank(at) > rank(chosen)) {
        why.push(match rank(chosen) {
            Rank::Average => "averaged weights go before the raw ones".into(),
            Rank::Better => "a teacher or target goes before what learns from it".into(),
            _ => "a momentum encoder comes after what it follows".into(),
        });
    }
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
    Some((chosen, why))
}

/// What is preferred, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A moving or stochastic average of the weights.
    Average,
    /// A teacher, or a target encoder, which are averages of what learns from them.
    Better,
    Other,
    /// MoCo's encoder of the keys, in place of which its authors take the other one.
    Momentum,
}

impl Candidate {
    /// The parts of its path.
    fn parts(&self) -> Vec<&str> {
        self.prefix.split(['.', '/']).filter(|part| !part.is_empty()).collect()
    }

    /// What a user calls it: its path, `.` for the file itself.
    fn called(&self) -> String {
        let path = self.prefix.trim_end_matches(['.', '/']);
        if path.is_empty() { ".".into() } else { path.into() }
    }

    /// Whether `key` is its path, or else some parts of it in a row.
    fn is_called(&self, key: &str, exactly: bool) -> bool {
        let path = Wrappers::All.without(key);
        let wanted: Vec<&str> = path.split(['.', '/']).filter(|part| !part.is_empty()).collect();
        let parts = self.parts();
        if exactly || wanted.is_empty() {
            parts == wanted
        } else {
            parts.windows(wanted.len()).any(|part| part == wanted)
        }
    }

    fn rank(&self) -> Rank {
        let words = words(&self.prefix);
        let has = |list: &[&str]| list.iter().any(|word| words.contains(*word));
        if has(&["momentum", "key"]) || self.parts().contains(&"encoder_k") {
            Rank::Momentum
        } else if has(&["ema", "swa", "averaged", "average", "avg", "shadow", "polyak"]) {
            Rank::Average
        } else if has(&["teacher", "target"]) {
            Rank::Better
        } else {
            Rank::Other
        }
    }

    fn wrapper(&self) -> usize {
        let parts = self.parts();
        WRAPPERS.iter().position(|wrapper| parts.first() == Some(wrapper)).unwrap_or(WRAPPERS.len())
    }
}

/// Parts the tensors into those of the checkpoint and those beside it: what lies in the dictionary of the network, and a
/// classifier in a dictionary beside that.
fn parted(
    items: &[Item],
    candidates: &[Candidate],
    chosen: usize,
    wrappers: Wrappers,
    notes: Vec<String>,
) -> Selection {
    let taken = &candidates[chosen];
    let home = wrappers.before(&taken.dictionary);
    let has_head = items.iter().any(|item| {
        let name = item.path.strip_prefix(taken.prefix.as_str()).filter(|_| item.dictionary == taken.dictionary);
        name.is_some_and(|name| taken.naming.head_of(name).is_some())
    });
    let beside = if has_head || home != taken.prefix { None } else { classifier_beside(items, taken) };
    let (base, head) = match &beside {
        Some((parent, name)) => (parent.as_str(), name.as_str()),
        None => (taken.dictionary.as_str(), ""),
    };
    let raw = if base.is_empty() { String::new() } else { format!("{base}.") };
    let others = |path: &str| owner(candidates, path).filter(|&at| at != chosen);
    let fates = items.iter().map(|item| {
        let inside = item.dictionary == taken.dictionary || (!head.is_empty() && item.dictionary == head);
        match item.info.name.strip_prefix(raw.as_str()) {
            Some(name) if inside => Ok(name.to_owned()),
            _ => Err(match others(&item.path) {
                Some(at) => around::another(&candidates[at].called()),
                None => around::reason(&item.path, item.info),
            }),
        }
    });
    let fates = fates.collect();
    let within = wrappers.before(base);
    let network = |candidate: &Candidate| candidate.prefix.strip_prefix(within.as_str()).map(str::to_owned);
    let others = candidates.iter().enumerate().filter(|(at, _)| *at != chosen);
    let others = others.filter_map(|(_, other)| Some((network(other)?, other.called()))).collect();
    let prefix = network(taken).unwrap_or_default();
    Selection { fates, network: Some(Network { naming: taken.naming, prefix, others, wrappers }), notes }
}

/// The dictionary with a single linear layer beside the network's, by its parent and its own path, if there is one that is called
/// as a classifier is: `{"backbone": …, "classifier": …}`.
fn classifier_beside(items: &[Item], taken: &Candidate) -> Option<(String, String)> {
    let parent = match taken.dictionary.rsplit_once('.') {
        Some((parent, _)) => parent,
        None if taken.dictionary.is_empty() => return None,
        None => "",
    };
    let above = if parent.is_empty() { String::new() } else { format!("{parent}.") };
    let mut beside: BTreeSet<&str> = BTreeSet::new();
    for item in items {
        let inner = item.dictionary.strip_prefix(above.as_str());
        if item.dictionary != taken.dictionary && inner.is_some_and(|inner| !inner.is_empty() && !inner.contains('.')) {
            beside.insert(item.dictionary);
        }
    }
    let heads: Vec<&str> = beside
        .into_iter()
        .filter(|dictionary| {
            let members = items.iter().filter(|item| item.dictionary == *dictionary);
            let members: Vec<(&str, &[usize])> =
                members.map(|item| (&item.info.name[dictionary.len() + 1..], item.info.shape.as_slice())).collect();
            around::names_a_classifier(&dictionary[above.len()..])
                && around::linear(&members).is_some_and(|(_, width)| width == taken.sizes.0)
        })
        .collect();
    match heads.as_slice() {
        [head] => Some((parent.to_owned(), (*head).to_owned())),
        _ => None,
    }
}

/// The network that a path belongs to: of those whose prefix it begins with, the one with the longest.
fn owner(candidates: &[Candidate], path: &str) -> Option<usize> {
    (0..candidates.len())
        .filter(|&at| path.starts_with(&candidates[at].prefix))
        .max_by_key(|&at| candidates[at].prefix.len())
}

/// The choice where no tensor is a ViT's: the dictionary with the most tensors, of those that have about as many the preferred.
fn plain(origin: &str, items: &[Item], wrappers: Wrappers, wish: &Wish) -> Result<Selection> {
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for item in items {
        *counts.entry(item.dictionary).or_default() += 1;
    }
    counts.retain(|dictionary, _| !around::is_of_an_optimiser(dictionary));
    let most = counts.values().copied().max().unwrap_or(0);
    let mut large: Vec<&str> =
        counts.iter().filter(|(_, count)| 2 * **count > most).map(|(dictionary, _)| *dictionary).collect();
    // In an order that does not depend on a hash, and only as many as one can name.
    large.sort_unstable();
    large.truncate(MAX_NETWORKS);
    let large = large.into_iter().map(|dictionary| Candidate {
        naming: Naming::Plain,
        prefix: wrappers.before(dictionary),
        dictionary: dictionary.to_owned(),
        sizes: (0, 0),
        complete: true,
    });
    let mut candidates: Vec<(Candidate, bool)> = large.map(|candidate| (candidate, true)).collect();
    if let (Some(key), false) = (&wish.key, candidates.is_empty()) {
        keep_those_called(origin, key, &mut candidates)?;
    }
    let kept: Vec<usize> = (0..candidates.len()).filter(|&at| candidates[at].1).collect();
    let candidates: Vec<Candidate> = candidates.into_iter().map(|(candidate, _)| candidate).collect();
    let none = Wish { sizes: None, key: None };
    let chosen = preferred(&candidates, &kept, &none).map(|(at, _)| &candidates[at]);
    let mut notes = Vec::new();
    if let Some(taken) = chosen.filter(|_| candidates.len() > 1 && kept.len() != 1) {
        let others = candidates.iter().filter(|other| other.dictionary != taken.dictionary);
        let others: Vec<String> = others.map(|other| format!("{:?}", other.called())).collect();
        notes.push(format!(
            "{:?} of the file was taken, {} not; `checkpoint_key` chooses another",
            taken.called(),
            others.join(", ")
        ));
    }
    let home = chosen.map_or("", |taken| taken.dictionary.as_str());
    let raw = if home.is_empty() { String::new() } else { format!("{home}.") };
    let fates = items
        .iter()
        .map(|item| match item.info.name.strip_prefix(raw.as_str()) {
            Some(name) if item.dictionary == home => Ok(name.to_owned()),
            _ => Err(around::reason(&item.path, item.info)),
        })
        .collect();
    Ok(Selection { fates, network: None, notes })
}
