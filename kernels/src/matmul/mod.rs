//! Matrix products of strided views, so that no operand is ever transposed by copying.
//!
//! | Instruction set | In |
//! |---|---|
//! | AMX | `amx.rs`, of bfloat16 parts that `bfloat16.rs` packs as tiles |
//! | AVX512-BF16, where bfloat16 is asked for | `avx512_bf16.rs`, of the same |
//! | AVX512-VNNI, where 8-bit integers are asked for and the right operand is kept | `int8.rs` |
//! | AVX-512, AVX2 | `float32.rs`, of panels that are packed there; products that are not worth packing by the crate `gemm` |
//! | NEON | `gemm`; convolutions in `float32.rs` |
//!
//! Which of them serves where a CPU has several is in `choice.rs`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
#[cfg(target_arch = "x86_64")]
mod bfloat16;
mod choice;
mod float32;
#[cfg(target_arch = "x86_64")]
mod int8;

use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use gemm::Parallelism;

use crate::memory::filled;
use crate::tasks;
use crate::transpose::transpose;
use crate::value::Value;

pub use choice::{Kernel, Kernels, KernelsError, kernels, set_kernels};
pub(crate) use float32::{Gathered, Operand, Output, PANEL, PackedPanels};

/// A matrix somewhere in memory: rows and columns lie any distance apart.
#[derive(Clone, Copy)]
pub struct Matrix<'a, V = f32> {
    values: &'a [V],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, V: Value> Matrix<'a, V> {
    /// A matrix whose rows follow one another.
    pub fn new(values: &'a [V], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// A matrix whose rows start `row_stride` values apart.
    pub fn strided(values: &'a [V], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(reach(rows, columns, row_stride) <= values.len(), "a matrix larger than its memory");
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// `count` rows from `first` on.
    pub fn rows_from(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "rows beyond a matrix");
        Self { values: self.values.get(first * self.row_stride..).unwrap_or_default(), rows: count, ..self }
    }

    /// `count` columns from `first` on.
    pub fn columns_from(self, first: usize, count: usize) -> Self {
        self.t().rows_from(first, count).t()
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

    /// The same as a matrix of float32; none if it is not.
    pub(crate) fn as_wide(self) -> Option<Matrix<'a>> {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        V::as_wide(values).map(|values| Matrix { values, rows, columns, row_stride, column_stride })
    }
}

/// The values that a matrix with contiguous rows spans.
fn reach(rows: usize, columns: usize, row_stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + columns }
}

/// Who works on a product: all threads, or the one that asks.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Threads {
    /// All threads.
    All,
    /// Only this one.
    One,
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// Nothing.
    Zero,
    /// One row, under all rows of the product: a bias.
    Row(&'a [f32]),
    /// What is in the output's place.
    Out,
}

impl Start<'_> {
    /// Panics if a row is not as long as a product has columns.
    fn assert_fits(self, columns: usize) {
        if let Self::Row(row) = self {
            assert_eq!(row.len(), columns, "a bias that does not fit");
        }
    }

    /// What the columns from `column` on start from.
    #[cfg(target_arch = "x86_64")]
    fn at_column(self, column: usize) -> Self {
        match self {
            Self::Row(row) => Self::Row(&row[column..]),
            other => other,
        }
    }
}

/// The digits that the factors of matrix products keep. Values are float32 in memory, and sums float32, whichever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MatmulPrecision {
    /// Those of float32.
    #[default]
    Float32,
    /// About 16 of 24, on CPUs with AMX: two bfloat16 parts of every factor, three products of parts. PyTorch calls it "high".
    Float32x2,
    /// Those of bfloat16 (8 instead of 24), on CPUs that have instructions for it.
    BFloat16,
    /// As [`MatmulPrecision::BFloat16`], but what is packed to be kept ([`Packed::to_keep`]) is rounded to 8-bit integers, as are the
    /// rows that it is multiplied by, on CPUs that have instructions for it ([`multiplies_integers`]): for models that only predict.
    Int8,
}

static PRECISION: AtomicU8 = AtomicU8::new(MatmulPrecision::Float32 as u8);

/// Sets the precision of all matrix products from here on, in the whole process, as PyTorch's
/// `set_float32_matmul_precision` does. It changes nothing on CPUs without instructions for it ([`matmul_kernel`]).
pub fn set_matmul_precision(precision: MatmulPrecision) {
    PRECISION.store(precision as u8, Ordering::Relaxed);
}

/// Whether products are to read bfloat16, where they can.
pub fn computes_narrow() -> bool {
    matches!(precision(), MatmulPrecision::BFloat16 | MatmulPrecision::Int8)
}

/// Whether what only predicts is to be multiplied in 8-bit integers.
pub fn computes_integers() -> bool {
    precision() == MatmulPrecision::Int8 && multiplies_integers()
}

/// Whether this CPU has dot products of 8-bit integers in AVX-512.
pub fn multiplies_integers() -> bool {
    #[cfg(target_arch = "x86_64")]
    return int8::is_served();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn precision() -> MatmulPrecision {
    match PRECISION.load(Ordering::Relaxed) {
        0 => MatmulPrecision::Float32,
        1 => MatmulPrecision::Float32x2,
        2 => MatmulPrecision::BFloat16,
        _ => MatmulPrecision::Int8,
    }
}

/// What large matrix products run on for a precision, in words; `None` if nothing multiplies at that precision.
pub fn matmul_kernel(precision: MatmulPrecision) -> Option<&'static str> {
    let kernels = kernels();
    let kernel = match precision {
        MatmulPrecision::Float32 | MatmulPrecision::Float32x2 => kernels.large,
        MatmulPrecision::BFloat16 => kernels.bfloat16?,
        MatmulPrecision::Int8 => return multiplies_integers().then_some("AVX512-VNNI"),
    };
    Some(match (kernel, precision) {
        (Kernel::Amx, MatmulPrecision::Float32) => "AMX, float32 in three bfloat16 parts",
        (Kernel::Amx, MatmulPrecision::Float32x2) => "AMX, float32 in two bfloat16 parts",
        (Kernel::Amx, _) => "AMX, bfloat16",
        (Kernel::Avx512Bf16, _) => "AVX512-BF16",
        (Kernel::Avx512, _) => "AVX-512",
        (Kernel::Avx2, _) => "AVX2",
        (Kernel::Gemm, _) if cfg!(target_arch = "aarch64") => "NEON",
        (Kernel::Gemm, _) => "the crate gemm",
    })
}

/// Whether a product of these sizes runs on tiles, whose operands have to be packed.
pub(crate) fn on_tiles(rows: usize, columns: usize, depth: usize) -> bool {
    service(kernels(), precision(), (rows, columns, depth)).packs_tiles()
}

/// `start + a b`, on all threads.
pub fn product(start: Start, a: Matrix, b: Matrix) -> Vec<f32> {
    // SAFETY: the product covers the output.
    unsafe { filled(a.rows * b.columns, |out| multiply(out, start, a, b, Threads::All)) }
}

/// `aᵀ b` for two matrices of as many rows, each given with the length of its rows.
pub fn product_of_rows<A: Value, B: Value>((a, a_width): (&[A], usize), (b, b_width): (&[B], usize)) -> Vec<f32> {
    let rows = a.len() / a_width;
    let (a, b) = (Matrix::new(a, rows, a_width).t(), Matrix::new(b, rows, b_width));
    let service = service(kernels(), precision(), (a_width, b_width, rows));
    if let (Service::Panels(_), Some(a), Some(b)) = (service, a.as_wide(), b.as_wide())
        && a_width < b_width
    {
        // Panels of the narrower operand, and the other one where it lies: the product comes out transposed.
        let transposed = product(Start::Zero, b.t(), a.t());
        // SAFETY: as many values are written as there is room for.
        return unsafe {
            filled(a_width * b_width, |out| {
                transpose(transposed.as_ptr(), a_width, (b_width, a_width), out.as_mut_ptr().cast(), b_width);
            })
        };
    }
    // SAFETY: the product covers the output.
    unsafe {
        filled(a_width * b_width, |out| {
            let to: *mut f32 = out.as_mut_ptr().cast();
            multiply_to(Output { to, row_stride: b_width, start: Start::Zero, scale: 1. }, a, b, Threads::All)
        })
    }
}

/// Writes `a b` into `out`, a matrix whose rows follow one another, added to `start`.
pub(crate) fn multiply(out: &mut [MaybeUninit<f32>], start: Start, a: Matrix, b: Matrix, threads: Threads) {
    assert!(a.rows * b.columns <= out.len(), "a product larger than its memory");
    assert!(!matches!(start, Start::Out), "what is there may not be initialised");
    // SAFETY: `out` has room for the product, and is only written to.
    unsafe {
        multiply_to(
            Output::<f32> { to: out.as_mut_ptr().cast(), row_stride: b.columns, start, scale: 1. },
            a,
            b,
            threads,
        )
    }
}

/// Adds `a b` to `out`, a matrix whose rows follow one another.
pub(crate) fn multiply_add(out: &mut [f32], a: Matrix, b: Matrix, threads: Threads) {
    assert!(a.rows * b.columns <= out.len(), "a product larger than its memory");
    // SAFETY: `out` holds the matrix that is added to.
    unsafe {
        multiply_to(Output { to: out.as_mut_ptr(), row_stride: b.columns, start: Start::Out, scale: 1. }, a, b, threads)
    }
}

/// Writes `out.start + out.scale · a b` to `out`. Where one of them is bfloat16, so are the factors.
///
/// # Safety
/// Every place of the product must be valid for writes by this thread alone, and initialised if it is what is added to.
pub(crate) unsafe fn multiply_to<A: Value, B: Value, O: Value>(
    out: Output<O>,
    a: Matrix<A>,
    b: Matrix<B>,
    threads: Threads,
) {
    // SAFETY: the caller's.
    unsafe {
        match (out.as_wide(), a.as_wide(), b.as_wide()) {
            (Some(out), Some(a), Some(b)) => multiply_wide_to(out, a, b, threads),
            _ => multiply_narrow_to(out, a, b, threads),
        }
    }
}

/// As [`multiply_to`], on the unit for bfloat16, whatever the sizes.
///
/// # Safety
/// As [`multiply_to`].
#[cfg(target_arch = "x86_64")]
unsafe fn multiply_narrow_to<A: Value, B: Value, O: Value>(
    out: Output<O>,
    a: Matrix<A>,
    b: Matrix<B>,
    threads: Threads,
) {
    assert!(a.columns == b.rows && a.columns > 0, "matrices that do not fit");
    out.start.assert_fits(b.columns);
    let threads = match threads {
        Threads::All => tasks::threads(),
        Threads::One => 1,
    };
    let Output { to, row_stride, start, scale } = out;
    for (first, count) in slices(a.columns, bfloat16::SLICE_OF_ONE) {
        let start = if first > 0 { Start::Out } else { start };
        let out = Output { to, row_stride, start, scale };
        let right = bfloat16::PackedTiles::new(narrow_unit(), 1, b.rows_from(first, count), threads);
        // SAFETY: the caller's.
        unsafe { right.multiply(out, a.columns_from(first, count), threads) };
    }
}

/// As above.
///
/// # Safety
/// As [`multiply_to`].
#[cfg(not(target_arch = "x86_64"))]
unsafe fn multiply_narrow_to<A: Value, B: Value, O: Value>(_: Output<O>, _: Matrix<A>, _: Matrix<B>, _: Threads) {
    unreachable!("values are bfloat16 only where `keeps_narrow` says so")
}

/// Whether values that only kernels see are to be kept in bfloat16: where products read it ([`MatmulPrecision::BFloat16`]).
pub(crate) fn keeps_narrow() -> bool {
    #[cfg(target_arch = "x86_64")]
    return computes_narrow() && kernels().bfloat16.is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Rows of which products read whole blocks: chunks of a multiple of them leave nothing over but at the end.
pub(crate) fn rows_of_a_block() -> usize {
    match service(kernels(), precision(), (1 << 20, 1 << 10, 1 << 10)) {
        Service::Panels(_) => float32::ROWS,
        _ => 32,
    }
}

/// What multiplies bfloat16.
#[cfg(target_arch = "x86_64")]
fn narrow_unit() -> bfloat16::Unit {
    let chosen = kernels().bfloat16.map(bfloat16::Unit::of);
    chosen
        .or_else(bfloat16::unit)
        .unwrap_or_else(|| unreachable!("values are bfloat16 only where `keeps_narrow` says so"))
}

/// As [`multiply_to`], for float32.
///
/// # Safety
/// As [`multiply_to`].
unsafe fn multiply_wide_to(out: Output, a: Matrix, b: Matrix, threads: Threads) {
    let count = match threads {
        Threads::All => tasks::threads(),
        Threads::One => 1,
    };
    let service = service(kernels(), precision(), (a.rows, b.columns, a.columns));
    // SAFETY: the caller's.
    unsafe { multiply_on(service, out, a, b, count) }
}

/// As above, on what serves and so many threads.
///
/// # Safety
/// As above; the CPU must have what serves.
unsafe fn multiply_on(service: Service, out: Output, a: Matrix, b: Matrix, threads: usize) {
    let Output { to: out, row_stride, start, scale } = out;
    assert_eq!(a.columns, b.rows, "matrices that do not fit");
    start.assert_fits(b.columns);
    let slice = match service {
        #[cfg(target_arch = "x86_64")]
        Service::Tiles(_, 1) => bfloat16::SLICE_OF_ONE,
        #[cfg(target_arch = "x86_64")]
        Service::Tiles(..) => bfloat16::SLICE,
        Service::Panels(_) => float32::SLICE,
        Service::Gemm => {
            // SAFETY: the caller's.
            return unsafe { multiply_by_gemm(Output { to: out, row_stride, start, scale }, a, b, threads) };
        }
    };
    // A long common dimension (the rows of a batch, for gradients of weights) in slices, so that what is packed stays small.
    for (first, steps) in slices(a.columns, slice) {
        let start = if first > 0 { Start::Out } else { start };
        let out = Output { to: out, row_stride, start, scale };
        let (a, b) = (a.columns_from(first, steps), b.rows_from(first, steps));
        // SAFETY: the caller's.
        unsafe {
            match service {
                #[cfg(target_arch = "x86_64")]
                Service::Tiles(unit, parts) => {
                    bfloat16::PackedTiles::new(unit, parts, b, threads).multiply(out, a, threads)
                }
                Service::Panels(kernel) => {
                    PackedPanels::new(b, threads).on(kernel).multiply(out, Operand::Matrix(a), threads)
                }
                Service::Gemm => {}
            }
        }
    }
}

/// First step and length of each slice of a common dimension: of one size, in whole steps of every kernel, as a short one would pack its
/// operands and read the product for little.
fn slices(depth: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    const STEP: usize = 32;
    let size = depth.div_ceil(depth.div_ceil(most).max(1)).next_multiple_of(STEP);
    (0..depth).step_by(size.max(STEP)).map(move |first| (first, size.min(depth - first)))
}

/// As [`multiply_to`], by the crate `gemm`.
///
/// # Safety
/// As [`multiply_to`].
unsafe fn multiply_by_gemm(out: Output, a: Matrix, b: Matrix, threads: usize) {
    let Output { to: out, row_stride, start, scale } = out;
    if let Start::Row(bias) = start {
        for row in 0..a.rows {
            // SAFETY: the caller's.
            unsafe { std::ptr::copy_nonoverlapping(bias.as_ptr(), out.add(row * row_stride), bias.len()) };
        }
    }
    let parallelism = if threads == 1 { Parallelism::None } else { Parallelism::Rayon(threads) };
    // SAFETY: the operands lie within their slices (checked when they were made), the output is the caller's.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            row_stride as isize,
            !matches!(start, Start::Zero),
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

/// What serves a product.
#[derive(Clone, Copy)]
enum Service {
    /// Tiles of so many parts of a factor.
    #[cfg(target_arch = "x86_64")]
    Tiles(bfloat16::Unit, usize),
    /// Packed panels, with the vectors of this kernel.
    Panels(Kernel),
    /// The crate `gemm`, which reads the operands as they are.
    Gemm,
}

impl Service {
    fn packs_tiles(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self, Self::Tiles(..));
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

/// Sizes from which packing several parts of every factor pays.
const LARGE: usize = 96;

/// What serves a product of so many rows and columns and such a common dimension.
fn service(kernels: Kernels, precision: MatmulPrecision, (rows, columns, depth): (usize, usize, usize)) -> Service {
    let is_large = rows.min(columns).min(depth) >= LARGE;
    #[cfg(target_arch = "x86_64")]
    {
        /// Multiplications from which packing one part of every factor pays.
        const FEWEST: usize = 1 << 15;
        match (precision, kernels.bfloat16) {
            (MatmulPrecision::BFloat16 | MatmulPrecision::Int8, Some(kernel)) if rows * columns * depth >= FEWEST => {
                return Service::Tiles(bfloat16::Unit::of(kernel), 1);
            }
            (MatmulPrecision::BFloat16 | MatmulPrecision::Int8, Some(_)) => {}
            _ if is_large && kernels.large == Kernel::Amx => {
                let parts = if precision == MatmulPrecision::Float32x2 { 2 } else { 3 };
                return Service::Tiles(bfloat16::Unit::Amx, parts);
            }
            _ => {}
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = precision;
    let kernel = if is_large && kernels.large != Kernel::Amx { kernels.large } else { kernels.small };
    let pays = rows >= float32::FEWEST_ROWS && rows * columns * depth >= float32::FEWEST;
    if pays && kernel != Kernel::Gemm { Service::Panels(kernel) } else { Service::Gemm }
}

/// A right operand that is packed once, by all threads, for products that each run on one thread. Clones share what is packed.
#[derive(Clone)]
pub struct Packed<'a> {
    /// The operand, where products read it as it is; none where what was packed of it is kept.
    b: Option<Matrix<'a>>,
    contents: Arc<Contents>,
    /// What it was packed for.
    settings: (Kernels, MatmulPrecision),
}

/// A right operand as products read it; empty where they read it as it is.
struct Contents {
    depth: usize,
    columns: usize,
    #[cfg(target_arch = "x86_64")]
    tiles: Option<bfloat16::PackedTiles>,
    #[cfg(target_arch = "x86_64")]
    integers: Option<int8::PackedIntegers>,
    panels: Option<PackedPanels>,
}

impl Contents {
    /// Packs `b`, on all threads, in memory of its own if it is to be kept; for factors of bfloat16 if it is to be `narrow`.
    fn new(b: Matrix, keep: bool, narrow: bool) -> Self {
        let threads = tasks::threads();
        #[cfg(target_arch = "x86_64")]
        if let Some(integers) = (keep && computes_integers()).then(|| int8::PackedIntegers::new(b)).flatten() {
            let (depth, columns, integers) = (b.rows, b.columns, Some(integers));
            return Self { depth, columns, tiles: None, integers, panels: None };
        }
        // Whatever the number of rows, so that a row comes out the same among few as among many.
        let service = service(kernels(), precision(), (1 << 20, b.columns, b.rows));
        let panels = if keep { PackedPanels::to_keep } else { PackedPanels::new };
        Self {
            depth: b.rows,
            columns: b.columns,
            #[cfg(target_arch = "x86_64")]
            tiles: match service {
                _ if narrow => {
                    let packed = if keep { bfloat16::PackedTiles::to_keep } else { bfloat16::PackedTiles::new };
                    Some(packed(narrow_unit(), 1, b, threads))
                }
                Service::Tiles(unit, parts) => {
                    let packed = if keep { bfloat16::PackedTiles::to_keep } else { bfloat16::PackedTiles::new };
                    Some(packed(unit, parts, b, threads))
                }
                _ => None,
            },
            #[cfg(target_arch = "x86_64")]
            integers: None,
            panels: match service {
                Service::Panels(kernel) if !narrow => Some(panels(b, threads).on(kernel)),
                _ => None,
            },
        }
    }

    fn is_empty(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if self.tiles.is_some() || self.integers.is_some() {
            return false;
        }
        self.panels.is_none()
    }
}

impl std::fmt::Debug for Packed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Contents { depth, columns, .. } = *self.contents;
        f.debug_struct("Packed").field("depth", &depth).field("columns", &columns).finish_non_exhaustive()
    }
}

impl<'a> Packed<'a> {
    /// Packs `b`.
    pub fn new(b: Matrix<'a>) -> Self {
        Self { b: Some(b), contents: Contents::new(b, false, false).into(), settings: (kernels(), precision()) }
    }

    /// Packs `b` for products with matrices of such values.
    pub(crate) fn for_values<V: Value>(b: Matrix<'a>) -> Self {
        Self { b: Some(b), contents: Contents::new(b, false, V::NARROW).into(), settings: (kernels(), precision()) }
    }

    /// Whether products with matrices of such values read it as it is packed.
    pub(crate) fn serves<V: Value>(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        let is_narrow = self.contents.integers.is_some()
            || self.contents.tiles.as_ref().is_some_and(bfloat16::PackedTiles::is_narrow);
        #[cfg(not(target_arch = "x86_64"))]
        let is_narrow = false;
        is_narrow || !V::NARROW
    }

    /// What is packed of `b`, without `b`, to be kept for as long as that does not change; none where products read it as it is.
    pub fn to_keep(b: Matrix) -> Option<Packed<'static>> {
        let contents = Contents::new(b, true, false);
        (!contents.is_empty()).then(|| Packed {
            b: None,
            contents: contents.into(),
            settings: (kernels(), precision()),
        })
    }

    /// Whether it was packed for the kernels and the precision that are set now.
    pub fn is_current(&self) -> bool {
        self.settings == (kernels(), precision())
    }

    /// Panics if the operand has another size.
    pub(crate) fn assert_size(&self, rows: usize, columns: usize) {
        assert_eq!((self.contents.depth, self.contents.columns), (rows, columns), "a packed operand that does not fit");
    }

    /// Writes `start + a b` to `out`, a matrix whose rows follow one another, on this thread.
    ///
    /// # Safety
    /// As [`multiply_to`].
    pub(crate) unsafe fn multiply_at<A: Value, O: Value>(&self, out: *mut O, start: Start, a: Matrix<A>) {
        let Contents { depth, columns, .. } = *self.contents;
        assert_eq!(a.columns, depth, "matrices that do not fit");
        start.assert_fits(columns);
        let out = Output { to: out, row_stride: columns, start, scale: 1. };
        // SAFETY: the caller's.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if let Some(tiles) = &self.contents.tiles {
                return tiles.multiply(out, a, 1);
            }
            #[cfg(target_arch = "x86_64")]
            if let Some(integers) = &self.contents.integers {
                return integers.multiply(out, a);
            }
            let (Some(out), Some(a)) = (out.as_wide(), a.as_wide()) else {
                unreachable!("what is packed for float32 is not asked for bfloat16")
            };
            if let Some(panels) = &self.contents.panels {
                return panels.multiply(out, Operand::Matrix(a), 1);
            }
            let Some(b) = self.b else { unreachable!("only what is packed is kept") };
            multiply_wide_to(out, a, b, Threads::One)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of many sizes, some of which need all their digits.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        use rand::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..count).map(|_| rng.random_range(-1f32..1.) * 2f32.powi(rng.random_range(-3..3))).collect()
    }

    /// The largest error of a product, over the sizes of what was added up.
    fn error(
        rows: usize,
        columns: usize,
        depth: usize,
        turned: (bool, bool),
        run: impl Fn(&mut [f32], Matrix, Matrix),
    ) -> f64 {
        let (a_values, b_values) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
        let matrix = |values, rows, columns, turned| match turned {
            false => Matrix::new(values, rows, columns),
            true => Matrix::new(values, columns, rows).t(),
        };
        let (a, b) = (matrix(&a_values, rows, depth, turned.0), matrix(&b_values, depth, columns, turned.1));
        let at = |m: &Matrix, i: usize, j: usize| f64::from(m.values[i * m.row_stride + j * m.column_stride]);
        let mut out = numbers(rows * columns, 3);
        let before = out.clone();
        run(&mut out, a, b);
        let mut worst = 0f64;
        for i in 0..rows {
            for j in 0..columns {
                let terms = (0..depth).map(|k| at(&a, i, k) * at(&b, k, j));
                let start = f64::from(before[i * columns + j]);
                let (sum, size) = terms.fold((start, start.abs()), |(s, z), t| (s + t, z + t.abs()));
                worst = worst.max((f64::from(out[i * columns + j]) - sum).abs() / size);
            }
        }
        worst
    }

    const SIZES: [(usize, usize, usize); 6] =
        [(1, 1, 1), (3, 5, 7), (33, 31, 65), (64, 64, 64), (130, 200, 600), (97, 1100, 97)];

    /// Sixteen roundings of the whole: twice what sums one term after another come to, and far less than the errors of a product
    /// without the last of its digits.
    const BOUND: f64 = 16. / (1 << 24) as f64;

    #[test]
    fn products_keep_the_digits_of_float32() {
        for (rows, columns, depth) in SIZES {
            for turned in [(false, false), (false, true), (true, false), (true, true)] {
                for threads in [Threads::One, Threads::All] {
                    let error = error(rows, columns, depth, turned, |out, a, b| multiply_add(out, a, b, threads));
                    assert!(error < BOUND, "{rows}x{columns}x{depth}, {turned:?}: {error:e}");
                }
            }
        }
    }

    /// All units that this CPU has, whichever it would choose.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_unit_gives_the_product() {
        let Some(best) = bfloat16::unit() else {
            eprintln!("skipped: this CPU multiplies no bfloat16");
            return;
        };
        if best != bfloat16::Unit::Amx {
            eprintln!("skipped in part: this CPU has no AMX");
        }
        let units = [bfloat16::Unit::Avx512Bf16, bfloat16::Unit::Amx];
        for unit in units.into_iter().filter(|&unit| unit == best || unit == bfloat16::Unit::Avx512Bf16) {
            for (rows, columns, depth) in SIZES {
                for turned in [(false, false), (false, true), (true, false), (true, true)] {
                    for threads in [1, 2, 5] {
                        // SAFETY: the output is the product's, and the CPU has the unit.
                        let run = |parts: usize, out: &mut [f32], a: Matrix, b: Matrix| unsafe {
                            let (at, stride) = (out.as_mut_ptr(), b.columns);
                            let right = bfloat16::PackedTiles::new(unit, parts, b, threads);
                            right.multiply(
                                Output { to: at, row_stride: stride, start: Start::Out, scale: 1. },
                                a,
                                threads,
                            )
                        };
                        let all_digits = error(rows, columns, depth, turned, |out, a, b| run(3, out, a, b));
                        assert!(all_digits < 1e-6, "{unit:?}, {rows}x{columns}x{depth}, {turned:?}: {all_digits:e}");
                        // Of every factor 2^-17 is lost, of their product what is left out besides.
                        let sixteen_digits = error(rows, columns, depth, turned, |out, a, b| run(2, out, a, b));
                        assert!(
                            sixteen_digits < 1. / (1 << 15) as f64,
                            "{unit:?}, {rows}x{columns}x{depth}, {turned:?}: {sixteen_digits:e}"
                        );
                        let eight_digits = error(rows, columns, depth, turned, |out, a, b| run(1, out, a, b));
                        assert!(
                            eight_digits < 1. / 128.,
                            "{unit:?}, {rows}x{columns}x{depth}, {turned:?}: {eight_digits:e}"
                        );
                    }
                }
            }
        }
    }

    /// Of each class: what is chosen may be any of them.
    #[test]
    fn every_kernel_of_this_cpu_gives_the_product() {
        let float32 = MatmulPrecision::Float32;
        for kernel in [Kernel::Amx, Kernel::Avx512, Kernel::Avx2, Kernel::Gemm].into_iter().filter(|k| k.is_here()) {
            for (rows, columns, depth) in SIZES.into_iter().chain([(197, 197, 64), (96, 97, 1700), (650, 130, 100)]) {
                let mut chosen = Kernels::fixed();
                chosen.large = kernel;
                if kernel != Kernel::Amx {
                    chosen.small = kernel;
                }
                let service = service(chosen, float32, (rows, columns, depth));
                for turned in [(false, false), (false, true), (true, false), (true, true)] {
                    for threads in [1, 3] {
                        let run = |out: &mut [f32], a: Matrix, b: Matrix| {
                            let (to, row_stride) = (out.as_mut_ptr(), b.columns);
                            let to = Output { to, row_stride, start: Start::Out, scale: 1. };
                            // SAFETY: the output is the product's, and the CPU has the kernel.
                            unsafe { multiply_on(service, to, a, b, threads) }
                        };
                        let error = error(rows, columns, depth, turned, run);
                        assert!(error < BOUND, "{kernel:?}, {rows}x{columns}x{depth}, {turned:?}: {error:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn panels_give_the_product_and_every_row_the_same_among_few_as_among_many() {
        for (rows, columns, depth) in SIZES.into_iter().chain([(200, 24, 257), (13, 40, 0), (100, 17, 300)]) {
            for turned in [false, true] {
                for threads in [1, 2, 5] {
                    let run = |out: &mut [f32], a: Matrix, b: Matrix| {
                        let panels = PackedPanels::new(b, threads);
                        let out = Output { to: out.as_mut_ptr(), row_stride: columns, start: Start::Out, scale: 1. };
                        // SAFETY: the output is the product's, and initialised.
                        unsafe { panels.multiply(out, Operand::Matrix(a), threads) }
                    };
                    let error = error(rows, columns, depth, (false, turned), run);
                    assert!(error < BOUND, "{rows}x{columns}x{depth}, {turned}: {error:e}");
                }
            }
            let (a, b) = (numbers(rows * depth, 1), numbers(depth * columns, 2));
            let (a, panels) = (Matrix::new(&a, rows, depth), PackedPanels::new(Matrix::new(&b, depth, columns), 1));
            let product = |first: usize, count: usize| {
                let mut out = vec![0f32; count * columns];
                let to = Output { to: out.as_mut_ptr(), row_stride: columns, start: Start::Zero, scale: 0.5 };
                // SAFETY: the output is the product's.
                unsafe { panels.multiply(to, Operand::Matrix(a.rows_from(first, count)), 2) };
                out
            };
            let all = product(0, rows);
            for first in [0, rows / 2, rows - 1] {
                assert_eq!(product(first, 1), all[first * columns..][..columns], "{rows}x{columns}x{depth}");
            }
        }
    }

    #[test]
    fn factors_are_found_where_two_tables_say() {
        // Windows of three of a line of ten.
        let (line, starts, offsets) = (numbers(10, 1), [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2]);
        let b = numbers(3 * 5, 2);
        let mut got = vec![0f32; 8 * 5];
        let out = Output { to: got.as_mut_ptr(), row_stride: 5, start: Start::Zero, scale: 1. };
        // SAFETY: the output is the product's.
        unsafe {
            let a = Operand::Gathered(Gathered::new(&line, &starts, &offsets));
            PackedPanels::new(Matrix::new(&b, 3, 5), 1).multiply(out, a, 1);
        }
        for (row, got) in got.chunks_exact(5).enumerate() {
            for (column, got) in got.iter().enumerate() {
                let exact: f32 = (0..3).map(|k| line[row + k] * b[k * 5 + column]).sum();
                assert!((got - exact).abs() < 1e-5, "{row}, {column}: {got} instead of {exact}");
            }
        }
    }

    #[test]
    fn products_of_rows_are_the_same_digits_whichever_operand_is_wider() {
        for (rows, a_width, b_width) in [(2176, 64, 256), (700, 40, 97), (3000, 16, 24), (40, 5, 7)] {
            let (a, b) = (numbers(rows * a_width, 1), numbers(rows * b_width, 2));
            let narrow = product_of_rows((&a, a_width), (&b, b_width));
            let wide = product_of_rows((&b, b_width), (&a, a_width));
            for (i, &value) in narrow.iter().enumerate() {
                let (row, column) = (i / b_width, i % b_width);
                assert_eq!(value, wide[column * a_width + row], "{rows}: {a_width}x{b_width}, at {row}, {column}");
                let exact: f64 =
                    (0..rows).map(|k| f64::from(a[k * a_width + row]) * f64::from(b[k * b_width + column])).sum();
                assert!((f64::from(value) - exact).abs() < 1e-4 * rows as f64, "{value} instead of {exact}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "places beyond the values")]
    fn places_beyond_the_values_are_refused() {
        Gathered::new(&[0.; 4], &[0, 2], &[0, 2]);
    }

    #[test]
    fn products_start_from_zero_a_bias_or_what_is_there() {
        for (rows, columns, depth) in [(2, 3, 4), (40, 100, 50), (64, 64, 64)] {
            let (a, b, bias) = (numbers(rows * depth, 1), numbers(depth * columns, 2), numbers(columns, 3));
            let (a, b) = (Matrix::new(&a, rows, depth), Matrix::new(&b, depth, columns));
            let product = |start: Start, before: f32, scale: f32| {
                let mut out = vec![before; rows * columns];
                // SAFETY: the output is the product's, and initialised.
                unsafe {
                    multiply_to(Output { to: out.as_mut_ptr(), row_stride: columns, start, scale }, a, b, Threads::All)
                };
                out
            };
            let plain = product(Start::Zero, f32::NAN, 1.);
            let near = |got: Vec<f32>, expected: &dyn Fn(usize) -> f32| {
                got.iter().enumerate().all(|(i, got)| (got - expected(i)).abs() < 1e-4 * (1. + depth as f32))
            };
            assert!(near(product(Start::Row(&bias), f32::NAN, 1.), &|i| plain[i] + bias[i % columns]));
            assert!(near(product(Start::Out, 5., 1.), &|i| plain[i] + 5.));
            assert!(near(product(Start::Zero, f32::NAN, 0.25), &|i| plain[i] * 0.25));
        }
    }

    #[test]
    fn a_product_over_nothing_is_where_it_starts() {
        for (rows, columns) in [(1, 1), (3, 5), (130, 200)] {
            let (bias, nothing) = (numbers(columns, 1), Matrix::new(&[], rows, 0));
            let b = Matrix::new(&[], 0, columns);
            assert!(product(Start::Zero, nothing, b).iter().all(|&x| x == 0.), "{rows}x{columns}");
            let rows_of_bias = product(Start::Row(&bias), nothing, b);
            assert!(rows_of_bias.chunks_exact(columns).all(|row| row == bias), "{rows}x{columns}");
            let mut out = vec![f32::NAN; rows * columns];
            let to = Output { to: out.as_mut_ptr(), row_stride: columns, start: Start::Zero, scale: 1. };
            // SAFETY: the output is the product's.
            unsafe { multiply_to(to, nothing, b, Threads::All) };
            assert!(out.iter().all(|&x| x == 0.), "{rows}x{columns}: all of it is written");
        }
    }

    #[test]
    fn numbers_that_are_none_stay_so() {
        let mut a = vec![1f32; 64 * 64];
        (a[0], a[64]) = (f32::NAN, f32::INFINITY);
        let b = vec![1f32; 64 * 64];
        let mut out = vec![0f32; 64 * 64];
        multiply_add(&mut out, Matrix::new(&a, 64, 64), Matrix::new(&b, 64, 64), Threads::One);
        assert!(!out[0].is_finite() && !out[64].is_finite() && out[128] == 64.);
    }
}
