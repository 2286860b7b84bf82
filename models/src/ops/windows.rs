//! Sliding windows over an image: where they lie, their values as the columns of a matrix for the convolution's kernel, and
//! as a composition of Candle's differentiable ops, which the compositions of the convolution and the pools are made of
//! (Candle's own have gradients that are wrong or missing).

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::simd::vectorised;

/// Where square windows lie over an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windows {
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
    /// image or its near margin.
    pub fn new(
        op: &str,
        image: (usize, usize),
        kernel: (usize, usize),
        stride: usize,
        padding: usize,
        ceil_mode: bool,
    ) -> Result<Self> {
        if stride == 0 || kernel.0 == 0 || kernel.1 == 0 {
            bail!("{op}: expected a kernel and a stride of 1 or more, got kernel {kernel:?}, stride {stride}")
        }
        let count = |size: usize, kernel: usize| {
            let room = (size + 2 * padding).checked_sub(kernel)?;
            let floor = room / stride + 1;
            let hangs_over = ceil_mode && room % stride != 0 && floor * stride < size + padding;
            Some(floor + usize::from(hangs_over))
        };
        match (count(image.0, kernel.0), count(image.1, kernel.1)) {
            (Some(h), Some(w)) => Ok(Self { image, kernel, stride, padding, out: (h, w) }),
            _ => bail!("{op}: expected an image of at least {kernel:?} with padding {padding}, got {image:?}"),
        }
    }

    /// `x [batch, channels, height, width]` to `[batch, channels, windows, pixels of a window]`; pixels outside the image are
    /// `fill`.
    pub fn unfold(&self, x: &Tensor, fill: f64) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let outside = Tensor::full(fill, (batch, channels, 1), x.device())?.to_dtype(x.dtype())?;
        let pixels = Tensor::cat(&[&x.reshape((batch, channels, height * width))?, &outside], 2)?;
        let mut index = Vec::with_capacity(self.out.0 * self.out.1 * self.kernel.0 * self.kernel.1);
        for (oy, ox) in grid(self.out) {
            for (ky, kx) in grid(self.kernel) {
                let y = (oy * self.stride + ky).checked_sub(self.padding).filter(|&y| y < height);
                let x = (ox * self.stride + kx).checked_sub(self.padding).filter(|&x| x < width);
                index.push(y.zip(x).map_or(height * width, |(y, x)| y * width + x) as u32);
            }
        }
        let index = Tensor::new(index, x.device())?;
        pixels.index_select(&index, 2)?.reshape((batch, channels, self.out.0 * self.out.1, ()))
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

    /// Writes the values of the windows in `rows` of windows as the columns of a matrix with a row for every channel, row and
    /// column of a window. `x` is one image `[channels, height, width]`.
    pub fn lay_out(&self, x: &[f32], rows: Range<usize>, columns: &mut Vec<f32>) {
        let width = self.out.1;
        let (channels, kernel) = (x.len() / (self.image.0 * self.image.1).max(1), self.kernel.0 * self.kernel.1);
        columns.resize(channels * kernel * rows.len() * width, 0.);
        vectorised(
            #[inline(always)]
            || {
                self.segments(
                    x.len(),
                    rows,
                    #[inline(always)]
                    |i, source, inside| {
                        let column = &mut columns[i * width..][..width];
                        let Some(source) = source else { return column.fill(0.) };
                        column[..inside.start].fill(0.);
                        column[inside.end..].fill(0.);
                        // Adding zero keeps the compiler from calling a function for the few values of a row.
                        if self.stride == 1 {
                            for (column, &x) in column[inside].iter_mut().zip(&x[source..]) {
                                *column = x + 0.;
                            }
                        } else {
                            for (column, &x) in column[inside].iter_mut().zip(x[source..].iter().step_by(self.stride)) {
                                *column = x + 0.;
                            }
                        }
                    },
                )
            },
        )
    }

    /// Adds the columns of [`Windows::lay_out`] to the pixels that they came from.
    pub fn add_back(&self, columns: &[f32], rows: Range<usize>, x: &mut [f32]) {
        let width = self.out.1;
        vectorised(
            #[inline(always)]
            || {
                self.segments(
                    x.len(),
                    rows,
                    #[inline(always)]
                    |i, source, inside| {
                        let Some(source) = source else { return };
                        let column = &columns[i * width..][inside];
                        // One loop would serve both, but it is not turned into vector code.
                        if self.stride == 1 {
                            for (x, column) in x[source..].iter_mut().zip(column) {
                                *x += column;
                            }
                        } else {
                            for (x, column) in x[source..].iter_mut().step_by(self.stride).zip(column) {
                                *x += column;
                            }
                        }
                    },
                )
            },
        )
    }

    /// Calls `f` for every channel, row and column of a window, and for every row of windows, with the number of the call, the
    /// first pixel that is read and the windows across for which it is inside the image; `None` where none is.
    #[inline(always)]
    fn segments(&self, image: usize, rows: Range<usize>, mut f: impl FnMut(usize, Option<usize>, Range<usize>)) {
        let ((height, width), padding) = (self.image, self.padding);
        let mut call = 0;
        for channel in 0..image / (height * width).max(1) {
            for (ky, kx) in grid(self.kernel) {
                // The windows across whose pixel `kx` is inside: not before the image starts, nor after it ends.
                let first = padding.saturating_sub(kx).div_ceil(self.stride);
                let end = (width + padding).saturating_sub(kx).div_ceil(self.stride).min(self.out.1);
                for oy in rows.clone() {
                    let y = (oy * self.stride + ky).checked_sub(padding).filter(|&y| y < height && first < end);
                    let source = y.map(|y| (channel * height + y) * width + first * self.stride + kx - padding);
                    f(call, source, first..end);
                    call += 1;
                }
            }
        }
    }
}

fn grid((height, width): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |y| (0..width).map(move |x| (y, x)))
}
