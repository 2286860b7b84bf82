//! Sliding windows over an image: where they lie, and their values as the columns of a matrix.

use std::ops::Range;

use crate::simd::vectorised;

/// Where square windows lie over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Height and width of the image.
    pub image: (usize, usize),
    /// Height and width of a window.
    pub kernel: (usize, usize),
    /// The distance between two windows.
    pub stride: usize,
    /// The margin on every side of the image.
    pub padding: usize,
    /// Windows down and across.
    pub out: (usize, usize),
}

impl Windows {
    /// Counts the windows as PyTorch does. With `ceil_mode` a last window may hang over the far edge, if it starts inside the
    /// image or its near margin. None if a window or the stride is empty, or no window fits.
    pub fn new(
        image: (usize, usize),
        kernel: (usize, usize),
        stride: usize,
        padding: usize,
        ceil_mode: bool,
    ) -> Option<Self> {
        if stride == 0 || kernel.0 == 0 || kernel.1 == 0 {
            return None;
        }
        let count = |size: usize, kernel: usize| {
            let room = (size + 2 * padding).checked_sub(kernel)?;
            let floor = room / stride + 1;
            let hangs_over = ceil_mode && room % stride != 0 && floor * stride < size + padding;
            Some(floor + usize::from(hangs_over))
        };
        let out = (count(image.0, kernel.0)?, count(image.1, kernel.1)?);
        Some(Self { image, kernel, stride, padding, out })
    }

    /// For the windows of row `row`: calls `f` for every pixel of a window in order, with the pixel's place in the image for the
    /// first window that has it inside, and the windows across that do.
    #[inline(always)]
    pub fn pixels(&self, row: usize, mut f: impl FnMut(usize, Range<usize>)) {
        for ky in 0..self.kernel.0 {
            let Some(y) = (row * self.stride + ky).checked_sub(self.padding).filter(|&y| y < self.image.0) else {
                continue;
            };
            for kx in 0..self.kernel.1 {
                let first = self.padding.saturating_sub(kx).div_ceil(self.stride);
                let end = (self.image.1 + self.padding).saturating_sub(kx).div_ceil(self.stride).min(self.out.1);
                if first < end {
                    f(y * self.image.1 + first * self.stride + kx - self.padding, first..end);
                }
            }
        }
    }

    /// The rows and columns of the image that every window covers, row by row.
    pub fn inside(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let span = |at: usize, kernel: usize, size: usize| {
            let start = at * self.stride;
            start.saturating_sub(self.padding)..(start + kernel).saturating_sub(self.padding).min(size)
        };
        (0..self.out.0).flat_map(move |oy| {
            let rows = span(oy, self.kernel.0, self.image.0);
            (0..self.out.1).map(move |ox| (rows.clone(), span(ox, self.kernel.1, self.image.1)))
        })
    }

    /// Height and width of the image with its margin.
    pub fn padded(&self) -> (usize, usize) {
        (self.image.0 + 2 * self.padding, self.image.1 + 2 * self.padding)
    }

    /// Pixels of a channel with its margin.
    pub fn padded_len(&self) -> usize {
        self.padded().0 * self.padded().1
    }

    /// Puts the margin, zeros, around every channel of one image.
    pub fn add_margin(&self, x: &[f32], padded: &mut Vec<f32>) {
        let (channels, (height, width)) = (x.len() / (self.image.0 * self.image.1), self.padded());
        padded.clear();
        padded.resize(channels * height * width, 0.);
        self.insides(padded, x.chunks_exact(self.image.1), |inside, x| inside.copy_from_slice(x));
    }

    /// Adds what lies inside the margin to one image.
    pub fn add_inside(&self, padded: &mut [f32], x: &mut [f32]) {
        self.insides(padded, x.chunks_exact_mut(self.image.1), |inside, x| {
            x.iter_mut().zip(inside).for_each(|(x, inside)| *x += *inside);
        });
    }

    /// Calls `f` for every row of the image, where it lies inside the margin, and what `rows` gives for it.
    fn insides<T>(&self, padded: &mut [f32], mut rows: impl Iterator<Item = T>, f: impl Fn(&mut [f32], T)) {
        let (height, width) = self.padded();
        for plane in padded.chunks_exact_mut(height * width) {
            let lines = plane.chunks_exact_mut(width).skip(self.padding).take(self.image.0);
            for (line, row) in lines.zip(&mut rows) {
                f(&mut line[self.padding..][..self.image.1], row);
            }
        }
    }

    /// Writes the values of the windows in `rows` of windows as the columns of a matrix with a row for every channel, row and
    /// column of a window. `padded` is one image with its margin.
    pub fn lay_out(&self, padded: &[f32], rows: Range<usize>, columns: &mut Vec<f32>) {
        let (height, width) = self.padded();
        let depth = padded.len() / (height * width) * self.kernel.0 * self.kernel.1;
        columns.resize(depth * rows.len() * self.out.1, 0.);
        vectorised(
            #[inline(always)]
            || match (self.stride, self.out.1) {
                // Lengths that the compiler knows save a call for every few values.
                (1, 8) => self.lay_out_rows::<8>(padded, rows, columns),
                (1, 16) => self.lay_out_rows::<16>(padded, rows, columns),
                (1, 32) => self.lay_out_rows::<32>(padded, rows, columns),
                _ => self.lay_out_rows::<0>(padded, rows, columns),
            },
        )
    }

    #[inline(always)]
    fn lay_out_rows<const WIDTH: usize>(&self, padded: &[f32], rows: Range<usize>, columns: &mut [f32]) {
        let width = if WIDTH > 0 { WIDTH } else { self.out.1 };
        self.starts(
            padded.len(),
            rows,
            #[inline(always)]
            |call, start| {
                let column = &mut columns[call * width..][..width];
                if self.stride == 1 {
                    column.copy_from_slice(&padded[start..][..width]);
                } else {
                    for (column, &x) in column.iter_mut().zip(padded[start..].iter().step_by(self.stride)) {
                        *column = x;
                    }
                }
            },
        )
    }

    /// Adds the columns of [`Windows::lay_out`] to the pixels that they came from.
    pub fn add_back(&self, columns: &[f32], rows: Range<usize>, padded: &mut [f32]) {
        vectorised(
            #[inline(always)]
            || match (self.stride, self.out.1) {
                (1, 8) => self.add_rows::<8>(columns, rows, padded),
                (1, 16) => self.add_rows::<16>(columns, rows, padded),
                (1, 32) => self.add_rows::<32>(columns, rows, padded),
                _ => self.add_rows::<0>(columns, rows, padded),
            },
        )
    }

    #[inline(always)]
    fn add_rows<const WIDTH: usize>(&self, columns: &[f32], rows: Range<usize>, padded: &mut [f32]) {
        let width = if WIDTH > 0 { WIDTH } else { self.out.1 };
        self.starts(
            padded.len(),
            rows,
            #[inline(always)]
            |call, start| {
                let column = &columns[call * width..][..width];
                if self.stride == 1 {
                    for (x, column) in padded[start..][..width].iter_mut().zip(column) {
                        *x += column;
                    }
                } else {
                    for (x, column) in padded[start..].iter_mut().step_by(self.stride).zip(column) {
                        *x += column;
                    }
                }
            },
        )
    }

    /// Calls `f` for every channel, row and column of a window and for every row of windows, with the number of the call and
    /// where the windows read in an image with its margin.
    #[inline(always)]
    fn starts(&self, len: usize, rows: Range<usize>, mut f: impl FnMut(usize, usize)) {
        let ((height, width), (kh, kw)) = (self.padded(), self.kernel);
        let mut call = 0;
        for channel in 0..len / (height * width) {
            for ky in 0..kh {
                for kx in 0..kw {
                    let first = (channel * height + ky) * width + kx;
                    for row in rows.clone() {
                        f(call, first + row * self.stride * width);
                        call += 1;
                    }
                }
            }
        }
    }
}
