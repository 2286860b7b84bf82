//! The branch's gradients.

use half::bf16;
use rayon::prelude::*;

use super::{Each, Either, Input, Kept, KeptValues, Middle, Parameters, ResidualBranch, Sizes, scale_rows, span};
use crate::attention;
use crate::column_sums::{add_up, column_sums};
use crate::layer_norm::{Rows, backward_rows, normalise_rows};
use crate::matmul::{Matrix, Packed, Start, keeps_narrow, product_of_rows};
use crate::memory::{Scratch, Shared, as_out, filled, written};
use crate::simd::{sum2, vectorised};
use crate::value::Value;

impl Each<bool> {
    /// Whether something below the second layer is asked for.
    fn below(self) -> bool {
        self.first_weight || self.first_bias || self.through_norm()
    }

    /// Whether something below the first layer is asked for.
    fn through_norm(self) -> bool {
        self.x || self.norm_weight || self.norm_bias
    }
}

impl ResidualBranch {
    /// The gradients that are wanted, for that of the output. `kept` is what the forward gave; it is computed again if it is gone.
    pub fn backward(
        &self,
        (x, dy): (Input, &[f32]),
        parameters: &Parameters,
        kept: Option<Kept>,
        wanted: Each<bool>,
    ) -> Each<Option<Vec<f32>>> {
        let x = x.rows();
        self.assert_fits(x, parameters);
        assert_eq!(x.len(), dy.len(), "a gradient that does not fit");
        match kept {
            Some(Kept(Either::Wide(kept))) => self.backward_with((x, dy), parameters, kept, wanted),
            Some(Kept(Either::Narrow(kept))) => self.backward_with((x, dy), parameters, kept, wanted),
            None if keeps_narrow() => {
                let kept = self.first_half::<bf16>(x, parameters, (None, None));
                self.backward_with((x, dy), parameters, kept, wanted)
            }
            None => {
                let kept = self.first_half::<f32>(x, parameters, (None, None));
                self.backward_with((x, dy), parameters, kept, wanted)
            }
        }
    }

    pub(super) fn backward_with<V: Value>(
        &self,
        (x, dy): (Rows, &[f32]),
        parameters: &Parameters,
        kept: KeptValues<V>,
        wanted: Each<bool>,
    ) -> Each<Option<Vec<f32>>> {
        let Sizes { dim, .. } = self.sizes;
        let with_keep = self.keep.is_some().then(|| {
            let mut scaled = dy.to_vec();
            self.scale_by_keep(&(0..self.sizes.rows()), dim, &mut scaled);
            scaled
        });
        let dy_kept = with_keep.as_deref().unwrap_or(dy);
        let (middle, dhidden) = self.through_second(kept, dy_kept, parameters, wanted.below());
        let mut gradients = Each::default();
        if wanted.second_weight || wanted.second_bias || wanted.gamma {
            self.second_gradients(middle, dy_kept, parameters, wanted, &mut gradients);
        } else {
            drop(middle);
        }
        if wanted.below() {
            self.first_gradients((x, dy), &dhidden, parameters, wanted, &mut gradients);
        }
        gradients
    }

    /// What the second layer read, and if something below is asked for the gradient of what the first layer gave.
    fn through_second<V: Value>(
        &self,
        kept: KeptValues<V>,
        dy_kept: &[f32],
        parameters: &Parameters,
        below: bool,
    ) -> (Vec<V>, Vec<V>) {
        let Sizes { dim, hidden, inner, .. } = self.sizes;
        let rows = self.sizes.rows();
        let KeptValues { hidden: mut hidden_values, attended, log_sums } = kept;
        assert_eq!(hidden_values.len(), rows * hidden, "what another forward kept");
        // The activation takes the place of what it was computed from.
        let mut dhidden = vec![];
        if below {
            let weight = self.second_with_gamma(parameters);
            let second = Packed::for_values::<V>(Matrix::new(&weight, dim, inner));
            // SAFETY: the chunks cover the output, and a product covers its chunk; only values are written in place of values.
            dhidden = unsafe {
                let into = Shared::new(as_out(&mut hidden_values));
                filled(rows * inner, |out| {
                    let out = Shared::new(out);
                    self.sizes.chunks().for_each_init(Scratch::take, |memory, rows| {
                        let a = Matrix::new(&dy_kept[span(&rows, dim)], rows.len(), dim);
                        let (start, count) = (rows.start * inner, rows.len() * inner);
                        match self.middle {
                            Middle::Attention(_) => second.multiply_at(out.at(start), Start::Zero, a),
                            Middle::Activation(activation) => {
                                let gradient = memory.out(count);
                                second.multiply_at(gradient.as_mut_ptr().cast::<f32>(), Start::Zero, a);
                                let (x, dx) = (written(into.part(start, count)), out.part(start, count));
                                activation.backward_in_place(x, written(gradient), dx);
                            }
                        }
                    })
                })
            };
        } else if let Middle::Activation(activation) = self.middle {
            hidden_values.par_chunks_mut(32 * hidden).for_each(|values| activation.replace(values));
        }
        match self.middle {
            Middle::Attention(heads) => {
                if below {
                    let sizes = self.sizes.attention(heads);
                    dhidden = attention::packed_backward(&hidden_values, sizes, &log_sums, (&attended, &dhidden));
                }
                (attended, dhidden)
            }
            Middle::Activation(_) => (hidden_values, dhidden),
        }
    }

    /// Those of the second layer and LayerScale. `middle` is what the layer read.
    fn second_gradients<V: Value>(
        &self,
        middle: Vec<V>,
        dy_kept: &[f32],
        parameters: &Parameters,
        wanted: Each<bool>,
        gradients: &mut Each<Option<Vec<f32>>>,
    ) {
        let Sizes { dim, inner, .. } = self.sizes;
        let (weight, bias) = parameters.second;
        let mut sums = column_sums(dy_kept, dim);
        let needs_product = wanted.second_weight || wanted.gamma;
        let product = needs_product.then(|| product_of_rows((dy_kept, dim), (&middle, inner)));
        drop(middle);
        if wanted.gamma
            && let Some(product) = &product
        {
            let along = |i: usize| {
                let own = i * inner..(i + 1) * inner;
                let along = sum2(&weight[own.clone()], &product[own], |w, p| w * p);
                along + bias.map_or(0., |bias| bias[i] * sums[i])
            };
            gradients.gamma = Some(vectorised(
                #[inline(always)]
                || (0..dim).map(along).collect(),
            ));
        }
        if let Some(mut product) = product.filter(|_| wanted.second_weight) {
            parameters.gamma.into_iter().for_each(|gamma| scale_rows(&mut product, gamma, inner));
            gradients.second_weight = Some(product);
        }
        if wanted.second_bias {
            parameters.gamma.into_iter().for_each(|gamma| scale_rows(&mut sums, gamma, 1));
            gradients.second_bias = Some(sums);
        }
    }

    /// Those of `x`, the norm and the first layer, for that of what the layer gave.
    fn first_gradients<V: Value>(
        &self,
        (x, dy): (Rows, &[f32]),
        dhidden: &[V],
        parameters: &Parameters,
        wanted: Each<bool>,
        gradients: &mut Each<Option<Vec<f32>>>,
    ) {
        let Sizes { dim, hidden, .. } = self.sizes;
        let (norm_weight, norm_bias) = parameters.norm;
        let first =
            wanted.through_norm().then(|| Packed::for_values::<V>(Matrix::new(parameters.first.0, hidden, dim)));
        let mut normalised: Vec<V> = vec![];
        let mut dx = vec![];
        let mut parts = vec![];
        // SAFETY: the chunks cover both outputs, and write every value of theirs.
        unsafe {
            let mut fill = |normalised: Option<Shared<V>>, dx: Option<Shared>| {
                let chunks = self.sizes.chunks().map_init(Scratch::take, |memory, rows| {
                    let (own, count) = (span(&rows, dim), rows.len() * dim);
                    if let Some(normalised) = normalised {
                        let out = normalised.part(own.start, count);
                        normalise_rows(x.part(&rows, dim), norm_weight, norm_bias, self.eps, out);
                    }
                    let dhidden = &dhidden[span(&rows, hidden)];
                    let mut sums = vec![0f32; 2 * dim + hidden];
                    let (norm_sums, bias_sums) = sums.split_at_mut(2 * dim);
                    if wanted.first_bias {
                        add_rows(dhidden, bias_sums);
                    }
                    if let (Some(first), Some(dx)) = (&first, dx) {
                        let dnormalised = memory.out(count);
                        let a = Matrix::new(dhidden, rows.len(), hidden);
                        first.multiply_at(dnormalised.as_mut_ptr().cast::<f32>(), Start::Zero, a);
                        let operands = (x.part(&rows, dim), &*written(dnormalised), &dy[own.clone()]);
                        backward_rows(dx.part(own.start, count), operands, norm_weight, norm_sums, self.eps);
                    }
                    sums
                });
                parts = chunks.collect();
            };
            let mut with_dx = |normalised: Option<Shared<V>>| {
                if wanted.through_norm() {
                    dx = filled(x.len(), |dx| fill(normalised, Some(Shared::new(dx))));
                } else {
                    fill(normalised, None);
                }
            };
            if wanted.first_weight {
                normalised = filled(x.len(), |normalised| with_dx(Some(Shared::new(normalised))));
            } else {
                with_dx(None);
            }
        }
        let sums = add_up(parts, 2 * dim + hidden);
        let part = |wanted: bool, range: std::ops::Range<usize>| wanted.then(|| sums[range].to_vec());
        gradients.norm_weight = part(wanted.norm_weight, 0..dim);
        gradients.norm_bias = part(wanted.norm_bias, dim..2 * dim);
        gradients.first_bias = part(wanted.first_bias, 2 * dim..2 * dim + hidden);
        gradients.first_weight = wanted.first_weight.then(|| product_of_rows((dhidden, hidden), (&normalised, dim)));
        gradients.x = wanted.x.then_some(dx);
    }
}

/// Adds every row to `sums`.
fn add_rows<V: Value>(rows: &[V], sums: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for row in rows.chunks_exact(sums.len()) {
                sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value.wide());
            }
        },
    );
}
