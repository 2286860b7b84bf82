//! A convolution, a max-pool and a ReLU as one op: what lies between them is neither kept nor given a gradient that Candle
//! would fill with zeros and add to.

use candle_core::{Result, Tensor};
use tallow_kernels::activation::{before_relu, relu_in_place};
use tallow_kernels::conv::pool::{largest_of_planes, spread_over_planes};

use super::conv2d::{conv_of, conv2d, gradients};
use super::pool::max_pool2d;
use super::relu::relu;
use super::windows::windows_of;
use crate::autograd::Function;
use crate::slices::{CpuValues, serves};

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
    if !serves([x, w, b]) {
        return relu(&max_pool2d(&conv2d(x, w, Some(b), stride, padding)?, 2, 2, 0, ceil_mode)?);
    }
    let conv = conv_of(x, w, Some(b), stride, padding)?;
    let pool = windows_of("max_pool2d", conv.windows.out, (2, 2), 2, 0, ceil_mode)?;
    let [x, w, b] = [x.contiguous()?, w.contiguous()?, b.contiguous()?];
    let between = conv.forward(&CpuValues::of(&x)?, &CpuValues::of(&w)?, Some(&CpuValues::of(&b)?));
    // Where in its plane the maximum of every window is, the backward has to know.
    let (mut y, maxima) = largest_of_planes(&pool, &between);
    drop(between);
    relu_in_place(&mut y);
    let shape = (conv.batch, conv.out, pool.out.0, pool.out.1);
    Function::new("conv_pool_relu", [&x, &w, &b]).output(y, shape).backward(move |call| {
        let slopes = before_relu(&CpuValues::of(call.output)?, &CpuValues::of(call.gradient)?);
        gradients(&conv, call, &spread_over_planes(&pool, &slopes, &maxima))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::check;

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
