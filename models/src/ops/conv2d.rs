//! Two-dimensional convolution (cross-correlation, as in every framework): a matrix product over the windows of an image.
//! Where its products run on vector registers they read the windows where they are ([`Direct`]), or with windows of 5×5 and many
//! channels do with fewer multiplications ([`Winograd`]); for AMX's tiles the windows are laid out, in parts that fit the cache.

use std::mem::MaybeUninit;
use std::ops::Range;

use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;
use tallow_kernels::conv::Direct;
use tallow_kernels::conv::Wanted;
use tallow_kernels::conv::Windows;
use tallow_kernels::conv::Winograd;
use tallow_kernels::tasks::shares;

use super::column_sums::add_up;
use super::kernel::{Shared, filled, serves, tensor};
use super::matmul::{Matrix, Start, Threads, multiply_add, multiply_at, on_tiles};
use super::simd::{sum, vectorised};
use super::windows::{unfold, windows_of};
use crate::autograd::{Call, Function};
use crate::slices::CpuValues;

/// Convolves `x [batch, in, height, width]` with `w [out, in, kh, kw]`, plus `b [out]`; `padding` zeros on every side.
///
/// # Errors
/// If the shapes do not fit each other, or the kernel does not fit the image.
pub fn conv2d(x: &Tensor, w: &Tensor, b: Option<&Tensor>, stride: usize, padding: usize) -> Result<Tensor> {
    let conv = Conv2d::new(x, w, b, stride, padding)?;
    #[cfg(feature = "cuda")]
    if let Some(y) = on_cuda(x, w, b, &conv.windows)? {
        return Ok(y);
    }
    if serves(&[Some(x), Some(w), b].into_iter().flatten().collect::<Vec<_>>()) {
        fused(x, w, b, conv)
    } else {
        composed(x, w, b, &conv.windows)
    }
}

fn fused(x: &Tensor, w: &Tensor, b: Option<&Tensor>, conv: Conv2d) -> Result<Tensor> {
    let (x, w, b) = (x.contiguous()?, w.contiguous()?, b.map(Tensor::contiguous).transpose()?);
    let y = {
        let b = b.as_ref().map(CpuValues::of).transpose()?;
        conv.forward(&CpuValues::of(&x)?, &CpuValues::of(&w)?, b.as_deref())
    };
    let shape = (conv.batch, conv.out, conv.windows.out.0, conv.windows.out.1);
    let function = Function::new("conv2d", [&x, &w].into_iter().chain(&b)).output(y, shape);
    function.backward(move |call| conv.gradients(call, &CpuValues::of(call.gradient)?))
}

fn composed(x: &Tensor, w: &Tensor, b: Option<&Tensor>, windows: &Windows) -> Result<Tensor> {
    let (batch, channels, _, _) = x.dims4()?;
    let (out, _, kh, kw) = w.dims4()?;
    let (oh, ow) = windows.out;
    let columns = unfolded(x, windows)?.reshape((batch * oh * ow, channels * kh * kw))?;
    let y = columns.matmul(&w.reshape((out, ()))?.t()?)?;
    let y = match b {
        Some(b) => y.broadcast_add(b)?,
        None => y,
    };
    y.reshape((batch, oh * ow, out))?.transpose(1, 2)?.reshape((batch, out, oh, ow))
}

/// Windows as rows, `[batch, windows, channels * pixels of a window]`.
fn unfolded(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    unfold(windows, x, 0.)?.transpose(1, 2)?.flatten_from(2)
}

/// By the kernels that lay out windows, and a linear layer over them.
#[cfg(feature = "cuda")]
fn on_cuda(x: &Tensor, w: &Tensor, b: Option<&Tensor>, windows: &Windows) -> Result<Option<Tensor>> {
    let Some(rows) = super::cuda::unfold(&super::cuda::narrowed(x)?, windows, unfolded)? else { return Ok(None) };
    let (out, depth) = (w.dim(0)?, rows.dim(2)?);
    let y = super::linear(&rows, &w.reshape((out, depth))?, b)?;
    y.transpose(1, 2)?.reshape((x.dim(0)?, out, windows.out.0, windows.out.1)).map(Some)
}

/// The kernels of a convolution.
pub(super) struct Conv2d {
    pub batch: usize,
    channels: usize,
    pub out: usize,
    pub windows: Windows,
}

/// How a convolution is computed.
enum Way {
    Winograd(Winograd),
    Direct(Direct),
    Layout,
}

impl Conv2d {
    /// For operands whose shapes fit each other.
    pub fn new(x: &Tensor, w: &Tensor, b: Option<&Tensor>, stride: usize, padding: usize) -> Result<Self> {
        let (batch, channels, height, width) = x.dims4()?;
        let (out, expected, kh, kw) = w.dims4()?;
        if channels != expected || b.is_some_and(|b| b.dims() != [out]) {
            let b = b.map(|b| format!(", bias {:?}", b.dims())).unwrap_or_default();
            bail!(
                "conv2d: expected x [batch, {expected}, height, width] and bias [{out}] for weight {:?}, got x {:?}{b}",
                w.dims(),
                x.dims()
            )
        }
        let windows = windows_of("conv2d", (height, width), (kh, kw), stride, padding, false)?;
        Ok(Self { batch, channels, out, windows })
    }

    /// Values of an image, of a window, and windows of an image.
    fn sizes(&self) -> (usize, usize, usize) {
        let Windows { image, kernel, out, .. } = self.windows;
        (self.channels * image.0 * image.1, self.channels * kernel.0 * kernel.1, out.0 * out.1)
    }

    /// Rows of windows at a time: their values fit the second-level cache.
    fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        const VALUES: usize = 1 << 18;
        let (_, depth, _) = self.sizes();
        let (rows, columns) = self.windows.out;
        let tile = (VALUES / (depth * columns).max(1)).clamp(1, rows);
        (0..rows).step_by(tile).map(move |start| start..rows.min(start + tile))
    }

    /// The fastest way. Windows are laid out only for tiles, which in float32 takes many channels.
    fn way(&self) -> Way {
        let (_, depth, positions) = self.sizes();
        if on_tiles(positions, self.out, depth) {
            return Way::Layout;
        }
        // It shares out images, not parts of them: with fewer than half as many as threads, twice the work on all is done sooner.
        let enough = 2 * self.batch >= rayon::current_num_threads();
        match Winograd::new(self.windows, self.channels, self.out).filter(|_| enough) {
            Some(winograd) => Way::Winograd(winograd),
            None => Direct::new(self.windows, self.channels, self.out).map_or(Way::Layout, Way::Direct),
        }
    }

    /// The output, `[batch, out, rows, columns]`.
    pub fn forward(&self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> Vec<f32> {
        match self.way() {
            Way::Winograd(winograd) => winograd.forward(x, w, b, self.batch),
            Way::Direct(direct) => direct.forward(x, w, b, self.batch),
            Way::Layout => self.forward_on_layout(x, w, b),
        }
    }

    fn forward_on_layout(&self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> Vec<f32> {
        let (pixels, depth, positions) = self.sizes();
        let w = Matrix::new(w, self.out, depth);
        // Many images: each to one thread. Few: all threads on the product of one.
        let threads = if self.batch < rayon::current_num_threads() { Threads::All } else { Threads::One };
        let start = if b.is_some() { Start::Out } else { Start::Zero };
        let image = |x: &[f32], y: Shared, (padded, columns): &mut (Vec<f32>, Vec<f32>)| {
            self.windows.add_margin(x, padded);
            for rows in self.tiles() {
                self.windows.lay_out(padded, rows.clone(), columns);
                let (first, count) = (rows.start * self.windows.out.1, rows.len() * self.windows.out.1);
                let columns = Matrix::new(columns, depth, count);
                // SAFETY: this image's output, whose channels lie `positions` apart; the bias is there already.
                unsafe { multiply_at(y.at(first), positions, start, w, columns, 1., threads) };
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

    /// The gradients of the operands: image, weight and, where there is one, bias.
    pub fn gradients(&self, call: &Call, dy: &[f32]) -> Result<Vec<Option<Tensor>>> {
        let (x, w) = (CpuValues::of(&call.operands[0])?, CpuValues::of(&call.operands[1])?);
        let wanted = Wanted { dx: call.wants(0), dw: call.wants(1), db: call.wants(2) };
        let (dx, dw, db) = self.backward(&x, &w, dy, wanted);
        let gradients = [dx, dw, db].into_iter().zip(call.operands).enumerate();
        let as_wanted = |(index, (gradient, operand)): (usize, (Vec<f32>, &Tensor))| match call.wants(index) {
            true => tensor(gradient, operand.dims()).map(Some),
            false => Ok(None),
        };
        gradients.map(as_wanted).collect()
    }

    /// The gradients that are wanted; the others come back empty.
    fn backward(&self, x: &[f32], w: &[f32], dy: &[f32], wanted: Wanted) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let direct = match self.way() {
            Way::Winograd(winograd) => return winograd.gradients(x, w, dy, self.batch, wanted).into(),
            Way::Direct(direct) => direct,
            Way::Layout => return self.backward_on_layout(x, w, dy, wanted),
        };
        let directly = Wanted { dx: wanted.dx && direct.has_input_gradient(), ..wanted };
        let [mut dx, dw, db] = direct.gradients(x, w, dy, self.batch, directly);
        if wanted.dx && !directly.dx {
            (dx, _, _) = self.backward_on_layout(x, w, dy, Wanted { dx: true, dw: false, db: false });
        }
        (dx, dw, db)
    }

    fn backward_on_layout(&self, x: &[f32], w: &[f32], dy: &[f32], wanted: Wanted) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
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
                        unsafe { multiply_at(dcolumns.as_mut_ptr(), count, Start::Zero, w, dy, 1., Threads::One) };
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
        (dx, dw, db)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::check::check;
    use super::*;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        let cases = [
            (1, 1, 1, (1, 1), (1, 1), 1, 0),
            (2, 3, 4, (7, 5), (3, 3), 1, 1),
            (3, 2, 5, (9, 8), (5, 5), 1, 2),
            (2, 3, 4, (11, 10), (3, 2), 2, 1),
            (1, 2, 3, (8, 9), (2, 3), 3, 0),
            (2, 1, 2, (4, 4), (4, 4), 1, 3),
            (3, 16, 18, (9, 8), (5, 5), 1, 2),
        ];
        for (batch, channels, out, image, kernel, stride, padding) in cases {
            let x = [batch, channels, image.0, image.1];
            let w = [out, channels, kernel.0, kernel.1];
            check("conv2d", &[&x, &w, &[out]], |t| conv2d(&t[0], &t[1], Some(&t[2]), stride, padding))?;
            check("conv2d without bias", &[&x, &w], |t| conv2d(&t[0], &t[1], None, stride, padding))?;
        }
        Ok(())
    }

    #[test]
    fn windows_that_are_laid_out_agree_with_those_that_are_not() -> Result<()> {
        use super::super::check::values as random;
        for (channels, out, image, kernel, stride, padding) in
            [(3, 20, (40, 33), (5, 5), 1, 2), (2, 70, (9, 11), (3, 2), 2, 1), (5, 17, (8, 8), (3, 3), 1, 0)]
        {
            let batch = 3;
            let windows = windows_of("conv2d", image, kernel, stride, padding, false)?;
            let conv = Conv2d { batch, channels, out, windows };
            let direct = Direct::new(windows, channels, out).expect("a small image");
            let numbers = |len: usize, seed| random(&[len], seed)?.to_vec1::<f32>();
            let (before, depth, positions) = conv.sizes();
            let (x, w) = (numbers(batch * before, 1)?, numbers(out * depth, 2)?);
            let (b, dy) = (numbers(out, 3)?, numbers(batch * out * positions, 4)?);
            let near = |got: &[f32], expected: &[f32]| {
                let largest = expected.iter().fold(1f32, |m, x| m.max(x.abs()));
                got.len() == expected.len() && got.iter().zip(expected).all(|(g, e)| (g - e).abs() < 3e-6 * largest)
            };
            assert!(near(&direct.forward(&x, &w, Some(&b), batch), &conv.forward_on_layout(&x, &w, Some(&b))));
            let wanted = Wanted { dx: direct.has_input_gradient(), dw: true, db: true };
            let [dx, dw, db] = direct.gradients(&x, &w, &dy, batch, wanted);
            let expected = conv.backward_on_layout(&x, &w, &dy, wanted);
            assert!(near(&dx, &expected.0) && near(&dw, &expected.1) && near(&db, &expected.2));
        }
        Ok(())
    }

    #[test]
    fn an_image_of_several_tiles_gives_the_same_result() -> Result<()> {
        let windows = windows_of("conv2d", (40, 150), (5, 5), 1, 2, false)?;
        let conv = Conv2d { batch: 1, channels: 3, out: 2, windows };
        assert!(conv.tiles().count() > 1, "the test is to cover several tiles");
        check("conv2d", &[&[1, 3, 40, 150], &[2, 3, 5, 5]], |t| conv2d(&t[0], &t[1], None, 1, 2))
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        assert!(conv2d(&zeros(&[1, 3, 8, 8])?, &zeros(&[4, 2, 3, 3])?, None, 1, 0).is_err());
        assert!(conv2d(&zeros(&[1, 3, 8, 8])?, &zeros(&[4, 3, 3, 3])?, None, 0, 0).is_err());
        assert!(conv2d(&zeros(&[1, 3, 8, 8])?, &zeros(&[4, 3, 9, 9])?, None, 1, 0).is_err());
        assert!(conv2d(&zeros(&[1, 3, 8, 8])?, &zeros(&[4, 3, 3, 3])?, Some(&zeros(&[3])?), 1, 0).is_err());
        let empty = conv2d(&zeros(&[0, 3, 8, 8])?, &zeros(&[4, 3, 3, 3])?, Some(&zeros(&[4])?), 1, 1)?;
        assert_eq!(empty.dims(), [0, 4, 8, 8]);
        Ok(())
    }
}
