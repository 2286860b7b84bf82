//! Parts of a data set: subsets, splits by class, the first few of every class.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Error, Image, Result, Samples};

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
    fn name(&self, index: usize) -> String {
        self.samples.name(self.indices[index])
    }
    fn point(&self, index: usize) -> Option<&[f32]> {
        self.samples.point(self.indices[index])
    }
    fn image_size(&self) -> Option<[usize; 3]> {
        self.samples.image_size()
    }
}

fn by_class(samples: &dyn Samples) -> BTreeMap<u32, Vec<usize>> {
    let mut classes = BTreeMap::<u32, Vec<usize>>::new();
    for index in 0..samples.len() {
        classes.entry(samples.label(index)).or_default().push(index);
    }
    classes
}

/// The indices that stay and those that are held out: of every class `fraction`, rounded, but at least one of each where
/// there are two. Both in ascending order.
pub(super) fn stratified(samples: &dyn Samples, fraction: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
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
    (kept, held_out)
}

/// `limit` indices in ascending order: of every class the first, as many as its share of all samples says (the remainder
/// goes to the classes that rounding robbed most).
pub(super) fn proportional(samples: &dyn Samples, limit: usize) -> Vec<usize> {
    let (classes, total) = (by_class(samples), samples.len());
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
