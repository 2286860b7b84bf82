//! A residual branch of a transformer's block as one op: `x + keep · gamma · (second(middle(first(norm(x)))))`, where the
//! middle is attention or an activation.
//!
//! One op instead of six saves what lies between them: Candle's sum for every gradient, results that the backward can
//! compute again from others (the norm, the activation), and LayerScale, which goes into the second layer's weights.
//! Rows are worked on in chunks that stay in a core's cache from one step to the next.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

use super::attention::{self, Attention};
use super::column_sums::add_up;
use super::gelu::Gelu;
use super::kernel::{Shared, filled, serves, tensor};
use super::layer_norm::{backward_rows, normalise_rows};
use super::linear::linear;
use super::matmul::{Matrix, Packed, Start, Threads, multiply};
use super::simd::vectorised;
use super::{attention_qkv, layer_norm, scale_add};
use crate::autograd::{Call, Function};
use crate::slices::CpuValues;

/// What lies between the two linear layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Middle {
    /// Self-attention of so many heads; the first layer gives q, k and v behind one another.
    Attention(usize),
    /// An activation.
    Activation(Gelu),
}

/// What a branch computes of its normalised input.
#[derive(Debug, Clone, Copy)]
pub struct Inner<'a> {
    /// Weight `[hidden, dim]` and bias of the first linear layer.
    pub first: (&'a Tensor, Option<&'a Tensor>),
    /// What lies between the layers.
    pub middle: Middle,
    /// Weight `[dim, hidden]` (`[dim, hidden / 3]` after attention) and bias of the second linear layer.
    pub second: (&'a Tensor, Option<&'a Tensor>),
}

/// A branch's weights as matrix products read them, kept from one forward pass to the next. They are laid out by the second
/// pass, so that one pass alone needs no memory for it, and must not change from then on. Clones share one layout.
#[derive(Clone, Default)]
pub struct Prepacked(Arc<Mutex<Packing>>);

#[derive(Default)]
enum Packing {
    #[default]
    New,
    /// There was a pass.
    Used,
    /// Both weights, the second with LayerScale in it; none where they are read as they are.
    Packed(Option<[Packed<'static>; 2]>),
}

impl std::fmt::Debug for Prepacked {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Prepacked").finish_non_exhaustive()
    }
}

impl Prepacked {
    /// What is kept, or what `pack` lays out by the second pass.
    fn get(&self, pack: impl FnOnce() -> Option<[Packed<'static>; 2]>) -> Option<[Packed<'static>; 2]> {
        let mut packing = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*packing {
            Packing::New => *packing = Packing::Used,
            Packing::Used => *packing = Packing::Packed(pack()),
            Packing::Packed(_) => (),
        }
        match &*packing {
            Packing::Packed(Some(packed)) if packed.iter().all(Packed::is_current) => Some(packed.clone()),
            _ => None,
        }
    }
}

/// A residual branch.
#[derive(Debug, Clone, Copy)]
pub struct Branch<'a> {
    /// Weight and bias `[dim]` of the layer norm.
    pub norm: (&'a Tensor, &'a Tensor),
    /// Added to its variance.
    pub eps: f64,
    /// What is computed of that.
    pub inner: Inner<'a>,
    /// LayerScale, `[dim]`.
    pub gamma: Option<&'a Tensor>,
    /// A factor for every sample, `[batch]`, as in [`scale_add`]; it has no gradient.
    pub keep: Option<&'a Tensor>,
    /// Where the layout of the weights is kept between passes that record no history, on a CPU.
    pub prepacked: Option<&'a Prepacked>,
}

/// Adds a residual branch to `x [batch, tokens, dim]`.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn branch(x: &Tensor, branch: &Branch) -> Result<Tensor> {
    let parameters = branch.parameters();
    let (batch, tokens, dim) = x.dims3()?;
    let hidden = branch.inner.first.0.dim(0)?;
    let inner = if let Middle::Attention(_) = branch.inner.middle { hidden / 3 } else { hidden };
    let given = parameters.iter().flatten().copied();
    if !serves(&given.chain([x]).collect::<Vec<_>>()) || batch * tokens == 0 {
        return composed(x, branch);
    }
    let expected: [&[usize]; PARAMETERS] = [&[dim], &[dim], &[hidden, dim], &[hidden], &[dim, inner], &[dim], &[dim]];
    for ((name, parameter), expected) in NAMES.iter().zip(&parameters).zip(expected) {
        if let Some(parameter) = parameter.filter(|parameter| parameter.dims() != expected) {
            bail!("branch: expected {name} {expected:?} for x {:?}, got {:?}", x.dims(), parameter.dims())
        }
    }
    if let Middle::Attention(heads) = branch.inner.middle {
        attention::check_heads(inner, heads)?;
        if hidden != 3 * inner {
            bail!("branch: expected a first layer of 3 * heads * d rows before attention, got {hidden}")
        }
    }
    let keep = match branch.keep {
        Some(keep) if keep.dims() != [batch] => {
            bail!("branch: expected keep [{batch}] for x {:?}, got {:?}", x.dims(), keep.dims())
        }
        Some(keep) => Some(keep.to_dtype(x.dtype())?.to_vec1()?),
        None => None,
    };
    let sizes = Sizes { batch, tokens, dim, hidden, inner };
    let fused = Fused { eps: branch.eps as f32, middle: branch.inner.middle, sizes, keep };
    fused.apply(x, &parameters, branch.prepacked)
}

/// Of the other ops; on CUDA as one op.
fn composed(x: &Tensor, branch: &Branch) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        let operands: Vec<_> = [x].into_iter().chain(branch.parameters().into_iter().flatten()).collect();
        if let Some(y) = crate::autograd::segment("branch", &operands, || chained(x, branch))? {
            return Ok(y);
        }
    }
    chained(x, branch)
}

fn chained(x: &Tensor, branch: &Branch) -> Result<Tensor> {
    let y = layer_norm(x, branch.norm.0, branch.norm.1, branch.eps)?;
    let y = match branch.inner.middle {
        Middle::Attention(heads) => attention_qkv(&linear(&y, branch.inner.first.0, branch.inner.first.1)?, heads)?,
        Middle::Activation(gelu) => activated(&y, branch.inner.first, gelu)?,
    };
    scale_add(x, &linear(&y, branch.inner.second.0, branch.inner.second.1)?, branch.gamma, branch.keep)
}

/// A linear layer and an activation; on CUDA the activation's kernel adds the bias.
fn activated(x: &Tensor, (w, b): (&Tensor, Option<&Tensor>), gelu: Gelu) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let (true, Some(b)) = (x.device().is_cuda(), b) {
        let y = linear(x, w, None)?;
        return match super::cuda::bias_gelu(&y, Some(b), gelu)? {
            Some(y) => Ok(y),
            None => gelu.apply(&y.broadcast_add(&b.to_dtype(y.dtype())?)?),
        };
    }
    gelu.apply(&linear(x, w, b)?)
}

const PARAMETERS: usize = 7;
const NAMES: [&str; PARAMETERS] =
    ["norm.weight", "norm.bias", "first.weight", "first.bias", "second.weight", "second.bias", "gamma"];

impl<'a> Branch<'a> {
    /// In the order of [`NAMES`].
    fn parameters(&self) -> [Option<&'a Tensor>; PARAMETERS] {
        let ((norm_w, norm_b), (first_w, first_b), (second_w, second_b)) =
            (self.norm, self.inner.first, self.inner.second);
        [Some(norm_w), Some(norm_b), Some(first_w), first_b, Some(second_w), second_b, self.gamma]
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    tokens: usize,
    dim: usize,
    /// What the first layer gives.
    hidden: usize,
    /// What the second layer reads.
    inner: usize,
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
        const BLOCK: usize = 32;
        const MOST: usize = 8;
        let rows = self.rows();
        let blocks = rows.div_ceil(BLOCK);
        let chunks = blocks.div_ceil(MOST).next_multiple_of(rayon::current_num_threads()).min(blocks);
        let start = move |chunk: usize| rows.min(chunk * blocks / chunks * BLOCK);
        (0..chunks).into_par_iter().with_max_len(1).map(move |chunk| start(chunk)..start(chunk + 1))
    }
}

/// What the backward needs of the forward beside `x`.
struct Kept {
    /// What the first layer gave, `[rows, hidden]`.
    hidden: Vec<f32>,
    /// What attention gave, `[rows, inner]`; nothing for an activation.
    attended: Vec<f32>,
    /// See [`Attention::forward`].
    log_sums: Vec<f32>,
}

struct Fused {
    eps: f32,
    middle: Middle,
    sizes: Sizes,
    /// See [`Branch::keep`].
    keep: Option<Vec<f32>>,
}

/// The values of the parameters, in the order of [`NAMES`].
type Values<'a> = [Option<&'a [f32]>; PARAMETERS];

impl Fused {
    fn apply(
        self,
        x: &Tensor,
        parameters: &[Option<&Tensor>; PARAMETERS],
        prepacked: Option<&Prepacked>,
    ) -> Result<Tensor> {
        let x = x.contiguous()?;
        let mut operands = vec![x.clone()];
        // Which operand is which parameter.
        let mut places = [None; PARAMETERS];
        for (parameter, place) in parameters.iter().zip(&mut places) {
            if let Some(parameter) = parameter {
                *place = Some(operands.len());
                operands.push(parameter.contiguous()?);
            }
        }
        let function = Function::new("branch", &operands);
        let prepacked = prepacked.filter(|_| !function.is_tracked());
        let (y, kept) = {
            let values = operands.iter().map(CpuValues::of).collect::<Result<Vec<_>>>()?;
            self.forward(&values[0], &places.map(|place| place.map(|place| &*values[place])), prepacked)
        };
        function.output(y, x.shape()).backward_once(kept, move |call, kept| self.gradients(call, &places, kept))
    }

    fn forward(&self, x: &[f32], parameters: &Values, prepacked: Option<&Prepacked>) -> (Vec<f32>, Kept) {
        let packed = prepacked.and_then(|prepacked| prepacked.get(|| self.pack(parameters)));
        let [first, second] = packed.map_or([None, None], |packed| packed.map(Some));
        let kept = self.first_half(x, parameters, first);
        (self.second_half(x, &kept, parameters, second), kept)
    }

    /// Both layers' weights, to be kept.
    fn pack(&self, parameters: &Values) -> Option<[Packed<'static>; 2]> {
        let Sizes { dim, hidden, inner, .. } = self.sizes;
        let [_, _, Some(first), ..] = *parameters else { unreachable!("always given") };
        let second = self.second_with_gamma(parameters);
        let kept = |weight, rows, columns| Packed::to_keep(Matrix::new(weight, rows, columns).t());
        Some([kept(first, hidden, dim)?, kept(&second, dim, inner)?])
    }

    /// Norm, first layer (whose weight may be packed) and, where that is the middle, attention.
    fn first_half(&self, x: &[f32], parameters: &Values, first: Option<Packed>) -> Kept {
        let Sizes { dim, hidden, .. } = self.sizes;
        let [Some(norm_w), Some(norm_b), Some(first_w), first_b, ..] = *parameters else {
            unreachable!("always given")
        };
        let first = first.unwrap_or_else(|| Packed::new(Matrix::new(first_w, hidden, dim).t()));
        // SAFETY: the chunks cover the output, and a product covers its chunk.
        let hidden_values = unsafe {
            filled(self.sizes.rows() * hidden, |out| {
                let out = Shared::new(out);
                self.sizes.chunks().for_each_init(Vec::new, |scratch, rows| {
                    let normalised = grown(scratch, rows.len() * dim);
                    normalise_rows(&x[span(&rows, dim)], norm_w, norm_b, self.eps, normalised);
                    let a = Matrix::new(normalised, rows.len(), dim);
                    let to = out.at(rows.start * hidden);
                    first.multiply_at(to, first_b.map_or(Start::Zero, Start::Row), a);
                })
            })
        };
        let (mut attended, mut log_sums) = (vec![], vec![]);
        if let Middle::Attention(heads) = self.middle {
            let sizes = self.sizes.attention(heads);
            (attended, log_sums) = Attention::forward(attention::split(&hidden_values, &sizes), sizes);
        }
        Kept { hidden: hidden_values, attended, log_sums }
    }

    /// Activation, second layer (whose weight may be packed), LayerScale and residual.
    fn second_half(&self, x: &[f32], kept: &Kept, parameters: &Values, second: Option<Packed>) -> Vec<f32> {
        let Sizes { dim, hidden, inner, .. } = self.sizes;
        let bias = self.second_bias_with_gamma(parameters);
        let weight;
        let second = match second {
            Some(second) => second,
            None => {
                weight = self.second_with_gamma(parameters);
                Packed::new(Matrix::new(&weight, dim, inner).t())
            }
        };
        // SAFETY: the chunks cover the output, every row of which is written before it is added to.
        unsafe {
            filled(x.len(), |out| {
                let out = Shared::new(out);
                self.sizes.chunks().for_each_init(Vec::new, |scratch, rows| {
                    let mut middle = match self.middle {
                        Middle::Attention(_) => &kept.attended[span(&rows, inner)],
                        Middle::Activation(gelu) => {
                            let activated = grown(scratch, rows.len() * hidden);
                            gelu.values(&kept.hidden[span(&rows, hidden)], activated);
                            activated
                        }
                    };
                    let y = std::slice::from_raw_parts_mut(out.at(rows.start * dim), rows.len() * dim);
                    let mut scaled = vec![];
                    if self.keep.is_some() {
                        scaled = middle.to_vec();
                        self.scale_by_keep(&rows, inner, &mut scaled);
                        middle = &scaled;
                    }
                    vectorised(
                        #[inline(always)]
                        || {
                            for (row, y) in rows.clone().zip(y.chunks_exact_mut(dim)) {
                                let factor = self.factor(row);
                                for ((y, &x), &bias) in y.iter_mut().zip(&x[row * dim..]).zip(&*bias) {
                                    *y = x + bias * factor;
                                }
                            }
                        },
                    );
                    second.multiply_at(y.as_mut_ptr(), Start::Out, Matrix::new(middle, rows.len(), inner));
                    drop(scaled);
                })
            })
        }
    }

    /// The factor of `keep` for a row.
    fn factor(&self, row: usize) -> f32 {
        self.keep.as_ref().map_or(1., |keep| keep[row / self.sizes.tokens])
    }

    fn scale_by_keep(&self, rows: &Range<usize>, width: usize, values: &mut [f32]) {
        for (row, values) in rows.clone().zip(values.chunks_exact_mut(width)) {
            let factor = self.factor(row);
            values.iter_mut().for_each(|value| *value *= factor);
        }
    }

    /// The second layer's bias with LayerScale in it; zeros if there is none.
    fn second_bias_with_gamma(&self, parameters: &Values) -> Vec<f32> {
        let [.., bias, gamma] = *parameters;
        let mut bias = bias.map_or_else(|| vec![0.; self.sizes.dim], <[f32]>::to_vec);
        bias.iter_mut().zip(gamma.into_iter().flatten()).for_each(|(bias, gamma)| *bias *= gamma);
        bias
    }

    /// The second layer's weight with LayerScale in it.
    fn second_with_gamma<'a>(&self, parameters: &Values<'a>) -> std::borrow::Cow<'a, [f32]> {
        let inner = self.sizes.inner;
        let [.., Some(weight), _, gamma] = *parameters else { unreachable!("always given") };
        let Some(gamma) = gamma else { return weight.into() };
        let mut weight = weight.to_vec();
        weight.par_chunks_exact_mut(inner).zip(gamma).with_min_len(64).for_each(|(row, &gamma)| {
            row.iter_mut().for_each(|weight| *weight *= gamma);
        });
        weight.into()
    }

    /// The gradients of the operands: `x`, and the parameters, whose `places` among the operands are given.
    fn gradients(
        &self,
        call: &Call,
        places: &[Option<usize>; PARAMETERS],
        kept: Option<Kept>,
    ) -> Result<Vec<Option<Tensor>>> {
        let values = call.operands.iter().map(CpuValues::of).collect::<Result<Vec<_>>>()?;
        let parameters = places.map(|place| place.map(|place| &*values[place]));
        let tracked = places.map(|place| place.is_some_and(|place| call.wants(place)));
        let dy = CpuValues::of(call.gradient)?;
        let kept = kept.unwrap_or_else(|| self.first_half(&values[0], &parameters, None));
        let (dx, found) = self.backward((&values[0], &dy), &parameters, kept, (call.wants(0), tracked));
        let mut gradients = vec![dx.map(|dx| tensor(dx, call.operands[0].dims())).transpose()?];
        for (place, gradient) in places.iter().zip(found) {
            if let Some(place) = *place {
                gradients.push(gradient.map(|gradient| tensor(gradient, call.operands[place].dims())).transpose()?);
            }
        }
        Ok(gradients)
    }

    fn backward(
        &self,
        (x, dy): (&[f32], &[f32]),
        parameters: &Values,
        kept: Kept,
        (track_x, tracked): (bool, [bool; PARAMETERS]),
    ) -> (Option<Vec<f32>>, [Option<Vec<f32>>; PARAMETERS]) {
        let Sizes { dim, hidden, inner, .. } = self.sizes;
        let rows = self.sizes.rows();
        let Kept { hidden: mut hidden_values, attended, log_sums } = kept;
        let [norm_w, norm_b, first_w, first_b, second_w, second_b, gamma] = tracked;
        let mut gradients = [const { None }; PARAMETERS];
        let below = track_x || norm_w || norm_b || first_w || first_b;
        let with_keep = self.keep.is_some().then(|| {
            let mut scaled = dy.to_vec();
            self.scale_by_keep(&(0..rows), dim, &mut scaled);
            scaled
        });
        let dy_kept = with_keep.as_deref().unwrap_or(dy);

        // The gradient of what the first layer gave. The activation takes the place of what it was computed from.
        let mut dhidden = vec![];
        if below {
            let weight = self.second_with_gamma(parameters);
            let second = Packed::new(Matrix::new(&weight, dim, inner));
            let into = Shared::new(uninitialised(&mut hidden_values));
            // SAFETY: the chunks cover the output, and a product covers its chunk.
            dhidden = unsafe {
                filled(rows * inner, |out| {
                    let out = Shared::new(out);
                    self.sizes.chunks().for_each(|rows| {
                        let to = out.at(rows.start * inner);
                        second.multiply_at(to, Start::Zero, Matrix::new(&dy_kept[span(&rows, dim)], rows.len(), dim));
                        if let Middle::Activation(gelu) = self.middle {
                            let count = rows.len() * hidden;
                            let gradient = std::slice::from_raw_parts_mut(to, count);
                            gelu.backward(
                                std::slice::from_raw_parts_mut(into.at(rows.start * hidden), count),
                                gradient,
                            );
                        }
                    })
                })
            };
        } else if let Middle::Activation(gelu) = self.middle {
            hidden_values.par_chunks_mut(32 * hidden).for_each(|values| gelu.replace(values));
        }
        let middle = match self.middle {
            Middle::Attention(heads) => {
                if below {
                    let sizes = self.sizes.attention(heads);
                    dhidden = Attention::packed_backward(&hidden_values, sizes, &log_sums, &attended, &dhidden);
                }
                drop(hidden_values);
                attended
            }
            Middle::Activation(_) => hidden_values,
        };

        if second_w || second_b || gamma {
            let [.., Some(weight), bias, scale] = *parameters else { unreachable!("always given") };
            let sums = super::column_sums::column_sums(dy_kept, dim);
            let product = (second_w || gamma).then(|| product_of_rows(dy_kept, dim, &middle, inner));
            drop(middle);
            if gamma && let Some(product) = &product {
                let along = |i: usize| {
                    let own = i * inner..(i + 1) * inner;
                    let along = super::simd::sum2(&weight[own.clone()], &product[own], |w, p| w * p);
                    along + bias.map_or(0., |bias| bias[i] * sums[i])
                };
                let dgamma = vectorised(
                    #[inline(always)]
                    || (0..dim).map(along).collect::<Vec<f32>>(),
                );
                gradients[6] = Some(dgamma);
            }
            let scaled = |mut gradient: Vec<f32>, width: usize| {
                if let Some(scale) = scale {
                    gradient.par_chunks_exact_mut(width).zip(scale).with_min_len(64).for_each(|(row, &scale)| {
                        row.iter_mut().for_each(|value| *value *= scale);
                    });
                }
                gradient
            };
            if let Some(product) = product.filter(|_| second_w) {
                gradients[4] = Some(scaled(product, inner));
            }
            if second_b {
                gradients[5] = Some(scaled(sums, 1));
            }
        } else {
            drop(middle);
        }
        if !below {
            return (None, gradients);
        }

        let [Some(norm_weight), Some(norm_bias), Some(first_weight), ..] = *parameters else {
            unreachable!("always given")
        };
        let through_norm = track_x || norm_w || norm_b;
        let first = through_norm.then(|| Packed::new(Matrix::new(first_weight, hidden, dim)));
        let mut normalised = vec![];
        let mut dx = vec![];
        let mut parts = vec![];
        // SAFETY: the chunks cover both outputs, and write every value of theirs.
        unsafe {
            let mut fill_normalised = |normalised: Option<Shared>, dx: Option<Shared>| {
                parts = self
                    .sizes
                    .chunks()
                    .map_init(Vec::new, |scratch, rows| {
                        let (own, count) = (span(&rows, dim), rows.len() * dim);
                        if let Some(normalised) = normalised {
                            let to = std::slice::from_raw_parts_mut(normalised.at(own.start), count);
                            normalise_rows(&x[own.clone()], norm_weight, norm_bias, self.eps, to);
                        }
                        let dhidden = &dhidden[span(&rows, hidden)];
                        let mut sums = vec![0f32; 2 * dim + hidden];
                        let (norm_sums, bias_sums) = sums.split_at_mut(2 * dim);
                        if first_b {
                            vectorised(
                                #[inline(always)]
                                || {
                                    for row in dhidden.chunks_exact(hidden) {
                                        bias_sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value);
                                    }
                                },
                            );
                        }
                        if let (Some(first), Some(dx)) = (&first, dx) {
                            let dnormalised = grown(scratch, count);
                            let a = Matrix::new(dhidden, rows.len(), hidden);
                            first.multiply_at(dnormalised.as_mut_ptr(), Start::Zero, a);
                            let to = std::slice::from_raw_parts_mut(dx.at(own.start).cast(), count);
                            let operands = (&x[own.clone()], &*dnormalised, &dy[own]);
                            backward_rows(to, operands, norm_weight, norm_sums, self.eps);
                        }
                        sums
                    })
                    .collect();
            };
            let mut with_dx = |normalised: Option<Shared>| {
                if through_norm {
                    dx = filled(x.len(), |dx| fill_normalised(normalised, Some(Shared::new(dx))));
                } else {
                    fill_normalised(normalised, None);
                }
            };
            if first_w {
                normalised = filled(x.len(), |normalised| with_dx(Some(Shared::new(normalised))));
            } else {
                with_dx(None);
            }
        }
        let sums = add_up(parts, 2 * dim + hidden);
        for (index, range) in [(0, 0..dim), (1, dim..2 * dim), (3, 2 * dim..2 * dim + hidden)] {
            if tracked[index] {
                gradients[index] = Some(sums[range].to_vec());
            }
        }
        if first_w {
            gradients[2] = Some(product_of_rows(&dhidden, hidden, &normalised, dim));
        }
        (track_x.then_some(dx), gradients)
    }
}

/// `aᵀ b` for two matrices of as many rows.
fn product_of_rows(a: &[f32], a_width: usize, b: &[f32], b_width: usize) -> Vec<f32> {
    let rows = a.len() / a_width;
    let (a, b) = (Matrix::new(a, rows, a_width).t(), Matrix::new(b, rows, b_width));
    // SAFETY: the product covers the output.
    unsafe { filled(a_width * b_width, |out| multiply(out, Start::Zero, a, b, Threads::All)) }
}

/// Where rows of `width` values lie.
fn span(rows: &Range<usize>, width: usize) -> Range<usize> {
    rows.start * width..rows.end * width
}

/// The first `len` values of scratch memory, which grows if it has to.
fn grown(scratch: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if scratch.len() < len {
        scratch.resize(len, 0.);
    }
    &mut scratch[..len]
}

/// Values that will be written again, as an output.
fn uninitialised(values: &mut [f32]) -> &mut super::kernel::Out {
    // SAFETY: the two types have one layout, and nothing uninitialised is written through it here.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut super::kernel::Out) }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::check::check;
    use super::*;

    const SIZES: [(usize, usize, usize, usize); 3] = [(1, 1, 4, 6), (2, 5, 8, 24), (3, 17, 32, 48)];

    fn run(t: &[Tensor], middle: Middle, keep: Option<&Tensor>) -> Result<Tensor> {
        // Weights of a size at which softmax does not settle on one token, which float32 could not follow.
        let first = (&t[3] * 0.25)?;
        let inner = Inner { first: (&first, Some(&t[4])), middle, second: (&t[5], Some(&t[6])) };
        let parts = Branch { norm: (&t[1], &t[2]), eps: 1e-6, inner, gamma: t.get(7), keep, prepacked: None };
        branch(&t[0], &parts)
    }

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        let keep = Tensor::new(&[0f32, 1.25, 1.25], &Device::Cpu)?;
        for (batch, tokens, dim, hidden) in SIZES {
            let keep = &keep.narrow(0, 3 - batch, batch)?;
            for (middle, hidden, inner) in [
                (Middle::Attention(2), 3 * hidden, hidden),
                (Middle::Activation(Gelu::Erf), hidden, hidden),
                (Middle::Activation(Gelu::Tanh), hidden, hidden),
                (Middle::Activation(Gelu::Quick), hidden, hidden),
            ] {
                let shapes: [&[usize]; 8] =
                    [&[batch, tokens, dim], &[dim], &[dim], &[hidden, dim], &[hidden], &[dim, inner], &[dim], &[dim]];
                check("branch with gamma and keep", &shapes, |t| run(t, middle, Some(keep)))?;
                check("branch", &shapes[..7], |t| run(t, middle, None))?;
            }
        }
        Ok(())
    }

    #[test]
    fn layers_without_a_bias_agree_with_the_composition() -> Result<()> {
        let shapes: [&[usize]; 5] = [&[2, 5, 8], &[8], &[8], &[12, 8], &[8, 12]];
        check("branch without biases", &shapes, |t| {
            let parts = Branch {
                norm: (&t[1], &t[2]),
                eps: 1e-6,
                inner: Inner { first: (&t[3], None), middle: Middle::Activation(Gelu::Erf), second: (&t[4], None) },
                gamma: None,
                keep: None,
                prepacked: None,
            };
            branch(&t[0], &parts)
        })
    }

    #[test]
    fn a_second_backward_gives_the_same() -> Result<()> {
        let x = candle_core::Var::from_tensor(&super::super::check::values(&[2, 5, 8], 0)?)?;
        let parameters: Vec<Tensor> = [&[8usize][..], &[8], &[12, 8], &[12], &[8, 12], &[8]]
            .iter()
            .enumerate()
            .map(|(i, dims)| super::super::check::values(dims, i as u64))
            .collect::<Result<_>>()?;
        let t: Vec<Tensor> = [x.as_tensor().clone()].into_iter().chain(parameters).collect();
        let y = run(&t, Middle::Activation(Gelu::Erf), None)?.sum_all()?;
        let [first, second] = [y.backward()?, y.backward()?].map(|store| store.get(&x).expect("a gradient").clone());
        assert_eq!(super::super::check::distance(&second, &first)?, 0.);
        Ok(())
    }

    #[test]
    fn prepacked_weights_give_the_same_values_and_leave_training_alone() -> Result<()> {
        let shapes: [&[usize]; 8] = [&[2, 37, 48], &[48], &[48], &[144, 48], &[144], &[48, 48], &[48], &[48]];
        let t: Vec<Tensor> = shapes
            .iter()
            .zip(0..)
            .map(|(dims, seed)| super::super::check::values(dims, seed))
            .collect::<Result<_>>()?;
        let prepacked = Prepacked::default();
        let run = |x: &Tensor, first: &Tensor, prepacked: Option<&Prepacked>| {
            let inner =
                Inner { first: (first, Some(&t[4])), middle: Middle::Attention(3), second: (&t[5], Some(&t[6])) };
            branch(x, &Branch { norm: (&t[1], &t[2]), eps: 1e-6, inner, gamma: Some(&t[7]), keep: None, prepacked })
        };
        let plain = run(&t[0], &t[3], None)?;
        for _ in 0..3 {
            assert_eq!(super::super::check::distance(&run(&t[0], &t[3], Some(&prepacked))?, &plain)?, 0.);
        }
        // What was kept is of no use to other weights; a pass that records history does not read it.
        let other = candle_core::Var::from_tensor(&(&t[3] * 0.5)?)?;
        let expected = run(&t[0], &other.as_detached_tensor(), None)?;
        assert_eq!(super::super::check::distance(&run(&t[0], &other, Some(&prepacked))?, &expected)?, 0.);
        assert!(super::super::check::distance(&expected, &plain)? > 1e-3);
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        let mut t = vec![zeros(&[2, 5, 8])?, zeros(&[8])?, zeros(&[8])?, zeros(&[12, 8])?, zeros(&[12])?];
        t.extend([zeros(&[8, 11])?, zeros(&[8])?]);
        let message = run(&t, Middle::Activation(Gelu::Erf), None).unwrap_err().to_string();
        assert!(message.contains("second.weight") && message.contains("[8, 12]"), "{message}");
        t[5] = zeros(&[8, 4])?;
        assert!(run(&t, Middle::Attention(3), None).is_err());
        assert!(run(&t, Middle::Attention(2), Some(&zeros(&[3])?)).is_err());
        assert!(run(&t, Middle::Attention(2), Some(&zeros(&[2])?)).is_ok());
        Ok(())
    }
}
