//! A residual branch of a transformer's block in one: `x + keep · gamma · (second(middle(first(norm(x)))))`, where the middle is
//! attention or an activation.
//!
//! What lies between the parts is not kept where the backward can compute it again (the norm, the activation), and LayerScale goes
//! into the second layer's weights. Rows are worked on in chunks that stay in a core's cache from one step to the next.

mod backward;
mod forward;

use std::borrow::Cow;
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use crate::activation::Activation;
use crate::attention;
use crate::layer_norm::Rows;
use crate::matmul::{Matrix, Packed, rows_of_a_block};
use crate::tasks;
use crate::value::Value;

/// What lies between the two linear layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Middle {
    /// Self-attention of so many heads; the first layer gives q, k and v behind one another.
    Attention(usize),
    /// An activation.
    Activation(Activation),
}

/// How large everything is.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Images.
    pub batch: usize,
    /// Rows of an image.
    pub tokens: usize,
    /// Values of a row.
    pub dim: usize,
    /// What the first layer gives.
    pub hidden: usize,
    /// What the second layer reads.
    pub inner: usize,
}

impl Sizes {
    fn rows(&self) -> usize {
        self.batch * self.tokens
    }

    fn attention(&self, heads: usize) -> attention::Sizes {
        attention::Sizes { batch: self.batch, queries: self.tokens, keys: self.tokens, width: self.inner, heads }
    }

    /// Rows that one task takes: few enough for the cache, as many for every thread, in whole blocks of a matrix product.
    fn chunks(&self) -> impl IndexedParallelIterator<Item = Range<usize>> + use<> {
        const MOST: usize = 256;
        let (rows, block) = (self.rows(), rows_of_a_block());
        let blocks = rows.div_ceil(block);
        let chunks = rows.div_ceil(MOST).next_multiple_of(tasks::threads()).min(blocks);
        let start = move |chunk: usize| rows.min(chunk * blocks / chunks * block);
        (0..chunks).into_par_iter().with_max_len(1).map(move |chunk| start(chunk)..start(chunk + 1))
    }
}

/// The parameters of a branch.
#[derive(Debug, Clone, Copy)]
pub struct Parameters<'a> {
    /// Weight and bias `[dim]` of the norm.
    pub norm: (&'a [f32], &'a [f32]),
    /// Weight `[hidden, dim]` and bias of the first linear layer.
    pub first: (&'a [f32], Option<&'a [f32]>),
    /// Weight `[dim, inner]` and bias of the second linear layer.
    pub second: (&'a [f32], Option<&'a [f32]>),
    /// LayerScale, `[dim]`.
    pub gamma: Option<&'a [f32]>,
}

/// What the backward needs of the forward beside `x`: in bfloat16 where products read that, which is half of the memory.
#[derive(Debug)]
pub struct Kept(Either);

#[derive(Debug)]
enum Either {
    Wide(KeptValues<f32>),
    Narrow(KeptValues<bf16>),
}

#[derive(Debug)]
struct KeptValues<V> {
    /// What the first layer gave, `[rows, hidden]`.
    hidden: Vec<V>,
    /// What attention gave, `[rows, inner]`; nothing for an activation.
    attended: Vec<V>,
    /// See [`attention::forward`].
    log_sums: Vec<f32>,
}

/// The input's rows, normalised, in bfloat16, and what they were multiplied by: all that the backward needs of the input where it reads
/// bfloat16, in half of the memory.
#[derive(Debug)]
pub struct NormalRows {
    /// `[rows, dim]`.
    values: Vec<bf16>,
    /// One a row.
    scales: Vec<f32>,
}

/// A branch's input as the backward reads it.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// As the forward was given it.
    Values(&'a [f32]),
    /// What [`ResidualBranch::forward_last`] gave in its place.
    Normal(&'a NormalRows),
}

impl<'a> Input<'a> {
    fn rows(self) -> Rows<'a> {
        match self {
            Self::Values(x) => Rows::Plain(x),
            Self::Normal(rows) => Rows::Normal(&rows.values, &rows.scales),
        }
    }
}

/// Something for `x` and every parameter: whether its gradient is asked for, or the gradient.
#[derive(Debug, Clone, Copy, Default)]
pub struct Each<T> {
    /// The branch's input.
    pub x: T,
    /// The norm's weight.
    pub norm_weight: T,
    /// The norm's bias.
    pub norm_bias: T,
    /// The first layer's weight.
    pub first_weight: T,
    /// The first layer's bias.
    pub first_bias: T,
    /// The second layer's weight.
    pub second_weight: T,
    /// The second layer's bias.
    pub second_bias: T,
    /// LayerScale's factors.
    pub gamma: T,
}

/// A residual branch.
#[derive(Debug, Clone)]
pub struct ResidualBranch {
    eps: f32,
    middle: Middle,
    sizes: Sizes,
    /// A factor for every sample.
    keep: Option<Vec<f32>>,
}

impl ResidualBranch {
    /// Of a norm with `eps`, and a factor for every sample, if any.
    pub fn new(sizes: Sizes, eps: f32, middle: Middle, keep: Option<Vec<f32>>) -> Self {
        let expected = if let Middle::Attention(_) = middle { 3 * sizes.inner } else { sizes.inner };
        assert!(sizes.hidden == expected && sizes.hidden > 0 && sizes.dim > 0, "layers that do not fit each other");
        assert!(keep.as_ref().is_none_or(|keep| keep.len() == sizes.batch), "factors that do not fit");
        Self { eps, middle, sizes, keep }
    }

    fn assert_fits(&self, x: Rows, parameters: &Parameters) {
        let Sizes { dim, hidden, inner, .. } = self.sizes;
        let Parameters { norm, first, second, gamma } = parameters;
        assert_eq!(x.len(), self.sizes.rows() * dim, "rows that do not fit");
        let norm = norm.0.len() == dim && norm.1.len() == dim;
        let first = first.0.len() == hidden * dim && first.1.is_none_or(|bias| bias.len() == hidden);
        let second = second.0.len() == dim * inner && second.1.is_none_or(|bias| bias.len() == dim);
        assert!(norm && first && second && gamma.is_none_or(|gamma| gamma.len() == dim), "parameters that do not fit");
    }

    /// Both layers' weights, the second with LayerScale in it, packed to be kept; none where products read them as they are.
    pub fn pack(&self, parameters: &Parameters) -> Option<[Packed<'static>; 2]> {
        let Sizes { dim, hidden, inner, .. } = self.sizes;
        let second = self.second_with_gamma(parameters);
        let packed = |weight, rows, columns| Packed::to_keep(Matrix::new(weight, rows, columns).t());
        Some([packed(parameters.first.0, hidden, dim)?, packed(&second, dim, inner)?])
    }

    /// The factor of `keep` for a row.
    #[inline(always)]
    fn factor(&self, row: usize) -> f32 {
        self.keep.as_ref().map_or(1., |keep| keep[row / self.sizes.tokens])
    }

    fn scale_by_keep<V: Value>(&self, rows: &Range<usize>, width: usize, values: &mut [V]) {
        for (row, values) in rows.clone().zip(values.chunks_exact_mut(width)) {
            let factor = self.factor(row);
            values.iter_mut().for_each(|value| *value = V::of(value.wide() * factor));
        }
    }

    /// The second layer's bias with LayerScale in it; zeros if there is none.
    fn second_bias_with_gamma(&self, parameters: &Parameters) -> Vec<f32> {
        let mut bias = parameters.second.1.map_or_else(|| vec![0.; self.sizes.dim], <[f32]>::to_vec);
        bias.iter_mut().zip(parameters.gamma.into_iter().flatten()).for_each(|(bias, gamma)| *bias *= gamma);
        bias
    }

    /// The second layer's weight with LayerScale in it.
    fn second_with_gamma<'a>(&self, parameters: &Parameters<'a>) -> Cow<'a, [f32]> {
        let weight = parameters.second.0;
        let Some(gamma) = parameters.gamma else { return weight.into() };
        let mut weight = weight.to_vec();
        scale_rows(&mut weight, gamma, self.sizes.inner);
        weight.into()
    }
}

/// Multiplies every row of `width` values by its factor.
fn scale_rows(values: &mut [f32], factors: &[f32], width: usize) {
    values.par_chunks_exact_mut(width).zip(factors).with_min_len(64).for_each(|(row, &factor)| {
        row.iter_mut().for_each(|value| *value *= factor);
    });
}

/// Where rows of `width` values lie.
fn span(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matmul::{Start, product};
    use crate::random::values;
    use crate::residual::ScaleAdd;
    use crate::{layer_norm, simd};

    const MIDDLES: [Middle; 3] =
        [Middle::Attention(2), Middle::Activation(Activation::Gelu), Middle::Activation(Activation::QuickGelu)];

    struct Case {
        branch: ResidualBranch,
        x: Vec<f32>,
        /// In the order of [`Parameters`].
        parameters: [Vec<f32>; 7],
    }

    impl Case {
        fn new(middle: Middle, batch: usize, tokens: usize, dim: usize, inner: usize) -> Self {
            let hidden = if let Middle::Attention(_) = middle { 3 * inner } else { inner };
            let sizes = Sizes { batch, tokens, dim, hidden, inner };
            let keep = (0..batch).map(|i| i as f32).collect();
            let lengths = [dim, dim, hidden * dim, hidden, dim * inner, dim, dim];
            let mut seed = 1;
            let parameters = lengths.map(|len| {
                seed += 1;
                values(len, seed).into_iter().map(|x| x / 4.).collect()
            });
            let branch = ResidualBranch::new(sizes, 1e-6, middle, Some(keep));
            Self { branch, x: values(batch * tokens * dim, 1), parameters }
        }

        fn parameters(&self) -> Parameters<'_> {
            let [norm_w, norm_b, first_w, first_b, second_w, second_b, gamma] = &self.parameters;
            let (first, second) = ((&**first_w, Some(&**first_b)), (&**second_w, Some(&**second_b)));
            Parameters { norm: (norm_w, norm_b), first, second, gamma: Some(gamma) }
        }
    }

    #[test]
    fn it_is_its_parts_one_after_the_other() {
        for middle in MIDDLES {
            let case = Case::new(middle, 3, 37, 24, 16);
            let (Parameters { norm, first, second, gamma }, sizes) = (case.parameters(), case.branch.sizes);
            let (y, _) = case.branch.forward(&case.x, &case.parameters(), None);
            let linear = |x: &[f32], (w, b): (&[f32], Option<&[f32]>), width: usize, out: usize| {
                let x = Matrix::new(x, sizes.rows(), width);
                product(b.map_or(Start::Zero, Start::Row), x, Matrix::new(w, out, width).t())
            };
            let hidden = linear(&layer_norm::forward(&case.x, norm.0, norm.1, 1e-6), first, sizes.dim, sizes.hidden);
            let between = match middle {
                Middle::Attention(heads) => {
                    attention::forward(attention::Operands::packed(&hidden, sizes.attention(heads))).0
                }
                Middle::Activation(activation) => activation.forward(&hidden),
            };
            let out = linear(&between, second, sizes.inner, sizes.dim);
            let keep = ScaleAdd::new(case.branch.keep.clone().expect("factors"));
            let expected = keep.forward(Some(&case.x), &out, gamma, sizes.dim);
            assert!(y.iter().zip(&expected).all(|(y, e)| (y - e).abs() < 1e-4), "{middle:?}");
            if let Some(packed) = case.branch.pack(&case.parameters()) {
                let (again, _) = case.branch.forward(&case.x, &case.parameters(), Some(&packed));
                assert!(again.iter().zip(&y).all(|(a, y)| (a - y).abs() < 1e-4), "{middle:?}");
            }
        }
    }

    #[test]
    fn gradients_are_slopes_and_the_same_from_what_is_kept_as_computed_again() {
        for middle in MIDDLES {
            let mut case = Case::new(middle, 2, 5, 8, 8);
            let dy = values(case.x.len(), 9);
            let all = Each {
                x: true,
                norm_weight: true,
                norm_bias: true,
                first_weight: true,
                first_bias: true,
                second_weight: true,
                second_bias: true,
                gamma: true,
            };
            let list = |g: Each<Option<Vec<f32>>>| {
                let Each { x, norm_weight, norm_bias, first_weight, first_bias, second_weight, second_bias, gamma } = g;
                [norm_weight, norm_bias, first_weight, first_bias, second_weight, second_bias, gamma, x]
                    .map(|gradient| gradient.expect("asked for"))
            };
            let (_, kept) = case.branch.forward(&case.x, &case.parameters(), None);
            let gradients =
                list(case.branch.backward((Input::Values(&case.x), &dy), &case.parameters(), Some(kept), all));
            let again = list(case.branch.backward((Input::Values(&case.x), &dy), &case.parameters(), None, all));
            assert_eq!(gradients, again, "{middle:?}");
            let loss = |case: &Case| {
                let (y, _) = case.branch.forward(&case.x, &case.parameters(), None);
                y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum::<f64>()
            };
            for (i, gradient) in gradients.iter().enumerate() {
                // Along a random direction.
                let direction = values(gradient.len(), 20 + i as u64);
                let slope = f64::from(simd::sum2(gradient, &direction, |g, d| g * d));
                let moved = |case: &mut Case, by: f32| {
                    let values = case.parameters.get_mut(i).unwrap_or(&mut case.x);
                    values.iter_mut().zip(&direction).for_each(|(value, d)| *value += by * d);
                };
                const STEP: f32 = 1. / 512.;
                moved(&mut case, STEP);
                let above = loss(&case);
                moved(&mut case, -2. * STEP);
                let below = loss(&case);
                moved(&mut case, STEP);
                let expected = (above - below) / f64::from(2. * STEP);
                assert!(
                    (slope - expected).abs() < 2e-2 * expected.abs().max(1.),
                    "{middle:?}, {i}: {slope}, {expected}"
                );
            }
        }
    }

    /// Of the gradients and the output, by the sizes of float32's: bfloat16 has 8 digits.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_is_kept_in_bfloat16_gives_nearly_the_same() {
        if crate::matmul::matmul_kernel(crate::matmul::MatmulPrecision::BFloat16).is_none() {
            eprintln!("skipped: this CPU multiplies no bfloat16");
            return;
        }
        let sizes = [(3, 37, 24, 16), (2, 70, 64, 96), (2, 700, 40, 16)];
        for (middle, (batch, tokens, dim, inner)) in MIDDLES.into_iter().flat_map(|m| sizes.map(|s| (m, s))) {
            let case = Case::new(middle, batch, tokens, dim, inner);
            let dy = values(case.x.len(), 9);
            let [x, norm_weight, norm_bias, first_weight, first_bias, second_weight, second_bias, gamma] = [true; 8];
            let all = Each { x, norm_weight, norm_bias, first_weight, first_bias, second_weight, second_bias, gamma };
            let list = |y: Vec<f32>, g: Each<Option<Vec<f32>>>| {
                let Each { x, norm_weight, norm_bias, first_weight, first_bias, second_weight, second_bias, gamma } = g;
                let g = [norm_weight, norm_bias, first_weight, first_bias, second_weight, second_bias, gamma, x];
                std::iter::once(y).chain(g.map(|g| g.expect("asked for"))).collect::<Vec<_>>()
            };
            let parameters = case.parameters();
            let plain = (Rows::Plain(&case.x), &*dy);
            let (y, kept) = case.branch.forward_with::<f32>(&case.x, &parameters, (None, None));
            let wide = list(y, case.branch.backward_with(plain, &parameters, kept, all));
            let (y, kept) = case.branch.forward_with::<bf16>(&case.x, &parameters, (None, None));
            let narrow = list(y, case.branch.backward_with(plain, &parameters, kept, all));
            let (y, kept, rows) = case.branch.forward_keeping_rows(&case.x, &parameters);
            assert_eq!(y, narrow[0], "{middle:?}");
            let normal = (Input::Normal(&rows).rows(), &*dy);
            let of_normal = list(y, case.branch.backward_with(normal, &parameters, kept, all));
            let again = case.branch.first_half::<bf16>(normal.0, &parameters, (None, None));
            let again = list(of_normal[0].clone(), case.branch.backward_with(normal, &parameters, again, all));
            for (i, wide) in wide.iter().enumerate() {
                let size = simd::sum(wide, |w| w * w).sqrt();
                let error = |other: &[f32]| simd::sum2(wide, other, |w, n| (w - n) * (w - n)).sqrt() / size;
                for narrow in [&narrow[i], &of_normal[i], &again[i]].map(|narrow| error(narrow)) {
                    assert!(narrow < 0.02 && (i > 0 || narrow > 0.), "{middle:?}, {batch} x {tokens}, {i}: {narrow}");
                }
            }
        }
    }
}
