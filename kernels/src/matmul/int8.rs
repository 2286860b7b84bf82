//! Products with a right operand in 8-bit integers, for models that only predict, by AVX-512's dot products of quadruples.
//!
//! A column of the right operand is a scale times integers of at most ±127, found once. A row of the left operand becomes integers of
//! 0 to 255 when it is multiplied: its smallest value is 0, its largest 255. Sums are exact in 32 bits, and both scales are applied to
//! them. (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018; rows on
//! the fly as in Dettmers et al., "LLM.int8()", 2022.)
//!
//! Both operands lie as tiles: 16 rows, or 16 quadruples of 16 columns, of 64 bytes; zeros where a matrix ends.

use std::arch::x86_64::*;
use std::cell::Cell;

use rayon::prelude::*;

use super::bfloat16::{BLOCK, Line, ROWS, TILE, lines, write_block};
use super::{Matrix, Output, Start};
use crate::value::Value;

/// Values along the common dimension in one row of a tile.
const STEP: usize = 64;
/// Rows whose sums stay in registers.
const HEIGHT: usize = 8;
/// Blocks of rows whose integers fit the second-level cache.
const MOST_BLOCKS: usize = 8;
/// The longest common dimension: sums of its products fit 32 bits.
const LONGEST: usize = (i32::MAX / (255 * 127)) as usize;

thread_local! {
    /// The left operand's tiles, kept from product to product.
    static LEFT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Whether this CPU has the dot products.
pub fn is_served() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

/// A right operand as integers.
pub struct PackedIntegers {
    depth: usize,
    columns: usize,
    /// Block after block of columns, step after step two tiles.
    tiles: Vec<Line>,
    /// What the integers of every column are multiplied by, whole blocks of them.
    scales: Vec<f32>,
    /// The sums of every column's values.
    sums: Vec<f32>,
}

impl PackedIntegers {
    /// Rounds `b`, on all threads; none where the CPU has no dot products, or `b` is too long for their sums.
    pub fn new(b: Matrix) -> Option<Self> {
        if !is_served() || b.rows > LONGEST {
            return None;
        }
        let (blocks, steps) = (b.columns.div_ceil(BLOCK), b.rows.div_ceil(STEP));
        let mut tiles = vec![Line([0; 64]); blocks * steps * 2 * ROWS];
        let (mut scales, mut sums) = (vec![0.; blocks * BLOCK], vec![0.; blocks * BLOCK]);
        let parts = scales.par_chunks_mut(BLOCK).zip(sums.par_chunks_mut(BLOCK));
        tiles.par_chunks_mut((steps * 2 * ROWS).max(1)).zip(parts).enumerate().for_each(
            |(block, (tiles, (scales, sums)))| {
                for column in 0..BLOCK.min(b.columns - block * BLOCK) {
                    let value =
                        |step: usize| b.values[step * b.row_stride + (block * BLOCK + column) * b.column_stride];
                    let largest = (0..b.rows).map(|step| value(step).abs()).fold(0f32, f32::max);
                    // A column with a value that is no number has it in its scale, and so in all of its sums.
                    let odd = (0..b.rows).any(|step| !value(step).is_finite());
                    let scale = if odd { f32::NAN } else { largest / 127. };
                    let mut sum = 0i32;
                    for step in 0..b.rows {
                        let rounded = if scale > 0. { (value(step) / scale).round_ties_even() as i8 } else { 0 };
                        sum += i32::from(rounded);
                        let line = (step / STEP * 2 + column / ROWS) * ROWS + step % STEP / 4;
                        tiles[line].0[column % ROWS * 4 + step % 4] = rounded as u8;
                    }
                    (scales[column], sums[column]) = (scale, sum as f32 * scale);
                }
            },
        );
        Some(Self { depth: b.rows, columns: b.columns, tiles, scales, sums })
    }

    /// Writes `start + a b` to `out` on this thread.
    ///
    /// # Safety
    /// As [`super::multiply_to`].
    pub unsafe fn multiply<A: Value, O: Value>(&self, out: Output<O>, a: Matrix<A>) {
        assert!(a.columns == self.depth && a.column_stride == 1 && out.scale == 1., "matrices that do not fit");
        let steps = self.depth.div_ceil(STEP);
        let mut scratch = LEFT.take();
        let memory = lines(&mut scratch, MOST_BLOCKS * steps * 2 * TILE);
        for first in (0..a.rows).step_by(MOST_BLOCKS * BLOCK) {
            let a = a.rows_from(first, (a.rows - first).min(MOST_BLOCKS * BLOCK));
            let mut ranges = [[0f32; 2]; MOST_BLOCKS * BLOCK];
            // SAFETY: there is room for so many blocks, and whoever made this has the dot products; the caller vouches for the output.
            unsafe {
                quantise(a, memory, &mut ranges);
                for column in 0..self.columns.div_ceil(BLOCK) {
                    for row in 0..a.rows.div_ceil(BLOCK) {
                        let left = memory.add(row * steps * 2 * TILE);
                        let size = (BLOCK.min(a.rows - row * BLOCK), BLOCK.min(self.columns - column * BLOCK));
                        let to = out.to.add((first + row * BLOCK) * out.row_stride + column * BLOCK);
                        let ranges = &ranges[row * BLOCK..][..BLOCK];
                        self.block(left, ranges, column, size, Output { to, ..out });
                    }
                }
            }
        }
        LEFT.set(scratch);
    }

    /// One block of the product, of `size` rows and columns, to where it begins.
    ///
    /// # Safety
    /// `left` must be the tiles of a block of rows, which are made of these ranges; the rest as for [`PackedIntegers::multiply`].
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
    unsafe fn block<O: Value>(
        &self,
        left: *const u8,
        ranges: &[[f32; 2]],
        column: usize,
        size: (usize, usize),
        out: Output<O>,
    ) {
        let steps = self.depth.div_ceil(STEP);
        let direct = if size.1 == BLOCK { out.as_wide() } else { None };
        // SAFETY: the caller's; scales and sums are those of whole blocks.
        unsafe {
            let right = self.tiles.as_ptr().add(column * steps * 2 * ROWS).cast::<__m512i>();
            let pair = |values: &[f32]| -> [__m512; 2] {
                let values = &values[column * BLOCK..][..BLOCK];
                [0, 1].map(|x| _mm512_loadu_ps(values.as_ptr().add(x * 16)))
            };
            let (scales, totals) = (pair(&self.scales), pair(&self.sums));
            let mut bias = [_mm512_setzero_ps(); 2];
            if let Start::Row(row) = out.start {
                let mut values = [0f32; BLOCK];
                values[..size.1].copy_from_slice(&row[column * BLOCK..][..size.1]);
                bias = [0, 1].map(|x| _mm512_loadu_ps(values.as_ptr().add(x * 16)));
            }
            for top in (0..size.0).step_by(HEIGHT) {
                let integers = sum_up(left, right, steps, top);
                let height = HEIGHT.min(size.0 - top);
                let mut values = [0f32; HEIGHT * BLOCK];
                for (i, integers) in integers.iter().enumerate().take(height) {
                    let [scale, least] = ranges[top + i].map(|value| _mm512_set1_ps(value));
                    for x in 0..2 {
                        let from = match (out.start, direct) {
                            (Start::Out, Some(out)) => _mm512_loadu_ps(out.to.add((top + i) * out.row_stride + x * 16)),
                            _ => bias[x],
                        };
                        let base = _mm512_fmadd_ps(least, totals[x], from);
                        let factor = _mm512_mul_ps(scale, scales[x]);
                        let value = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integers[x]), factor, base);
                        let to = match direct {
                            Some(out) => out.to.add((top + i) * out.row_stride + x * 16),
                            None => values.as_mut_ptr().add(i * BLOCK + x * 16),
                        };
                        _mm512_storeu_ps(to, value);
                    }
                }
                if direct.is_none() {
                    let to = out.to.add(top * out.row_stride);
                    let add = matches!(out.start, Start::Out);
                    write_block(values.as_ptr(), (to, out.row_stride), (height, size.1), add);
                }
            }
        }
    }
}

/// The integer sums of `HEIGHT` rows from `top` on of a block.
///
/// # Safety
/// Both must be tiles of so many steps; the CPU must have the dot products.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn sum_up(left: *const u8, right: *const __m512i, steps: usize, top: usize) -> [[__m512i; 2]; HEIGHT] {
    let mut sums = [[_mm512_setzero_si512(); 2]; HEIGHT];
    for step in 0..steps {
        // SAFETY: the caller's.
        unsafe {
            let rows = left.add((step * 2 + top / ROWS) * TILE + top % ROWS * STEP).cast::<i32>();
            let columns = right.add(step * 2 * ROWS);
            for four in 0..ROWS {
                let right = [*columns.add(four), *columns.add(ROWS + four)];
                for (i, sums) in sums.iter_mut().enumerate() {
                    let left = _mm512_set1_epi32(*rows.add(i * ROWS + four));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = _mm512_dpbusd_epi32(*sum, left, right);
                    }
                }
            }
        }
    }
    sums
}

/// Writes the rows of `a` as tiles of integers at `to`, and what the integers of every row are multiplied by and added to.
///
/// # Safety
/// There must be room for the tiles of all rows; the CPU must have the vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn quantise<A: Value>(a: Matrix<A>, to: *mut u8, ranges: &mut [[f32; 2]]) {
    let steps = a.columns.div_ceil(STEP);
    for (row, row_range) in ranges.iter_mut().enumerate().take(a.rows) {
        // SAFETY: the row is there, and lanes beyond it are neither read nor counted; there is room for the tiles.
        unsafe {
            let from = a.values[row * a.row_stride..][..a.columns].as_ptr();
            let part = |first: usize| {
                let count = (a.columns - first).min(16);
                let mask: u16 = if count == 16 { u16::MAX } else { (1 << count) - 1 };
                (mask, load(mask, from.add(first)))
            };
            let (mut least, mut most) = (_mm512_set1_ps(f32::INFINITY), _mm512_set1_ps(f32::NEG_INFINITY));
            let mut odd = 0u16;
            for first in (0..a.columns).step_by(16) {
                let (mask, values) = part(first);
                least = _mm512_mask_min_ps(least, mask, least, values);
                most = _mm512_mask_max_ps(most, mask, most, values);
                odd |= _mm512_mask_cmp_ps_mask::<_CMP_UNORD_Q>(mask, values, values);
            }
            let (least, most) = (_mm512_reduce_min_ps(least), _mm512_reduce_max_ps(most));
            let range = most - least;
            // A row with a value that is no number has it in its scale, and so in all of its sums.
            let usual = odd == 0 && range.is_finite();
            *row_range = [if usual { range / 255. } else { f32::NAN }, if usual { least } else { f32::NAN }];
            let inverse = _mm512_set1_ps(if usual && range > 0. { 255. / range } else { 0. });
            let base = _mm512_set1_ps(if usual { least } else { 0. });
            let (block, row) = (row / BLOCK, row % BLOCK);
            for first in (0..steps * STEP).step_by(16) {
                let tile = (block * steps + first / STEP) * 2 + row / ROWS;
                let to = to.add(tile * TILE + row % ROWS * STEP + first % STEP).cast::<__m128i>();
                if first >= a.columns {
                    _mm_storeu_si128(to, _mm_setzero_si128());
                    continue;
                }
                let (mask, values) = part(first);
                let scaled = _mm512_maskz_mul_ps(mask, _mm512_sub_ps(values, base), inverse);
                // Rounded to even, and what rounding puts above 255 is 255.
                _mm_storeu_si128(to, _mm512_cvtusepi32_epi8(_mm512_cvtps_epu32(scaled)));
            }
        }
    }
}

/// Those of 16 values that `mask` names, as float32; zeros for the others.
///
/// # Safety
/// They must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn load<V: Value>(mask: u16, from: *const V) -> __m512 {
    // SAFETY: the caller's; lanes that are masked out are not read.
    unsafe {
        if V::NARROW {
            let values = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(values))
        } else {
            _mm512_maskz_loadu_ps(mask, from.cast())
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn numbers(count: usize, factor: usize) -> Vec<f32> {
        (0..count).map(|i| (i * factor % 997) as f32 / 500. - 0.7).collect()
    }

    /// What the integers stand for.
    fn rounded_columns(b: &[f32], columns: usize) -> Vec<f64> {
        let mut out = vec![0.; b.len()];
        for column in 0..columns {
            let of = |i: usize| f64::from(b[i * columns + column]);
            let count = b.len() / columns;
            let scale = (0..count).map(|i| of(i).abs()).fold(0., f64::max) / 127.;
            for i in 0..count {
                out[i * columns + column] = (of(i) / scale).round() * scale;
            }
        }
        out
    }

    fn rounded_rows(a: &[f32], width: usize) -> Vec<f64> {
        let rows = a.chunks_exact(width).flat_map(|row| {
            let least = f64::from(row.iter().copied().fold(f32::INFINITY, f32::min));
            let scale = (f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max)) - least) / 255.;
            row.iter().map(move |&value| ((f64::from(value) - least) / scale).round() * scale + least)
        });
        rows.collect()
    }

    #[test]
    fn products_are_those_of_the_rounded_operands() {
        if !is_served() {
            eprintln!("skipped: this CPU has no dot products of integers");
            return;
        }
        for (rows, columns, depth) in [(1, 1, 2), (5, 33, 64), (33, 16, 65), (300, 100, 200), (40, 64, 384)] {
            let (a, b) = (numbers(rows * depth, 7919), numbers(depth * columns, 6007));
            let right = PackedIntegers::new(Matrix::new(&b, depth, columns)).expect("dot products");
            let (left, exact_b) = (rounded_rows(&a, depth), rounded_columns(&b, columns));
            let bias = numbers(columns, 31);
            for start in [Start::Zero, Start::Row(&bias), Start::Out] {
                let mut out = vec![0.25f32; rows * columns];
                let mut narrow = vec![bf16::from_f32(0.25); rows * columns];
                // SAFETY: both have room for the product.
                unsafe {
                    let a = Matrix::new(&a, rows, depth);
                    right.multiply(Output { to: out.as_mut_ptr(), row_stride: columns, start, scale: 1. }, a);
                    right.multiply(Output { to: narrow.as_mut_ptr(), row_stride: columns, start, scale: 1. }, a);
                }
                for (i, (&value, &narrow)) in out.iter().zip(&narrow).enumerate() {
                    let (row, column) = (i / columns, i % columns);
                    let sum: f64 = (0..depth).map(|k| left[row * depth + k] * exact_b[k * columns + column]).sum();
                    let before = match start {
                        Start::Zero => 0.,
                        Start::Row(bias) => f64::from(bias[column]),
                        Start::Out => 0.25,
                    };
                    // A value half way between two integers may be rounded either way.
                    let bound = 2e-3 * (depth as f64).sqrt() + 1e-5;
                    assert!(
                        (f64::from(value) - sum - before).abs() < bound,
                        "{rows}x{columns}x{depth} at {i}: {value}"
                    );
                    assert!((f64::from(narrow) - f64::from(value)).abs() <= f64::from(value.abs()) / 128. + 4e-3);
                }
            }
        }
    }

    #[test]
    fn a_row_among_many_is_the_same_as_alone_and_what_is_no_number_stays_in_its_row() {
        if !is_served() {
            return;
        }
        let (rows, columns, depth) = (70, 40, 130);
        let (mut a, b) = (numbers(rows * depth, 7919), numbers(depth * columns, 6007));
        a[3 * depth + 7] = f32::NAN;
        let right = PackedIntegers::new(Matrix::new(&b, depth, columns)).expect("dot products");
        let product = |a: &[f32]| {
            let mut out = vec![0f32; a.len() / depth * columns];
            let to = Output { to: out.as_mut_ptr(), row_stride: columns, start: Start::Zero, scale: 1. };
            // SAFETY: there is room for the product.
            unsafe { right.multiply(to, Matrix::new(a, a.len() / depth, depth)) };
            out
        };
        let all = product(&a);
        for row in 0..rows {
            let alone = product(&a[row * depth..][..depth]);
            let among = &all[row * columns..][..columns];
            assert_eq!(alone.iter().any(|value| value.is_nan()), row == 3);
            assert!(alone.iter().zip(among).all(|(one, other)| one.to_bits() == other.to_bits()), "row {row}");
        }
    }
}
