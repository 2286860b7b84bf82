//! Scaled dot-product attention of several heads: `softmax(q kᵀ / sqrt(d)) v`.
//!
//! Vaswani et al., "Attention Is All You Need", 2017. No more scores are held than fit the cache: one thread works on one head of
//! one image, on as many queries at a time. The backward computes the probabilities again from the logarithm
//! of every row's sum, as in Dao et al., "FlashAttention", 2022.

use std::ops::Range;

use rayon::prelude::*;

use crate::matmul::{Matrix, Output, Start, Threads, multiply_to};
use crate::memory::{Scratch, Shared, filled};
use crate::simd::{exp, sum2, vectorised};
use crate::softmax::softmax_row;
use crate::value::Value;

/// How much attends to what.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Images.
    pub batch: usize,
    /// Rows of an image that attend.
    pub queries: usize,
    /// Rows of an image that are attended to.
    pub keys: usize,
    /// Values of a row, of all heads together.
    pub width: usize,
    /// Heads.
    pub heads: usize,
}

impl Sizes {
    /// Of the output.
    fn len(&self) -> usize {
        self.batch * self.queries * self.width
    }

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
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a, V = f32> {
    q: &'a [V],
    k: &'a [V],
    v: &'a [V],
    row_stride: usize,
    /// What is added to the scores, `[heads, queries, keys]`.
    bias: Option<&'a [f32]>,
    sizes: Sizes,
}

impl<'a, V: Value> Operands<'a, V> {
    /// `q [batch, queries, width]`, `k` and `v [batch, keys, width]`.
    pub fn separate(q: &'a [V], k: &'a [V], v: &'a [V], sizes: Sizes) -> Self {
        let Sizes { batch, keys, width, .. } = sizes;
        assert_eq!([q.len(), k.len(), v.len()], [sizes.len(), batch * keys * width, batch * keys * width]);
        Self { q, k, v, row_stride: width, bias: None, sizes }.checked()
    }

    /// q, k and v behind one another in every row: `[batch, tokens, 3 * width]`.
    pub fn packed(qkv: &'a [V], sizes: Sizes) -> Self {
        assert!(sizes.queries == sizes.keys && qkv.len() == 3 * sizes.len(), "rows that do not fit");
        let part = |i: usize| qkv.get(i * sizes.width..).unwrap_or_default();
        Self { q: part(0), k: part(1), v: part(2), row_stride: 3 * sizes.width, bias: None, sizes }.checked()
    }

    /// The same with a bias on the scores, `[heads, queries, keys]`.
    pub fn with_bias(self, bias: &'a [f32]) -> Self {
        let Sizes { queries, keys, heads, .. } = self.sizes;
        assert_eq!(bias.len(), heads * queries * keys, "a bias that does not fit");
        Self { bias: Some(bias), ..self }
    }

    /// What is added to the scores of a head's query.
    #[inline(always)]
    fn bias_of(&self, head: usize, query: usize) -> Option<&'a [f32]> {
        let Sizes { queries, keys, .. } = self.sizes;
        self.bias.map(|bias| &bias[(head * queries + query) * keys..][..keys])
    }

    fn checked(self) -> Self {
        let Sizes { queries, keys, width, heads, .. } = self.sizes;
        assert!(heads > 0 && width > 0 && width.is_multiple_of(heads), "heads that do not divide the width");
        assert!(queries > 0 && keys > 0, "nothing that attends, or is attended to");
        self
    }
}

/// The output, and `log Σ exp(scores)` of every row, `[batch, heads, queries]`, which the backward starts from.
pub fn forward<V: Value>(operands: Operands<V>) -> (Vec<V>, Vec<f32>) {
    let sizes = operands.sizes;
    let Sizes { batch, queries, keys, width, heads } = sizes;
    let (head_dim, stride, scale) = (sizes.head_dim(), sizes.score_stride(), sizes.scale());
    let row_stride = operands.row_stride;
    let mut log_sums = vec![0f32; batch * heads * queries];
    let head = |y: Shared<V>, scores: &mut Scratch, b: usize, h: usize, log_sums: &mut [f32]| {
        let columns = h * head_dim..(h + 1) * head_dim;
        let k = block(operands.k, row_stride, b * keys..(b + 1) * keys, columns.clone());
        let v = block(operands.v, row_stride, b * keys..(b + 1) * keys, columns.clone());
        let scores = scores.values(sizes.block() * stride);
        for (i, log_sums) in log_sums.chunks_mut(sizes.block()).enumerate() {
            let first = b * queries + i * sizes.block();
            let rows = first..first + log_sums.len();
            let q = block(operands.q, row_stride, rows.clone(), columns.clone());
            // SAFETY: the scores are this thread's, and they have room for a block.
            unsafe { multiply_to(place(scores.as_mut_ptr(), stride, Start::Zero, scale), q, k.t(), Threads::One) };
            vectorised(
                #[inline(always)]
                || {
                    let queries = i * sizes.block()..;
                    for (query, (row, log_sum)) in queries.zip(scores.chunks_exact_mut(stride).zip(log_sums)) {
                        add(row, operands.bias_of(h, query));
                        *log_sum = softmax_row(row, keys);
                    }
                },
            );
            let p = Matrix::strided(scores, rows.len(), keys, stride);
            // SAFETY: only this call writes these columns of these rows.
            unsafe {
                multiply_to(place(y.at(first * width + columns.start), width, Start::Zero, 1.), p, v, Threads::One)
            };
        }
    };
    // SAFETY: every head of every image writes its columns of all its rows.
    let y = unsafe {
        filled(batch * queries * width, |y| {
            let y = Shared::new(y);
            let units = sizes.units().zip(log_sums.par_chunks_mut(queries));
            units.for_each_init(Scratch::take, |scores, ((b, h), log_sums)| head(y, scores, b, h, log_sums));
        })
    };
    (y, log_sums)
}

/// The gradient of q, k and v behind one another in every row.
pub fn packed_backward<V: Value>(qkv: &[V], sizes: Sizes, log_sums: &[f32], (y, dy): (&[V], &[V])) -> Vec<V> {
    let operands = Operands::packed(qkv, sizes);
    // SAFETY: the three parts of every row are written.
    unsafe {
        filled(qkv.len(), |out| {
            if !out.is_empty() {
                let start = Shared::new(out);
                let parts = [0, 1, 2].map(|i| Shared::from(start.at(i * sizes.width)));
                write_gradients(operands, log_sums, (y, dy), parts, None);
            }
        })
    }
}

/// The same with a bias on the scores, `[heads, queries, keys]`, and its gradient, the sum over the batch.
pub fn packed_backward_biased(
    qkv: &[f32],
    bias: &[f32],
    sizes: Sizes,
    log_sums: &[f32],
    (y, dy): (&[f32], &[f32]),
) -> [Vec<f32>; 2] {
    let operands = Operands::packed(qkv, sizes).with_bias(bias);
    let mut dbias = vec![0.; bias.len()];
    // SAFETY: the three parts of every row are written.
    let dqkv = unsafe {
        filled(qkv.len(), |out| {
            if !out.is_empty() {
                let start = Shared::new(out);
                let parts = [0, 1, 2].map(|i| Shared::from(start.at(i * sizes.width)));
                write_gradients(operands, log_sums, (y, dy), parts, Some(&mut dbias));
            }
        })
    };
    [dqkv, dbias]
}

/// The gradients of q, k and v, for those of the output `y`.
pub fn backward(operands: Operands, log_sums: &[f32], (y, dy): (&[f32], &[f32])) -> [Vec<f32>; 3] {
    let Operands { q, k, v, row_stride, sizes, .. } = operands;
    assert_eq!(row_stride, sizes.width, "the gradients of what is packed are packed");
    let [mut dk, mut dv] = [vec![], vec![]];
    // SAFETY: all three are written.
    let dq = unsafe {
        filled(q.len(), |dq| {
            dk = filled(k.len(), |dk| {
                dv = filled(v.len(), |dv| {
                    let out = [Shared::new(dq), Shared::new(dk), Shared::new(dv)];
                    write_gradients(operands, log_sums, (y, dy), out, None)
                })
            })
        })
    };
    [dq, dk, dv]
}

/// Writes the gradients of q, k and v where `out` points, with rows as far apart as the operands', and adds that of the bias to
/// `dbias`, which is a sum over images: then a thread works on one head of all of them.
///
/// # Safety
/// There must be room for the gradients, which nobody else may use meanwhile.
unsafe fn write_gradients<V: Value>(
    operands: Operands<V>,
    log_sums: &[f32],
    (y, dy): (&[V], &[V]),
    out: [Shared<V>; 3],
    dbias: Option<&mut [f32]>,
) {
    let sizes = operands.sizes;
    assert!(y.len() == sizes.len() && dy.len() == sizes.len(), "an output or its gradient that does not fit");
    assert_eq!(log_sums.len(), sizes.batch * sizes.heads * sizes.queries, "the forward has run");
    let Sizes { queries, keys, width, .. } = sizes;
    let (head_dim, stride, scale) = (sizes.head_dim(), sizes.score_stride(), sizes.scale());
    let row_stride = operands.row_stride;
    // What several blocks of queries add to the gradients of keys and values is added up in float32.
    let in_parts = V::NARROW && sizes.block() < queries;
    let head = |[p, dp, key_sums]: &mut [Scratch; 3], (b, h): (usize, usize), mut dbias: Option<&mut [f32]>| {
        let log_sums = &log_sums[(b * sizes.heads + h) * queries..][..queries];
        let columns = h * head_dim..(h + 1) * head_dim;
        let k = block(operands.k, row_stride, b * keys..(b + 1) * keys, columns.clone());
        let v = block(operands.v, row_stride, b * keys..(b + 1) * keys, columns.clone());
        let [p, dp] = [p, dp].map(|scores| scores.values(sizes.block() * stride));
        let key_sums = key_sums.values(if in_parts { 2 * keys * head_dim } else { 0 });
        for (i, log_sums) in log_sums.chunks(sizes.block()).enumerate() {
            let first = b * queries + i * sizes.block();
            let rows = first..first + log_sums.len();
            let q = block(operands.q, row_stride, rows.clone(), columns.clone());
            let dy_block = block(dy, width, rows.clone(), columns.clone());
            // SAFETY: the scratch is this thread's, and it has room for a block.
            unsafe {
                multiply_to(place(p.as_mut_ptr(), stride, Start::Zero, scale), q, k.t(), Threads::One);
                multiply_to(place(dp.as_mut_ptr(), stride, Start::Zero, 1.), dy_block, v.t(), Threads::One);
            }
            vectorised(
                #[inline(always)]
                || {
                    let scratch = p.chunks_exact_mut(stride).zip(dp.chunks_exact_mut(stride));
                    for ((row, &log_sum), (p, dp)) in rows.clone().zip(log_sums).zip(scratch) {
                        let query = row - b * queries;
                        add(p, operands.bias_of(h, query));
                        let at = row * width + columns.start;
                        let along = sum2(&y[at..][..head_dim], &dy[at..][..head_dim], |y, dy| y.wide() * dy.wide());
                        for (p, dp) in p.iter_mut().zip(dp.iter_mut()) {
                            *p = exp(*p - log_sum);
                            *dp = *p * (*dp - along) * scale;
                        }
                        if let Some(dbias) = &mut dbias {
                            for (sum, dp) in dbias[query * keys..][..keys].iter_mut().zip(dp) {
                                *sum += *dp / scale;
                            }
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
                multiply_to(place(dq, row_stride, Start::Zero, 1.), ds, k, Threads::One);
                if in_parts {
                    let [dk, dv] = [0, keys * head_dim].map(|at| key_sums.as_mut_ptr().add(at));
                    multiply_to(place(dk, head_dim, so_far, 1.), ds.t(), q, Threads::One);
                    multiply_to(place(dv, head_dim, so_far, 1.), p.t(), dy_block, Threads::One);
                } else {
                    multiply_to(place(dk.at(keys_at), row_stride, so_far, 1.), ds.t(), q, Threads::One);
                    multiply_to(place(dv.at(keys_at), row_stride, so_far, 1.), p.t(), dy_block, Threads::One);
                }
            }
        }
        if in_parts {
            let keys_at = b * keys * row_stride + columns.start;
            for (out, sums) in out[1..].iter().zip(key_sums.chunks_exact(keys * head_dim)) {
                for (key, sums) in sums.chunks_exact(head_dim).enumerate() {
                    // SAFETY: only this call writes these columns of these rows.
                    let row = unsafe { out.part(keys_at + key * row_stride, head_dim) };
                    row.iter_mut().zip(sums).for_each(|(to, &sum)| {
                        to.write(V::of(sum));
                    });
                }
            }
        }
    };
    let memory = || [(); 3].map(|()| Scratch::take());
    match dbias {
        None => sizes.units().for_each_init(memory, |memory, unit| head(memory, unit, None)),
        Some(dbias) => dbias.par_chunks_mut(queries * keys).enumerate().for_each_init(memory, |memory, (h, dbias)| {
            (0..sizes.batch).for_each(|b| head(memory, (b, h), Some(&mut *dbias)));
        }),
    }
}

/// Adds a bias to the scores of a row.
#[inline(always)]
fn add(row: &mut [f32], bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        row.iter_mut().zip(bias).for_each(|(score, bias)| *score += bias);
    }
}

/// Where a product goes; see [`Output`].
fn place<V>(to: *mut V, row_stride: usize, start: Start<'_>, scale: f32) -> Output<'_, V> {
    Output { to, row_stride, start, scale }
}

/// The `columns` of one head in `rows` rows, `row_stride` apart.
fn block<V: Value>(x: &[V], row_stride: usize, rows: Range<usize>, columns: Range<usize>) -> Matrix<'_, V> {
    Matrix::strided(&x[rows.start * row_stride + columns.start..], rows.len(), columns.len(), row_stride)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    /// The output in float64.
    fn exact(operands: Operands) -> Vec<f64> {
        let Operands { q, k, v, row_stride, sizes, .. } = operands;
        let (head_dim, mut y) = (sizes.head_dim(), vec![]);
        for row in 0..sizes.batch * sizes.queries {
            for column in 0..sizes.width {
                let first = column / head_dim * head_dim;
                let keys = row / sizes.queries * sizes.keys..(row / sizes.queries + 1) * sizes.keys;
                let score = |key: usize| {
                    let at = |x: &[f32], row: usize, i: usize| f64::from(x[row * row_stride + first + i]);
                    (0..head_dim).map(|i| at(q, row, i) * at(k, key, i)).sum::<f64>() * f64::from(sizes.scale())
                };
                let weights: Vec<f64> = keys.clone().map(|key| score(key).exp()).collect();
                let sum = keys.zip(&weights).map(|(key, w)| w * f64::from(v[key * row_stride + column])).sum::<f64>();
                y.push(sum / weights.iter().sum::<f64>());
            }
        }
        y
    }

    #[test]
    fn it_is_the_formula_and_the_same_packed_as_apart() {
        for (batch, tokens, heads, head_dim) in [(1, 1, 1, 1), (2, 17, 3, 8), (1, 40, 2, 24)] {
            let width = heads * head_dim;
            let sizes = Sizes { batch, queries: tokens, keys: tokens, width, heads };
            let qkv = values(batch * tokens * 3 * width, 1);
            let part = |i: usize| -> Vec<f32> {
                qkv.chunks_exact(3 * width).flat_map(|row| &row[i * width..][..width]).copied().collect()
            };
            let [q, k, v] = [part(0), part(1), part(2)];
            let (y, log_sums) = forward(Operands::packed(&qkv, sizes));
            let apart = Operands::separate(&q, &k, &v, sizes);
            assert_eq!(forward(apart), (y.clone(), log_sums.clone()));
            assert!(y.iter().zip(exact(apart)).all(|(y, exact)| (f64::from(*y) - exact).abs() < 1e-5));
            let dy = values(y.len(), 2);
            let [dq, dk, dv] = backward(apart, &log_sums, (&y, &dy));
            let packed = packed_backward(&qkv, sizes, &log_sums, (&y, &dy));
            for (i, row) in packed.chunks_exact(3 * width).enumerate() {
                let own = i * width..(i + 1) * width;
                assert_eq!(row, [&dq[own.clone()], &dk[own.clone()], &dv[own]].concat());
            }
        }
    }

    #[test]
    fn more_queries_than_fit_a_block_give_the_formula() {
        let sizes = Sizes { batch: 1, queries: 700, keys: 700, width: 8, heads: 1 };
        assert!(sizes.block() < sizes.queries, "the test is to cover several blocks");
        let qkv = values(700 * 24, 1);
        let operands = Operands::packed(&qkv, sizes);
        assert!(forward(operands).0.iter().zip(exact(operands)).all(|(y, exact)| (f64::from(*y) - exact).abs() < 1e-5));
    }

    #[test]
    #[should_panic(expected = "heads that do not divide the width")]
    fn heads_that_do_not_divide_the_width_are_refused() {
        let sizes = Sizes { batch: 1, queries: 1, keys: 1, width: 8, heads: 3 };
        Operands::packed(&[0.; 24], sizes);
    }
}
