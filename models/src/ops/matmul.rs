//! Matrix products of strided views, so that no operand is ever transposed by copying.

use std::mem::MaybeUninit;

use gemm::Parallelism;

/// A matrix somewhere in memory: rows and columns lie any distance apart.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows follow one another.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// A matrix whose rows start `row_stride` values apart.
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(reach(rows, columns, row_stride) <= values.len(), "a matrix larger than its memory");
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// The transposed matrix.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// The values that a matrix with contiguous rows spans.
fn reach(rows: usize, columns: usize, row_stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + columns }
}

/// Who works on a product: all threads, or the one that asks.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Threads {
    /// All threads.
    All,
    /// Only this one.
    One,
}

/// Writes `a b` into `out`, a matrix whose rows follow one another.
pub(super) fn multiply(out: &mut [MaybeUninit<f32>], a: Matrix, b: Matrix, threads: Threads) {
    assert!(a.rows * b.columns <= out.len(), "a product larger than its memory");
    // SAFETY: `out` has room for the product, and `gemm` only writes to it.
    unsafe { multiply_at(out.as_mut_ptr().cast(), b.columns, false, a, b, 1., threads) }
}

/// Adds `a b` to `out`, a matrix whose rows follow one another.
pub(super) fn multiply_add(out: &mut [f32], a: Matrix, b: Matrix, threads: Threads) {
    assert!(a.rows * b.columns <= out.len(), "a product larger than its memory");
    // SAFETY: `out` holds the matrix that is added to.
    unsafe { multiply_at(out.as_mut_ptr(), b.columns, true, a, b, 1., threads) }
}

/// Writes `scale · a b` to `out`, or adds it to what is there, with rows `row_stride` apart.
///
/// # Safety
/// Every place of the product must be valid for writes by this thread alone, and initialised if it is added to.
pub(super) unsafe fn multiply_at(
    out: *mut f32,
    row_stride: usize,
    add: bool,
    a: Matrix,
    b: Matrix,
    scale: f32,
    threads: Threads,
) {
    assert_eq!(a.columns, b.rows, "matrices that do not fit");
    let parallelism = match threads {
        Threads::All => Parallelism::Rayon(rayon::current_num_threads()),
        Threads::One => Parallelism::None,
    };
    // SAFETY: the operands lie within their slices (checked when they were made), the output is the caller's.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            row_stride as isize,
            add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.,
            scale,
            false,
            false,
            false,
            parallelism,
        )
    }
}
