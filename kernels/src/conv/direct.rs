//! Convolution without laying out windows: a matrix product whose left operand is read from the windows where they are, in an
//! image with its margin.
//!
//! Places in such an image are sums of where a window starts and where in a window a factor lies. Forward, the rows of the
//! product are windows, the right operand the weights; for the gradient of the weights the rows are the places in a window,
//! the right operand the gradient of the output; the gradient of the input is the convolution of that with the weights turned
//! round.

use std::ops::Range;

use rayon::prelude::*;

use super::Wanted;
use super::windows::Windows;
use crate::column_sums::add_up;
use crate::matmul::{Gathered, Matrix, Operand, Output, PackedPanels, Start};
use crate::memory::{Out, Shared, filled};
use crate::simd::{sum, vectorised};
use crate::tasks::{self, shares};
use crate::transpose::transpose;

/// A convolution from `channels` to `out` channels.
pub struct Direct {
    windows: Windows,
    channels: usize,
    out: usize,
    /// Where every window starts in an image with its margin.
    starts: Vec<u32>,
    /// Where every factor of a window lies from there, in the order of the weights.
    places: Vec<u32>,
}

/// What every window is multiplied with, and what its sums begin from.
#[derive(Clone, Copy)]
struct Filters<'a> {
    w: &'a PackedPanels,
    start: Start<'a>,
}

/// A thread's memory: an image with its margin, and a block of the product with a row for every window.
#[derive(Default)]
struct Scratch {
    padded: Vec<f32>,
    block: Vec<f32>,
}

impl Direct {
    /// The tables of a convolution; `None` if the image is larger than they can hold.
    pub fn new(windows: Windows, channels: usize, out: usize) -> Option<Self> {
        let (height, width) = windows.padded();
        u32::try_from(channels.checked_mul(height)?.checked_mul(width)?).ok()?;
        let (rows, columns) = windows.out;
        let starts = (0..rows).flat_map(|row| (0..columns).map(move |column| (row * width + column) * windows.stride));
        let (kh, kw) = windows.kernel;
        let places =
            (0..channels * kh).flat_map(|line| (0..kw).map(move |x| (line / kh * height + line % kh) * width + x));
        Some(Self {
            windows,
            channels,
            out,
            starts: starts.map(|start| start as u32).collect(),
            places: places.map(|place| place as u32).collect(),
        })
    }

    /// The convolution that the gradient of the input is, where it is one: of the output's gradient with the weights turned
    /// round.
    fn backward(&self) -> Option<Self> {
        let Windows { image, kernel, stride, padding, out } = self.windows;
        if stride != 1 || kernel.0 != kernel.1 || padding >= kernel.0 {
            return None;
        }
        let windows = Windows { image: out, kernel, stride: 1, padding: kernel.0 - 1 - padding, out: image };
        Self::new(windows, self.out, self.channels)
    }

    /// Whether [`Direct::gradients`] can work out the gradient of the input.
    pub fn has_input_gradient(&self) -> bool {
        self.backward().is_some()
    }

    /// Values of an image, and of its output.
    fn sizes(&self) -> (usize, usize) {
        (self.channels * self.windows.image.0 * self.windows.image.1, self.out * self.starts.len())
    }

    fn assert_fits(&self, x: &[f32], w: &[f32], batch: usize) {
        assert_eq!(x.len(), batch * self.sizes().0, "images that do not fit");
        assert_eq!(w.len(), self.out * self.places.len(), "weights that do not fit");
    }

    /// Windows at a time: their part of the product stays in the second-level cache.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        const VALUES: usize = 1 << 15;
        let all = self.starts.len();
        let block = (VALUES / self.out.max(1)).max(96).next_multiple_of(96);
        (0..all).step_by(block).map(move |start| start..all.min(start + block))
    }

    /// `[batch, channels, height, width]` to `[batch, out, rows, columns]`, with weights `[out, channels, kh, kw]`.
    pub fn forward(&self, x: &[f32], w: &[f32], b: Option<&[f32]>, batch: usize) -> Vec<f32> {
        self.assert_fits(x, w, batch);
        let threads = tasks::threads();
        let weights = PackedPanels::new(Matrix::new(w, self.out, self.places.len()).t(), threads);
        let filters = Filters { w: &weights, start: b.map_or(Start::Zero, Start::Row) };
        let (before, after) = self.sizes();
        // SAFETY: every image writes its whole output.
        unsafe {
            filled(batch * after, |y| {
                let images: Vec<_> = y.chunks_exact_mut(after.max(1)).zip(x.chunks_exact(before.max(1))).collect();
                // Many images: each to one thread. Few: all threads on one.
                if batch < threads {
                    let scratch = &mut Scratch::default();
                    images.into_iter().for_each(|(y, x)| self.convolve(x, filters, y, scratch, threads));
                } else {
                    images.into_par_iter().for_each_init(Scratch::default, |scratch, (y, x)| {
                        self.convolve(x, filters, y, scratch, 1);
                    });
                }
            })
        }
    }

    /// One image, on so many threads; writes all of `y`.
    fn convolve(&self, x: &[f32], filters: Filters, y: &mut Out, scratch: &mut Scratch, threads: usize) {
        let Filters { w, start } = filters;
        let (positions, out) = (self.starts.len(), self.out);
        self.windows.add_margin(x, &mut scratch.padded);
        let to = Shared::new(y);
        for windows in self.blocks() {
            let count = windows.len();
            if scratch.block.len() < count * out {
                scratch.block.resize(count * out, 0.);
            }
            let a = Operand::Gathered(Gathered::new(&scratch.padded, &self.starts[windows.clone()], &self.places));
            let block = Output { to: scratch.block.as_mut_ptr(), row_stride: out, start, scale: 1. };
            // SAFETY: the block has room for the windows' values; the output for those of every channel, `positions` apart.
            unsafe {
                w.multiply(block, a, threads);
                transpose(scratch.block.as_ptr(), out, (count, out), to.at(windows.start), positions);
            }
        }
    }

    /// The gradients of input, weights and bias that are wanted.
    pub fn gradients(&self, x: &[f32], w: &[f32], dy: &[f32], batch: usize, wanted: Wanted) -> [Vec<f32>; 3] {
        self.assert_fits(x, w, batch);
        let (before, after) = self.sizes();
        let (depth, out) = (self.places.len(), self.out);
        let back = if wanted.dx { self.backward() } else { None };
        let back = back.map(|back| {
            let turned = self.turned_round(w);
            let weights = PackedPanels::new(Matrix::new(&turned, back.places.len(), back.out), tasks::threads());
            (back, weights)
        });
        let (mut dw, mut db) = (vec![], vec![]);
        let mut work = |dx: &mut Out| {
            let parts = shares(batch, before, dx).into_par_iter().with_max_len(1).map(|(images, dx)| {
                let mut dw = vec![0f32; if wanted.dw { depth * out } else { 0 }];
                let mut db = vec![0f32; if wanted.db { out } else { 0 }];
                let (mut scratch, mut dx_images) = (Scratch::default(), dx.chunks_exact_mut(before.max(1)));
                for image in images {
                    let dy = &dy[image * after..][..after];
                    if wanted.db {
                        add_sums(dy, &mut db);
                    }
                    if wanted.dw {
                        self.add_weight_gradient(&x[image * before..][..before], dy, &mut dw, &mut scratch.padded);
                    }
                    if let (Some((back, weights)), Some(dx)) = (&back, dx_images.next()) {
                        back.convolve(dy, Filters { w: weights, start: Start::Zero }, dx, &mut scratch, 1);
                    }
                }
                (dw, db)
            });
            (dw, db) = parts.collect::<Vec<_>>().into_iter().unzip();
        };
        // SAFETY: every image writes its whole gradient.
        let dx = unsafe { filled(if back.is_some() { x.len() } else { 0 }, &mut work) };
        let (turned, db) = (add_up(dw, if wanted.dw { depth * out } else { 0 }), add_up(db, out));
        let mut dw = vec![0f32; turned.len()];
        if wanted.dw {
            // SAFETY: both have as many values.
            unsafe { transpose(turned.as_ptr(), out, (depth, out), dw.as_mut_ptr(), depth) };
        }
        [dx, dw, db]
    }

    /// Adds the gradient of the weights that comes from one image, `[factors of a window, out]`.
    fn add_weight_gradient(&self, x: &[f32], dy: &[f32], dw: &mut [f32], padded: &mut Vec<f32>) {
        let (positions, out) = (self.starts.len(), self.out);
        self.windows.add_margin(x, padded);
        for windows in self.blocks() {
            let dy = Matrix::strided(&dy[windows.start..], out, windows.len(), positions);
            let panels = PackedPanels::new(dy.t(), 1);
            let a = Operand::Gathered(Gathered::new(padded, &self.places, &self.starts[windows]));
            let to = Output { to: dw.as_mut_ptr(), row_stride: out, start: Start::Out, scale: 1. };
            // SAFETY: the gradient has a row for every factor.
            unsafe { panels.multiply(to, a, 1) };
        }
    }

    /// The weights of [`Direct::backward`], `[out · kh · kw, channels]`.
    fn turned_round(&self, w: &[f32]) -> Vec<f32> {
        let (window, channels) = (self.windows.kernel.0 * self.windows.kernel.1, self.channels);
        let mut turned = Vec::with_capacity(w.len());
        for out in 0..self.out {
            for place in (0..window).rev() {
                turned.extend((0..channels).map(|channel| w[(out * channels + channel) * window + place]));
            }
        }
        turned
    }
}

/// Adds the sum of every channel of one image.
pub(super) fn add_sums(dy: &[f32], sums: &mut [f32]) {
    let positions = dy.len() / sums.len().max(1);
    vectorised(
        #[inline(always)]
        || {
            for (total, dy) in sums.iter_mut().zip(dy.chunks_exact(positions.max(1))) {
                *total += sum(dy, |dy| dy);
            }
        },
    );
}
