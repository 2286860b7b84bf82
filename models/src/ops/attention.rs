//! Scaled dot-product attention of several heads: `softmax(q kᵀ / sqrt(d)) v`.
//!
//! Vaswani et al., "Attention Is All You Need", 2017. The kernel never holds all scores: one thread works on one head of one
//! image, on as many queries at a time as fit its cache. The backward computes the probabilities again from the logarithm
//! of every row's sum, as in Dao et al., "FlashAttention", 2022.

use std::ops::Range;

use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;

use super::kernel::{Shared, filled, serves, tensor};
use super::matmul::{Matrix, Start, Threads, multiply_at};
use super::simd::{exp, max, sum, sum2, vectorised};
use super::softmax;
use crate::autograd::Function;
use crate::slices::CpuValues;

/// Attention of `q [batch, queries, heads * d]` to `k` and `v [batch, keys, heads * d]`, scaled by `d^-1/2`; gives
/// `[batch, queries, heads * d]`.
///
/// # Errors
/// If the shapes do not fit each other, or `num_heads` does not divide their width.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, num_heads: usize) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let (_, keys, _) = k.dims3()?;
    if k.dims() != [batch, keys, width] || v.dims() != k.dims() || queries == 0 || keys == 0 {
        bail!(
            "attention: expected q [batch, queries, width], k and v [batch, keys, width], got {:?}, {:?}, {:?}",
            q.dims(),
            k.dims(),
            v.dims()
        )
    }
    check_heads(width, num_heads)?;
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::attention(q, k, v, num_heads, composed)? {
        return Ok(y);
    }
    if serves(&[q, k, v]) { fused(q, k, v, num_heads) } else { composed(q, k, v, num_heads) }
}

/// Self-attention over a packed projection: `qkv [batch, tokens, 3 * heads * d]`, whose rows hold q, k and v one after the
/// other, gives `[batch, tokens, heads * d]`.
///
/// # Errors
/// If the width is not a multiple of `3 * num_heads`.
pub fn attention_qkv(qkv: &Tensor, num_heads: usize) -> Result<Tensor> {
    let (_, tokens, packed) = qkv.dims3()?;
    if packed % 3 != 0 || tokens == 0 {
        bail!("attention_qkv: expected [batch, tokens, 3 * heads * d], got {:?}", qkv.dims())
    }
    let width = packed / 3;
    check_heads(width, num_heads)?;
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::attention_qkv(qkv, num_heads, composed)? {
        return Ok(y);
    }
    if serves(&[qkv]) {
        return fused_qkv(qkv, num_heads);
    }
    let part = |i| qkv.narrow(D::Minus1, i * width, width);
    composed(&part(0)?, &part(1)?, &part(2)?, num_heads)
}

pub(super) fn check_heads(width: usize, num_heads: usize) -> Result<()> {
    if num_heads == 0 || width == 0 || !width.is_multiple_of(num_heads) {
        bail!("attention: expected a number of heads that divides the width {width}, got {num_heads}")
    }
    Ok(())
}

fn composed(q: &Tensor, k: &Tensor, v: &Tensor, num_heads: usize) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let head_dim = width / num_heads;
    let heads = |x: &Tensor| x.reshape((batch, (), num_heads, head_dim))?.transpose(1, 2)?.contiguous();
    let scores = (heads(q)?.matmul(&heads(k)?.t()?)? * (head_dim as f64).powf(-0.5))?;
    let out = softmax::composed(&scores)?.matmul(&heads(v)?)?;
    out.transpose(1, 2)?.reshape((batch, queries, width))
}

/// q, k, v in tensors of their own.
fn fused(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let [q, k, v] = [q.contiguous()?, k.contiguous()?, v.contiguous()?];
    let (batch, queries, width) = q.dims3()?;
    let sizes = Sizes { batch, queries, keys: k.dim(1)?, width, heads };
    let (y, log_sums) = {
        let (q, k, v) = (CpuValues::of(&q)?, CpuValues::of(&k)?, CpuValues::of(&v)?);
        Attention::forward(Operands { q: &q, k: &k, v: &v, row_stride: width }, sizes)
    };
    Function::new("attention", [&q, &k, &v]).output(y, q.shape()).backward(move |call| {
        let (q, k, v) =
            (CpuValues::of(&call.operands[0])?, CpuValues::of(&call.operands[1])?, CpuValues::of(&call.operands[2])?);
        let (y, dy) = (CpuValues::of(call.output)?, CpuValues::of(call.gradient)?);
        let operands = Operands { q: &q, k: &k, v: &v, row_stride: width };
        let gradients = Attention::separate_backward(operands, sizes, &log_sums, &y, &dy);
        let gradients = gradients.into_iter().zip(call.operands);
        gradients.map(|(gradient, operand)| tensor(gradient, operand.dims()).map(Some)).collect()
    })
}

/// q, k, v behind one another in every row of one tensor.
fn fused_qkv(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let qkv = qkv.contiguous()?;
    let (batch, tokens, packed) = qkv.dims3()?;
    let width = packed / 3;
    let sizes = Sizes { batch, queries: tokens, keys: tokens, width, heads };
    let (y, log_sums) = Attention::forward(split(&CpuValues::of(&qkv)?, &sizes), sizes);
    Function::new("attention_qkv", [&qkv]).output(y, (batch, tokens, width)).backward(move |call| {
        let (qkv, y, dy) =
            (CpuValues::of(&call.operands[0])?, CpuValues::of(call.output)?, CpuValues::of(call.gradient)?);
        let gradient = Attention::packed_backward(&qkv, sizes, &log_sums, &y, &dy);
        Ok(vec![Some(tensor(gradient, call.operands[0].dims())?)])
    })
}

/// q, k and v of `[batch, tokens, 3 * width]`.
pub(super) fn split<'a>(qkv: &'a [f32], sizes: &Sizes) -> Operands<'a> {
    let part = |i: usize| qkv.get(i * sizes.width..).unwrap_or_default();
    Operands { q: part(0), k: part(1), v: part(2), row_stride: 3 * sizes.width }
}

#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub batch: usize,
    pub queries: usize,
    pub keys: usize,
    /// Of all heads together.
    pub width: usize,
    pub heads: usize,
}

impl Sizes {
    fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    fn scale(&self) -> f32 {
        (self.head_dim() as f32).powf(-0.5)
    }

    /// Rows of scores start a whole number of vectors apart; what is between the last key and the next row stays out of
    /// everything.
    fn score_stride(&self) -> usize {
        self.keys.next_multiple_of(16)
    }

    /// Queries at a time: the scores, and in the backward their gradient, fit the second-level cache.
    fn block(&self) -> usize {
        const SCORES: usize = 1 << 16;
        (SCORES / self.score_stride()).clamp(16, 512).min(self.queries.max(1))
    }

    /// Every head of every image.
    fn units(&self) -> impl IndexedParallelIterator<Item = (usize, usize)> {
        let heads = self.heads;
        (0..self.batch * heads).into_par_iter().map(move |i| (i / heads, i % heads))
    }
}

/// q, k and v, each with its rows `row_stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    row_stride: usize,
}

pub(super) struct Attention;

impl Attention {
    /// The output, and `log Σ exp(scores)` of every row, `[batch, heads, queries]`, which the backward starts from.
    pub fn forward(operands: Operands, sizes: Sizes) -> (Vec<f32>, Vec<f32>) {
        let Sizes { batch, queries, keys, width, heads } = sizes;
        let (head_dim, stride, scale) = (sizes.head_dim(), sizes.score_stride(), sizes.scale());
        let row_stride = operands.row_stride;
        let mut log_sums = vec![0f32; batch * heads * queries];
        let head = |y: Shared, scores: &mut Vec<f32>, b: usize, h: usize, log_sums: &mut [f32]| {
            let columns = h * head_dim..(h + 1) * head_dim;
            let k = block(operands.k, row_stride, b * keys..(b + 1) * keys, columns.clone());
            let v = block(operands.v, row_stride, b * keys..(b + 1) * keys, columns.clone());
            scores.resize(sizes.block() * stride, 0.);
            for (i, log_sums) in log_sums.chunks_mut(sizes.block()).enumerate() {
                let first = b * queries + i * sizes.block();
                let rows = first..first + log_sums.len();
                let q = block(operands.q, row_stride, rows.clone(), columns.clone());
                // SAFETY: the scores are this thread's, and they have room for a block.
                unsafe { multiply_at(scores.as_mut_ptr(), stride, Start::Zero, q, k.t(), scale, Threads::One) };
                vectorised(
                    #[inline(always)]
                    || {
                        for (row, log_sum) in scores.chunks_exact_mut(stride).zip(log_sums) {
                            *log_sum = softmax_row(row, keys);
                        }
                    },
                );
                let p = Matrix::strided(scores, rows.len(), keys, stride);
                // SAFETY: only this call writes these columns of these rows.
                unsafe { multiply_at(y.at(first * width + columns.start), width, Start::Zero, p, v, 1., Threads::One) };
            }
        };
        // SAFETY: every head of every image writes its columns of all its rows.
        let y = unsafe {
            filled(batch * queries * width, |y| {
                let y = Shared::new(y);
                let units = sizes.units().zip(log_sums.par_chunks_mut(queries));
                units.for_each_init(Vec::new, |scores, ((b, h), log_sums)| head(y, scores, b, h, log_sums));
            })
        };
        (y, log_sums)
    }

    /// The gradients of q, k and v.
    fn separate_backward(operands: Operands, sizes: Sizes, log_sums: &[f32], y: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let (mut dk, mut dv) = (vec![], vec![]);
        // SAFETY: `backward` writes all three gradients.
        let dq = unsafe {
            filled(operands.q.len(), |dq| {
                dk = filled(operands.k.len(), |dk| {
                    dv = filled(operands.v.len(), |dv| {
                        let out = [Shared::new(dq), Shared::new(dk), Shared::new(dv)];
                        Self::backward(operands, sizes, log_sums, y, dy, out)
                    })
                })
            })
        };
        [dq, dk, dv]
    }

    /// The gradient of q, k and v behind one another in every row.
    pub fn packed_backward(qkv: &[f32], sizes: Sizes, log_sums: &[f32], y: &[f32], dy: &[f32]) -> Vec<f32> {
        // SAFETY: `backward` writes the three parts of every row.
        unsafe {
            filled(qkv.len(), |out| {
                if !out.is_empty() {
                    let parts = [0, 1, 2].map(|i| Shared::new(&mut out[i * sizes.width..]));
                    Self::backward(split(qkv, &sizes), sizes, log_sums, y, dy, parts);
                }
            })
        }
    }

    /// The gradients of q, k and v, written where `out` points, with rows as far apart as the operands'.
    fn backward(operands: Operands, sizes: Sizes, log_sums: &[f32], y: &[f32], dy: &[f32], out: [Shared; 3]) {
        assert_eq!(log_sums.len(), sizes.batch * sizes.heads * sizes.queries, "the forward has run");
        let Sizes { queries, keys, width, .. } = sizes;
        let (head_dim, stride, scale) = (sizes.head_dim(), sizes.score_stride(), sizes.scale());
        let row_stride = operands.row_stride;
        let head = |(p, dp): &mut (Vec<f32>, Vec<f32>), b: usize, h: usize, log_sums: &[f32]| {
            let columns = h * head_dim..(h + 1) * head_dim;
            let k = block(operands.k, row_stride, b * keys..(b + 1) * keys, columns.clone());
            let v = block(operands.v, row_stride, b * keys..(b + 1) * keys, columns.clone());
            p.resize(sizes.block() * stride, 0.);
            dp.resize(sizes.block() * stride, 0.);
            for (i, log_sums) in log_sums.chunks(sizes.block()).enumerate() {
                let first = b * queries + i * sizes.block();
                let rows = first..first + log_sums.len();
                let q = block(operands.q, row_stride, rows.clone(), columns.clone());
                let dy_block = block(dy, width, rows.clone(), columns.clone());
                // SAFETY: the scratch is this thread's, and it has room for a block.
                unsafe {
                    multiply_at(p.as_mut_ptr(), stride, Start::Zero, q, k.t(), scale, Threads::One);
                    multiply_at(dp.as_mut_ptr(), stride, Start::Zero, dy_block, v.t(), 1., Threads::One);
                }
                vectorised(
                    #[inline(always)]
                    || {
                        let scratch = p.chunks_exact_mut(stride).zip(dp.chunks_exact_mut(stride));
                        for ((row, &log_sum), (p, dp)) in rows.clone().zip(log_sums).zip(scratch) {
                            let at = row * width + columns.start;
                            let along = sum2(&y[at..][..head_dim], &dy[at..][..head_dim], |y, dy| y * dy);
                            for (p, dp) in p.iter_mut().zip(dp) {
                                *p = exp(*p - log_sum);
                                *dp = *p * (*dp - along) * scale;
                            }
                        }
                    },
                );
                let p = Matrix::strided(p, rows.len(), keys, stride);
                let ds = Matrix::strided(dp, rows.len(), keys, stride);
                let [dq, dk, dv] = out;
                let so_far = if i > 0 { Start::Out } else { Start::Zero };
                let keys_at = b * keys * row_stride + columns.start;
                // SAFETY: only this call writes these columns of these rows; the first block writes what later ones add to.
                unsafe {
                    let dq = dq.at(first * row_stride + columns.start);
                    multiply_at(dq, row_stride, Start::Zero, ds, k, 1., Threads::One);
                    multiply_at(dk.at(keys_at), row_stride, so_far, ds.t(), q, 1., Threads::One);
                    multiply_at(dv.at(keys_at), row_stride, so_far, p.t(), dy_block, 1., Threads::One);
                }
            }
        };
        let units = sizes.units().zip(log_sums.par_chunks(queries));
        units.for_each_init(Default::default, |scratch, ((b, h), log_sums)| head(scratch, b, h, log_sums));
    }
}

/// The `columns` of one head in `rows` rows, `row_stride` apart.
fn block(x: &[f32], row_stride: usize, rows: Range<usize>, columns: Range<usize>) -> Matrix<'_> {
    Matrix::strided(&x[rows.start * row_stride + columns.start..], rows.len(), columns.len(), row_stride)
}

/// Turns the first `keys` scores of a row into probabilities; gives the logarithm of the sum of their exponentials.
#[inline(always)]
fn softmax_row(row: &mut [f32], keys: usize) -> f32 {
    row[keys..].fill(f32::NEG_INFINITY);
    let max = max(row);
    for x in row.iter_mut() {
        *x = exp(*x - max);
    }
    let total = sum(row, |x| x);
    let scale = 1. / total;
    for x in row {
        *x *= scale;
    }
    max + total.ln()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::check::check;
    use super::*;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for (batch, queries, keys, heads, head_dim) in
            [(1, 1, 1, 1, 1), (2, 3, 5, 2, 16), (1, 17, 17, 3, 24), (2, 1, 9, 2, 32), (1, 197, 40, 1, 64)]
        {
            let width = heads * head_dim;
            let [q, kv] = [[batch, queries, width], [batch, keys, width]];
            check("attention", &[&q, &kv, &kv], |t| attention(&t[0], &t[1], &t[2], heads))?;
        }
        Ok(())
    }

    #[test]
    fn packed_kernel_agrees_with_the_composition() -> Result<()> {
        for (batch, tokens, heads, head_dim) in [(1, 1, 1, 8), (2, 17, 3, 24), (1, 33, 2, 64), (2, 5, 4, 16)] {
            check("attention_qkv", &[&[batch, tokens, 3 * heads * head_dim]], |t| attention_qkv(&t[0], heads))?;
        }
        Ok(())
    }

    #[test]
    fn more_queries_than_fit_a_block_give_the_same_result() -> Result<()> {
        let sizes = Sizes { batch: 1, queries: 700, keys: 700, width: 8, heads: 1 };
        assert!(sizes.block() < sizes.queries, "the test is to cover several blocks");
        check("attention_qkv", &[&[1, 700, 24]], |t| attention_qkv(&t[0], 1))
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        assert!(attention_qkv(&zeros(&[1, 4, 20])?, 2).is_err());
        assert!(attention_qkv(&zeros(&[1, 4, 24])?, 3).is_err());
        assert!(attention_qkv(&zeros(&[1, 4, 24])?, 0).is_err());
        let (q, k) = (zeros(&[1, 4, 8])?, zeros(&[1, 5, 6])?);
        assert!(attention(&q, &k, &k, 2).is_err());
        assert_eq!(attention_qkv(&zeros(&[0, 4, 24])?, 2)?.dims(), [0, 4, 8]);
        Ok(())
    }
}
