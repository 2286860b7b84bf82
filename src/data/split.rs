//! Parts of a data set: subsets, splits by class, the first few of every class.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::digest::{self, Digest, Digested};
use super::{Alpha, Error, Image, Look, Result, Samples};

/// Some of the samples of another part, in an order of their own.
pub struct Subset {
    samples: Arc<dyn Samples>,
    indices: Vec<usize>,
}

impl Subset {
    /// The samples of `samples` at `indices`, in that order.
    ///
    /// # Errors
    /// If an index is out of range.
    pub fn new(samples: Arc<dyn Samples>, indices: Vec<usize>) -> Result<Self> {
        match indices.iter().find(|&&index| index >= samples.len()) {
            Some(index) => Err(Error::invalid("subset", format!("indices below {}", samples.len()), index)),
            None => Ok(Self { samples, indices }),
        }
    }
}

impl Samples for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }
    fn label(&self, index: usize) -> u32 {
        self.samples.label(self.indices[index])
    }
    fn image(&self, index: usize) -> Result<Image> {
        self.samples.image(self.indices[index])
    }
    fn image_as(&self, index: usize, alpha: Alpha) -> Result<Image> {
        self.samples.image_as(self.indices[index], alpha)
    }
    fn look(&self, index: usize, alpha: Alpha) -> Result<Look> {
        self.samples.look(self.indices[index], alpha)
    }
    fn name(&self, index: usize) -> String {
        self.samples.name(self.indices[index])
    }
    fn point(&self, index: usize) -> Option<&[f32]> {
        self.samples.point(self.indices[index])
    }
    fn image_size(&self) -> Option<[usize; 3]> {
        self.samples.image_size()
    }
    fn digest(&self, index: usize) -> Result<Digest> {
        self.samples.digest(self.indices[index])
    }
}

/// What a split follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SplitBy {
    /// What each sample holds: whatever else is added, removed or renamed, it stays in its part.
    #[default]
    Content,
    /// The places of the samples in the list of all, as in versions whose runs kept no `data.json`.
    Position,
}

/// What a share is held out for. Splits of different purposes are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Test,
    Validation,
}

/// The indices that stay and those that are held out, both in ascending order, and what should be told.
pub(super) struct Parted {
    pub kept: Vec<usize>,
    pub held_out: Vec<usize>,
    /// Labels of classes that are copies of one image, so that contents cannot part them.
    pub copies: Vec<u32>,
}

fn by_class(samples: &dyn Samples) -> BTreeMap<u32, Vec<usize>> {
    by_label((0..samples.len()).map(|index| samples.label(index)))
}

fn by_label(labels: impl Iterator<Item = u32>) -> BTreeMap<u32, Vec<usize>> {
    let mut classes = BTreeMap::<u32, Vec<usize>>::new();
    labels.enumerate().for_each(|(index, label)| classes.entry(label).or_default().push(index));
    classes
}

/// Holds out the samples whose content, hashed with the seed, falls below `fraction`: each by itself, so that no other sample
/// moves it, and copies together. A class of several images of which none would be held out gives the one with the smallest
/// hash, and one of which none would stay keeps the one with the largest. A class of copies of one image is split by names.
pub(super) fn by_content(samples: &Digested, fraction: f64, seed: u64, purpose: Purpose) -> Parted {
    let salt = match purpose {
        Purpose::Test => "test",
        Purpose::Validation => "validation",
    };
    let digests = samples.digests();
    let mut held: HashMap<Digest, bool> = HashMap::new();
    let mut held_by_name: HashMap<usize, bool> = HashMap::new();
    let mut copies = Vec::new();
    for (label, indices) in by_class(samples) {
        let mut contents: Vec<(f64, Digest)> =
            indices.iter().map(|&index| (digests[index].place(seed, salt), digests[index])).collect();
        contents.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        contents.dedup();
        if contents.len() == 1 && indices.len() > 1 {
            copies.push(label);
            let name = |index| [samples.name(index).as_bytes(), salt.as_bytes()].concat();
            let mut names: Vec<(f64, usize)> =
                indices.iter().map(|&index| (digest::place(&name(index), seed), index)).collect();
            names.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            held_by_name.extend(names[..count_below(&names, fraction)].iter().map(|&(_, index)| (index, true)));
            held_by_name.extend(names[count_below(&names, fraction)..].iter().map(|&(_, index)| (index, false)));
            continue;
        }
        let count = count_below(&contents, fraction);
        held.extend(contents.iter().enumerate().map(|(at, &(_, digest))| (digest, at < count)));
    }
    let is_held = |index: &usize| {
        let by_content = held.get(&digests[*index]).copied().unwrap_or(false);
        held_by_name.get(index).copied().unwrap_or(by_content)
    };
    let (held_out, kept) = (0..samples.len()).partition(is_held);
    Parted { kept, held_out, copies }
}

/// How many of a class, sorted by their places, are held out: those below `fraction`, but at least one and not all where there
/// are two.
fn count_below<T>(sorted: &[(f64, T)], fraction: f64) -> usize {
    let count = sorted.len();
    sorted.partition_point(|(place, _)| *place < fraction).clamp(1.min(count / 2), count - 1)
}

/// The indices that stay and those that are held out: of every class `fraction`, rounded, but at least one of each where
/// there are two. Both in ascending order. They follow from the seed and the number of samples of each class: what is added or
/// removed moves others.
pub(super) fn by_position(samples: &dyn Samples, fraction: f64, seed: u64) -> Parted {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut kept, mut held_out) = (Vec::new(), Vec::new());
    for (_, mut indices) in by_class(samples) {
        indices.shuffle(&mut rng);
        let count = indices.len();
        let out = ((fraction * count as f64).round() as usize).clamp(1.min(count / 2), count - 1);
        held_out.extend_from_slice(&indices[..out]);
        kept.extend_from_slice(&indices[out..]);
    }
    kept.sort_unstable();
    held_out.sort_unstable();
    Parted { kept, held_out, copies: Vec::new() }
}

/// `limit` indices in ascending order: of every class the first, as many as its share of all samples says (the remainder
/// goes to the classes that rounding robbed most).
pub(super) fn proportional(samples: &dyn Samples, limit: usize) -> Vec<usize> {
    share_of_each(by_class(samples), samples.len(), limit)
}

/// [`proportional`], where only the labels are known.
#[cfg(feature = "train")]
pub(crate) fn proportional_labels(labels: &[u32], limit: usize) -> Vec<usize> {
    share_of_each(by_label(labels.iter().copied()), labels.len(), limit)
}

fn share_of_each(classes: BTreeMap<u32, Vec<usize>>, total: usize, limit: usize) -> Vec<usize> {
    let limit = limit.min(total);
    // what is left over, the samples, and how many of them
    let mut quotas: Vec<(u128, &Vec<usize>, usize)> = classes
        .values()
        .map(|indices| {
            let product = indices.len() as u128 * limit as u128;
            (product % total as u128, indices, (product / total as u128) as usize)
        })
        .collect();
    let missing = limit - quotas.iter().map(|q| q.2).sum::<usize>();
    quotas.sort_by_key(|quota| std::cmp::Reverse(quota.0)); // stable: equal remainders in the order of the classes
    quotas.iter_mut().take(missing).for_each(|q| q.2 += 1);
    let mut chosen: Vec<usize> = quotas.iter().flat_map(|(_, indices, n)| indices.iter().take(*n).copied()).collect();
    chosen.sort_unstable();
    chosen
}

/// Whether the classes come in blocks, sorted or nearly so: the label changes from one sample to the next less than half as
/// often as in a random order. The first few samples are then no fair share of the classes.
pub(super) fn is_in_blocks(samples: &dyn Samples) -> bool {
    let count = samples.len();
    if count < 2 {
        return false;
    }
    let total = count as f64;
    let alike: f64 = by_class(samples).values().map(|indices| (indices.len() as f64 / total).powi(2)).sum();
    let changes = (1..count).filter(|&index| samples.label(index) != samples.label(index - 1)).count();
    (changes as f64) < 0.5 * (total - 1.) * (1. - alike)
}
