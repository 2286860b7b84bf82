//! Matrix products of bfloat16 parts with float32 sums, on the tiles of AMX or with AVX-512's dot products.
//!
//! A float32 is the exact sum of three bfloat16 numbers (three times eight of its 24 digits). Six of the nine products of the
//! parts of two factors hold all digits that float32 keeps; on tiles they take less time than one product in float32 on vector
//! registers. (Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
//! Computations", 2019.) With two parts and three products, about 16 digits are kept; with one part this is plain bfloat16.
//!
//! Both operands are first packed as tiles, rows of 16 pairs along the common dimension, zeros where a matrix ends.

use std::cell::Cell;
use std::sync::OnceLock;

use rayon::prelude::*;

use super::amx::{Tiles, amx_is_allowed};
use super::avx512_bf16::{dot_products, pack, store_narrow};
use super::{Kernel, Matrix, Output, Start};
use crate::value::Value;

/// Rows and columns of the part of a product that is summed up at a time: 2 x 2 tiles.
pub(super) const BLOCK: usize = 32;
/// Rows of a tile, and pairs in a row.
pub(super) const ROWS: usize = 16;
/// Values along the common dimension in one row of a tile.
pub(super) const STEP: usize = 2 * ROWS;
/// Bytes of a tile.
pub(super) const TILE: usize = ROWS * STEP * size_of::<u16>();
/// Steps between reading and writing a block of the product: the operands' parts fit the second-level cache.
const MOST_STEPS: usize = 16;
/// The longest common dimension that is packed at once.
pub const SLICE: usize = 2 * MOST_STEPS * STEP;
/// As above, for factors of one part: the product is then written fewer times.
pub const SLICE_OF_ONE: usize = 4 * MOST_STEPS * STEP;
/// Blocks of rows that one task takes, for the same reason.
const MOST_BLOCKS: usize = 8;

/// What this CPU multiplies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Tiles.
    Amx,
    /// Dot products of pairs in AVX-512.
    Avx512Bf16,
}

impl Unit {
    /// What a kernel for bfloat16 multiplies with.
    pub fn of(kernel: Kernel) -> Self {
        if kernel == Kernel::Amx { Self::Amx } else { Self::Avx512Bf16 }
    }
}

/// What this CPU has, found out once.
pub fn unit() -> Option<Unit> {
    static UNIT: OnceLock<Option<Unit>> = OnceLock::new();
    *UNIT.get_or_init(|| {
        let vectors = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16");
        vectors.then(|| if amx_is_allowed() { Unit::Amx } else { Unit::Avx512Bf16 })
    })
}

/// Which way round tiles hold an operand.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Side {
    /// A tile's rows are the operand's rows.
    Left,
    /// A tile's rows are pairs of the operand's rows, its columns the operand's columns.
    Right,
}

/// An operand, seen along its own and the common dimension.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a, V = f32> {
    pub values: &'a [V],
    pub side: Side,
    /// Rows of a left operand, columns of a right one.
    pub len: usize,
    pub stride: usize,
    /// The common dimension.
    pub depth: usize,
    pub depth_stride: usize,
    pub scale: f32,
}

impl<'a, V> Operand<'a, V> {
    /// The left operand of a product times `scale`.
    fn left(a: Matrix<'a, V>, scale: f32) -> Self {
        Self {
            values: a.values,
            side: Side::Left,
            len: a.rows,
            stride: a.row_stride,
            depth: a.columns,
            depth_stride: a.column_stride,
            scale,
        }
    }
}

/// Scratch memory, a cache line at a time.
#[repr(align(64))]
#[derive(Clone, Copy)]
pub(super) struct Line(#[allow(dead_code, reason = "read and written through pointers")] pub [u8; 64]);

thread_local! {
    // Taken out while it is in use: a thread that waits for its product's tasks may come to work on another product, which
    // then gets memory of its own.
    /// The left operand's tiles, kept from product to product.
    static LEFT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// The right operand's tiles.
    static RIGHT: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// A pointer that the tasks of one product share.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);
// SAFETY: the tasks write to different places behind it.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// A method, so that closures take the whole and not the pointer inside.
    fn get(self) -> *mut T {
        self.0
    }
}

/// How a common dimension is walked through: passes of as many steps each.
#[derive(Clone, Copy)]
struct Passes {
    all: usize,
    most: usize,
}

impl Passes {
    fn over(depth: usize) -> Self {
        let all = depth.div_ceil(STEP);
        Self { all, most: all.div_ceil(all.div_ceil(MOST_STEPS).max(1)).max(1) }
    }

    /// First step and number of steps of every pass.
    fn iter(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.all).step_by(self.most).map(move |first| (first, self.most.min(self.all - first)))
    }
}

/// A right operand packed as tiles.
pub struct PackedTiles {
    unit: Unit,
    parts: usize,
    depth: usize,
    columns: usize,
    tiles: Vec<Line>,
}

impl Drop for PackedTiles {
    fn drop(&mut self) {
        RIGHT.set(std::mem::take(&mut self.tiles));
    }
}

impl PackedTiles {
    /// Packs `b` in `parts` parts (1 to 3), on `threads` threads.
    pub fn new<B: Value>(unit: Unit, parts: usize, b: Matrix<B>, threads: usize) -> Self {
        Self::within(RIGHT.take(), (unit, parts), b, threads)
    }

    /// As above, in memory of its own size, to be kept.
    pub fn to_keep(unit: Unit, parts: usize, b: Matrix, threads: usize) -> Self {
        Self::within(vec![], (unit, parts), b, threads)
    }

    fn within<B: Value>(tiles: Vec<Line>, (unit, parts): (Unit, usize), b: Matrix<B>, threads: usize) -> Self {
        let mut right = Self { unit, parts, depth: b.rows, columns: b.columns, tiles };
        match (parts, b.as_wide()) {
            (1, _) => right.pack::<1, B>(b, threads),
            (2, Some(b)) => right.pack::<2, f32>(b, threads),
            (_, Some(b)) => right.pack::<3, f32>(b, threads),
            (_, None) => unreachable!("bfloat16 is one part"),
        }
        right
    }

    /// Whether it is of one part, as products with bfloat16 need it.
    pub fn is_narrow(&self) -> bool {
        self.parts == 1
    }

    fn blocks(&self) -> usize {
        self.columns.div_ceil(BLOCK)
    }

    /// Where the tiles of a pass that begins at step `first` are, for block `block`.
    fn offset<const PARTS: usize>(&self, (first, steps): (usize, usize), block: usize) -> usize {
        block_bytes::<PARTS>(first * self.blocks() + steps * block)
    }

    fn pack<const PARTS: usize, B: Value>(&mut self, b: Matrix<B>, threads: usize) {
        // A right operand is the left one of the product turned around, but for the side on which tiles hold it.
        let operand = Operand { side: Side::Right, ..Operand::left(b.t(), 1.) };
        let passes = Passes::over(self.depth);
        let mut tiles = std::mem::take(&mut self.tiles);
        let to = Shared(lines(&mut tiles, block_bytes::<PARTS>(self.blocks() * passes.all)));
        let size = self.blocks().div_ceil(2 * threads).clamp(1, MOST_BLOCKS);
        let groups = self.blocks().div_ceil(size);
        let pack_group = |group: usize| {
            let blocks = group * size..self.blocks().min((group + 1) * size);
            for pass in passes.iter() {
                // SAFETY: there is room for all blocks, and every task writes others; the CPU has the vectors.
                unsafe {
                    pack_blocks::<PARTS, B>(&operand, blocks.clone(), pass, |i| {
                        to.get().add(self.offset::<PARTS>(pass, blocks.start + i))
                    })
                }
            }
        };
        if threads == 1 {
            (0..groups).for_each(pack_group);
        } else {
            (0..groups).into_par_iter().for_each(pack_group);
        }
        self.tiles = tiles;
    }

    /// Writes `start + scale · a b` on this thread, for the columns of the blocks `blocks`.
    ///
    /// # Safety
    /// As [`super::multiply_to`].
    unsafe fn multiply_blocks<const PARTS: usize>(&self, out: Output, a: Matrix, blocks: std::ops::Range<usize>) {
        let Output { to: out, row_stride, start, scale } = out;
        let left = Operand::left(a, scale);
        let rows = a.rows.div_ceil(BLOCK);
        let mut scratch = LEFT.take();
        // SAFETY: the scratch is large enough, and the caller vouches for the output; whoever made this has the unit.
        unsafe {
            let tiles = (self.unit == Unit::Amx).then(|| Tiles::configure());
            for (pass, (first, steps)) in Passes::over(self.depth).iter().enumerate() {
                let bytes = block_bytes::<PARTS>(steps);
                let left_tiles = lines(&mut scratch, MOST_BLOCKS * bytes);
                let start = if pass > 0 { Start::Out } else { start };
                for chunk in (0..rows).step_by(MOST_BLOCKS) {
                    let chunk = chunk..rows.min(chunk + MOST_BLOCKS);
                    pack_blocks::<PARTS, f32>(&left, chunk.clone(), (first, steps), |i| left_tiles.add(i * bytes));
                    for column in blocks.clone() {
                        let offset = self.offset::<PARTS>((first, steps), column);
                        let b = self.tiles.as_ptr().cast::<u8>().add(offset);
                        for (i, row) in chunk.clone().enumerate() {
                            let (row, column) = (row * BLOCK, column * BLOCK);
                            let size = (BLOCK.min(a.rows - row), BLOCK.min(self.columns - column));
                            let (to, start) = (out.add(row * row_stride + column), start.at_column(column));
                            let a = left_tiles.add(i * bytes);
                            block::<PARTS>(tiles.as_ref(), (a, b, steps), (to, row_stride), size, start);
                        }
                    }
                }
            }
        }
        LEFT.set(scratch);
    }

    /// As [`PackedTiles::multiply_blocks`], of one part: what a task has of the left operand is packed once for all passes, and
    /// sums of several passes stay in the cache until the last one.
    ///
    /// # Safety
    /// As [`super::multiply_to`].
    unsafe fn multiply_blocks_of_one<A: Value, O: Value>(
        &self,
        out: Output<O>,
        a: Matrix<A>,
        blocks: std::ops::Range<usize>,
    ) {
        let Output { to: out, row_stride, start, scale } = out;
        let left = Operand::left(a, scale);
        let rows = a.rows.div_ceil(BLOCK);
        let passes = Passes::over(self.depth);
        let mut scratch = LEFT.take();
        let left_bytes = MOST_BLOCKS.min(rows) * block_bytes::<1>(passes.all);
        let memory = lines(&mut scratch, left_bytes + MOST_BLOCKS * BLOCK * BLOCK * size_of::<f32>());
        // SAFETY: the scratch is large enough, and the caller vouches for the output; whoever made this has the unit.
        unsafe {
            let all_sums: *mut f32 = memory.add(left_bytes).cast();
            let tiles = (self.unit == Unit::Amx).then(|| Tiles::configure());
            for chunk in (0..rows).step_by(MOST_BLOCKS) {
                let chunk = chunk..rows.min(chunk + MOST_BLOCKS);
                let left_tiles = |(first, steps): (usize, usize), i: usize| {
                    memory.add(block_bytes::<1>(first * chunk.len() + steps * i))
                };
                for (first, steps) in passes.iter() {
                    pack_blocks::<1, A>(&left, chunk.clone(), (first, steps), |i| left_tiles((first, steps), i));
                }
                for column in blocks.clone() {
                    let width = BLOCK.min(self.columns - column * BLOCK);
                    let mut bias = [0f32; BLOCK];
                    if let Start::Row(row) = start {
                        bias[..width].copy_from_slice(&row[column * BLOCK..][..width]);
                    }
                    for (first, steps) in passes.iter() {
                        let b = self.tiles.as_ptr().cast::<u8>().add(self.offset::<1>((first, steps), column));
                        for (i, row) in chunk.clone().enumerate() {
                            let height = BLOCK.min(a.rows - row * BLOCK);
                            let to = out.add(row * BLOCK * row_stride + column * BLOCK);
                            let own = all_sums.add(i * BLOCK * BLOCK);
                            let direct = !O::NARROW && (height, width) == (BLOCK, BLOCK);
                            let (from, from_stride) = match start {
                                _ if first > 0 => (own.cast_const(), BLOCK),
                                Start::Row(_) => (bias.as_ptr(), 0),
                                Start::Out if direct => (to.cast_const().cast(), row_stride),
                                Start::Zero | Start::Out => (std::ptr::null(), 0),
                            };
                            let last = first + steps == passes.all;
                            let (sums, stride) = if last && direct { (to.cast(), row_stride) } else { (own, BLOCK) };
                            let sums = Sums { from, from_stride, to: sums, to_stride: stride };
                            let a = left_tiles((first, steps), i);
                            match &tiles {
                                Some(tiles) => tiles.block::<1>(a, b, steps, sums),
                                None => dot_products::<1>((a, b), steps, (height, width), sums),
                            }
                            if last && !direct {
                                let add = matches!(start, Start::Out);
                                write_block(own, (to, row_stride), (height, width), add);
                            }
                        }
                    }
                }
            }
        }
        LEFT.set(scratch);
    }

    /// Writes `start + scale · a b` to `out` on `threads` threads.
    ///
    /// # Safety
    /// As [`super::multiply_to`].
    pub unsafe fn multiply<A: Value, O: Value>(&self, out: Output<O>, a: Matrix<A>, threads: usize) {
        let Output { row_stride, start, scale, .. } = out;
        assert!(a.columns == self.depth && self.depth > 0, "matrices that do not fit");
        let multiply = |to: *mut O, a: Matrix<A>, blocks| {
            let out = Output { to, row_stride, start, scale };
            // SAFETY: the caller's.
            unsafe {
                match (self.parts, out.as_wide(), a.as_wide()) {
                    (1, ..) => self.multiply_blocks_of_one(out, a, blocks),
                    (2, Some(out), Some(a)) => self.multiply_blocks::<2>(out, a, blocks),
                    (_, Some(out), Some(a)) => self.multiply_blocks::<3>(out, a, blocks),
                    _ => unreachable!("bfloat16 is one part"),
                }
            }
        };
        if threads == 1 {
            return multiply(out.to, a, 0..self.blocks());
        }
        // Tasks are chunks of rows, as many for every thread; where there are few rows, columns are shared out as well.
        let (rows, columns) = (a.rows.div_ceil(BLOCK), self.blocks());
        let chunks = rows.div_ceil(MOST_BLOCKS).next_multiple_of(threads).min(rows);
        let groups = threads.div_ceil(chunks).min(columns);
        let out = Shared(out.to);
        (0..chunks * groups).into_par_iter().with_max_len(1).for_each(|task| {
            let (chunk, group) = (task / groups, task % groups);
            let (first, end) = (chunk * rows / chunks * BLOCK, ((chunk + 1) * rows / chunks * BLOCK).min(a.rows));
            let blocks = group * columns / groups..(group + 1) * columns / groups;
            multiply(out.get().wrapping_add(first * row_stride), a.rows_from(first, end - first), blocks);
        });
    }
}

/// Packs blocks of an operand for a pass, the `i`th of them to `to(i)`, in an order that walks along the operand's memory.
///
/// # Safety
/// As [`pack`].
unsafe fn pack_blocks<const PARTS: usize, V: Value>(
    operand: &Operand<V>,
    blocks: std::ops::Range<usize>,
    (first, steps): (usize, usize),
    to: impl Fn(usize) -> *mut u8,
) {
    // SAFETY: the caller's.
    unsafe {
        if operand.depth_stride == 1 {
            for (i, block) in blocks.enumerate() {
                pack::<PARTS, V>(operand, block, first, steps, to(i));
            }
            return;
        }
        for step in 0..steps {
            for (i, block) in blocks.clone().enumerate() {
                pack::<PARTS, V>(operand, block, first + step, 1, to(i).add(block_bytes::<PARTS>(step)));
            }
        }
    }
}

/// Bytes of the tiles of a block of an operand over `steps` steps.
const fn block_bytes<const PARTS: usize>(steps: usize) -> usize {
    steps * PARTS * 2 * TILE
}

/// Scratch memory for `bytes` bytes.
pub(super) fn lines(scratch: &mut Vec<Line>, bytes: usize) -> *mut u8 {
    let count = bytes.div_ceil(size_of::<Line>());
    if scratch.len() < count {
        scratch.resize(count, Line([0; 64]));
    }
    scratch.as_mut_ptr().cast()
}

/// Where the sums of a block start from, zero if it is null, and where they go; rows lie so far apart.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub from: *const f32,
    pub from_stride: usize,
    pub to: *mut f32,
    pub to_stride: usize,
}

/// Writes the sums of a block, of `size` rows and columns, or adds them to what is there.
///
/// # Safety
/// `sums` must be those of a block, `out` valid for its rows and columns.
#[inline(always)]
pub(super) unsafe fn write_block<O: Value>(
    sums: *const f32,
    (out, row_stride): (*mut O, usize),
    size: (usize, usize),
    add: bool,
) {
    // SAFETY: the caller's.
    unsafe {
        if O::NARROW && size.1 == BLOCK && !add {
            return store_narrow(sums, out.cast(), row_stride, size.0);
        }
        for y in 0..size.0 {
            for x in 0..size.1 {
                let (sum, to) = (*sums.add(y * BLOCK + x), out.add(y * row_stride + x));
                to.write(O::of(if add { (*to).wide() + sum } else { sum }));
            }
        }
    }
}

/// One block of the product, of `size` rows and columns.
///
/// # Safety
/// `a` and `b` must be tiles of `steps` steps, `out` valid for the block; without `tiles` the CPU must have the dot products.
#[inline]
unsafe fn block<const PARTS: usize>(
    tiles: Option<&Tiles>,
    (a, b, steps): (*const u8, *const u8, usize),
    (out, row_stride): (*mut f32, usize),
    size: (usize, usize),
    start: Start,
) {
    // SAFETY: the caller's; what hangs over the edge goes through memory of its own.
    unsafe {
        let add_up = |sums: Sums| match tiles {
            Some(tiles) => tiles.block::<PARTS>(a, b, steps, sums),
            None => dot_products::<PARTS>((a, b), steps, size, sums),
        };
        if size == (BLOCK, BLOCK) {
            let (from, from_stride) = match start {
                Start::Zero => (std::ptr::null(), 0),
                Start::Row(row) => (row.as_ptr(), 0),
                Start::Out => (out.cast_const(), row_stride),
            };
            return add_up(Sums { from, from_stride, to: out, to_stride: row_stride });
        }
        let mut whole = [0f32; BLOCK * BLOCK];
        add_up(Sums { from: std::ptr::null(), from_stride: 0, to: whole.as_mut_ptr(), to_stride: BLOCK });
        for (y, row) in whole.chunks_exact(BLOCK).take(size.0).enumerate() {
            for (x, &sum) in row.iter().take(size.1).enumerate() {
                let to = out.add(y * row_stride + x);
                to.write(match start {
                    Start::Zero => sum,
                    Start::Row(row) => row[x] + sum,
                    Start::Out => *to + sum,
                });
            }
        }
    }
}
