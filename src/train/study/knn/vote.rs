//! The nearest neighbours of features, exactly, and what they vote for.
//!
//! The cosines of a block of queries with all samples are one matrix product in float32. Its rounding may exchange neighbours that are
//! almost equally near: whatever comes within its bound of the k-th one is measured again in float64, so that the neighbours are those
//! of exact arithmetic. Of equally near ones the first sample comes first, of classes with as many votes the first class.

use candle_core::{D, DType, Device, Tensor};
use rayon::prelude::*;

use crate::train::error::{Error, Result};

/// Queries of one matrix product.
const BLOCK: usize = 256;

/// Classes that an answer names.
const NAMED: usize = 5;

/// Samples whose classes are known.
pub struct Neighbours {
    /// Of length 1, `[samples, dim]`, on the device that multiplies.
    directions: Tensor,
    features: Rows,
    labels: Vec<u32>,
    classes: usize,
}

/// What the neighbours of a query say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The classes with the most votes, at most five; none that got no vote.
    pub classes: Vec<u32>,
    /// The share of the votes that the first one got.
    pub share: f32,
}

impl Answer {
    /// Whether the first class is this one.
    pub fn is(&self, label: u32) -> bool {
        self.classes.first() == Some(&label)
    }
}

/// Rows on the CPU as they are, with their lengths.
struct Rows {
    values: Vec<f32>,
    lengths: Vec<f64>,
    dim: usize,
}

impl Rows {
    fn of(features: &Tensor) -> Result<Self> {
        let (_, dim) = features.dims2()?;
        let values = features.to_dtype(DType::F32)?.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
        if let Some(bad) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::invalid("features", "finite numbers; the weights are damaged", bad));
        }
        let lengths = values.par_chunks_exact(dim.max(1)).map(|row| dot(row, row).sqrt()).collect();
        Ok(Self { values, lengths, dim })
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..(index + 1) * self.dim]
    }

    /// The cosine of two rows; 0 where one of them is 0.
    fn cosine(&self, index: usize, other: &Self, other_index: usize) -> f64 {
        let lengths = self.lengths[index] * other.lengths[other_index];
        if lengths > 0. { dot(self.row(index), other.row(other_index)) / lengths } else { 0. }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0f64; LANES];
    let (a_rest, b_rest) = (a.chunks_exact(LANES).remainder(), b.chunks_exact(LANES).remainder());
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        sums.iter_mut().zip(a.iter().zip(b)).for_each(|(sum, (a, b))| *sum += f64::from(*a) * f64::from(*b));
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    sums.iter().sum::<f64>() + rest
}

/// Rows divided by their lengths.
fn directions(features: &Tensor) -> Result<Tensor> {
    let features = features.to_dtype(DType::F32)?;
    let lengths = features.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(f32::MIN_POSITIVE)?;
    Ok(features.broadcast_div(&lengths)?)
}

impl Neighbours {
    /// Samples with these features `[samples, dim]`, which may be on any device, and labels below `classes`.
    ///
    /// # Errors
    /// If there are none, not as many labels as features, a label is too large, or a feature is no finite number.
    pub fn new(features: &Tensor, labels: Vec<u32>, classes: usize) -> Result<Self> {
        let rows = features.dims2()?.0;
        if rows == 0 || rows != labels.len() {
            return Err(Error::invalid("labels", format!("one for each of {rows} features, and some"), labels.len()));
        }
        if let Some(bad) = labels.iter().find(|label| **label as usize >= classes) {
            return Err(Error::invalid("labels", format!("numbers below {classes}"), bad));
        }
        Ok(Self { directions: directions(features)?, features: Rows::of(features)?, labels, classes })
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none, which [`Neighbours::new`] refuses.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// What the nearest `k` of every entry of `ks` say of the queries `[queries, dim]`: for every query an answer for every k, in the order
    /// of `ks`. A neighbour of cosine s counts `exp(s / temperature)`.
    ///
    /// # Errors
    /// If the queries are of another width, or a value is no finite number.
    pub fn vote(&self, queries: &Tensor, ks: &[usize], temperature: f64) -> Result<Vec<Vec<Answer>>> {
        let (count, dim) = queries.dims2()?;
        if dim != self.features.dim {
            return Err(Error::invalid("features", format!("{} values a sample", self.features.dim), dim));
        }
        let most = ks.iter().copied().max().unwrap_or(0).clamp(1, self.len());
        let rows = Rows::of(queries)?;
        let (directions, transposed) = (directions(queries)?, self.directions.t()?);
        let mut answers = Vec::with_capacity(count);
        for start in (0..count).step_by(BLOCK) {
            let block = directions.narrow(0, start, BLOCK.min(count - start))?;
            let cosines = block.matmul(&transposed)?.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
            let of_block = cosines.par_chunks_exact(self.len()).enumerate().map(|(at, cosines)| {
                let nearest = self.nearest(&rows, start + at, cosines, most);
                ks.iter().map(|&k| self.answer(&nearest[..k.min(nearest.len())], temperature)).collect()
            });
            answers.extend(of_block.collect::<Vec<Vec<Answer>>>());
        }
        Ok(answers)
    }

    /// The nearest `most` of a query, nearest first, with their cosines; `rounded` are those of all samples in float32.
    fn nearest(&self, queries: &Rows, query: usize, rounded: &[f32], most: usize) -> Vec<(usize, f64)> {
        let mut ordered = rounded.to_vec();
        let (_, least, _) = ordered.select_nth_unstable_by(most - 1, |a, b| b.total_cmp(a));
        // Twice what the products and the division by the lengths may be off: the k-th one's rounding, and another's.
        let bound = 2. * (queries.dim + 8) as f32 * f32::EPSILON;
        let least = *least - bound;
        let near = rounded.iter().enumerate().filter(|(_, cosine)| **cosine >= least);
        let mut near: Vec<(usize, f64)> =
            near.map(|(sample, _)| (sample, self.features.cosine(sample, queries, query))).collect();
        near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        near.truncate(most);
        near
    }

    fn answer(&self, nearest: &[(usize, f64)], temperature: f64) -> Answer {
        let mut votes = vec![0f64; self.classes];
        let largest = nearest.first().map_or(0., |(_, cosine)| *cosine);
        for (sample, cosine) in nearest {
            // Relative to the nearest one's, so that no temperature is too low for a number.
            votes[self.labels[*sample] as usize] += ((cosine - largest) / temperature).exp();
        }
        let all: f64 = votes.iter().sum();
        let mut classes: Vec<u32> = (0..self.classes as u32).filter(|class| votes[*class as usize] > 0.).collect();
        classes.sort_by(|a, b| votes[*b as usize].total_cmp(&votes[*a as usize]).then(a.cmp(b)));
        classes.truncate(NAMED);
        let share = classes.first().map_or(0., |class| votes[*class as usize] / all);
        Answer { classes, share: share as f32 }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn tensor(rows: &[f32], dim: usize) -> Tensor {
        Tensor::from_slice(rows, (rows.len() / dim, dim), &Device::Cpu).unwrap()
    }

    #[test]
    fn neighbours_that_differ_by_less_than_float32_tells_are_those_of_float64() {
        // A thousand features that are almost the same direction, as those of an untrained network are.
        let (mut rng, dim, count) = (ChaCha8Rng::seed_from_u64(1), 32, 1000);
        let mut features = |count: usize| -> Vec<f32> {
            (0..count * dim).map(|i| 1. + (i % dim) as f32 + 1e-4 * rng.random_range(-1f32..1.)).collect()
        };
        let (train, test) = (features(count), features(20));
        let labels: Vec<u32> = (0..count as u32).map(|i| i % 7).collect();
        let neighbours = Neighbours::new(&tensor(&train, dim), labels.clone(), 7).unwrap();
        let got = neighbours.vote(&tensor(&test, dim), &[1, 10], 1e-6).unwrap();
        let cosine = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        for (query, answers) in test.chunks(dim).zip(&got) {
            let mut all: Vec<(usize, f64)> =
                train.chunks(dim).enumerate().map(|(i, row)| (i, cosine(query, row))).collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            assert!(answers[0].is(labels[all[0].0]));
            let mut votes = [0f64; 7];
            all[..10].iter().for_each(|(i, s)| votes[i % 7] += ((s - all[0].1) / 1e-6).exp());
            let best = (0..7).max_by(|a, b| votes[*a].total_cmp(&votes[*b])).unwrap();
            assert!(answers[1].is(best as u32));
            assert!((f64::from(answers[1].share) - votes[best] / votes.iter().sum::<f64>()).abs() < 1e-3);
        }
    }

    #[test]
    fn of_equals_the_first_sample_and_the_first_class_come_first_and_more_than_all_are_all() {
        let train = tensor(&[1., 0., 1., 0., 0., 1., 0., 0.], 2);
        let neighbours = Neighbours::new(&train, vec![2, 1, 0, 3], 4).unwrap();
        let answers = neighbours.vote(&tensor(&[2., 0.], 2), &[1, 2, 100], 0.07).unwrap().remove(0);
        assert_eq!(answers[0].classes, [2]);
        assert_eq!(answers[1].classes, [1, 2], "as many votes for both");
        assert_eq!(answers[2].classes, [1, 2, 0, 3], "all four, of which two are at a right angle");
        assert!(Neighbours::new(&train, vec![2, 1, 0, 4], 4).is_err());
        assert!(Neighbours::new(&train, vec![2, 1, 0], 4).is_err());
        assert!(neighbours.vote(&tensor(&[f32::NAN, 0.], 2), &[1], 0.07).is_err());
    }
}
