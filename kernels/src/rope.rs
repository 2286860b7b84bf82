//! Rotary positions: pairs of values of a head turned by the angles of their patch's place, and the gradients.
//!
//! Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021; over two axes as in Heo et al., "Rotary
//! Position Embedding for Vision Transformer", 2024.

use std::ops::Range;

use rayon::prelude::*;

use crate::memory::{Out, copy, filled};
use crate::simd::vectorised;
use crate::tasks::rows_per_task;

/// What is turned: rows of heads behind one another, of which the first are turned and the others stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Images.
    pub batch: usize,
    /// Rows of an image: prefix tokens, then patches.
    pub tokens: usize,
    /// Patches of an image, which alone have a place.
    pub patches: usize,
    /// Heads of a row.
    pub heads: usize,
    /// How many of them are turned.
    pub turned: usize,
    /// Values of a head; an even number.
    pub head_dim: usize,
    /// Heads that have angles of their own; head `h` takes those of `h` modulo this number.
    pub tables: usize,
    /// Pairs are made of the head's two halves, and not of neighbours.
    pub half: bool,
}

impl Sizes {
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The values of a row of the tables.
    fn table(&self) -> usize {
        self.tables * self.head_dim / 2
    }

    fn check(&self, x: &[f32], tables: [&[f32]; 2]) {
        let Self { batch, tokens, patches, heads, turned, head_dim, tables: count, .. } = *self;
        assert!(patches <= tokens && turned <= heads && head_dim % 2 == 0 && count > 0, "sizes that do not fit");
        assert_eq!(x.len(), batch * tokens * self.width(), "rows that do not fit");
        assert!(tables.iter().all(|table| table.len() == patches * self.table()), "angles that do not fit");
    }

    /// The angles of a head within a row of the tables.
    fn angles(&self, head: usize) -> Range<usize> {
        let pairs = self.head_dim / 2;
        let first = head % self.tables * pairs;
        first..first + pairs
    }

    /// The patch that a row of the batch is, if it is one.
    fn patch(&self, row: usize) -> Option<usize> {
        (row % self.tokens.max(1)).checked_sub(self.tokens - self.patches)
    }
}

/// Turns the pairs of `x [batch, tokens, heads * head_dim]` by the angles whose cosines and sines these are,
/// `[patches, tables * head_dim / 2]`; `back` turns them the other way, which is the gradient.
pub fn turn(x: &[f32], [cos, sin]: [&[f32]; 2], sizes: Sizes, back: bool) -> Vec<f32> {
    sizes.check(x, [cos, sin]);
    let (width, table) = (sizes.width().max(1), sizes.table());
    let task = rows_per_task(x.len() / width, width);
    let sign = if back { -1. } else { 1. };
    // SAFETY: the tasks cover the output, and every value of every row is written.
    unsafe {
        filled(x.len(), |y| {
            y.par_chunks_mut(task * width).enumerate().for_each(|(i, y)| {
                vectorised(
                    #[inline(always)]
                    || {
                        for (row, y) in (i * task..).zip(y.chunks_exact_mut(width)) {
                            let x = &x[row * width..][..width];
                            let Some(patch) = sizes.patch(row) else {
                                copy(x, y);
                                continue;
                            };
                            let turned = sizes.turned * sizes.head_dim;
                            copy(&x[turned..], &mut y[turned..]);
                            let heads = x[..turned].chunks_exact(sizes.head_dim.max(1));
                            let heads = heads.zip(y[..turned].chunks_exact_mut(sizes.head_dim.max(1)));
                            for (head, (x, y)) in heads.enumerate() {
                                let angles = sizes.angles(head);
                                let [cos, sin] = [cos, sin].map(|values| &values[patch * table..][angles.clone()]);
                                turn_head(x, y, (cos, sin), sign, sizes.half);
                            }
                        }
                    },
                )
            })
        })
    }
}

#[inline(always)]
fn turn_head(x: &[f32], y: &mut Out, (cos, sin): (&[f32], &[f32]), sign: f32, half: bool) {
    if half {
        let (first, second) = x.split_at(x.len() / 2);
        let (to_first, to_second) = y.split_at_mut(x.len() / 2);
        let pairs = first.iter().zip(second).zip(to_first.iter_mut().zip(to_second));
        for (((&a, &b), (to_a, to_b)), (&cos, &sin)) in pairs.zip(cos.iter().zip(sin)) {
            let sin = sign * sin;
            to_a.write(a * cos - b * sin);
            to_b.write(b * cos + a * sin);
        }
    } else {
        for ((x, y), (&cos, &sin)) in x.chunks_exact(2).zip(y.chunks_exact_mut(2)).zip(cos.iter().zip(sin)) {
            let sin = sign * sin;
            y[0].write(x[0] * cos - x[1] * sin);
            y[1].write(x[1] * cos + x[0] * sin);
        }
    }
}

/// The gradients of cosines and sines, for the gradient `dy` of what `x` was turned to.
pub fn angle_gradients(x: &[f32], dy: &[f32], sizes: Sizes) -> [Vec<f32>; 2] {
    let (width, table) = (sizes.width(), sizes.table());
    assert!(x.len() == sizes.batch * sizes.tokens * width && dy.len() == x.len(), "rows that do not fit");
    let [mut dcos, mut dsin] = [(); 2].map(|()| vec![0f32; sizes.patches * table]);
    if dcos.is_empty() {
        return [dcos, dsin];
    }
    let prefix = sizes.tokens - sizes.patches;
    let patches = dcos.par_chunks_mut(table).zip(dsin.par_chunks_mut(table)).enumerate();
    patches.for_each(|(patch, (dcos, dsin))| {
        for image in 0..sizes.batch {
            let row = (image * sizes.tokens + prefix + patch) * width;
            for head in 0..sizes.turned {
                let at = row + head * sizes.head_dim;
                let (x, dy) = (&x[at..][..sizes.head_dim], &dy[at..][..sizes.head_dim]);
                let angles = sizes.angles(head);
                let sums = dcos[angles.clone()].iter_mut().zip(&mut dsin[angles]);
                for (pair, (dcos, dsin)) in sums.enumerate() {
                    let (a, b) = if sizes.half { (pair, pair + sizes.head_dim / 2) } else { (2 * pair, 2 * pair + 1) };
                    *dcos += dy[a] * x[a] + dy[b] * x[b];
                    *dsin += dy[b] * x[a] - dy[a] * x[b];
                }
            }
        }
    });
    [dcos, dsin]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    fn sizes(half: bool) -> Sizes {
        Sizes { batch: 2, tokens: 5, patches: 3, heads: 3, turned: 2, head_dim: 8, tables: 1, half }
    }

    #[test]
    fn prefix_tokens_and_heads_that_are_not_turned_stay_and_turning_back_gives_what_was_there() {
        for half in [false, true] {
            let sizes = sizes(half);
            let x = values(2 * 5 * 24, 1);
            let angles = values(3 * 4, 2);
            let (cos, sin): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| (a.cos(), a.sin())).unzip();
            let y = turn(&x, [&cos, &sin], sizes, false);
            for (row, (x, y)) in x.chunks_exact(24).zip(y.chunks_exact(24)).enumerate() {
                assert_eq!(x[16..], y[16..]);
                assert_eq!(x == y, row % 5 < 2, "row {row}");
            }
            let back = turn(&y, [&cos, &sin], sizes, true);
            assert!(back.iter().zip(&x).all(|(back, x)| (back - x).abs() < 1e-5));
        }
    }

    #[test]
    fn neighbours_or_halves_are_turned_together() {
        let one = |half| Sizes { batch: 1, tokens: 1, patches: 1, heads: 1, turned: 1, head_dim: 4, tables: 1, half };
        let quarter = [[0., 1.].as_slice(), &[1., 0.]];
        assert_eq!(turn(&[1., 2., 3., 4.], quarter, one(false), false), [-2., 1., 3., 4.]);
        assert_eq!(turn(&[1., 2., 3., 4.], quarter, one(true), false), [-3., 2., 1., 4.]);
    }
}
