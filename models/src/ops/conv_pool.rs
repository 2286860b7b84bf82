//! A convolution, a max-pool and a ReLU as one op: what lies between them is neither kept nor given a gradient that Candle
//! would fill with zeros and add to.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use tallow_kernels::conv::Windows;

use super::conv2d::{Conv2d, conv2d};
use super::kernel::{filled, read, rows_per_task, serves, tensor, values};
use super::pool::{largest_of_planes, max_pool2d, spread_over_planes};
use super::relu::relu;
use super::windows::windows_of;

/// `relu(max_pool2d(conv2d(x, w, b)))`, with windows of 2×2 side by side; see [`conv2d`] and [`max_pool2d`] for the rest.
///
/// # Errors
/// Those of both.
pub fn conv_pool_relu(
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    stride: usize,
    padding: usize,
    ceil_mode: bool,
) -> Result<Tensor> {
    if !serves(&[x, w, b]) {
        return relu(&max_pool2d(&conv2d(x, w, Some(b), stride, padding)?, 2, 2, 0, ceil_mode)?);
    }
    let conv = Conv2d::new(x, w, Some(b), stride, padding)?;
    let pool = windows_of("max_pool2d", conv.windows.out, (2, 2), 2, 0, ceil_mode)?;
    let op = ConvPoolRelu { conv, pool, maxima: OnceLock::new() };
    x.contiguous()?.apply_op3(&w.contiguous()?, &b.contiguous()?, op)
}

struct ConvPoolRelu {
    conv: Conv2d,
    pool: Windows,
    /// Where in its plane the maximum of every window is.
    maxima: OnceLock<Vec<u32>>,
}

impl CustomOp3 for ConvPoolRelu {
    fn name(&self) -> &'static str {
        "conv_pool_relu"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let between = self.conv.forward(values(x, lx)?, values(w, lw)?, Some(values(b, lb)?));
        let (mut y, maxima) = largest_of_planes(&self.pool, &between);
        // Written so that NaN goes through.
        let task = rows_per_task(y.len(), 1);
        y.par_chunks_mut(task).for_each(|y| y.iter_mut().for_each(|y| *y = if *y <= 0. { 0. } else { *y }));
        // A second forward of the same op would find the same maxima.
        let _ = self.maxima.set(maxima);
        Ok((CpuStorage::F32(y), (self.conv.batch, self.conv.out, self.pool.out.0, self.pool.out.1).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some(maxima) = self.maxima.get() else { bail!("conv_pool_relu: a backward before the forward") };
        let slopes = read(y, |y| read(dy, |dy| before_relu(y, dy)))??;
        let between = spread_over_planes(&self.pool, &slopes, maxima);
        let (rows, columns) = self.pool.image;
        let between = tensor(between, &[self.conv.batch, self.conv.out, rows, columns])?;
        self.conv.gradients(x, w, Some(b), &between)
    }
}

/// The gradient of what ReLU made `y` of.
fn before_relu(y: &[f32], dy: &[f32]) -> Vec<f32> {
    let task = rows_per_task(y.len(), 1);
    // SAFETY: the tasks cover all values.
    unsafe {
        filled(y.len(), |dx| {
            let tasks = dx.par_chunks_mut(task).zip(y.par_chunks(task).zip(dy.par_chunks(task)));
            tasks.for_each(|(dx, (y, dy))| {
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    dx.write(if y <= 0. { 0. } else { dy });
                }
            });
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::check;
    use super::*;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for (batch, channels, out, image, kernel, stride, padding, ceil_mode) in
            [(2, 3, 4, (8, 6), 3, 1, 1, false), (3, 2, 5, (9, 7), 5, 1, 2, true), (2, 16, 16, (7, 10), 5, 1, 2, false)]
        {
            let (x, w) = ([batch, channels, image.0, image.1], [out, channels, kernel, kernel]);
            check("conv_pool_relu", &[&x, &w, &[out]], |t| {
                conv_pool_relu(&t[0], &t[1], &t[2], stride, padding, ceil_mode)
            })?;
        }
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error_and_an_empty_batch_is_none() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, candle_core::DType::F32, &candle_core::Device::Cpu);
        let (w, b) = (zeros(&[4, 3, 3, 3])?, zeros(&[4])?);
        assert!(conv_pool_relu(&zeros(&[1, 2, 8, 8])?, &w, &b, 1, 0, false).is_err());
        assert!(conv_pool_relu(&zeros(&[1, 3, 3, 3])?, &w, &b, 1, 0, false).is_err());
        assert_eq!(conv_pool_relu(&zeros(&[0, 3, 8, 8])?, &w, &b, 1, 1, false)?.dims(), [0, 4, 4, 4]);
        Ok(())
    }
}
