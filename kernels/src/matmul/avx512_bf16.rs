//! Operands packed as tiles, and blocks of a product by dot products of bfloat16 pairs, in AVX-512.

use std::arch::x86_64::*;

use half::bf16;

use super::bfloat16::{BLOCK, Operand, ROWS, STEP, Side, Sums, TILE};
use crate::value::Value;

/// Packs `steps` steps from `first_step` of block `block` of an operand at `to`: step after step the parts, highest first,
/// and of every part two tiles.
///
/// # Safety
/// `to` must be aligned to 64 and have room; the CPU must have the vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn pack<const PARTS: usize, V: Value>(
    operand: &Operand<V>,
    block: usize,
    first_step: usize,
    steps: usize,
    to: *mut u8,
) {
    let along_depth = operand.depth_stride == 1;
    // What is read in vectors along one dimension has to be turned where tiles hold it along the other.
    let turn = along_depth != (operand.side == Side::Left);
    let scale = _mm512_set1_ps(operand.scale);
    let values = operand.values.as_ptr();
    // bfloat16 is taken as it is.
    let plain = V::NARROW && operand.scale == 1.;
    let first_lanes = |count: usize| -> u16 { if count >= 16 { u16::MAX } else { (1 << count) - 1 } };
    for step in 0..steps {
        let depth = (first_step + step) * STEP;
        let depths = operand.depth.saturating_sub(depth).min(STEP);
        for tile in 0..2 {
            let at = block * BLOCK + tile * ROWS;
            let count = operand.len.saturating_sub(at).min(ROWS);
            let to = |part: usize| to.wrapping_add(((step * PARTS + part) * 2 + tile) * TILE).cast::<__m512i>();
            // The parts of a row of a tile, or of a column where it is turned.
            // SAFETY: lanes beyond the operand are masked out and not read.
            let row = |i: usize| unsafe {
                if along_depth {
                    let from = values.wrapping_add((at + i) * operand.stride + depth);
                    let masks = [first_lanes(depths), first_lanes(depths.saturating_sub(16))];
                    if plain {
                        let mask = u32::from(masks[0]) | u32::from(masks[1]) << 16;
                        return [_mm512_maskz_loadu_epi16(mask, from.cast()); PARTS];
                    }
                    let low = _mm512_mul_ps(load(masks[0], from), scale);
                    let high = _mm512_mul_ps(load(masks[1], from.wrapping_add(16)), scale);
                    split::<PARTS, true>(low, high)
                } else {
                    let mask = first_lanes(count);
                    let second = if 2 * i + 1 < depths { mask } else { 0 };
                    let from = values.wrapping_add((depth + 2 * i) * operand.depth_stride + at);
                    let next = from.wrapping_add(operand.depth_stride);
                    // Rows lie far apart, so that the CPU does not see those of the next step coming.
                    _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(STEP * operand.depth_stride).cast());
                    _mm_prefetch::<_MM_HINT_T0>(next.wrapping_add(STEP * operand.depth_stride).cast());
                    if plain {
                        let low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from.cast()));
                        let high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(second, next.cast()));
                        return [_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)); PARTS];
                    }
                    split::<PARTS, false>(
                        _mm512_mul_ps(load(mask, from), scale),
                        _mm512_mul_ps(load(second, next), scale),
                    )
                }
            };
            let there = if along_depth { count } else { depths.div_ceil(2) };
            // SAFETY: the caller's: there is room for all tiles.
            unsafe {
                if !turn {
                    for i in 0..there {
                        for (part, row) in row(i).into_iter().enumerate() {
                            _mm512_store_si512(to(part).add(i), row);
                        }
                    }
                    for i in there..ROWS {
                        for part in 0..PARTS {
                            _mm512_store_si512(to(part).add(i), _mm512_setzero_si512());
                        }
                    }
                    continue;
                }
                let mut rows = [[_mm512_setzero_si512(); ROWS]; PARTS];
                // A whole tile in a loop that can be unrolled, so that it stays in registers.
                if there == ROWS {
                    for i in 0..ROWS {
                        for (rows, row) in rows.iter_mut().zip(row(i)) {
                            rows[i] = row;
                        }
                    }
                } else {
                    for i in 0..there {
                        for (rows, row) in rows.iter_mut().zip(row(i)) {
                            rows[i] = row;
                        }
                    }
                }
                for (part, rows) in rows.iter_mut().enumerate() {
                    transpose(rows);
                    for (i, row) in rows.iter().enumerate() {
                        _mm512_store_si512(to(part).add(i), *row);
                    }
                }
            }
        }
    }
}

/// Those of 16 values that `mask` names, as float32; zeros for the others.
///
/// # Safety
/// They must be readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
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

/// Writes so many rows of a block of sums as bfloat16.
///
/// # Safety
/// `sums` must be those of a block, `to` valid for the rows; the CPU must have the vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn store_narrow(sums: *const f32, to: *mut bf16, row_stride: usize, rows: usize) {
    for row in 0..rows {
        // SAFETY: the caller's.
        unsafe {
            let from = sums.add(row * BLOCK);
            let rounded = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from.add(16)), _mm512_loadu_ps(from));
            _mm512_storeu_si512(to.add(row * row_stride).cast(), std::mem::transmute::<__m512bh, __m512i>(rounded));
        }
    }
}

/// The parts of 32 numbers, highest first: in order if `low` and `high` follow one another (`IN_ORDER`), else in pairs of one
/// of `low` and one of `high`. Every part is what is left rounded to nearest, so that the products that are left out are small
/// and of either sign; the last one of three is exact.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn split<const PARTS: usize, const IN_ORDER: bool>(mut low: __m512, mut high: __m512) -> [__m512i; PARTS] {
    const ODD: [u16; 32] = indices(1, 2, 32);
    const IN_PAIRS: [u16; 32] = indices(0, 16, 2);
    // SAFETY: arrays of the vectors' size.
    let (odd, in_pairs) =
        unsafe { (_mm512_loadu_si512(ODD.as_ptr().cast()), _mm512_loadu_si512(IN_PAIRS.as_ptr().cast())) };
    let mut parts = [_mm512_setzero_si512(); PARTS];
    if PARTS == 1 {
        // SAFETY: two vectors of 32 half words.
        let rounded: __m512i = unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(high, low)) };
        parts[0] = if IN_ORDER { rounded } else { _mm512_permutexvar_epi16(in_pairs, rounded) };
        return parts;
    }
    let upper_half = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let half_a_unit = _mm512_set1_epi32(0x8000);
    for (i, part) in parts.iter_mut().enumerate() {
        let mut bits = [_mm512_castps_si512(low), _mm512_castps_si512(high)];
        if i + 1 < PARTS || PARTS < 3 {
            bits = bits.map(|bits| _mm512_add_epi32(bits, half_a_unit));
        }
        let upper = bits.map(|bits| _mm512_and_si512(bits, upper_half));
        *part = if IN_ORDER {
            _mm512_permutex2var_epi16(bits[0], odd, bits[1])
        } else {
            _mm512_or_si512(_mm512_srli_epi32::<16>(bits[0]), upper[1])
        };
        // Exact: what is left has the lower digits only.
        low = _mm512_sub_ps(low, _mm512_castsi512_ps(upper[0]));
        high = _mm512_sub_ps(high, _mm512_castsi512_ps(upper[1]));
    }
    parts
}

/// `first`, then every index `stride` further; after `run` of them, from one place further on.
const fn indices(first: u16, stride: u16, run: usize) -> [u16; 32] {
    let mut out = [0; 32];
    let mut i = 0;
    while i < 32 {
        out[i] = first + (i % run) as u16 * stride + (i / run) as u16;
        i += 1;
    }
    out
}

/// Turns 16 rows of 16 words into its columns.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(r: &mut [__m512i; 16]) {
    let mut t = [_mm512_setzero_si512(); 16];
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for i in 0..4 {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for i in 0..4 {
        t[i] = _mm512_shuffle_i32x4::<0x88>(r[i], r[i + 4]);
        t[i + 4] = _mm512_shuffle_i32x4::<0xdd>(r[i], r[i + 4]);
        t[i + 8] = _mm512_shuffle_i32x4::<0x88>(r[i + 8], r[i + 12]);
        t[i + 12] = _mm512_shuffle_i32x4::<0xdd>(r[i + 8], r[i + 12]);
    }
    for i in 0..4 {
        r[i] = _mm512_shuffle_i32x4::<0x88>(t[i], t[i + 8]);
        r[i + 8] = _mm512_shuffle_i32x4::<0xdd>(t[i], t[i + 8]);
        r[i + 4] = _mm512_shuffle_i32x4::<0x88>(t[i + 4], t[i + 12]);
        r[i + 12] = _mm512_shuffle_i32x4::<0xdd>(t[i + 4], t[i + 12]);
    }
}

/// As [`super::amx::Tiles::block`], on vector registers, for the strips and vectors that hold so many rows and columns; of several parts
/// only the highest products that [`super::amx::Tiles::block`] takes.
///
/// # Safety
/// As [`super::amx::Tiles::block`]; the CPU must have the dot products.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub unsafe fn dot_products<const PARTS: usize>(
    (a, b): (*const u8, *const u8),
    steps: usize,
    size: (usize, usize),
    sums: Sums,
) {
    // SAFETY: the caller's.
    unsafe {
        if size.1 > ROWS {
            sum_up::<PARTS, 2>((a, b), steps, size.0, sums);
        } else {
            sum_up::<PARTS, 1>((a, b), steps, size.0, sums);
        }
    }
}

/// As above, for so many rows and vectors.
///
/// # Safety
/// As above.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn sum_up<const PARTS: usize, const VECTORS: usize>(
    (a, b): (*const u8, *const u8),
    steps: usize,
    rows: usize,
    sums: Sums,
) {
    let Sums { from, from_stride, to, to_stride } = sums;
    const PAIRS: [(usize, usize); 6] = [(2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0)];
    let pairs = match PARTS {
        3 => &PAIRS[..],
        2 => &[(1, 0), (0, 1), (0, 0)][..],
        _ => &PAIRS[5..],
    };
    /// Rows whose sums stay in registers.
    const HEIGHT: usize = 8;
    // SAFETY: the caller's.
    unsafe {
        for top in (0..rows).step_by(HEIGHT) {
            let mut sums = [[_mm512_setzero_ps(); VECTORS]; HEIGHT];
            if !from.is_null() {
                for (i, sums) in sums.iter_mut().enumerate() {
                    let row = from.add((top + i) * from_stride);
                    for (x, sum) in sums.iter_mut().enumerate() {
                        *sum = _mm512_loadu_ps(row.add(x * 16));
                    }
                }
            }
            for step in 0..steps {
                for &(pa, pb) in pairs {
                    // The tile of the left operand that holds the rows, from its first of them.
                    let tile = ((step * PARTS + pa) * 2 + top / ROWS) * TILE + top % ROWS * 64;
                    let rows = a.add(tile).cast::<i32>();
                    let columns = b.add((step * PARTS + pb) * 2 * TILE).cast::<__m512i>();
                    for pair in 0..ROWS {
                        let right: [__m512bh; VECTORS] =
                            std::array::from_fn(|x| std::mem::transmute(*columns.add(x * ROWS + pair)));
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let left: __m512bh = std::mem::transmute(_mm512_set1_epi32(*rows.add(i * ROWS + pair)));
                            for (sum, right) in sums.iter_mut().zip(right) {
                                *sum = _mm512_dpbf16_ps(*sum, left, right);
                            }
                        }
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                let row = to.add((top + i) * to_stride);
                for (x, &sum) in sums.iter().enumerate() {
                    _mm512_storeu_ps(row.add(x * 16), sum);
                }
            }
        }
    }
}
