//! Matrix products on vector registers, in float32: a block of the product is summed up in registers, from factors of the left
//! operand that are spread over a vector each, and rows of a panel of the right operand.
//!
//! The right operand is packed once for all rows and threads. Of the left one, a part that fits into the second-level cache
//! is packed at a time, if it has enough columns to meet; else it is read where it lies, as are the windows of an image.
//! Every value of a product is summed up in the same order, whatever the number of rows and threads.

use std::cell::Cell;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Kernel, Matrix, Start, kernels};
use crate::memory::Shared;
use crate::transpose::transpose;
use crate::value::Value;

/// Columns of a panel: a cache line.
pub const PANEL: usize = 16;
/// Steps along the common dimension between reading and writing a block of the product: a panel's part stays in the first-level
/// cache, a task's rows of the left operand in the second-level cache.
const DEPTH: usize = 384;
/// The longest common dimension that is packed at once: four times as many steps.
pub const SLICE: usize = 4 * DEPTH;
/// Rows and multiplications from which packing operands for one product pays.
pub const FEWEST_ROWS: usize = 32;
/// As above.
pub const FEWEST: usize = 1 << 20;
/// Rows that tasks are made of: whole blocks of every vector width.
pub const ROWS: usize = 12;
/// As many of them at a time have their factors in the second-level cache.
const MOST: usize = 16;
/// Panels that make up for packing the left operand.
const ENOUGH: usize = 8;
/// Steps from having factors brought near to their use: what takes as long as the third-level cache does.
const AHEAD: usize = 24;
/// Values of a right operand from which packing it is work for several threads.
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
    /// Factors of the left operand, as [`PackedRows`] has them.
    static FACTORS: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Some steps of a left operand: the factor of a row at a step lies at the start of the row plus the step's offset.
trait Left<const R: usize>: Copy {
    /// Where `R` rows from `row` on start; those beyond `end` are the last one again.
    fn starts(&self, row: usize, end: usize) -> [*const f32; R];
    /// How far from the start of any row its factor for a step lies.
    fn offset(&self, step: usize) -> usize;
    /// Has the factors for a later step brought near, where the CPU does not see them coming; it need not exist.
    #[inline(always)]
    fn fetch(&self, _: &[*const f32; R], _step: usize) {}
}

/// What a left operand can be.
#[derive(Clone, Copy)]
pub enum Operand<'a> {
    /// A matrix.
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

impl<const R: usize> Left<R> for Gathered<'_> {
    #[inline(always)]
    fn starts(&self, row: usize, end: usize) -> [*const f32; R] {
        std::array::from_fn(|r| self.values[self.starts[(row + r).min(end - 1)] as usize..].as_ptr())
    }

    #[inline(always)]
    fn offset(&self, step: usize) -> usize {
        debug_assert!(step < self.offsets.len());
        // SAFETY: there are as many as the common dimension is long, which `PackedPanels::multiply_block` checks.
        unsafe { *self.offsets.get_unchecked(step) as usize }
    }
}

/// A matrix with contiguous rows, where it lies.
#[derive(Clone, Copy)]
struct Rows<'a>(Matrix<'a>);

impl<const R: usize> Left<R> for Rows<'_> {
    #[inline(always)]
    fn starts(&self, row: usize, end: usize) -> [*const f32; R] {
        std::array::from_fn(|r| self.0.values[(row + r).min(end - 1) * self.0.row_stride..].as_ptr())
    }

    #[inline(always)]
    fn offset(&self, step: usize) -> usize {
        step
    }
}

/// A matrix with contiguous columns, where it lies: a block's factors for a step lie side by side.
#[derive(Clone, Copy)]
struct Columns<'a>(Matrix<'a>);

impl<const R: usize> Left<R> for Columns<'_> {
    #[inline(always)]
    fn starts(&self, row: usize, end: usize) -> [*const f32; R] {
        // Whole blocks have one pointer and constant distances from it, which need one register.
        let first = self.0.values[row.min(end - 1)..].as_ptr();
        if row + R <= end {
            return std::array::from_fn(|r| first.wrapping_add(r));
        }
        std::array::from_fn(|r| first.wrapping_add(r.min(end - 1 - row)))
    }

    #[inline(always)]
    fn offset(&self, step: usize) -> usize {
        step * self.0.column_stride
    }

    #[inline(always)]
    fn fetch(&self, starts: &[*const f32; R], step: usize) {
        fetch(starts[0].wrapping_add(step * self.0.column_stride));
        fetch(starts[R - 1].wrapping_add(step * self.0.column_stride));
    }
}

/// Rows from `first` on of a matrix, in blocks of as many as are multiplied at a time: their factors for a step lie side by
/// side, and those of one step after those of the other.
#[derive(Clone, Copy)]
struct PackedRows<'a> {
    factors: &'a [f32],
    first: usize,
    steps: usize,
}

impl<'a> PackedRows<'a> {
    /// Packs some rows and steps of a matrix in `memory`, which grows if it has to.
    #[inline(always)]
    fn new<const R: usize>(a: Matrix, rows: &Range<usize>, steps: &Range<usize>, memory: &'a mut Vec<f32>) -> Self {
        let size = rows.len().div_ceil(R) * R * steps.len();
        if memory.len() < size {
            memory.resize(size, 0.);
        }
        if steps.is_empty() {
            return Self { factors: memory, first: rows.start, steps: 0 };
        }
        let whole = rows.len() / R;
        if a.row_stride == 1 {
            // In the order in which they lie: all rows of a step, then the next.
            for (i, step) in steps.clone().enumerate() {
                let from = &a.values[step * a.column_stride + rows.start..][..whole * R];
                let later = from.as_ptr().wrapping_add(AHEAD / 2 * a.column_stride);
                for line in (0..whole * R).step_by(PANEL) {
                    fetch(later.wrapping_add(line));
                }
                for (block, from) in from.chunks_exact(R).enumerate() {
                    memory[(block * steps.len() + i) * R..][..R].copy_from_slice(from);
                }
            }
        }
        let blocks = rows.clone().step_by(R).zip(memory.chunks_exact_mut(R * steps.len()));
        for (row, factors) in blocks.skip(if a.row_stride == 1 { whole } else { 0 }) {
            let row_of = |r: usize| (row + r).min(rows.end - 1);
            if a.column_stride == 1 && R.is_multiple_of(4) && row + R <= rows.end {
                let from = &a.values[row * a.row_stride..][..(R - 1) * a.row_stride + steps.end][steps.start..];
                // SAFETY: the rows were checked just now; there is room for as many factors.
                unsafe { transpose(from.as_ptr(), a.row_stride, (R, steps.len()), factors.as_mut_ptr(), R) };
                continue;
            }
            if a.column_stride == 1 {
                let all: [&[f32]; R] = std::array::from_fn(|r| &a.values[row_of(r) * a.row_stride..][steps.clone()]);
                for (i, factors) in factors.chunks_exact_mut(R).enumerate() {
                    for (factor, row) in factors.iter_mut().zip(all) {
                        // SAFETY: every row has a factor for each of the steps.
                        *factor = unsafe { *row.get_unchecked(i) };
                    }
                }
                continue;
            }
            for (i, factors) in steps.clone().zip(factors.chunks_exact_mut(R)) {
                for (r, factor) in factors.iter_mut().enumerate() {
                    *factor = a.values[row_of(r) * a.row_stride + i * a.column_stride];
                }
            }
        }
        Self { factors: memory, first: rows.start, steps: steps.len() }
    }
}

impl<const R: usize> Left<R> for PackedRows<'_> {
    #[inline(always)]
    fn starts(&self, row: usize, _: usize) -> [*const f32; R] {
        let block = self.factors[(row - self.first) * self.steps..].as_ptr();
        std::array::from_fn(|r| block.wrapping_add(r))
    }

    #[inline(always)]
    fn offset(&self, step: usize) -> usize {
        step * R
    }
}

/// A right operand packed in panels.
pub struct PackedPanels {
    depth: usize,
    columns: usize,
    /// Lines from one panel to the next.
    stride: usize,
    /// Whether vectors are to be shorter than the CPU's longest.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only x86-64 has several"))]
    narrow: bool,
    lines: Vec<Line>,
}

impl Drop for PackedPanels {
    fn drop(&mut self) {
        PANELS.set(std::mem::take(&mut self.lines));
    }
}

/// Where a product goes: rows `row_stride` apart, times `scale`, added to `start`.
#[derive(Clone, Copy)]
pub struct Output<'a, O = f32> {
    pub to: *mut O,
    pub row_stride: usize,
    pub start: Start<'a>,
    pub scale: f32,
}

impl<'a, O: Value> Output<'a, O> {
    /// The same as an output of float32; none if it is not.
    pub fn as_wide(self) -> Option<Output<'a>> {
        let Self { to, row_stride, start, scale } = self;
        (!O::NARROW).then(|| Output { to: to.cast(), row_stride, start, scale })
    }
}

impl PackedPanels {
    /// Packs `b`, on so many threads.
    pub fn new(b: Matrix, threads: usize) -> Self {
        Self::within(PANELS.take(), b, threads)
    }

    /// As above, in memory of its own size, to be kept.
    pub fn to_keep(b: Matrix, threads: usize) -> Self {
        Self::within(vec![], b, threads)
    }

    /// The same, multiplied with the vectors of `kernel`; else it is those of small products.
    pub fn on(mut self, kernel: Kernel) -> Self {
        self.narrow = is_narrow(kernel);
        self
    }

    /// Panels whose values are whatever was in their memory, to be written by the caller, and which lie so that few of them share a
    /// set of the first-level cache.
    pub fn blank(depth: usize, columns: usize) -> Self {
        let mut panels =
            Self { depth, columns, stride: depth + 1, narrow: is_narrow(kernels().small), lines: PANELS.take() };
        panels.grow();
        panels
    }

    /// Panel by panel, [`PANEL`] values for every step.
    pub fn values(&mut self) -> &mut [f32] {
        let lines = self.grow();
        // SAFETY: a line is nothing but its values.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * PANEL) }
    }

    /// Lines from one panel to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The lines of all panels.
    fn grow(&mut self) -> &mut [Line] {
        let count = self.columns.div_ceil(PANEL) * self.stride;
        if self.lines.len() < count {
            self.lines.resize(count, Line([0.; PANEL]));
        }
        &mut self.lines[..count]
    }

    fn within(lines: Vec<Line>, b: Matrix, threads: usize) -> Self {
        let mut panels =
            Self { depth: b.rows, columns: b.columns, stride: b.rows, narrow: is_narrow(kernels().small), lines };
        let lines = panels.grow();
        if !lines.is_empty() {
            if threads > 1 && b.rows * b.columns >= LARGE {
                let panels = lines.par_chunks_exact_mut(b.rows).enumerate();
                panels.for_each(|(panel, lines)| pack_panel(b, panel * PANEL, lines));
            } else {
                let panels = lines.chunks_exact_mut(b.rows).enumerate();
                panels.for_each(|(panel, lines)| pack_panel(b, panel * PANEL, lines));
            }
        }
        panels
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

    /// Writes the product of `a` and some of the panels to where it lies in the product with all of them, on this thread.
    ///
    /// # Safety
    /// As [`PackedPanels::multiply`].
    pub unsafe fn multiply_panels(&self, out: Output, a: Operand, panels: Range<usize>) {
        // SAFETY: the caller's.
        unsafe { self.multiply_block(out, a, 0..a.size().0, panels) }
    }

    /// Some rows and panels of a product, on this thread.
    ///
    /// # Safety
    /// As [`PackedPanels::multiply`].
    unsafe fn multiply_block(&self, out: Output, a: Operand, rows: Range<usize>, panels: Range<usize>) {
        let (all, steps) = a.size();
        assert!(steps == self.depth && rows.end <= all, "matrices that do not fit");
        out.start.assert_fits(self.columns);
        let product = Product { panels: self, out, a, rows, columns: panels };
        #[cfg(target_arch = "x86_64")]
        if self.narrow
            && let Some(simd) = pulp::x86::V3::try_new()
        {
            return Simd::vectorize(simd, product);
        }
        pulp::Arch::new().dispatch(product);
    }
}

/// Whether a kernel's vectors are shorter than the CPU's longest may be.
fn is_narrow(kernel: Kernel) -> bool {
    kernel == Kernel::Avx2
}

/// Packs the columns of `b` from `first` on as a panel.
fn pack_panel(b: Matrix, first: usize, lines: &mut [Line]) {
    let count = PANEL.min(b.columns - first);
    if b.column_stride == 1 {
        for (step, line) in lines.iter_mut().enumerate() {
            let from = &b.values[step * b.row_stride + first..][..count];
            fetch(from.as_ptr().wrapping_add(AHEAD * b.row_stride));
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

/// Has a line of memory brought near, where that can be asked for; it need not exist.
#[inline(always)]
fn fetch<T>(line: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch may be of any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

struct Product<'a> {
    panels: &'a PackedPanels,
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
            8 => self.run::<S, 6, 6, 3, 2, 1, 1>(simd),
            16 => self.run::<S, 12, 6, 6, 1, 2, 1>(simd),
            4 => self.run::<S, 6, 6, 3, 4, 1, 2>(simd),
            _ => self.run::<S, 2, 2, 1, 16, 1, 8>(simd),
        }
    }
}

impl Product<'_> {
    /// In blocks of `R` rows, or `F` where every row needs a register that points to it, or at most `T` where no more are left; and `V`
    /// vectors of `P` panels, or `HALF` of one panel where no more are needed.
    #[inline(always)]
    fn run<
        S: Simd,
        const R: usize,
        const F: usize,
        const T: usize,
        const V: usize,
        const P: usize,
        const HALF: usize,
    >(
        self,
        simd: S,
    ) {
        let depth = self.panels.depth;
        let passes = depth.div_ceil(DEPTH).max(1);
        // Of one size, up to a third above that: few rows left over would read all panels again.
        let parts = ((self.rows.len() + 2 * MOST * ROWS / 3) / (MOST * ROWS)).max(1);
        let most = self.rows.len().div_ceil(parts).next_multiple_of(ROWS).max(ROWS);
        for first in self.rows.clone().step_by(most) {
            let rows = first..self.rows.end.min(first + most);
            for pass in 0..passes {
                let steps = depth * pass / passes..depth * (pass + 1) / passes;
                let start = if pass > 0 { Start::Out } else { self.out.start };
                match self.a {
                    Operand::Matrix(a) if self.columns.len() < ENOUGH && a.row_stride == 1 => {
                        let a = Columns(a.columns_from(steps.start, steps.len()));
                        self.pass::<S, R, T, V, P, HALF>(simd, a, rows.clone(), steps, start);
                    }
                    Operand::Matrix(a) if self.columns.len() >= ENOUGH || a.column_stride != 1 => {
                        let mut memory = FACTORS.take();
                        let a = PackedRows::new::<R>(a, &rows, &steps, &mut memory);
                        self.pass::<S, R, T, V, P, HALF>(simd, a, rows.clone(), steps, start);
                        FACTORS.set(memory);
                    }
                    Operand::Matrix(a) => {
                        let a = Rows(a.columns_from(steps.start, steps.len()));
                        self.pass::<S, F, T, V, P, HALF>(simd, a, rows.clone(), steps, start);
                    }
                    Operand::Gathered(a) => {
                        let a = Gathered { offsets: &a.offsets[steps.clone()], ..a };
                        self.pass::<S, F, T, V, P, HALF>(simd, a, rows.clone(), steps, start);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn pass<S: Simd, const R: usize, const T: usize, const V: usize, const P: usize, const HALF: usize>(
        &self,
        simd: S,
        a: impl Left<R>,
        rows: Range<usize>,
        steps: Range<usize>,
        start: Start,
    ) {
        let mut panel = self.columns.start;
        while panel < self.columns.end {
            let narrow = self.panels.columns - panel * PANEL <= HALF * S::F32_LANES;
            if self.columns.end - panel >= P && !(P == 1 && narrow) {
                self.strip::<S, R, T, V, P>(simd, a, rows.clone(), steps.clone(), (panel, start));
                panel += P;
            } else {
                self.strip::<S, R, T, HALF, 1>(simd, a, rows.clone(), steps.clone(), (panel, start));
                panel += 1;
            }
        }
    }

    /// All rows of `P` neighbouring panels.
    #[inline(always)]
    fn strip<S: Simd, const R: usize, const T: usize, const V: usize, const P: usize>(
        &self,
        simd: S,
        a: impl Left<R>,
        rows: Range<usize>,
        steps: Range<usize>,
        (panel, start): (usize, Start),
    ) {
        let first = panel * PANEL;
        let count = (P * PANEL).min(self.panels.columns - first);
        let lines: [&[Line]; P] =
            std::array::from_fn(|p| &self.panels.lines[(panel + p) * self.panels.stride..][steps.clone()]);
        for row in rows.clone().step_by(R) {
            let starts = a.starts(row, rows.end);
            let to = Place { row, rows: R.min(rows.end - row), first, count, start };
            self.fetch_output(&to);
            // The next panels, a share of them with every block of rows.
            let (block, blocks) = ((row - rows.start) / R, rows.len().div_ceil(R));
            for lines in lines {
                let next = lines.as_ptr().wrapping_add(P * self.panels.stride);
                for line in steps.len() * block / blocks..steps.len() * (block + 1) / blocks {
                    fetch(next.wrapping_add(line));
                }
            }
            // SAFETY: the left operand vouches for its places.
            unsafe {
                if to.rows <= T && T < R {
                    let sums = sums::<S, R, T, V, P>(simd, starts, a, lines);
                    self.put_part(simd, &sums, &to);
                    continue;
                }
                let sums = sums::<S, R, R, V, P>(simd, starts, a, lines);
                if to.rows == R && to.count == P * V * S::F32_LANES {
                    self.put_whole(simd, sums, &to);
                } else {
                    // A copy, so that the sums themselves never leave the registers.
                    let copy = sums;
                    self.put_part(simd, &copy, &to);
                }
            }
        }
    }

    /// Has the rows of a block brought into the cache while its sums are computed: they lie far apart, so that the CPU does not
    /// see them coming.
    #[inline(always)]
    fn fetch_output(&self, to: &Place) {
        let at = |row: usize| self.out.to.wrapping_add(row * self.out.row_stride + to.first);
        let places = at(to.row) as usize | (self.out.row_stride * size_of::<f32>());
        let astride = !places.is_multiple_of(size_of::<Line>());
        for row in to.row..to.row + to.rows {
            let first = at(row);
            fetch(first);
            if to.count > PANEL {
                fetch(first.wrapping_add(PANEL));
            }
            if astride {
                fetch(first.wrapping_add(to.count - 1));
            }
        }
    }

    /// Writes a block of sums that is whole, straight from the registers.
    ///
    /// # Safety
    /// As [`PackedPanels::multiply`].
    #[inline(always)]
    unsafe fn put_whole<S: Simd, const R: usize, const V: usize, const P: usize>(
        &self,
        simd: S,
        sums: [[[S::f32s; V]; P]; R],
        to: &Place,
    ) {
        let scale = simd.splat_f32s(self.out.scale);
        let first = self.out.to.wrapping_add(to.row * self.out.row_stride + to.first);
        let (before, before_stride) = match to.start {
            Start::Zero => (std::ptr::null(), 0),
            Start::Row(row) => (row[to.first..].as_ptr(), 0),
            Start::Out => (first.cast_const(), self.out.row_stride),
        };
        // One turn for each case, so that none asks at every vector.
        if before.is_null() {
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sum) in sums.as_flattened().iter().enumerate() {
                    let to = first.wrapping_add(r * self.out.row_stride + v * S::F32_LANES);
                    // SAFETY: the caller's.
                    unsafe { put_vector(simd, sum, scale, std::ptr::null(), to) };
                }
            }
            return;
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.as_flattened().iter().enumerate() {
                let to = first.wrapping_add(r * self.out.row_stride + v * S::F32_LANES);
                // SAFETY: the caller's; a row that is added to is as long as the product's.
                unsafe { put_vector(simd, sum, scale, before.wrapping_add(r * before_stride + v * S::F32_LANES), to) };
            }
        }
    }

    /// Writes what the product has of a block of sums.
    ///
    /// # Safety
    /// As [`PackedPanels::multiply`].
    #[inline(always)]
    unsafe fn put_part<S: Simd, const R: usize, const V: usize, const P: usize>(
        &self,
        simd: S,
        sums: &[[[S::f32s; V]; P]; R],
        to: &Place,
    ) {
        let &Place { row, rows, first, count, start } = to;
        let lanes = S::F32_LANES;
        let scale = simd.splat_f32s(self.out.scale);
        for (r, sums) in sums.iter().enumerate() {
            if r >= rows {
                break;
            }
            for (v, &sum) in sums.as_flattened().iter().enumerate() {
                let first = first + v * lanes;
                let to = self.out.to.wrapping_add((row + r) * self.out.row_stride + first);
                let before = match start {
                    Start::Zero => std::ptr::null(),
                    Start::Row(row) => row.as_ptr().wrapping_add(first),
                    Start::Out => to.cast_const(),
                };
                // SAFETY: the caller's; so many values lie within the product's row.
                unsafe {
                    match count.saturating_sub(v * lanes).min(lanes) {
                        0 => break,
                        all if all == lanes => put_vector(simd, sum, scale, before, to),
                        some => {
                            // By the same instructions, so that a value does not depend on how many stand beside it.
                            let mut vector = [0f32; MOST_LANES];
                            if !before.is_null() {
                                std::ptr::copy_nonoverlapping(before, vector.as_mut_ptr(), some);
                            }
                            let own = vector.as_mut_ptr();
                            let before = if before.is_null() { before } else { own.cast_const() };
                            put_vector(simd, sum, scale, before, own);
                            std::ptr::copy_nonoverlapping(vector.as_ptr(), to, some);
                        }
                    }
                }
            }
        }
    }
}

/// Lanes of the longest vectors.
const MOST_LANES: usize = 16;

/// Writes `before + scale · sum`, or `scale · sum` where nothing was before.
///
/// # Safety
/// `to` must be valid for a vector's values, and `before`, if it is not null.
#[inline(always)]
unsafe fn put_vector<S: Simd>(simd: S, sum: S::f32s, scale: S::f32s, before: *const f32, to: *mut f32) {
    // SAFETY: the caller's.
    unsafe {
        let value = if before.is_null() {
            simd.mul_f32s(sum, scale)
        } else {
            simd.mul_add_e_f32s(sum, scale, before.cast::<S::f32s>().read_unaligned())
        };
        to.cast::<S::f32s>().write_unaligned(value);
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

/// The sums over as many lines of `P` panels of the factors of the first `T` of `R` rows times `V` vectors of a line.
///
/// # Safety
/// The factors of all rows at as many steps as there are lines must be readable.
#[inline(always)]
unsafe fn sums<S: Simd, const R: usize, const T: usize, const V: usize, const P: usize>(
    simd: S,
    starts: [*const f32; R],
    a: impl Left<R>,
    lines: [&[Line]; P],
) -> [[[S::f32s; V]; P]; T] {
    let mut sums = [[[simd.splat_f32s(0.); V]; P]; T];
    let steps = lines[0].len();
    let lines = lines.map(|lines| {
        assert_eq!(lines.len(), steps);
        lines.as_ptr()
    });
    // Two steps at a time, which halves the counting.
    for i in (0..steps / 2 * 2).step_by(2) {
        // SAFETY: the caller's; every panel has a line for each of the steps.
        unsafe {
            a.fetch(&starts, i + AHEAD);
            a.fetch(&starts, i + 1 + AHEAD);
            add_step(simd, &mut sums, starts, a.offset(i), lines.map(|lines| lines.add(i)));
            add_step(simd, &mut sums, starts, a.offset(i + 1), lines.map(|lines| lines.add(i + 1)));
        }
    }
    if steps % 2 == 1 {
        // SAFETY: as above.
        unsafe { add_step(simd, &mut sums, starts, a.offset(steps - 1), lines.map(|lines| lines.add(steps - 1))) };
    }
    sums
}

/// Adds the products of one step.
///
/// # Safety
/// There must be a factor so far from every start, and the lines.
#[inline(always)]
unsafe fn add_step<S: Simd, const R: usize, const T: usize, const V: usize, const P: usize>(
    simd: S,
    sums: &mut [[[S::f32s; V]; P]; T],
    starts: [*const f32; R],
    offset: usize,
    lines: [*const Line; P],
) {
    // SAFETY: a line has room for all vectors; lines and factors are the caller's.
    unsafe {
        let mut vectors = [[simd.splat_f32s(0.); V]; P];
        for (line, vectors) in lines.into_iter().zip(&mut vectors) {
            for (v, vector) in vectors.iter_mut().enumerate() {
                *vector = line.cast::<f32>().add(v * S::F32_LANES).cast::<S::f32s>().read_unaligned();
            }
        }
        for (sums, start) in sums.iter_mut().zip(starts) {
            let factor = simd.splat_f32s(*start.add(offset));
            for (sum, &vector) in sums.as_flattened_mut().iter_mut().zip(vectors.as_flattened()) {
                *sum = simd.mul_add_e_f32s(factor, vector, *sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn vectors_of_8_and_of_16_give_the_same_digits() {
        let (Some(eight), Some(sixteen)) = (pulp::x86::V3::try_new(), pulp::x86::V4::try_new()) else {
            eprintln!("skipped: this CPU has no AVX-512");
            return;
        };
        for (rows, columns, depth) in [(1, 1, 1), (13, 40, 7), (48, 32, 900), (25, 24, 385), (700, 17, 97)] {
            let (a, b) = (numbers(rows * depth, 7919), numbers(depth * columns, 6007));
            let panels = PackedPanels::new(Matrix::new(&b, depth, columns), 1);
            let product = |(start, scale): (Start, f32), run: &dyn Fn(Product)| {
                let mut out = vec![0.25f32; rows * columns];
                let to = Output { to: out.as_mut_ptr(), row_stride: columns, start, scale };
                let a = Operand::Matrix(Matrix::new(&a, rows, depth));
                run(Product { panels: &panels, out: to, a, rows: 0..rows, columns: 0..columns.div_ceil(PANEL) });
                out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            for of in [(Start::Out, 1.), (Start::Out, 0.7), (Start::Zero, 0.7)] {
                let of_eight = product(of, &|product| Simd::vectorize(eight, product));
                let of_sixteen = product(of, &|product| Simd::vectorize(sixteen, product));
                assert!(of_eight == of_sixteen, "{rows}x{columns}x{depth}");
            }
        }
    }

    fn numbers(count: usize, factor: usize) -> Vec<f32> {
        (0..count).map(|i| (i * factor % 997) as f32 / 500. - 1.).collect()
    }

    #[test]
    fn every_width_of_vectors_gives_the_product() {
        let sizes = [(1, 1, 1), (5, 3, 2), (7, 16, 300), (25, 24, 9), (100, 37, 33), (14, 150, 401), (26, 128, 0)];
        let turned = sizes.iter().flat_map(|&size| [(size, false), (size, true)]);
        for ((rows, columns, depth), turned) in turned {
            let (a, b) = (numbers(rows * depth, 7919), numbers(depth * columns, 6007));
            let left = if turned { Matrix::new(&a, depth, rows).t() } else { Matrix::new(&a, rows, depth) };
            let panels = PackedPanels::new(Matrix::new(&b, depth, columns), 1);
            let at = |row: usize, k: usize| f64::from(a[row * left.row_stride + k * left.column_stride]);
            let exact = |row: usize, column: usize| {
                (0..depth).map(|k| at(row, k) * f64::from(b[k * columns + column])).sum::<f64>()
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
                    assert!((f64::from(*value) - exact).abs() < 1e-4, "{rows}x{columns}x{depth}, {turned}, at {i}");
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
