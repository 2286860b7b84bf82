//! Rows to columns, in blocks that stay in registers.

/// Rows and columns of a block.
const BLOCK: usize = 8;
/// Rows of a block of half the height.
#[cfg(target_arch = "x86_64")]
const FEW: usize = 4;

/// Writes `rows × columns` values, whose rows lie `from_stride` apart, as `columns` rows `to_stride` apart; on this thread.
///
/// # Safety
/// All places must be valid, those of `to` for writes by this thread alone.
pub(crate) unsafe fn transpose(
    from: *const f32,
    from_stride: usize,
    (rows, columns): (usize, usize),
    to: *mut f32,
    to_stride: usize,
) {
    let mut whole = (rows / BLOCK * BLOCK, columns / BLOCK * BLOCK);
    // SAFETY: the caller's; the CPU has what is asked for.
    unsafe {
        match () {
            #[cfg(target_arch = "x86_64")]
            () if is_x86_feature_detected!("avx") => {
                on_avx(from, from_stride, whole, to, to_stride);
                if rows - whole.0 >= FEW {
                    let from = from.add(whole.0 * from_stride);
                    few_on_sse(from, from_stride, whole.1, to.add(whole.0), to_stride);
                    whole.0 += FEW;
                }
            }
            () => one_by_one(from, from_stride, (0, 0), whole, to, to_stride),
        }
        one_by_one(from, from_stride, (whole.0, 0), (rows, whole.1), to, to_stride);
        one_by_one(from, from_stride, (0, whole.1), (rows, columns), to, to_stride);
    }
}

/// The rows and columns from `first` to `end`.
///
/// # Safety
/// As [`transpose`].
unsafe fn one_by_one(
    from: *const f32,
    from_stride: usize,
    first: (usize, usize),
    end: (usize, usize),
    to: *mut f32,
    to_stride: usize,
) {
    for row in first.0..end.0 {
        for column in first.1..end.1 {
            // SAFETY: the caller's.
            unsafe { *to.add(column * to_stride + row) = *from.add(row * from_stride + column) };
        }
    }
}

/// Whole blocks.
///
/// # Safety
/// As [`transpose`]; the CPU must have AVX.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn on_avx(
    from: *const f32,
    from_stride: usize,
    (rows, columns): (usize, usize),
    to: *mut f32,
    to_stride: usize,
) {
    use std::arch::x86_64::*;
    for row in (0..rows).step_by(BLOCK) {
        for column in (0..columns).step_by(BLOCK) {
            // SAFETY: the caller's.
            unsafe {
                let from = from.add(row * from_stride + column);
                // Rows i and i + 4 share the halves of a register, so that no step has to cross from one to the other.
                let load = |i: usize, half: usize| {
                    let at = |i: usize| _mm_loadu_ps(from.add(i * from_stride + half));
                    _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(at(i)), at(i + 4))
                };
                for half in [0, 4] {
                    let [a, b, c, d] = [load(0, half), load(1, half), load(2, half), load(3, half)];
                    let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                    let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                    let columns = [
                        _mm256_shuffle_ps::<0x44>(ab, cd),
                        _mm256_shuffle_ps::<0xee>(ab, cd),
                        _mm256_shuffle_ps::<0x44>(ab_high, cd_high),
                        _mm256_shuffle_ps::<0xee>(ab_high, cd_high),
                    ];
                    for (j, values) in columns.into_iter().enumerate() {
                        _mm256_storeu_ps(to.add((column + half + j) * to_stride + row), values);
                    }
                }
            }
        }
    }
}

/// [`FEW`] rows of whole blocks.
///
/// # Safety
/// As [`transpose`].
#[cfg(target_arch = "x86_64")]
unsafe fn few_on_sse(from: *const f32, from_stride: usize, columns: usize, to: *mut f32, to_stride: usize) {
    use std::arch::x86_64::*;
    for column in (0..columns).step_by(FEW) {
        // SAFETY: the caller's; every x86-64 CPU has SSE.
        unsafe {
            let load = |i: usize| _mm_loadu_ps(from.add(i * from_stride + column));
            let (mut a, mut b, mut c, mut d) = (load(0), load(1), load(2), load(3));
            _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
            for (i, values) in [a, b, c, d].into_iter().enumerate() {
                _mm_storeu_ps(to.add((column + i) * to_stride), values);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_gets_to_its_place() {
        for (rows, columns) in [(1, 1), (8, 8), (16, 24), (7, 9), (12, 20), (33, 18)] {
            let (from_stride, to_stride) = (columns + 3, rows + 5);
            let from: Vec<f32> = (0..rows * from_stride).map(|i| i as f32).collect();
            let mut to = vec![-1f32; columns * to_stride];
            // SAFETY: both have room for the values.
            unsafe { transpose(from.as_ptr(), from_stride, (rows, columns), to.as_mut_ptr(), to_stride) };
            for (j, row) in to.chunks_exact(to_stride).enumerate() {
                assert!((0..rows).all(|i| row[i] == from[i * from_stride + j]), "{rows}x{columns}");
                assert!(row[rows..].iter().all(|&x| x == -1.), "{rows}x{columns}: nothing beyond is written");
            }
        }
    }
}
