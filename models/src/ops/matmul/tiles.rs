//! Matrix products of bfloat16 parts with float32 sums, on the tiles of AMX or with AVX-512's dot products.
//!
//! A float32 is the exact sum of three bfloat16 numbers (three times eight of its 24 digits). Six of the nine products of the
//! parts of two factors hold all digits that float32 keeps; on tiles they take less time than one product in float32 on vector
//! registers. (Henry, Tang, Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision
//! Computations", 2019.) With one part this is plain bfloat16.
//!
//! Both operands are first laid out as tiles, rows of 16 pairs along the common dimension, zeros where a matrix ends.

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::{Cell, UnsafeCell};
use std::sync::OnceLock;

use rayon::prelude::*;

use super::{Matrix, Start};

/// Rows and columns of the part of a product that is summed up at a time: 2 x 2 tiles.
const BLOCK: usize = 32;
/// Rows of a tile, and pairs in a row.
const ROWS: usize = 16;
/// Values along the common dimension in one row of a tile.
const STEP: usize = 2 * ROWS;
/// Bytes of a tile.
const TILE: usize = ROWS * STEP * size_of::<u16>();
/// Steps between reading and writing a block of the product: the operands' parts fit the second-level cache.
const MOST_STEPS: usize = 16;
/// A common dimension that one layout of tiles is made for at most.
pub const SLICE: usize = 2 * MOST_STEPS * STEP;
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

/// What this CPU has, found out once.
pub fn unit() -> Option<Unit> {
    static UNIT: OnceLock<Option<Unit>> = OnceLock::new();
    *UNIT.get_or_init(|| {
        let vectors = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512bf16");
        vectors.then(|| if amx_is_allowed() { Unit::Amx } else { Unit::Avx512Bf16 })
    })
}

/// Whether the CPU has tiles for bfloat16 and the kernel lets this process use them.
fn amx_is_allowed() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    // SAFETY: every x86-64 CPU has the instruction.
    #[allow(unused_unsafe, reason = "safe in newer compilers, not in the oldest that is supported")]
    let (most, features) = unsafe { (__cpuid(0).eax, __cpuid_count(7, 0).edx) };
    if most < 7 || features & (AMX_BF16 | AMX_TILE) != AMX_BF16 | AMX_TILE {
        return false;
    }
    #[cfg(target_os = "linux")]
    {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const XFEATURE_XTILEDATA: u64 = 18;
        let result: i64;
        // SAFETY: a system call that only changes what this process may use; it says so if it does not know the question.
        unsafe {
            asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA, out("rcx") _, out("r11") _);
        }
        result == 0
    }
    #[cfg(not(target_os = "linux"))]
    false
}

/// Which way round tiles hold an operand.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    /// A tile's rows are the operand's rows.
    Left,
    /// A tile's rows are pairs of the operand's rows, its columns the operand's columns.
    Right,
}

/// An operand, seen along its own and the common dimension.
#[derive(Clone, Copy)]
struct Operand<'a> {
    values: &'a [f32],
    side: Side,
    /// Rows of a left operand, columns of a right one.
    len: usize,
    stride: usize,
    /// The common dimension.
    depth: usize,
    depth_stride: usize,
    scale: f32,
}

/// Scratch memory, a cache line at a time.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line(#[allow(dead_code, reason = "read and written through pointers")] [u8; 64]);

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

/// A right operand laid out as tiles.
pub struct Right {
    unit: Unit,
    parts: usize,
    depth: usize,
    columns: usize,
    tiles: Vec<Line>,
}

impl Drop for Right {
    fn drop(&mut self) {
        RIGHT.set(std::mem::take(&mut self.tiles));
    }
}

impl Right {
    /// Lays out `b` in `parts` parts (1 or 3), on `threads` threads.
    pub fn new(unit: Unit, parts: usize, b: Matrix, threads: usize) -> Self {
        Self::within(RIGHT.take(), (unit, parts), b, threads)
    }

    /// As above, in memory of its own size, to be kept.
    pub fn to_keep(unit: Unit, parts: usize, b: Matrix, threads: usize) -> Self {
        Self::within(vec![], (unit, parts), b, threads)
    }

    fn within(tiles: Vec<Line>, (unit, parts): (Unit, usize), b: Matrix, threads: usize) -> Self {
        let mut right = Self { unit, parts, depth: b.rows, columns: b.columns, tiles };
        match parts {
            1 => right.lay_out::<1>(b, threads),
            _ => right.lay_out::<3>(b, threads),
        }
        right
    }

    fn blocks(&self) -> usize {
        self.columns.div_ceil(BLOCK)
    }

    /// Where the tiles of a pass that begins at step `first` are, for block `block`.
    fn offset<const PARTS: usize>(&self, (first, steps): (usize, usize), block: usize) -> usize {
        block_bytes::<PARTS>(first * self.blocks() + steps * block)
    }

    fn lay_out<const PARTS: usize>(&mut self, b: Matrix, threads: usize) {
        let operand = Operand {
            values: b.values,
            side: Side::Right,
            len: b.columns,
            stride: b.column_stride,
            depth: b.rows,
            depth_stride: b.row_stride,
            scale: 1.,
        };
        let passes = Passes::over(self.depth);
        let mut tiles = std::mem::take(&mut self.tiles);
        let to = Shared(lines(&mut tiles, block_bytes::<PARTS>(self.blocks() * passes.all)));
        let lay_out = |block: usize| {
            for (first, steps) in passes.iter() {
                let offset = self.offset::<PARTS>((first, steps), block);
                // SAFETY: there is room for all blocks, and every task writes another; the CPU has the vectors.
                unsafe { pack::<PARTS>(&operand, block, first, steps, to.get().add(offset)) }
            }
        };
        if threads == 1 {
            (0..self.blocks()).for_each(lay_out);
        } else {
            (0..self.blocks()).into_par_iter().for_each(lay_out);
        }
        self.tiles = tiles;
    }

    /// Writes `start + scale · a b` on this thread, for the columns of the blocks `blocks`.
    ///
    /// # Safety
    /// As [`super::multiply_at`].
    unsafe fn multiply_blocks<const PARTS: usize>(
        &self,
        out: *mut f32,
        row_stride: usize,
        start: Start,
        a: Matrix,
        scale: f32,
        blocks: std::ops::Range<usize>,
    ) {
        let left = Operand {
            values: a.values,
            side: Side::Left,
            len: a.rows,
            stride: a.row_stride,
            depth: self.depth,
            depth_stride: a.column_stride,
            scale,
        };
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
                    for (i, block) in chunk.clone().enumerate() {
                        pack::<PARTS>(&left, block, first, steps, left_tiles.add(i * bytes));
                    }
                    for column in blocks.clone() {
                        let offset = self.offset::<PARTS>((first, steps), column);
                        let b = self.tiles.as_ptr().cast::<u8>().add(offset);
                        for (i, row) in chunk.clone().enumerate() {
                            let (row, column) = (row * BLOCK, column * BLOCK);
                            let at = out.add(row * row_stride + column);
                            let size = (BLOCK.min(a.rows - row), BLOCK.min(self.columns - column));
                            let a = left_tiles.add(i * bytes);
                            block::<PARTS>(tiles.as_ref(), a, b, steps, at, row_stride, size, start.at_column(column));
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
    /// As [`super::multiply_at`].
    pub unsafe fn multiply(
        &self,
        out: *mut f32,
        row_stride: usize,
        start: Start,
        a: Matrix,
        scale: f32,
        threads: usize,
    ) {
        let multiply = |out: *mut f32, a: Matrix, blocks| {
            // SAFETY: the caller's.
            unsafe {
                match self.parts {
                    1 => self.multiply_blocks::<1>(out, row_stride, start, a, scale, blocks),
                    _ => self.multiply_blocks::<3>(out, row_stride, start, a, scale, blocks),
                }
            }
        };
        if threads == 1 {
            return multiply(out, a, 0..self.blocks());
        }
        // Tasks are chunks of rows, as many for every thread; where there are few rows, columns are shared out as well.
        let (rows, columns) = (a.rows.div_ceil(BLOCK), self.blocks());
        let chunks = rows.div_ceil(MOST_BLOCKS).next_multiple_of(threads).min(rows);
        let groups = threads.div_ceil(chunks).min(columns);
        let out = Shared(out);
        (0..chunks * groups).into_par_iter().with_max_len(1).for_each(|task| {
            let (chunk, group) = (task / groups, task % groups);
            let (first, end) = (chunk * rows / chunks * BLOCK, ((chunk + 1) * rows / chunks * BLOCK).min(a.rows));
            let blocks = group * columns / groups..(group + 1) * columns / groups;
            multiply(out.get().wrapping_add(first * row_stride), a.rows_from(first, end - first), blocks);
        });
    }
}

/// Bytes of the tiles of a block of an operand over `steps` steps.
const fn block_bytes<const PARTS: usize>(steps: usize) -> usize {
    steps * PARTS * 2 * TILE
}

/// Scratch memory for `bytes` bytes.
fn lines(scratch: &mut Vec<Line>, bytes: usize) -> *mut u8 {
    let count = bytes.div_ceil(size_of::<Line>());
    if scratch.len() < count {
        scratch.resize(count, Line([0; 64]));
    }
    scratch.as_mut_ptr().cast()
}

/// Lays out `steps` steps from `first_step` of block `block` of an operand at `to`: step after step the parts, highest first,
/// and of every part two tiles.
///
/// # Safety
/// `to` must be aligned to 64 and have room; the CPU must have the vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn pack<const PARTS: usize>(operand: &Operand, block: usize, first_step: usize, steps: usize, to: *mut u8) {
    let along_depth = operand.depth_stride == 1;
    // What is read in vectors along one dimension has to be turned where tiles hold it along the other.
    let turn = along_depth != (operand.side == Side::Left);
    let scale = _mm512_set1_ps(operand.scale);
    let values = operand.values.as_ptr();
    let first_lanes = |count: usize| -> u16 { if count >= 16 { u16::MAX } else { (1 << count) - 1 } };
    for step in 0..steps {
        let depth = (first_step + step) * STEP;
        let depths = operand.depth.saturating_sub(depth).min(STEP);
        for tile in 0..2 {
            let at = block * BLOCK + tile * ROWS;
            let count = operand.len.saturating_sub(at).min(ROWS);
            let mut rows = [[_mm512_setzero_si512(); ROWS]; PARTS];
            // SAFETY: lanes beyond the operand are masked out and not read.
            unsafe {
                if along_depth {
                    let masks = [first_lanes(depths), first_lanes(depths.saturating_sub(16))];
                    for i in 0..count {
                        let from = values.wrapping_add((at + i) * operand.stride + depth);
                        let low = _mm512_mul_ps(_mm512_maskz_loadu_ps(masks[0], from), scale);
                        let high = _mm512_mul_ps(_mm512_maskz_loadu_ps(masks[1], from.wrapping_add(16)), scale);
                        for (rows, part) in rows.iter_mut().zip(split::<PARTS, true>(low, high)) {
                            rows[i] = part;
                        }
                    }
                } else {
                    for i in 0..depths.div_ceil(2) {
                        let mask = first_lanes(count);
                        let from = values.wrapping_add((depth + 2 * i) * operand.depth_stride + at);
                        let second = if 2 * i + 1 < depths { mask } else { 0 };
                        let low = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, from), scale);
                        let from = from.wrapping_add(operand.depth_stride);
                        let high = _mm512_mul_ps(_mm512_maskz_loadu_ps(second, from), scale);
                        for (rows, part) in rows.iter_mut().zip(split::<PARTS, false>(low, high)) {
                            rows[i] = part;
                        }
                    }
                }
                for (part, rows) in rows.iter_mut().enumerate() {
                    if turn {
                        transpose(rows);
                    }
                    let to = to.add(((step * PARTS + part) * 2 + tile) * TILE).cast::<__m512i>();
                    for (i, row) in rows.iter().enumerate() {
                        _mm512_store_si512(to.add(i), *row);
                    }
                }
            }
        }
    }
}

/// The parts of 32 numbers, highest first: in order if `low` and `high` follow one another (`IN_ORDER`), else in pairs of one
/// of `low` and one of `high`. Every part is what is left rounded to nearest, so that the products that are left out are small
/// and of either sign; the last one is exact.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
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
        if i + 1 < PARTS {
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

/// One block of the product, of `size` rows and columns.
///
/// # Safety
/// `a` and `b` must be tiles of `steps` steps, `out` valid for the block; without `tiles` the CPU must have the dot products.
#[allow(clippy::too_many_arguments, reason = "the inner loop")]
#[inline]
unsafe fn block<const PARTS: usize>(
    tiles: Option<&Tiles>,
    a: *const u8,
    b: *const u8,
    steps: usize,
    out: *mut f32,
    row_stride: usize,
    size: (usize, usize),
    start: Start,
) {
    // SAFETY: the caller's; what hangs over the edge goes through memory of its own.
    unsafe {
        if size == (BLOCK, BLOCK) {
            let (from, stride) = match start {
                Start::Zero => (std::ptr::null(), 0),
                Start::Row(row) => (row.as_ptr(), 0),
                Start::Out => (out.cast_const(), row_stride),
            };
            match tiles {
                Some(tiles) => tiles.block::<PARTS>(a, b, steps, from, stride, out, row_stride),
                None => dot_products::<PARTS>(a, b, steps, from, stride, out, row_stride),
            }
            return;
        }
        let mut whole = [0f32; BLOCK * BLOCK];
        let whole_at = whole.as_mut_ptr();
        match tiles {
            Some(tiles) => tiles.block::<PARTS>(a, b, steps, std::ptr::null(), 0, whole_at, BLOCK),
            None => dot_products::<PARTS>(a, b, steps, std::ptr::null(), 0, whole_at, BLOCK),
        }
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

/// The tile registers while they are set up: 8 tiles of 16 rows of 64 bytes. 0 to 3 hold sums, 4 and 5 the left operand, 6 and
/// 7 the right one.
struct Tiles {
    /// Where a store goes that nobody reads.
    idle: UnsafeCell<[Line; TILE / 64]>,
}

impl Tiles {
    /// # Safety
    /// The process must be allowed to use them.
    unsafe fn configure() -> Self {
        #[repr(align(64))]
        struct Config([u8; 64]);
        static CONFIG: Config = Config({
            let mut config = [0; 64];
            config[0] = 1;
            let mut tile = 0;
            while tile < 8 {
                config[16 + 2 * tile] = 64;
                config[48 + tile] = ROWS as u8;
                tile += 1;
            }
            config
        });
        // SAFETY: the caller's.
        unsafe { asm!("ldtilecfg [{}]", in(reg) CONFIG.0.as_ptr(), options(nostack, readonly)) };
        Self { idle: UnsafeCell::new([Line([0; 64]); TILE / 64]) }
    }

    /// A whole block; the sums start from `from`, or from zero if it is null.
    ///
    /// # Safety
    /// As [`block`], with rows of `from` a `from_stride` apart.
    #[allow(clippy::too_many_arguments, reason = "the inner loop")]
    #[inline]
    unsafe fn block<const PARTS: usize>(
        &self,
        a: *const u8,
        b: *const u8,
        steps: usize,
        from: *const f32,
        from_stride: usize,
        out: *mut f32,
        row_stride: usize,
    ) {
        // SAFETY: the caller's. Sums stay in tiles between the pieces, which nothing else touches.
        unsafe {
            if from.is_null() {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, options(nostack, nomem));
            } else {
                asm!("tileloadd tmm0, [{upper} + {stride}*1]", "tileloadd tmm1, [{upper} + {stride}*1 + 64]",
                    "tileloadd tmm2, [{lower} + {stride}*1]", "tileloadd tmm3, [{lower} + {stride}*1 + 64]",
                    upper = in(reg) from, lower = in(reg) from.wrapping_add(ROWS * from_stride), stride = in(reg) 4 * from_stride,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, options(nostack, readonly));
            }
            if PARTS == 3 {
                // The parts in an order in which every piece loads one pair of tiles only, small products first. Four steps,
                // then a store that nobody reads: measured on a Xeon with AMX, the stores at the end of a block hold up the
                // next one for two steps' time if more than five steps passed without a store.
                asm!(".macro tallow_step a, b, row",
                    "tileloadd tmm4, [\\a + \\row + 4096]", "tileloadd tmm6, [\\b + \\row]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tileloadd tmm7, [\\b + \\row + 1024]", "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [\\a + \\row + 5120]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm4, [\\a + \\row + 2048]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [\\a + \\row + 3072]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm6, [\\b + \\row + 2048]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm2, tmm5, tmm6",
                    "tileloadd tmm7, [\\b + \\row + 3072]", "tdpbf16ps tmm1, tmm4, tmm7", "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm4, [\\a + \\row]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [\\a + \\row + 1024]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm6, [\\b + \\row + 4096]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm2, tmm5, tmm6",
                    "tileloadd tmm7, [\\b + \\row + 5120]", "tdpbf16ps tmm1, tmm4, tmm7", "tdpbf16ps tmm3, tmm5, tmm7",
                    "tileloadd tmm6, [\\b + \\row]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm2, tmm5, tmm6",
                    "tileloadd tmm7, [\\b + \\row + 1024]", "tdpbf16ps tmm1, tmm4, tmm7", "tdpbf16ps tmm3, tmm5, tmm7",
                    "add \\a, 6144", "add \\b, 6144",
                    ".endm",
                    "test {fours}, {fours}", "jz 3f",
                    "2:", ".rept 4", "tallow_step {a}, {b}, {row}", ".endr",
                    "tilestored [{idle} + {row}], tmm0", "dec {fours}", "jnz 2b",
                    "3:", "test {rest}, {rest}", "jz 5f",
                    "4:", "tallow_step {a}, {b}, {row}", "dec {rest}", "jnz 4b",
                    "5:", ".purgem tallow_step",
                    a = inout(reg) a => _, b = inout(reg) b => _, fours = inout(reg) steps / 4 => _,
                    rest = inout(reg) steps % 4 => _, row = in(reg) 64_usize, idle = in(reg) self.idle.get(),
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
                    out("tmm7") _, options(nostack));
            } else {
                asm!("2:",
                    "tileloadd tmm4, [{a} + {row}]", "tileloadd tmm6, [{b} + {row}]",
                    "tdpbf16ps tmm0, tmm4, tmm6", "tileloadd tmm7, [{b} + {row} + 1024]", "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{a} + {row} + 1024]", "tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {a}, 2048", "add {b}, 2048", "dec {steps}", "jnz 2b",
                    a = inout(reg) a => _, b = inout(reg) b => _, steps = inout(reg) steps => _, row = in(reg) 64_usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _, out("tmm5") _, out("tmm6") _,
                    out("tmm7") _, options(nostack, readonly));
            }
            asm!("tilestored [{upper} + {stride}*1], tmm0", "tilestored [{upper} + {stride}*1 + 64], tmm1",
                "tilestored [{lower} + {stride}*1], tmm2", "tilestored [{lower} + {stride}*1 + 64], tmm3",
                upper = in(reg) out, lower = in(reg) out.wrapping_add(ROWS * row_stride), stride = in(reg) 4 * row_stride,
                options(nostack));
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: they were set up. Released, they need not be saved when threads take turns.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// As [`Tiles::block`], on vector registers; of several parts only the highest products that [`Tiles::block`] takes.
///
/// # Safety
/// As [`Tiles::block`]; the CPU must have the dot products.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn dot_products<const PARTS: usize>(
    a: *const u8,
    b: *const u8,
    steps: usize,
    from: *const f32,
    from_stride: usize,
    out: *mut f32,
    row_stride: usize,
) {
    const PAIRS: [(usize, usize); 6] = [(2, 0), (1, 0), (1, 1), (0, 1), (0, 2), (0, 0)];
    let pairs = if PARTS == 3 { &PAIRS[..] } else { &PAIRS[5..] };
    /// Rows whose sums stay in registers.
    const HEIGHT: usize = 8;
    // SAFETY: the caller's.
    unsafe {
        for top in (0..BLOCK).step_by(HEIGHT) {
            let mut sums = [[_mm512_setzero_ps(); 2]; HEIGHT];
            if !from.is_null() {
                for (i, sums) in sums.iter_mut().enumerate() {
                    let row = from.add((top + i) * from_stride);
                    *sums = [_mm512_loadu_ps(row), _mm512_loadu_ps(row.add(16))];
                }
            }
            for step in 0..steps {
                for &(pa, pb) in pairs {
                    // The tile of the left operand that holds the rows, from its first of them.
                    let tile = ((step * PARTS + pa) * 2 + top / ROWS) * TILE + top % ROWS * 64;
                    let rows = a.add(tile).cast::<i32>();
                    let columns = b.add((step * PARTS + pb) * 2 * TILE).cast::<__m512i>();
                    for pair in 0..ROWS {
                        let right: [__m512bh; 2] =
                            [columns.add(pair), columns.add(ROWS + pair)].map(|at| std::mem::transmute(*at));
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let left: __m512bh = std::mem::transmute(_mm512_set1_epi32(*rows.add(i * ROWS + pair)));
                            *sums = [0, 1].map(|x| _mm512_dpbf16_ps(sums[x], left, right[x]));
                        }
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                let row = out.add((top + i) * row_stride);
                _mm512_storeu_ps(row, sums[0]);
                _mm512_storeu_ps(row.add(16), sums[1]);
            }
        }
    }
}
