//! Two-dimensional convolutions over a batch of images, and pooling.

mod direct;
pub mod pool;
mod windows;
mod winograd;

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use crate::column_sums::add_up;
use crate::matmul::{Matrix, Output, Start, Threads, multiply_add, multiply_to, on_tiles};
use crate::memory::{Shared, filled};
use crate::simd::{sum, vectorised};
use crate::tasks::{self, shares};
use direct::Direct;
pub use windows::Windows;
use winograd::Winograd;

/// What a backward is to work out; the rest comes back empty.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The gradient of the input.
    pub dx: bool,
    /// The gradient of the weights.
    pub dw: bool,
    /// The gradient of the bias.
    pub db: bool,
}

/// A convolution of a batch of images, cross-correlation as in every framework. Where its products run on vector registers they
/// read the windows where they are (`direct.rs`), or with windows of 5×5 and many channels do with fewer multiplications
/// (`winograd.rs`); for AMX's tiles the windows are laid out, in parts that fit the cache.
#[derive(Debug, Clone, Copy)]
pub struct Conv2d {
    /// Images.
    pub batch: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Channels of the output.
    pub out: usize,
    /// Where the windows lie.
    pub windows: Windows,
}

/// How a convolution is computed.
enum ConvAlgorithm {
    Winograd(Winograd),
    Direct(Direct),
    Layout,
}

impl Conv2d {
    /// Values of an image, of a window, and windows of an image.
    fn sizes(&self) -> (usize, usize, usize) {
        let Windows { image, kernel, out, .. } = self.windows;
        (self.channels * image.0 * image.1, self.channels * kernel.0 * kernel.1, out.0 * out.1)
    }

    fn assert_fits(&self, x: &[f32], w: &[f32]) {
        let (pixels, depth, _) = self.sizes();
        assert!(x.len() == self.batch * pixels && w.len() == self.out * depth, "images or weights that do not fit");
    }

    /// Rows of windows at a time: their values fit the second-level cache.
    fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        const VALUES: usize = 1 << 18;
        let (_, depth, _) = self.sizes();
        let (rows, columns) = self.windows.out;
        let tile = (VALUES / (depth * columns).max(1)).clamp(1, rows);
        (0..rows).step_by(tile).map(move |start| start..rows.min(start + tile))
    }

    /// The fastest algorithm. Windows are laid out only for tiles, which in float32 takes many channels.
    fn algorithm(&self) -> ConvAlgorithm {
        let (_, depth, positions) = self.sizes();
        if on_tiles(positions, self.out, depth) {
            return ConvAlgorithm::Layout;
        }
        // It shares out images, not parts of them: with fewer than half as many as threads, twice the work on all is done sooner.
        let enough = 2 * self.batch >= tasks::threads();
        match Winograd::new(self.windows, self.channels, self.out).filter(|_| enough) {
            Some(winograd) => ConvAlgorithm::Winograd(winograd),
            None => {
                Direct::new(self.windows, self.channels, self.out).map_or(ConvAlgorithm::Layout, ConvAlgorithm::Direct)
            }
        }
    }

    /// The output, `[batch, out, rows, columns]`.
    pub fn forward(&self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> Vec<f32> {
        self.assert_fits(x, w);
        assert!(b.is_none_or(|b| b.len() == self.out), "a bias that does not fit");
        match self.algorithm() {
            ConvAlgorithm::Winograd(winograd) => winograd.forward(x, w, b, self.batch),
            ConvAlgorithm::Direct(direct) => direct.forward(x, w, b, self.batch),
            ConvAlgorithm::Layout => self.forward_on_layout(x, w, b),
        }
    }

    fn forward_on_layout(&self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> Vec<f32> {
        let (pixels, depth, positions) = self.sizes();
        let w = Matrix::new(w, self.out, depth);
        // Many images: each to one thread. Few: all threads on the product of one.
        let threads = if self.batch < tasks::threads() { Threads::All } else { Threads::One };
        let start = if b.is_some() { Start::Out } else { Start::Zero };
        let image = |x: &[f32], y: Shared, (padded, columns): &mut (Vec<f32>, Vec<f32>)| {
            self.windows.add_margin(x, padded);
            for rows in self.tiles() {
                self.windows.lay_out(padded, rows.clone(), columns);
                let (first, count) = (rows.start * self.windows.out.1, rows.len() * self.windows.out.1);
                let columns = Matrix::new(columns, depth, count);
                // SAFETY: this image's output, whose channels lie `positions` apart; the bias is there already.
                unsafe {
                    multiply_to(
                        Output { to: y.at(first), row_stride: positions, start, scale: 1. },
                        w,
                        columns,
                        threads,
                    )
                };
            }
        };
        // SAFETY: every image writes its whole output.
        unsafe {
            filled(self.batch * self.out * positions, |y| {
                if let Some(b) = b {
                    for (plane, &b) in y.chunks_exact_mut(positions).zip(b.iter().cycle()) {
                        plane.fill(MaybeUninit::new(b));
                    }
                }
                let images = y.chunks_exact_mut((self.out * positions).max(1)).zip(x.chunks_exact(pixels.max(1)));
                let images: Vec<_> = images.map(|(y, x)| (Shared::new(y), x)).collect();
                match threads {
                    Threads::All => images.into_iter().for_each(|(y, x)| image(x, y, &mut Default::default())),
                    Threads::One => {
                        images.into_par_iter().for_each_init(Default::default, |scratch, (y, x)| image(x, y, scratch))
                    }
                }
            })
        }
    }

    /// The gradients of input, weights and bias that are wanted; the others come back empty.
    pub fn gradients(&self, x: &[f32], w: &[f32], dy: &[f32], wanted: Wanted) -> [Vec<f32>; 3] {
        self.assert_fits(x, w);
        assert_eq!(dy.len(), self.batch * self.out * self.sizes().2, "gradients that do not fit");
        let direct = match self.algorithm() {
            ConvAlgorithm::Winograd(winograd) => return winograd.gradients(x, w, dy, self.batch, wanted),
            ConvAlgorithm::Direct(direct) => direct,
            ConvAlgorithm::Layout => return self.backward_on_layout(x, w, dy, wanted),
        };
        let directly = Wanted { dx: wanted.dx && direct.has_input_gradient(), ..wanted };
        let [mut dx, dw, db] = direct.gradients(x, w, dy, self.batch, directly);
        if wanted.dx && !directly.dx {
            [dx, _, _] = self.backward_on_layout(x, w, dy, Wanted { dx: true, dw: false, db: false });
        }
        [dx, dw, db]
    }

    fn backward_on_layout(&self, x: &[f32], w: &[f32], dy: &[f32], wanted: Wanted) -> [Vec<f32>; 3] {
        let (pixels, depth, positions) = self.sizes();
        let w = Matrix::new(w, self.out, depth).t();
        let mut dx = vec![0f32; if wanted.dx { x.len() } else { 0 }];
        let parts = shares(self.batch, pixels, &mut dx).into_par_iter().map(|(images, dx)| {
            let mut dw = vec![0f32; if wanted.dw { self.out * depth } else { 0 }];
            let mut db = vec![0f32; if wanted.db { self.out } else { 0 }];
            let (mut padded, mut columns, mut dpadded, mut dcolumns) = (vec![], vec![], vec![], vec![]);
            let first = images.start;
            for image in images {
                let x = &x[image * pixels..][..pixels];
                let dy = &dy[image * self.out * positions..][..self.out * positions];
                for (db, dy) in db.iter_mut().zip(dy.chunks_exact(positions)) {
                    *db += vectorised(
                        #[inline(always)]
                        || sum(dy, |dy| dy),
                    );
                }
                if wanted.dw {
                    self.windows.add_margin(x, &mut padded);
                }
                if wanted.dx {
                    dpadded.clear();
                    dpadded.resize(self.windows.padded_len() * self.channels, 0.);
                }
                for rows in self.tiles() {
                    let (first, count) = (rows.start * self.windows.out.1, rows.len() * self.windows.out.1);
                    let dy = Matrix::strided(&dy[first..], self.out, count, positions);
                    if wanted.dw {
                        self.windows.lay_out(&padded, rows.clone(), &mut columns);
                        multiply_add(&mut dw, dy, Matrix::new(&columns, depth, count).t(), Threads::One);
                    }
                    if wanted.dx {
                        dcolumns.resize(depth * count, 0.);
                        // SAFETY: the scratch is this task's, and was made large enough.
                        unsafe {
                            multiply_to(
                                Output { to: dcolumns.as_mut_ptr(), row_stride: count, start: Start::Zero, scale: 1. },
                                w,
                                dy,
                                Threads::One,
                            )
                        };
                        self.windows.add_back(&dcolumns, rows, &mut dpadded);
                    }
                }
                if wanted.dx {
                    self.windows.add_inside(&mut dpadded, &mut dx[(image - first) * pixels..][..pixels]);
                }
            }
            (dw, db)
        });
        let (dw, db): (Vec<_>, Vec<_>) = parts.collect::<Vec<_>>().into_iter().unzip();
        let (dw, db) = (add_up(dw, self.out * depth), add_up(db, self.out));
        [dx, dw, db]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn windows_that_are_laid_out_agree_with_those_that_are_not() {
        for (channels, out, image, kernel, stride, padding) in
            [(3, 20, (40, 33), (5, 5), 1, 2), (2, 70, (9, 11), (3, 2), 2, 1), (5, 17, (8, 8), (3, 3), 1, 0)]
        {
            let batch = 3;
            let windows = Windows::new(image, kernel, stride, padding, false).expect("windows");
            let conv = Conv2d { batch, channels, out, windows };
            let direct = Direct::new(windows, channels, out).expect("a small image");
            let (before, depth, positions) = conv.sizes();
            let (x, w) = (values(batch * before, 1), values(out * depth, 2));
            let (b, dy) = (values(out, 3), values(batch * out * positions, 4));
            let near = |got: &[f32], expected: &[f32]| {
                let largest = expected.iter().fold(1f32, |m, x| m.max(x.abs()));
                got.len() == expected.len() && got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 3e-6 * largest)
            };
            assert!(near(&direct.forward(&x, &w, Some(&b), batch), &conv.forward_on_layout(&x, &w, Some(&b))));
            let wanted = Wanted { dx: direct.has_input_gradient(), dw: true, db: true };
            let [dx, dw, db] = direct.gradients(&x, &w, &dy, batch, wanted);
            let expected = conv.backward_on_layout(&x, &w, &dy, wanted);
            assert!(near(&dx, &expected[0]) && near(&dw, &expected[1]) && near(&db, &expected[2]));
        }
    }

    #[test]
    fn an_image_of_several_parts_gives_the_convolution() {
        let windows = Windows::new((40, 150), (5, 5), 1, 2, false).expect("windows");
        let conv = Conv2d { batch: 1, channels: 3, out: 2, windows };
        assert!(conv.tiles().count() > 1, "the test is to cover several parts");
        let (x, w) = (values(3 * 40 * 150, 1), values(2 * 3 * 25, 2));
        let (direct, laid_out) = (conv.forward(&x, &w, None), conv.forward_on_layout(&x, &w, None));
        assert!(direct.iter().zip(&laid_out).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}
