//! Samples that were picked one by one from the parts of a data set.

use std::sync::Arc;

use super::{Alpha, Digest, Image, Look, Result, Samples};

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Which part it is from.
    pub part: usize,
    /// Its index there.
    pub index: usize,
    /// Its label, whatever it is there.
    pub label: u32,
}

/// Samples of several parts, in an order and with labels of their own.
pub struct Picked {
    parts: Vec<Arc<dyn Samples>>,
    picks: Vec<Pick>,
}

impl Picked {
    /// The samples of `parts` that `picks` name.
    ///
    /// # Errors
    /// If there is no such part or sample.
    pub fn new(parts: Vec<Arc<dyn Samples>>, picks: Vec<Pick>) -> Result<Self> {
        let there = |pick: &Pick| parts.get(pick.part).is_some_and(|part| pick.index < part.len());
        match picks.iter().find(|pick| !there(pick)) {
            None => Ok(Self { parts, picks }),
            Some(pick) => Err(super::Error::invalid("picked samples", "a sample of the parts", format!("{pick:?}"))),
        }
    }

    fn at(&self, index: usize) -> (&dyn Samples, usize) {
        let pick = self.picks[index];
        (&*self.parts[pick.part], pick.index)
    }
}

impl Samples for Picked {
    fn len(&self) -> usize {
        self.picks.len()
    }
    fn label(&self, index: usize) -> u32 {
        self.picks[index].label
    }
    fn image(&self, index: usize) -> Result<Image> {
        let (part, index) = self.at(index);
        part.image(index)
    }
    fn image_as(&self, index: usize, alpha: Alpha) -> Result<Image> {
        let (part, index) = self.at(index);
        part.image_as(index, alpha)
    }
    fn look(&self, index: usize, alpha: Alpha) -> Result<Look> {
        let (part, index) = self.at(index);
        part.look(index, alpha)
    }
    fn name(&self, index: usize) -> String {
        let (part, index) = self.at(index);
        part.name(index)
    }
    fn point(&self, index: usize) -> Option<&[f32]> {
        let (part, index) = self.at(index);
        part.point(index)
    }
    fn image_size(&self) -> Option<[usize; 3]> {
        let mut sizes = self.parts.iter().map(|part| part.image_size());
        let first = sizes.next().flatten();
        if sizes.all(|size| size == first) { first } else { None }
    }
    fn digest(&self, index: usize) -> Result<Digest> {
        let (part, index) = self.at(index);
        part.digest(index)
    }
}
