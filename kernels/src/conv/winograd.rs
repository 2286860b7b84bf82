//! Convolution with windows of 5×5 by minimal filtering: tiles of 2×2 outputs, from 6×6 inputs, with 36 multiplications for
//! every pair of channels instead of 100.
//!
//! Winograd; Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", 2015: with matrices A, B, G that follow from six
//! points, `y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A`, where ⊙ is a matrix product over channels for each of the 36 places. The gradient of the
//! weights is its transpose, `Gᵀ [(A dy Aᵀ) ⊙ (Bᵀ d B)] G`; that of the input is the convolution of the output's gradient with the
//! weights turned round.
//!
//! The points are 0, ±3/4, ±3/2 and ∞: all of their squares are exact, and results are off by four times as much as a sum's,
//! where 0, ±1, ±2 and ∞ would make it twelve times.
//!
//! Images are worked on with channels next to each other, so that a vector holds channels and no size of image is special.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::Wanted;
use super::direct::add_sums;
use super::windows::Windows;
use crate::column_sums::add_up;
use crate::matmul::{Gathered, Matrix, Operand, Output, PANEL, PackedPanels, Start};
use crate::memory::{Out, Shared, filled};
use crate::tasks::{self, shares};
use crate::transpose::transpose;

/// Height and width of windows, of a tile's outputs and of its inputs, and places of a tile.
const KERNEL: usize = 5;
const OUT: usize = 2;
const IN: usize = OUT + KERNEL - 1;
const PLACES: usize = IN * IN;
/// The points besides 0 and ∞, each with either sign.
const A: f32 = 0.75;
const B: f32 = 1.5;
/// Tiles at a time: their products stay in the second-level cache.
const TILES: usize = 64;
/// Values between the places of a tile, which would share a set of the first-level cache.
const APART: usize = PANEL;
/// Channels from which a vector of them is worth its transforms.
const FEWEST: usize = 16;

/// A convolution from `channels` to `out` channels.
pub struct Winograd {
    windows: Windows,
    channels: usize,
    out: usize,
    /// Tiles down and across.
    tiles: (usize, usize),
}

/// An image with a margin, and all channels of a pixel side by side.
#[derive(Clone, Copy)]
struct Grid {
    height: usize,
    width: usize,
    channels: usize,
    /// Places for them.
    lanes: usize,
    margin: usize,
}

/// A thread's memory.
#[derive(Default)]
struct Scratch {
    image: Vec<f32>,
    gradient: Vec<f32>,
    left: Vec<f32>,
    product: Vec<f32>,
    output: Vec<f32>,
}

impl Winograd {
    /// None for another kernel than this serves, or where the work would not be less than two thirds.
    pub fn new(windows: Windows, channels: usize, out: usize) -> Option<Self> {
        let Windows { kernel, stride, padding, .. } = windows;
        if kernel != (KERNEL, KERNEL) || stride != 1 || padding >= KERNEL || channels.min(out) < FEWEST {
            return None;
        }
        let tiles = tiles(windows.out);
        let work = tiles.0 * tiles.1 * PLACES * lanes(channels) * lanes(out);
        let direct = windows.out.0 * windows.out.1 * KERNEL * KERNEL * channels * out;
        (3 * work < 2 * direct).then_some(Self { windows, channels, out, tiles })
    }

    /// The convolution that the gradient of the input is.
    fn backward(&self) -> Self {
        let Windows { image, kernel, stride, padding, out } = self.windows;
        let windows = Windows { image: out, kernel, stride, padding: KERNEL - 1 - padding, out: image };
        Self { windows, channels: self.out, out: self.channels, tiles: tiles(image) }
    }

    /// The input with its margin, as far as tiles reach.
    fn input(&self) -> Grid {
        let side = |tiles: usize| tiles * OUT + IN - OUT;
        let (height, width) = (side(self.tiles.0), side(self.tiles.1));
        Grid { height, width, channels: self.channels, lanes: lanes(self.channels), margin: self.windows.padding }
    }

    /// What tiles of the output make up.
    fn output(&self) -> Grid {
        let (height, width) = (self.tiles.0 * OUT, self.tiles.1 * OUT);
        Grid { height, width, channels: self.out, lanes: lanes(self.out), margin: 0 }
    }

    /// The gradient of the output, for the gradients of input and weights.
    fn gradient(&self, back: &Self) -> Grid {
        let grid = back.input();
        let side = |side: usize, tiles: usize| side.max(grid.margin + tiles * OUT);
        Grid { height: side(grid.height, self.tiles.0), width: side(grid.width, self.tiles.1), ..grid }
    }

    /// Values of an image, and of its output.
    fn sizes(&self) -> (usize, usize) {
        let area = |(height, width): (usize, usize)| height * width;
        (self.channels * area(self.windows.image), self.out * area(self.windows.out))
    }

    fn assert_fits(&self, x: &[f32], w: &[f32], batch: usize) {
        assert_eq!(x.len(), batch * self.sizes().0, "images that do not fit");
        assert_eq!(w.len(), self.out * self.channels * KERNEL * KERNEL, "weights that do not fit");
    }

    /// How many images are worked on together, where there are so many.
    fn together(&self, batch: usize) -> usize {
        let all = TILES.div_ceil((self.tiles.0 * self.tiles.1).max(1));
        all.min(batch.div_ceil(tasks::threads())).max(1)
    }

    /// Tiles that are worked on together, of so many images.
    fn blocks(&self, images: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let all = images * self.tiles.0 * self.tiles.1;
        (0..all).step_by(TILES).map(move |start| start..all.min(start + TILES))
    }

    /// Where a tile begins in a grid of all images.
    fn corner(&self, grid: Grid, tile: usize) -> usize {
        let (down, across) = self.tiles;
        let (image, tile) = (tile / (down * across), tile % (down * across));
        let (row, column) = (tile / across * OUT, tile % across * OUT);
        image * grid.len() + (row * grid.width + column) * grid.lanes
    }

    /// `G g Gᵀ` for all weights, `[out, channels, 5, 5]`: a row for every input channel, the output channels of one place after
    /// those of the other. With `turned`, for the convolution that the gradient of the input is; the weights are those of
    /// the forward.
    fn filters(&self, w: &[f32], turned: bool) -> PackedPanels {
        let window = KERNEL * KERNEL;
        let (steps, width) = (self.channels, lanes(self.out));
        let mut grids = vec![0f32; steps * window * width];
        // SAFETY: weights are as many as either shape says, and a grid has room for the lanes of every factor.
        unsafe {
            if turned {
                for (step, grid) in grids.chunks_exact_mut(window * width).enumerate() {
                    let from = w[step * self.out * window..].as_ptr();
                    transpose(from, window, (self.out, window), grid.as_mut_ptr(), width);
                }
            } else {
                let factors = steps * window;
                transpose(w.as_ptr(), factors, (self.out, factors), grids.as_mut_ptr(), width);
            }
        }
        if turned {
            for grid in grids.chunks_exact_mut(window * width) {
                for place in 0..window / 2 {
                    let (first, last) = grid.split_at_mut((window - 1 - place) * width);
                    first[place * width..][..width].swap_with_slice(&mut last[..width]);
                }
            }
        }
        let mut panels = PackedPanels::blank(steps, PLACES * width);
        let block = panels.stride() * PANEL;
        let place = width / PANEL * block;
        let transform = Transform {
            of: Filter,
            from: Places { start: grids.as_ptr().cast_mut(), row: KERNEL * width, column: width, block: PANEL },
            to: Places { start: panels.values().as_mut_ptr(), row: IN * place, column: place, block },
            lanes: width,
            squares: 0..steps,
            at: |step| (step * window * width, step * PANEL),
        };
        // SAFETY: a grid for every step, and a line of every panel.
        unsafe { transform.run() };
        panels
    }

    /// `[batch, channels, height, width]` to `[batch, out, rows, columns]`, with weights `[out, channels, 5, 5]`.
    pub fn forward(&self, x: &[f32], w: &[f32], b: Option<&[f32]>, batch: usize) -> Vec<f32> {
        self.assert_fits(x, w, batch);
        let filters = self.filters(w, false);
        // Added where all four outputs of a tile read it once: (1, 0, 0, 0, 0, 1) is the row that A turns into (1, 1).
        let row = b.map(|b| {
            let mut row = vec![0f32; PLACES * lanes(self.out)];
            for place in [0, IN - 1, PLACES - IN, PLACES - 1] {
                row[place * lanes(self.out)..][..self.out].copy_from_slice(b);
            }
            row
        });
        let start = row.as_deref().map_or(Start::Zero, Start::Row);
        let (before, after) = self.sizes();
        let together = self.together(batch);
        // SAFETY: every image writes its whole output.
        unsafe {
            filled(batch * after, |y| {
                let images = y.par_chunks_mut((together * after).max(1)).zip(x.par_chunks((together * before).max(1)));
                images.for_each_init(Scratch::default, |scratch, (y, x)| {
                    let (grid, Scratch { image, left, product, output, .. }) = (self.input(), scratch);
                    grid.lay_out(x, self.windows.image, image);
                    self.convolve((image, grid), &filters, start, y, [left, product, output]);
                });
            })
        }
    }

    /// Some images, laid out in a grid, on this thread; writes all of `y`.
    fn convolve(
        &self,
        (x, from): (&[f32], Grid),
        filters: &PackedPanels,
        start: Start,
        y: &mut Out,
        [left, product, output]: [&mut Vec<f32>; 3],
    ) {
        let to = self.output();
        let images = y.len() / self.sizes().1.max(1);
        let row = PLACES * to.lanes;
        grow(output, images * to.len());
        for tiles in self.blocks(images) {
            let count = tiles.len();
            let place = count * from.lanes + APART;
            grow(left, PLACES * place);
            grow(product, count * row);
            let transform = Transform {
                of: Input,
                from: from.places(x.as_ptr().cast_mut()),
                to: Places { start: left.as_mut_ptr(), row: IN * place, column: place, block: PANEL },
                lanes: from.lanes,
                squares: tiles.clone(),
                at: |tile| (self.corner(from, tile), (tile - tiles.start) * from.lanes),
            };
            // SAFETY: all tiles lie within the images' grids, their places within what has just been made large enough.
            unsafe { transform.run() };
            let panels = to.lanes / PANEL;
            for (i, left) in left[..PLACES * place].chunks_exact(place).enumerate() {
                let a = Operand::Matrix(Matrix::strided(left, count, self.channels, from.lanes));
                let out = Output { to: product.as_mut_ptr(), row_stride: row, start, scale: 1. };
                // SAFETY: the product has a row of all places for every tile.
                unsafe { filters.multiply_panels(out, a, i * panels..(i + 1) * panels) };
            }
            let transform = Transform {
                of: Outputs,
                from: Places { start: product.as_mut_ptr(), row: IN * to.lanes, column: to.lanes, block: PANEL },
                to: to.places(output.as_mut_ptr()),
                lanes: to.lanes,
                squares: tiles.clone(),
                at: |tile| ((tile - tiles.start) * row, self.corner(to, tile)),
            };
            // SAFETY: as above.
            unsafe { transform.run() };
        }
        let (rows, columns) = self.windows.out;
        let y = Shared::new(y);
        for line in 0..images * rows {
            let (image, row) = (line / rows, line % rows);
            let from = output[image * to.len() + row * to.width * to.lanes..].as_ptr();
            // SAFETY: the grid has all columns, the output a row of as many values for every channel, `rows · columns` apart.
            unsafe {
                let y = y.at((image * self.out * rows + row) * columns);
                transpose(from, to.lanes, (columns, self.out), y, rows * columns);
            }
        }
    }

    /// The gradients of input, weights and bias that are wanted.
    pub fn gradients(&self, x: &[f32], w: &[f32], dy: &[f32], batch: usize, wanted: Wanted) -> [Vec<f32>; 3] {
        self.assert_fits(x, w, batch);
        let (before, after) = self.sizes();
        let back = self.backward();
        let filters = wanted.dx.then(|| back.filters(w, true));
        let grid = self.gradient(&back);
        let (lanes, row) = (lanes(self.channels), PLACES * lanes(self.channels));
        let together = self.together(batch);
        let (mut dw, mut db) = (vec![], vec![]);
        let mut work = |dx: &mut Out| {
            let parts = shares(batch, before, dx).into_par_iter().with_max_len(1).map(|(share, dx)| {
                let mut dw = vec![0f32; if wanted.dw { self.out * row } else { 0 }];
                let mut db = vec![0f32; if wanted.db { self.out } else { 0 }];
                let (mut scratch, mut dx) = (Scratch::default(), dx.chunks_mut((together * before).max(1)));
                for image in share.clone().step_by(together) {
                    let images = image..share.end.min(image + together);
                    let of_images = |all: Range<usize>, size: usize| all.start * size..all.end * size;
                    let dy = &dy[of_images(images.clone(), after)];
                    if wanted.db {
                        dy.chunks_exact(after).for_each(|dy| add_sums(dy, &mut db));
                    }
                    grid.lay_out(dy, self.windows.out, &mut scratch.gradient);
                    if wanted.dw {
                        self.input().lay_out(
                            &x[of_images(images.clone(), before)],
                            self.windows.image,
                            &mut scratch.image,
                        );
                        self.add_weight_gradient(grid, images.len(), &mut dw, &mut scratch);
                    }
                    if let (Some(filters), Some(dx)) = (&filters, dx.next()) {
                        let Scratch { gradient, left, product, output, .. } = &mut scratch;
                        back.convolve((gradient, grid), filters, Start::Zero, dx, [left, product, output]);
                    }
                }
                (dw, db)
            });
            (dw, db) = parts.collect::<Vec<_>>().into_iter().unzip();
        };
        // SAFETY: every image writes its whole gradient.
        let dx = unsafe { filled(if wanted.dx { x.len() } else { 0 }, &mut work) };
        let (mut sums, db) = (add_up(dw, if wanted.dw { self.out * row } else { 0 }), add_up(db, self.out));
        let window = KERNEL * KERNEL;
        let mut dw = vec![0f32; if wanted.dw { w.len() } else { 0 }];
        let mut grid = vec![0f32; window * lanes];
        for (out, dw) in dw.chunks_exact_mut(self.channels * window).enumerate() {
            let transform = Transform {
                of: FilterGradient,
                from: Places { start: sums.as_mut_ptr(), row: IN * lanes, column: lanes, block: PANEL },
                to: Places { start: grid.as_mut_ptr(), row: KERNEL * lanes, column: lanes, block: PANEL },
                lanes,
                squares: 0..1,
                at: |_| (out * row, 0),
            };
            // SAFETY: a row of sums for every output channel; the grid has room for its window.
            unsafe {
                transform.run();
                transpose(grid.as_ptr(), lanes, (window, self.channels), dw.as_mut_ptr(), window);
            }
        }
        [dx, dw, db]
    }

    /// Adds what some images, laid out, contribute to the gradient of the transformed weights, `[out, 36, lanes]`.
    fn add_weight_gradient(&self, of_output: Grid, images: usize, sums: &mut [f32], scratch: &mut Scratch) {
        let Scratch { image, gradient, left, .. } = scratch;
        let (from, row) = (self.input(), PLACES * lanes(self.channels));
        let inside = gradient[of_output.inside()..].as_mut_ptr();
        let starts: Vec<u32> = (0..self.out as u32).collect();
        let offsets: Vec<u32> = (0..TILES).map(|tile| (tile * of_output.lanes) as u32).collect();
        for tiles in self.blocks(images) {
            let count = tiles.len();
            let mut panels = PackedPanels::blank(count, row);
            let block = panels.stride() * PANEL;
            let place = from.lanes / PANEL * block;
            let right = Transform {
                of: Input,
                from: from.places(image.as_mut_ptr()),
                to: Places { start: panels.values().as_mut_ptr(), row: IN * place, column: place, block },
                lanes: from.lanes,
                squares: tiles.clone(),
                at: |tile| (self.corner(from, tile), (tile - tiles.start) * PANEL),
            };
            let place = count * of_output.lanes + APART;
            grow(left, PLACES * place);
            let transform = Transform {
                of: OutputGradient,
                from: of_output.places(inside),
                to: Places { start: left.as_mut_ptr(), row: IN * place, column: place, block: PANEL },
                lanes: of_output.lanes,
                squares: tiles.clone(),
                at: |tile| (self.corner(of_output, tile), (tile - tiles.start) * of_output.lanes),
            };
            // SAFETY: all tiles lie within the images' grids, their places within what was made large enough for them.
            unsafe {
                right.run();
                transform.run();
            }
            for (i, left) in left[..PLACES * place].chunks_exact(place).enumerate() {
                let a = Operand::Gathered(Gathered::new(left, &starts, &offsets[..count]));
                let out = Output { to: sums.as_mut_ptr(), row_stride: row, start: Start::Out, scale: 1. };
                let width = from.lanes / PANEL;
                // SAFETY: the sums have a row of all places for every output channel.
                unsafe { panels.multiply_panels(out, a, i * width..(i + 1) * width) };
            }
        }
    }
}

/// Tiles that cover an output.
fn tiles((rows, columns): (usize, usize)) -> (usize, usize) {
    (rows.div_ceil(OUT), columns.div_ceil(OUT))
}

/// Places for channels, in whole panels.
fn lanes(channels: usize) -> usize {
    channels.next_multiple_of(PANEL)
}

/// Makes room for so many values; what is in it stays.
fn grow(memory: &mut Vec<f32>, count: usize) {
    if memory.len() < count {
        memory.resize(count, 0.);
    }
}

impl Grid {
    /// Values of an image.
    fn len(&self) -> usize {
        self.height * self.width * self.lanes
    }

    /// Where the image begins inside its margin.
    fn inside(&self) -> usize {
        (self.margin * self.width + self.margin) * self.lanes
    }

    /// The grid of the pixels from any place on.
    fn places(&self, start: *mut f32) -> Places {
        Places { start, row: self.width * self.lanes, column: self.lanes, block: PANEL }
    }

    /// Puts images of this height and width into `memory`, which serves this grid alone: the margins stay zeros.
    fn lay_out(&self, images: &[f32], (height, width): (usize, usize), memory: &mut Vec<f32>) {
        let before = self.channels * height * width;
        let size = images.len() / before.max(1) * self.len();
        if memory.len() != size {
            memory.clear();
            memory.resize(size, 0.);
        }
        for (image, grid) in images.chunks_exact(before.max(1)).zip(memory.chunks_exact_mut(self.len())) {
            for row in 0..height {
                let (from, to) = (&image[row * width..], &mut grid[self.inside() + row * self.width * self.lanes..]);
                assert!((self.channels - 1) * height * width + width <= from.len() && width * self.lanes <= to.len());
                // SAFETY: checked just now.
                unsafe {
                    transpose(from.as_ptr(), height * width, (self.channels, width), to.as_mut_ptr(), self.lanes);
                }
            }
        }
    }
}

/// Squares of values, every value a vector of lanes: rows and columns of a square lie so far apart, blocks of [`PANEL`] lanes too.
#[derive(Clone, Copy)]
struct Places {
    start: *mut f32,
    row: usize,
    column: usize,
    block: usize,
}

/// What makes a row or column of `O` values of one of `I`.
trait Line<const I: usize, const O: usize> {
    fn apply<S: Simd>(&self, simd: S, x: [S::f32s; I]) -> [S::f32s; O];
}

/// A line for all columns of a square and then for all rows of what comes of it, for every lane of some squares, of which `at` says
/// where they start.
struct Transform<T, F, const I: usize, const O: usize> {
    of: T,
    from: Places,
    to: Places,
    lanes: usize,
    squares: Range<usize>,
    at: F,
}

impl<T: Line<I, O>, F: Fn(usize) -> (usize, usize), const I: usize, const O: usize> Transform<T, F, I, O> {
    /// # Safety
    /// All places must be valid, those of `to` for writes by this thread alone.
    unsafe fn run(self) {
        pulp::Arch::new().dispatch(self);
    }
}

impl<T: Line<I, O>, F: Fn(usize) -> (usize, usize), const I: usize, const O: usize> WithSimd for Transform<T, F, I, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            8 => self.squares::<S, 2>(simd),
            16 => self.squares::<S, 1>(simd),
            4 => self.squares::<S, 4>(simd),
            _ => self.squares::<S, PANEL>(simd),
        }
    }
}

impl<T: Line<I, O>, F: Fn(usize) -> (usize, usize), const I: usize, const O: usize> Transform<T, F, I, O> {
    /// With `V` vectors in a block of lanes: what is written lies far apart, so that all of a cache line is written at once.
    #[inline(always)]
    fn squares<S: Simd, const V: usize>(self, simd: S) {
        let Self { of, from, to, lanes, squares, at } = self;
        for square in squares {
            let (first, first_to) = at(square);
            for block in 0..lanes / PANEL {
                let (x, y) = (first + block * from.block, first_to + block * to.block);
                let mut rows = [[[simd.splat_f32s(0.); V]; I]; O];
                for column in 0..I {
                    for v in 0..V {
                        let mut line = [simd.splat_f32s(0.); I];
                        for (row, value) in line.iter_mut().enumerate() {
                            // SAFETY: those of `run`.
                            unsafe {
                                let x = from.start.add(x + row * from.row + column * from.column + v * S::F32_LANES);
                                *value = x.cast::<S::f32s>().read_unaligned();
                            }
                        }
                        let line = of.apply(simd, line);
                        for (row, value) in rows.iter_mut().zip(line) {
                            row[column][v] = value;
                        }
                    }
                }
                for (row, columns) in rows.iter().enumerate() {
                    let mut lines = [[simd.splat_f32s(0.); V]; O];
                    for v in 0..V {
                        let mut line = [simd.splat_f32s(0.); I];
                        for (value, column) in line.iter_mut().zip(columns) {
                            *value = column[v];
                        }
                        for (to, value) in lines.iter_mut().zip(of.apply(simd, line)) {
                            to[v] = value;
                        }
                    }
                    for (column, values) in lines.into_iter().enumerate() {
                        for (v, value) in values.into_iter().enumerate() {
                            // SAFETY: as above.
                            unsafe {
                                let y = to.start.add(y + row * to.row + column * to.column + v * S::F32_LANES);
                                y.cast::<S::f32s>().write_unaligned(value);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `factor · x + y`.
#[inline(always)]
fn add<S: Simd>(simd: S, factor: f32, x: S::f32s, y: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(factor), x, y)
}

/// `factor · x`.
#[inline(always)]
fn scaled<S: Simd>(simd: S, factor: f32, x: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.splat_f32s(factor), x)
}

/// `Bᵀ d`.
struct Input;

impl Line<IN, IN> for Input {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, d: [S::f32s; IN]) -> [S::f32s; IN] {
        const ALL: f32 = A * A * B * B;
        const BOTH: f32 = A * A + B * B;
        let (even_a, odd_a) = (add(simd, -B * B, d[2], d[4]), add(simd, -B * B, d[1], d[3]));
        let (even_b, odd_b) = (add(simd, -A * A, d[2], d[4]), add(simd, -A * A, d[1], d[3]));
        [
            add(simd, ALL, d[0], add(simd, -BOTH, d[2], d[4])),
            add(simd, A, odd_a, even_a),
            add(simd, -A, odd_a, even_a),
            add(simd, B, odd_b, even_b),
            add(simd, -B, odd_b, even_b),
            add(simd, ALL, d[1], add(simd, -BOTH, d[3], d[5])),
        ]
    }
}

/// What the rows of G are divided by, for the points 0, A and B.
const DIVISORS: [f32; 3] = [A * A * B * B, 2. * A * A * (A * A - B * B), 2. * B * B * (B * B - A * A)];

/// `G g`.
struct Filter;

impl Line<KERNEL, IN> for Filter {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, g: [S::f32s; KERNEL]) -> [S::f32s; IN] {
        let [zero, a, b] = DIVISORS;
        let (even_a, odd_a) = (add(simd, A * A, add(simd, A * A, g[4], g[2]), g[0]), add(simd, A * A, g[3], g[1]));
        let (even_b, odd_b) = (add(simd, B * B, add(simd, B * B, g[4], g[2]), g[0]), add(simd, B * B, g[3], g[1]));
        let (even_a, even_b) = (scaled(simd, 1. / a, even_a), scaled(simd, 1. / b, even_b));
        [
            scaled(simd, 1. / zero, g[0]),
            add(simd, A / a, odd_a, even_a),
            add(simd, -A / a, odd_a, even_a),
            add(simd, B / b, odd_b, even_b),
            add(simd, -B / b, odd_b, even_b),
            g[4],
        ]
    }
}

/// `Gᵀ u`.
struct FilterGradient;

impl Line<IN, KERNEL> for FilterGradient {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, u: [S::f32s; IN]) -> [S::f32s; KERNEL] {
        let [zero, a, b] = DIVISORS;
        let (sum_a, difference_a) = (simd.add_f32s(u[1], u[2]), simd.sub_f32s(u[1], u[2]));
        let (sum_b, difference_b) = (simd.add_f32s(u[3], u[4]), simd.sub_f32s(u[3], u[4]));
        let (sum_a, difference_a) = (scaled(simd, 1. / a, sum_a), scaled(simd, 1. / a, difference_a));
        let (sum_b, difference_b) = (scaled(simd, 1. / b, sum_b), scaled(simd, 1. / b, difference_b));
        [
            add(simd, 1. / zero, u[0], simd.add_f32s(sum_a, sum_b)),
            add(simd, A, difference_a, scaled(simd, B, difference_b)),
            add(simd, A * A, sum_a, scaled(simd, B * B, sum_b)),
            add(simd, A * A * A, difference_a, scaled(simd, B * B * B, difference_b)),
            add(simd, A * A * A * A, sum_a, add(simd, B * B * B * B, sum_b, u[5])),
        ]
    }
}

/// `Aᵀ m`.
struct Outputs;

impl Line<IN, OUT> for Outputs {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, m: [S::f32s; IN]) -> [S::f32s; OUT] {
        let (sum_a, difference_a) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
        let (sum_b, difference_b) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
        [simd.add_f32s(m[0], simd.add_f32s(sum_a, sum_b)), add(simd, A, difference_a, add(simd, B, difference_b, m[5]))]
    }
}

/// `A y`.
struct OutputGradient;

impl Line<OUT, IN> for OutputGradient {
    #[inline(always)]
    fn apply<S: Simd>(&self, simd: S, y: [S::f32s; OUT]) -> [S::f32s; IN] {
        let [a, b] = [scaled(simd, A, y[1]), scaled(simd, B, y[1])];
        let (plus_a, minus_a) = (simd.add_f32s(y[0], a), simd.sub_f32s(y[0], a));
        let (plus_b, minus_b) = (simd.add_f32s(y[0], b), simd.sub_f32s(y[0], b));
        [y[0], plus_a, minus_a, plus_b, minus_b, y[1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    /// The convolution, and its gradients along `dy`, in float64.
    fn exact(of: &Winograd, x: &[f32], w: &[f32], b: &[f32], dy: &[f32], batch: usize) -> [Vec<f64>; 4] {
        let Windows { image: (height, width), padding, out: (rows, columns), .. } = of.windows;
        let mut y: Vec<f64> = vec![];
        let (mut dx, mut dw) = (vec![0f64; x.len()], vec![0f64; w.len()]);
        let mut db = vec![0f64; b.len()];
        assert_eq!(dy.len(), batch * of.out * rows * columns);
        for (at, &slope) in dy.iter().enumerate() {
            let (image, out) = (at / (of.out * rows * columns), at / (rows * columns) % of.out);
            let (row, column) = (at / columns % rows, at % columns);
            let slope = f64::from(slope);
            let mut sum = f64::from(b[out]);
            for channel in 0..of.channels {
                for place in 0..KERNEL * KERNEL {
                    let (i, j) = (row + place / KERNEL, column + place % KERNEL);
                    if i < padding || j < padding || i - padding >= height || j - padding >= width {
                        continue;
                    }
                    let from = ((image * of.channels + channel) * height + i - padding) * width + j - padding;
                    let weight = (out * of.channels + channel) * KERNEL * KERNEL + place;
                    sum += f64::from(x[from]) * f64::from(w[weight]);
                    dx[from] += slope * f64::from(w[weight]);
                    dw[weight] += slope * f64::from(x[from]);
                }
            }
            db[out] += slope;
            y.push(sum);
        }
        [y, dx, dw, db]
    }

    fn near(what: &str, got: &[f32], exact: &[f64]) {
        assert_eq!(got.len(), exact.len(), "{what}");
        let largest = exact.iter().fold(0f64, |m, x| m.max(x.abs()));
        for (i, (got, exact)) in got.iter().zip(exact).enumerate() {
            let error = (f64::from(*got) - exact).abs();
            assert!(error < 3e-6 * largest, "{what} at {i}: {got} instead of {exact}, of {largest}");
        }
    }

    #[test]
    fn it_is_the_convolution_and_its_gradients() {
        for (batch, channels, out, image, padding) in
            [(1, 16, 16, (6, 9), 0), (7, 17, 30, (7, 8), 2), (3, 40, 16, (19, 17), 1), (5, 32, 64, (5, 4), 4)]
        {
            let windows = Windows::new(image, (KERNEL, KERNEL), 1, padding, false).expect("windows");
            let of = Winograd { windows, channels, out, tiles: tiles(windows.out) };
            let (before, after) = of.sizes();
            let (x, w) = (values(batch * before, 1), values(out * channels * KERNEL * KERNEL, 2));
            let (b, dy) = (values(out, 3), values(batch * after, 4));
            let [y, dx, dw, db] = exact(&of, &x, &w, &b, &dy, batch);
            near("y", &of.forward(&x, &w, Some(&b), batch), &y);
            let all = Wanted { dx: true, dw: true, db: true };
            let got = of.gradients(&x, &w, &dy, batch, all);
            for (what, (got, exact)) in ["dx", "dw", "db"].into_iter().zip(got.iter().zip([dx, dw, db])) {
                near(what, got, &exact);
            }
            let one = Wanted { dx: false, dw: true, db: false };
            let [dx, dw, db] = of.gradients(&x, &w, &dy, batch, one);
            assert!(dx.is_empty() && db.is_empty() && dw == got[1]);
        }
    }

    #[test]
    fn every_width_of_vectors_gives_the_same_transform() {
        let from: Vec<f32> = (0..PLACES * PANEL).map(|i| (i * 7919 % 997) as f32 / 500. - 1.).collect();
        type One = Transform<Input, fn(usize) -> (usize, usize), IN, IN>;
        let run = |on: &dyn Fn(One)| {
            let mut to = vec![0f32; PLACES * PANEL];
            let places = |start| Places { start, row: IN * PANEL, column: PANEL, block: PANEL };
            on(Transform {
                of: Input,
                from: places(from.as_ptr().cast_mut()),
                to: places(to.as_mut_ptr()),
                lanes: PANEL,
                squares: 0..1,
                at: |_| (0, 0),
            });
            to
        };
        let plain = run(&|transform| transform.with_simd(pulp::Scalar::new()));
        let near = |got: &[f32]| got.iter().zip(&plain).all(|(got, plain)| (got - plain).abs() < 1e-5);
        assert!(near(&run(&|transform| pulp::Arch::new().dispatch(transform))));
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(four) = pulp::x86::V2::try_new() {
                assert!(near(&run(&|transform| Simd::vectorize(four, transform))));
            }
            if let Some(eight) = pulp::x86::V3::try_new() {
                assert!(near(&run(&|transform| Simd::vectorize(pulp::x86::V3_512b(eight), transform))));
            }
        }
    }
}
