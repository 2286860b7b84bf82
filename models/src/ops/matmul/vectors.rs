//! Matrix products on vector registers, in float32: a block of the product is summed up in registers, from factors of the left
//! operand that are spread over a vector each, and rows of a panel of the right operand.
//!
//! The right operand is laid out once for all rows and threads. The left one is read where it lies, at places that [`Left`]
//! works out: a matrix, or the windows of an image, which are never laid out. Every value of a product is summed up in the
//! same order, whatever the number of rows and threads.

use std::cell::Cell;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Matrix, Start};
use crate::ops::kernel::Shared;
use crate::ops::transpose::transpose;

/// Columns of a panel: a cache line.
const PANEL: usize = 16;
/// Steps along the common dimension between reading and writing a block of the product: a panel's part stays in the first-level
/// cache, a task's rows of the left operand in the second-level cache.
const DEPTH: usize = 256;
/// Rows that tasks are made of: whole blocks of every vector width.
const ROWS: usize = 12;
/// As many of them at a time have their factors in the second-level cache.
const MOST: usize = 8;
/// Values of a right operand from which laying it out is work for several threads.
const LARGE: usize = 1 << 16;

/// One row of a panel.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([f32; PANEL]);

thread_local! {
    // Taken out while it is in use: a thread that waits for its product's tasks may come to work on another product, which
    // then gets memory of its own.
    /// The right operand's panels, kept from product to product.
    static PANELS: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Whether this CPU's products run here: with AVX2 and no AVX-512, for which `gemm` does as well.
#[cfg(target_arch = "x86_64")]
pub fn serves() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && !is_x86_feature_detected!("avx512f")
}

/// As above.
#[cfg(not(target_arch = "x86_64"))]
pub fn serves() -> bool {
    false
}

/// A left operand: the factor of row `row` at step `step` is the value at `start(row) + offset(step)`.
trait Left: Copy {
    /// All values.
    fn values(&self) -> &[f32];
    /// Where a row starts.
    fn start(&self, row: usize) -> usize;
    /// How far from the start of any row its factor for a step lies.
    fn offset(&self, step: usize) -> usize;
}

/// What a left operand can be.
#[derive(Clone, Copy)]
pub enum Operand<'a> {
    /// A matrix with contiguous rows.
    Matrix(Matrix<'a>),
    /// Values whose places are in two tables.
    Gathered(Gathered<'a>),
}

impl Operand<'_> {
    /// Rows and steps.
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Matrix(a) => (a.rows, a.columns),
            Self::Gathered(a) => (a.starts.len(), a.offsets.len()),
        }
    }
}

/// The factor of a row at a step is at the sum of two places: windows of an image, and what lies in a window.
#[derive(Clone, Copy)]
pub struct Gathered<'a> {
    values: &'a [f32],
    starts: &'a [u32],
    offsets: &'a [u32],
}

impl<'a> Gathered<'a> {
    pub fn new(values: &'a [f32], starts: &'a [u32], offsets: &'a [u32]) -> Self {
        let last = |places: &[u32]| places.iter().copied().max().unwrap_or(0) as usize;
        let fits = starts.is_empty() || offsets.is_empty() || last(starts) + last(offsets) < values.len();
        assert!(fits, "places beyond the values");
        Self { values, starts, offsets }
    }
}

impl Left for Gathered<'_> {
    #[inline(always)]
    fn values(&self) -> &[f32] {
        self.values
    }

    #[inline(always)]
    fn start(&self, row: usize) -> usize {
        self.starts[row] as usize
    }

    #[inline(always)]
    fn offset(&self, step: usize) -> usize {
        debug_assert!(step < self.offsets.len());
        // SAFETY: there are as many as the common dimension is long, which `Panels::multiply_block` checks.
        unsafe { *self.offsets.get_unchecked(step) as usize }
    }
}

/// As [`Operand::Matrix`].
#[derive(Clone, Copy)]
struct Rows<'a>(Matrix<'a>);

impl Left for Rows<'_> {
    #[inline(always)]
    fn values(&self) -> &[f32] {
        self.0.values
    }

    #[inline(always)]
    fn start(&self, row: usize) -> usize {
        row * self.0.row_stride
    }

    #[inline(always)]
    fn offset(&self, step: usize) -> usize {
        step
    }
}

/// A right operand laid out in panels.
pub struct Panels {
    depth: usize,
    columns: usize,
    lines: Vec<Line>,
}

impl Drop for Panels {
    fn drop(&mut self) {
        PANELS.set(std::mem::take(&mut self.lines));
    }
}

/// Where a product goes: rows `row_stride` apart, times `scale`, added to `start`.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    pub to: *mut f32,
    pub row_stride: usize,
    pub start: Start<'a>,
    pub scale: f32,
}

impl Panels {
    /// Lays out `b`, on so many threads.
    pub fn new(b: Matrix, threads: usize) -> Self {
        let mut lines = PANELS.take();
        let count = b.columns.div_ceil(PANEL) * b.rows;
        if lines.len() < count {
            lines.resize(count, Line([0.; PANEL]));
        }
        if count > 0 {
            let panels = lines[..count].chunks_exact_mut(b.rows).enumerate();
            if threads > 1 && b.rows * b.columns >= LARGE {
                let panels = lines[..count].par_chunks_exact_mut(b.rows).enumerate();
                panels.for_each(|(panel, lines)| lay_out(b, panel * PANEL, lines));
            } else {
                panels.for_each(|(panel, lines)| lay_out(b, panel * PANEL, lines));
            }
        }
        Self { depth: b.rows, columns: b.columns, lines }
    }

    /// Writes the product of `a` and the panels to `out`, on so many threads.
    ///
    /// # Safety
    /// Every place of the product must be valid for writes by this call alone, and initialised if it is what is added to.
    pub unsafe fn multiply(&self, out: Output, a: Operand, threads: usize) {
        let (rows, panels) = (a.size().0, self.columns.div_ceil(PANEL));
        if threads == 1 || rows * self.columns * self.depth < LARGE {
            // SAFETY: the caller's.
            return unsafe { self.multiply_block(out, a, 0..rows, 0..panels) };
        }
        let units = rows.div_ceil(ROWS);
        let down = units.div_ceil(MOST).next_multiple_of(threads).min(units);
        // Too few rows for all threads: the columns are shared out.
        let across = if down < threads { threads.min(panels) } else { 1 };
        let bounds =
            |i: usize, of: usize, count: usize, size: usize| (count * i / of * size)..(count * (i + 1) / of * size);
        let to = Shared::from(out.to);
        let (start, row_stride, scale) = (out.start, out.row_stride, out.scale);
        (0..down * across).into_par_iter().with_max_len(1).for_each(|task| {
            let own = bounds(task / across, down, units, ROWS);
            let columns = bounds(task % across, across, panels, 1);
            // SAFETY: the caller's; the blocks lie side by side.
            unsafe {
                let out = Output { to: to.at(0), row_stride, start, scale };
                self.multiply_block(out, a, own.start..own.end.min(rows), columns)
            }
        });
    }

    /// Some rows and panels of a product, on this thread.
    ///
    /// # Safety
    /// As [`Panels::multiply`].
    unsafe fn multiply_block(&self, out: Output, a: Operand, rows: Range<usize>, panels: Range<usize>) {
        let (all, steps) = a.size();
        assert!(steps == self.depth && rows.end <= all, "matrices that do not fit");
        if let Operand::Matrix(a) = a {
            assert!(a.column_stride == 1 || steps < 2, "a left operand without contiguous rows");
        }
        pulp::Arch::new().dispatch(Product { panels: self, out, a, rows, columns: panels });
    }
}

/// Lays out the columns of `b` from `first` on as a panel.
fn lay_out(b: Matrix, first: usize, lines: &mut [Line]) {
    let count = PANEL.min(b.columns - first);
    if b.column_stride == 1 {
        for (step, line) in lines.iter_mut().enumerate() {
            let from = &b.values[step * b.row_stride + first..][..count];
            if count == PANEL {
                line.0.copy_from_slice(from);
            } else {
                line.0[..count].copy_from_slice(from);
            }
        }
        return;
    }
    let columns = &b.values[first * b.column_stride..];
    if b.row_stride == 1 {
        let steps = lines.len();
        assert!(count == 0 || steps == 0 || (count - 1) * b.column_stride + steps <= columns.len());
        // SAFETY: the columns were checked just now, and lines are that many rows of `PANEL` values.
        unsafe { transpose(columns.as_ptr(), b.column_stride, (count, steps), lines.as_mut_ptr().cast(), PANEL) };
        return;
    }
    for (step, line) in lines.iter_mut().enumerate() {
        for (column, value) in line.0.iter_mut().enumerate().take(count) {
            *value = columns[step * b.row_stride + column * b.column_stride];
        }
    }
}

struct Product<'a> {
    panels: &'a Panels,
    out: Output<'a>,
    a: Operand<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many sums as the registers hold: of 16 (two a line), 32 with twice as long vectors, 32 with half as long ones.
        match S::F32_LANES {
            8 => self.run::<S, 6, 2, 1>(simd),
            16 => self.run::<S, 12, 1, 1>(simd),
            4 => self.run::<S, 6, 4, 2>(simd),
            _ => self.run::<S, 2, 16, 8>(simd),
        }
    }
}

impl Product<'_> {
    /// In blocks of `R` rows and `V` vectors, or `HALF` where no more are needed.
    #[inline(always)]
    fn run<S: Simd, const R: usize, const V: usize, const HALF: usize>(self, simd: S) {
        let depth = self.panels.depth;
        let passes = depth.div_ceil(DEPTH).max(1);
        for first in self.rows.clone().step_by(MOST * ROWS) {
            let rows = first..self.rows.end.min(first + MOST * ROWS);
            for pass in 0..passes {
                let steps = depth * pass / passes..depth * (pass + 1) / passes;
                let start = if pass > 0 { Start::Out } else { self.out.start };
                match self.a {
                    Operand::Matrix(a) => self.pass::<S, R, V, HALF>(simd, Rows(a), rows.clone(), steps, start),
                    Operand::Gathered(a) => self.pass::<S, R, V, HALF>(simd, a, rows.clone(), steps, start),
                }
            }
        }
    }

    #[inline(always)]
    fn pass<S: Simd, const R: usize, const V: usize, const HALF: usize>(
        &self,
        simd: S,
        a: impl Left,
        rows: Range<usize>,
        steps: Range<usize>,
        start: Start,
    ) {
        let lanes = S::F32_LANES;
        for panel in self.columns.clone() {
            let first = panel * PANEL;
            let count = PANEL.min(self.panels.columns - first);
            let lines = &self.panels.lines[panel * self.panels.depth..][steps.clone()];
            for row in rows.clone().step_by(R) {
                let rows = R.min(rows.end - row);
                // Rows beyond the last are the last again, and go nowhere.
                let mut starts = [a.values().as_ptr(); R];
                for (r, start) in starts.iter_mut().enumerate() {
                    *start = a.values()[a.start(row + r.min(rows - 1))..].as_ptr();
                }
                let to = Place { row, rows, first, count, start };
                // SAFETY: the left operand vouches for its places.
                unsafe {
                    if count <= HALF * lanes {
                        let sums = sums::<S, R, HALF>(simd, starts, a, steps.start, lines);
                        self.put(simd, sums, &to);
                    } else {
                        let sums = sums::<S, R, V>(simd, starts, a, steps.start, lines);
                        self.put(simd, sums, &to);
                    }
                }
            }
        }
    }

    /// Writes a block of sums.
    ///
    /// # Safety
    /// As [`Panels::multiply`].
    #[inline(always)]
    unsafe fn put<S: Simd, const R: usize, const V: usize>(&self, simd: S, sums: [[S::f32s; V]; R], to: &Place) {
        let &Place { row, rows, first, count, start } = to;
        let lanes = S::F32_LANES;
        let scale = simd.splat_f32s(self.out.scale);
        if count == V * lanes {
            for (r, sums) in sums.iter().enumerate() {
                if r >= rows {
                    break;
                }
                for (v, &sum) in sums.iter().enumerate() {
                    // SAFETY: the caller's; a whole vector lies within the product's row.
                    unsafe {
                        let to = self.out.to.add((row + r) * self.out.row_stride + first + v * lanes).cast::<S::f32s>();
                        let value = match start {
                            Start::Zero => simd.mul_f32s(sum, scale),
                            Start::Row(row) => {
                                let bias = row.as_ptr().add(first + v * lanes).cast::<S::f32s>().read_unaligned();
                                simd.mul_add_e_f32s(sum, scale, bias)
                            }
                            Start::Out => simd.mul_add_e_f32s(sum, scale, to.read_unaligned()),
                        };
                        to.write_unaligned(value);
                    }
                }
            }
            return;
        }
        for (r, sums) in sums.iter().enumerate().take(rows) {
            let sums: *const f32 = sums.as_ptr().cast();
            for i in 0..count {
                // SAFETY: the caller's; `sums` holds at least `count` values.
                unsafe {
                    let to = self.out.to.add((row + r) * self.out.row_stride + first + i);
                    let before = match start {
                        Start::Zero => 0.,
                        Start::Row(row) => row[first + i],
                        Start::Out => *to,
                    };
                    *to = before + *sums.add(i) * self.out.scale;
                }
            }
        }
    }
}

/// Which block of a product.
struct Place<'a> {
    row: usize,
    rows: usize,
    first: usize,
    count: usize,
    start: Start<'a>,
}

/// The sums over `lines` of the factors of `R` rows times `V` vectors of a line.
///
/// # Safety
/// The factors of all rows at the steps from `first` on must be readable.
#[inline(always)]
unsafe fn sums<S: Simd, const R: usize, const V: usize>(
    simd: S,
    starts: [*const f32; R],
    a: impl Left,
    first: usize,
    lines: &[Line],
) -> [[S::f32s; V]; R] {
    let mut sums = [[simd.splat_f32s(0.); V]; R];
    for (step, line) in (first..).zip(lines) {
        let offset = a.offset(step);
        let line: *const f32 = line.0.as_ptr();
        // SAFETY: a line has room for all vectors; the factors are the caller's.
        unsafe {
            let mut vectors = [simd.splat_f32s(0.); V];
            for (v, vector) in vectors.iter_mut().enumerate() {
                *vector = line.add(v * S::F32_LANES).cast::<S::f32s>().read_unaligned();
            }
            for (sums, start) in sums.iter_mut().zip(starts) {
                let factor = simd.splat_f32s(*start.add(offset));
                for (sum, &vector) in sums.iter_mut().zip(&vectors) {
                    *sum = simd.mul_add_e_f32s(factor, vector, *sum);
                }
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, factor: usize) -> Vec<f32> {
        (0..count).map(|i| (i * factor % 997) as f32 / 500. - 1.).collect()
    }

    #[test]
    fn every_width_of_vectors_gives_the_product() {
        for (rows, columns, depth) in [(1, 1, 1), (5, 3, 2), (7, 16, 300), (25, 24, 9), (100, 37, 33)] {
            let (a, b) = (numbers(rows * depth, 7919), numbers(depth * columns, 6007));
            let (left, panels) = (Matrix::new(&a, rows, depth), Panels::new(Matrix::new(&b, depth, columns), 1));
            let exact = |row: usize, column: usize| {
                (0..depth).map(|k| f64::from(a[row * depth + k]) * f64::from(b[k * columns + column])).sum::<f64>()
            };
            let run = |product: &dyn Fn(Product)| {
                let mut out = vec![0.25f32; rows * columns];
                let to = Output { to: out.as_mut_ptr(), row_stride: columns, start: Start::Out, scale: 2. };
                let columns_of = 0..columns.div_ceil(PANEL);
                product(Product {
                    panels: &panels,
                    out: to,
                    a: Operand::Matrix(left),
                    rows: 0..rows,
                    columns: columns_of,
                });
                for (i, value) in out.iter().enumerate() {
                    let exact = 0.25 + 2. * exact(i / columns, i % columns);
                    assert!((f64::from(*value) - exact).abs() < 1e-4, "{rows}x{columns}x{depth} at {i}");
                }
            };
            run(&|product| product.with_simd(pulp::Scalar::new()));
            run(&|product| pulp::Arch::new().dispatch(product));
            #[cfg(target_arch = "x86_64")]
            {
                if let Some(four) = pulp::x86::V2::try_new() {
                    run(&|product| Simd::vectorize(four, product));
                }
                if let Some(eight) = pulp::x86::V3::try_new() {
                    run(&|product| Simd::vectorize(eight, product));
                    run(&|product| Simd::vectorize(pulp::x86::V3_512b(eight), product));
                }
            }
        }
    }
}
