//! The branch's values.

use rayon::prelude::*;

use super::{Either, Kept, KeptValues, Middle, Parameters, ResidualBranch, Sizes, span};
use crate::attention;
use crate::layer_norm::normalise_rows;
use crate::matmul::{Matrix, Packed, Start, keeps_narrow};
use crate::memory::{Scratch, Shared, filled};
use crate::simd::vectorised;
use crate::value::Value;

impl ResidualBranch {
    /// `x [batch, tokens, dim]` plus the branch of it, and what the backward needs. `packed` are its weights, where they were kept.
    pub fn forward(&self, x: &[f32], parameters: &Parameters, packed: Option<&[Packed; 2]>) -> (Vec<f32>, Kept) {
        self.assert_fits(x, parameters);
        if keeps_narrow() {
            let (y, kept) = self.forward_with(x, parameters, packed);
            (y, Kept(Either::Narrow(kept)))
        } else {
            let (y, kept) = self.forward_with(x, parameters, packed);
            (y, Kept(Either::Wide(kept)))
        }
    }

    pub(super) fn forward_with<V: Value>(
        &self,
        x: &[f32],
        parameters: &Parameters,
        packed: Option<&[Packed; 2]>,
    ) -> (Vec<f32>, KeptValues<V>) {
        let packed = packed.filter(|packed| packed.iter().all(Packed::serves::<V>));
        let [first, second] = packed.map_or([None, None], |[first, second]| [Some(first), Some(second)]);
        let kept = self.first_half(x, parameters, first);
        (self.second_half(x, &kept, parameters, second), kept)
    }

    /// Norm, first layer (whose weight may be packed) and, where that is the middle, attention.
    pub(super) fn first_half<V: Value>(
        &self,
        x: &[f32],
        parameters: &Parameters,
        first: Option<&Packed>,
    ) -> KeptValues<V> {
        let Sizes { dim, hidden, .. } = self.sizes;
        let (norm, (first_w, first_b)) = (parameters.norm, parameters.first);
        let packed;
        let first = match first {
            Some(first) => first,
            None => {
                packed = Packed::for_values::<V>(Matrix::new(first_w, hidden, dim).t());
                &packed
            }
        };
        first.assert_size(dim, hidden);
        // SAFETY: the chunks cover the output, and a product covers its chunk; the norm writes values.
        let hidden_values = unsafe {
            filled(self.sizes.rows() * hidden, |out| {
                let out = Shared::new(out);
                self.sizes.chunks().for_each_init(Scratch::take, |memory, rows| {
                    let normalised = memory.out(rows.len() * dim);
                    let normalised = normalise_rows(&x[span(&rows, dim)], norm.0, norm.1, self.eps, normalised);
                    let a = Matrix::new(normalised, rows.len(), dim);
                    first.multiply_at(out.at(rows.start * hidden), first_b.map_or(Start::Zero, Start::Row), a);
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

    /// Activation, second layer (whose weight may be packed), LayerScale and residual.
    fn second_half<V: Value>(
        &self,
        x: &[f32],
        kept: &KeptValues<V>,
        parameters: &Parameters,
        second: Option<&Packed>,
    ) -> Vec<f32> {
        let Sizes { dim, hidden, inner, .. } = self.sizes;
        let bias = self.second_bias_with_gamma(parameters);
        let (weight, packed);
        let second = match second {
            Some(second) => second,
            None => {
                weight = self.second_with_gamma(parameters);
                packed = Packed::for_values::<V>(Matrix::new(&weight, dim, inner).t());
                &packed
            }
        };
        second.assert_size(inner, dim);
        // SAFETY: the chunks cover the output, every row of which is written before it is added to; the activation writes values.
        unsafe {
            filled(x.len(), |out| {
                let out = Shared::new(out);
                self.sizes.chunks().for_each_init(Scratch::take, |memory, rows| {
                    let y = out.part(rows.start * dim, rows.len() * dim);
                    vectorised(
                        #[inline(always)]
                        || {
                            for (row, y) in rows.clone().zip(y.chunks_exact_mut(dim)) {
                                let factor = self.factor(row);
                                for ((y, &x), &bias) in y.iter_mut().zip(&x[row * dim..]).zip(&*bias) {
                                    y.write(x + bias * factor);
                                }
                            }
                        },
                    );
                    let y = y.as_mut_ptr().cast::<f32>();
                    match self.middle {
                        Middle::Attention(_) => {
                            let attended = &kept.attended[span(&rows, inner)];
                            if self.keep.is_some() {
                                let mut scaled = attended.to_vec();
                                self.scale_by_keep(&rows, inner, &mut scaled);
                                second.multiply_at(y, Start::Out, Matrix::new(&scaled, rows.len(), inner));
                            } else {
                                second.multiply_at(y, Start::Out, Matrix::new(attended, rows.len(), inner));
                            }
                        }
                        Middle::Activation(activation) => {
                            let activated = memory.out(rows.len() * hidden);
                            let activated = activation.values(&kept.hidden[span(&rows, hidden)], activated);
                            if self.keep.is_some() {
                                self.scale_by_keep(&rows, inner, activated);
                            }
                            second.multiply_at(y, Start::Out, Matrix::new(activated, rows.len(), inner));
                        }
                    }
                })
            })
        }
    }
}
