//! The branch's values.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::{Either, Kept, KeptValues, Middle, NormalRows, Parameters, ResidualBranch, Sizes, span};
use crate::attention;
use crate::layer_norm::{Rows, keep_normal_rows, normalise_rows};
use crate::matmul::{Matrix, Packed, Start, keeps_narrow};
use crate::memory::{Scratch, Shared, filled};
use crate::simd::vectorised;
use crate::value::Value;

/// Where normalised rows and their scales are written to.
pub(super) type Normal = (Shared<bf16>, Shared);

impl ResidualBranch {
    /// `x [batch, tokens, dim]` plus the branch of it, and what the backward needs. `packed` are its weights, where they were kept.
    pub fn forward(&self, x: &[f32], parameters: &Parameters, packed: Option<&[Packed; 2]>) -> (Vec<f32>, Kept) {
        self.assert_fits(Rows::Plain(x), parameters);
        if keeps_narrow() {
            let (y, kept) = self.forward_with(x, parameters, (packed, None));
            (y, Kept(Either::Narrow(kept)))
        } else {
            let (y, kept) = self.forward_with(x, parameters, (packed, None));
            (y, Kept(Either::Wide(kept)))
        }
    }

    /// The same where nobody needs `x` any more: gives beside it what the backward can be given in its place, if that is smaller.
    pub fn forward_last(&self, x: &[f32], parameters: &Parameters) -> (Vec<f32>, Kept, Option<NormalRows>) {
        if !keeps_narrow() {
            let (y, kept) = self.forward(x, parameters, None);
            return (y, kept, None);
        }
        self.assert_fits(Rows::Plain(x), parameters);
        let (y, kept, rows) = self.forward_keeping_rows(x, parameters);
        (y, Kept(Either::Narrow(kept)), Some(rows))
    }

    /// Keeps beside what the backward needs also the normalised rows.
    pub(super) fn forward_keeping_rows(
        &self,
        x: &[f32],
        parameters: &Parameters,
    ) -> (Vec<f32>, KeptValues<bf16>, NormalRows) {
        let (mut values, mut scales) = (Vec::with_capacity(x.len()), Vec::with_capacity(self.sizes.rows()));
        let normal = (
            Shared::new(&mut values.spare_capacity_mut()[..x.len()]),
            Shared::new(&mut scales.spare_capacity_mut()[..self.sizes.rows()]),
        );
        let (y, kept) = self.forward_with(x, parameters, (None, Some(normal)));
        // SAFETY: the forward has written as many values, those of all rows.
        unsafe {
            values.set_len(x.len());
            scales.set_len(self.sizes.rows());
        }
        (y, kept, NormalRows { values, scales })
    }

    pub(super) fn forward_with<V: Value>(
        &self,
        x: &[f32],
        parameters: &Parameters,
        (packed, normal): (Option<&[Packed; 2]>, Option<Normal>),
    ) -> (Vec<f32>, KeptValues<V>) {
        let Sizes { dim, inner, .. } = self.sizes;
        let packed = packed.filter(|packed| packed.iter().all(Packed::serves::<V>));
        let [first, second] = packed.map_or([None, None], |[first, second]| [Some(first), Some(second)]);
        let kept = self.first_half::<V>(Rows::Plain(x), parameters, (first, normal));
        let (weight, pack);
        let second = match second {
            Some(second) => second,
            None => {
                weight = self.second_with_gamma(parameters);
                pack = Packed::for_values::<V>(Matrix::new(&weight, dim, inner).t());
                &pack
            }
        };
        second.assert_size(inner, dim);
        let bias = self.second_bias_with_gamma(parameters);
        // All rows through one layer, then all through the next: what the two layers read in turn would not fit the second-level
        // cache beside what lies between them.
        // SAFETY: the chunks cover the output, and every row of a chunk is written.
        let y = unsafe {
            filled(x.len(), |y| {
                let y = Shared::new(y);
                let chunks = self.sizes.chunks();
                chunks.for_each_init(Scratch::take, |memory, rows| {
                    self.second_rows(x, &rows, &kept, (&bias, second), (memory, y));
                })
            })
        };
        (y, kept)
    }

    /// Norm, first layer (whose weight may be packed) and, where that is the middle, attention. Rows are written to `normal` as well.
    pub(super) fn first_half<V: Value>(
        &self,
        x: Rows,
        parameters: &Parameters,
        (first, normal): (Option<&Packed>, Option<Normal>),
    ) -> KeptValues<V> {
        let Sizes { dim, hidden, .. } = self.sizes;
        let (norm, (weight, bias)) = (parameters.norm, parameters.first);
        let packed;
        let first = match first {
            Some(first) => first,
            None => {
                packed = Packed::for_values::<V>(Matrix::new(weight, hidden, dim).t());
                &packed
            }
        };
        first.assert_size(dim, hidden);
        // SAFETY: the chunks cover the output, and a product covers its chunk.
        let hidden_values = unsafe {
            filled(self.sizes.rows() * hidden, |out| {
                let out = Shared::new(out);
                self.sizes.chunks().for_each_init(Scratch::take, |memory, rows| {
                    let normalised = memory.out::<V>(rows.len() * dim);
                    let own = x.part(&rows, dim);
                    if let (Some((values, scales)), Rows::Plain(x)) = (normal, own) {
                        let out = (values.part(rows.start * dim, x.len()), scales.part(rows.start, rows.len()));
                        keep_normal_rows(x, dim, self.eps, out);
                    }
                    let normalised = normalise_rows(own, norm.0, norm.1, self.eps, normalised);
                    let a = Matrix::new(&*normalised, rows.len(), dim);
                    first.multiply_at(out.at(rows.start * hidden), bias.map_or(Start::Zero, Start::Row), a);
                })
            })
        };
        let (mut attended, mut log_sums) = (vec![], vec![]);
        if let Middle::Attention(heads) = self.middle {
            let operands = attention::Operands::packed(&hidden_values, self.sizes.attention(heads));
            (attended, log_sums) = attention::forward(operands);
        }
        KeptValues { hidden: hidden_values, attended, log_sums }
    }

    /// Activation, second layer, LayerScale and residual of some rows.
    ///
    /// # Safety
    /// `y` must have places for all rows, those of these rows for this thread alone.
    unsafe fn second_rows<V: Value>(
        &self,
        x: &[f32],
        rows: &Range<usize>,
        kept: &KeptValues<V>,
        (bias, second): (&[f32], &Packed),
        (memory, y): (&mut Scratch, Shared),
    ) {
        let Sizes { dim, hidden, inner, .. } = self.sizes;
        // SAFETY: the caller's; every row is written before it is added to.
        unsafe {
            let y = y.part(rows.start * dim, rows.len() * dim);
            vectorised(
                #[inline(always)]
                || {
                    for (row, y) in rows.clone().zip(y.chunks_exact_mut(dim)) {
                        let factor = self.factor(row);
                        for ((y, &x), &bias) in y.iter_mut().zip(&x[row * dim..]).zip(bias) {
                            y.write(x + bias * factor);
                        }
                    }
                },
            );
            let y = y.as_mut_ptr().cast::<f32>();
            let mut scaled;
            let read = match self.middle {
                Middle::Attention(_) if self.keep.is_some() => {
                    scaled = kept.attended[span(rows, inner)].to_vec();
                    self.scale_by_keep(rows, inner, &mut scaled);
                    &*scaled
                }
                Middle::Attention(_) => &kept.attended[span(rows, inner)],
                Middle::Activation(activation) => {
                    let values = &kept.hidden[span(rows, hidden)];
                    let activated = activation.values(values, memory.out(values.len()));
                    if self.keep.is_some() {
                        self.scale_by_keep(rows, inner, activated);
                    }
                    &*activated
                }
            };
            second.multiply_at(y, Start::Out, Matrix::new(read, rows.len(), inner));
        }
    }
}
