//! Maximum and average of square windows.

use std::mem::MaybeUninit;

use candle_core::{D, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use tallow_kernels::conv::Windows;

use super::kernel::{filled, rows_per_task, serves, tensor, written};
use super::simd::vectorised;
use super::windows::{unfold, windows_of};
use crate::autograd::Function;
use crate::slices::CpuValues;

/// The maximum of every `kernel`×`kernel` window of `x [batch, channels, height, width]`, padded with -∞. The gradient goes
/// to the first maximum of a window, as in PyTorch. With `ceil_mode` the last windows may hang over the edge.
///
/// # Errors
/// If the window does not fit the image, or the padding is more than half the window.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize, ceil_mode: bool) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    if padding * 2 > kernel {
        bail!("max_pool2d: expected a padding of at most half the kernel, got padding {padding}, kernel {kernel}")
    }
    let windows = windows_of("max_pool2d", (height, width), (kernel, kernel), stride, padding, ceil_mode)?;
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::max_pool2d(x, &windows, composed_max)? {
        return Ok(y);
    }
    if serves(&[x]) { fused_max(x, windows) } else { composed_max(x, &windows) }
}

/// The average of every `kernel`×`kernel` window of `x [batch, channels, height, width]`.
///
/// # Errors
/// If the window does not fit the image.
pub fn avg_pool2d(x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let windows = windows_of("avg_pool2d", (height, width), (kernel, kernel), stride, 0, false)?;
    if serves(&[x]) { fused_avg(x, windows) } else { composed_avg(x, &windows) }
}

fn composed_max(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    let (batch, channels, _, _) = x.dims4()?;
    let columns = unfold(windows, x, f64::NEG_INFINITY)?;
    // Not Candle's `max`: it gives the whole gradient to every one of several equal maxima.
    let first = columns.detach().argmax_keepdim(D::Minus1)?;
    columns.gather(&first, D::Minus1)?.reshape((batch, channels, windows.out.0, windows.out.1))
}

fn composed_avg(x: &Tensor, windows: &Windows) -> Result<Tensor> {
    let (batch, channels, _, _) = x.dims4()?;
    unfold(windows, x, 0.)?.mean(D::Minus1)?.reshape((batch, channels, windows.out.0, windows.out.1))
}

fn output_shape(x: &Tensor, windows: &Windows) -> Result<Shape> {
    let (batch, channels, _, _) = x.dims4()?;
    Ok((batch, channels, windows.out.0, windows.out.1).into())
}

/// Values of one channel of one image, before and after.
fn plane_sizes(windows: &Windows) -> (usize, usize) {
    (windows.image.0 * windows.image.1, windows.out.0 * windows.out.1)
}

fn fused_max(x: &Tensor, windows: Windows) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (y, maxima) = largest_of_planes(&windows, &CpuValues::of(&x)?);
    Function::new("max_pool2d", [&x]).output(y, output_shape(&x, &windows)?).backward(move |call| {
        let dx = spread_over_planes(&windows, &CpuValues::of(call.gradient)?, &maxima);
        Ok(vec![Some(tensor(dx, call.operands[0].dims())?)])
    })
}

fn fused_avg(x: &Tensor, windows: Windows) -> Result<Tensor> {
    let x = x.contiguous()?;
    let y = averages_of_planes(&windows, &CpuValues::of(&x)?);
    Function::new("avg_pool2d", [&x]).output(y, output_shape(&x, &windows)?).backward(move |call| {
        let dx = share_over_planes(&windows, &CpuValues::of(call.gradient)?);
        Ok(vec![Some(tensor(dx, call.operands[0].dims())?)])
    })
}

/// The maximum of every window of every plane, and where in its plane it is.
pub(super) fn largest_of_planes(windows: &Windows, x: &[f32]) -> (Vec<f32>, Vec<u32>) {
    let (before, after) = plane_sizes(windows);
    let planes = x.len() / before.max(1);
    let mut maxima = vec![0u32; planes * after];
    let task = rows_per_task(planes, before);
    // SAFETY: the tasks cover the output, and every value of every plane is written.
    let y = unsafe {
        filled(planes * after, |y| {
            let tasks = y.par_chunks_mut(task * after).zip(maxima.par_chunks_mut(task * after));
            tasks.zip(x.par_chunks((task * before).max(1))).for_each(|((y, maxima), x)| {
                let planes = y.chunks_exact_mut(after).zip(maxima.chunks_exact_mut(after));
                for ((y, maxima), x) in planes.zip(x.chunks_exact(before)) {
                    y.fill(MaybeUninit::new(f32::NEG_INFINITY));
                    match two_by_two(windows) {
                        true => largest_of_four(windows, x, written(y), maxima),
                        false => largest(windows, x, written(y), maxima),
                    }
                }
            })
        })
    };
    (y, maxima)
}

/// The gradient of every plane: the output's at the maxima of its windows.
pub(super) fn spread_over_planes(windows: &Windows, dy: &[f32], maxima: &[u32]) -> Vec<f32> {
    let (before, after) = plane_sizes(windows);
    if two_by_two(windows) && before == 4 * after {
        return spread(windows, dy, maxima);
    }
    let planes = dy.len() / after.max(1);
    let mut dx = vec![0f32; planes * before];
    let task = rows_per_task(planes, before);
    let tasks = dx.par_chunks_mut((task * before).max(1)).zip(dy.par_chunks(task * after));
    tasks.zip(maxima.par_chunks(task * after)).for_each(|((dx, dy), maxima)| {
        let planes = dx.chunks_exact_mut(before).zip(dy.chunks_exact(after));
        for ((dx, dy), maxima) in planes.zip(maxima.chunks_exact(after)) {
            for (&dy, &maximum) in dy.iter().zip(maxima) {
                dx[maximum as usize] += dy;
            }
        }
    });
    dx
}

/// The first maximum of every window of a plane, or its last NaN, and where it is; `y` starts from -∞.
fn largest(windows: &Windows, x: &[f32], y: &mut [f32], maxima: &mut [u32]) {
    let (width, stride) = (windows.out.1, windows.stride);
    // All windows of a row at once, pixel by pixel of a window.
    vectorised(
        #[inline(always)]
        || {
            for (row, (y, maxima)) in y.chunks_exact_mut(width).zip(maxima.chunks_exact_mut(width)).enumerate() {
                // A window of -∞ alone has its maximum at its first pixel.
                let mut first = true;
                windows.pixels(
                    row,
                    #[inline(always)]
                    |at, across| {
                        let (y, maxima) = (&mut y[across.clone()], &mut maxima[across]);
                        if first {
                            maxima.iter_mut().enumerate().for_each(|(i, m)| *m = (at + i * stride) as u32);
                            first = false;
                        }
                        match stride {
                            1 => take::<1>(&x[at..], at, stride, y, maxima),
                            2 => take::<2>(&x[at..], at, stride, y, maxima),
                            _ => take::<0>(&x[at..], at, stride, y, maxima),
                        }
                    },
                );
            }
        },
    )
}

/// The gradient of the input where [`two_by_two`] windows cover it: at the maximum the output's, else 0.
fn spread(windows: &Windows, dy: &[f32], maxima: &[u32]) -> Vec<f32> {
    let (width, count) = (windows.image.1, windows.out.1);
    let (before, after) = plane_sizes(windows);
    let task = rows_per_task(dy.len() / after.max(1), before);
    // SAFETY: the tasks cover the output, and the windows every pixel of every plane.
    unsafe {
        filled(4 * dy.len(), |dx| {
            let tasks = dx.par_chunks_mut((task * before).max(1)).zip(dy.par_chunks((task * after).max(1)));
            tasks.zip(maxima.par_chunks((task * after).max(1))).for_each(|((dx, dy), maxima)| {
                vectorised(
                    #[inline(always)]
                    || {
                        let rows = dx.chunks_exact_mut(2 * width).zip(dy.chunks_exact(count));
                        for (row, ((dx, dy), maxima)) in rows.zip(maxima.chunks_exact(count)).enumerate() {
                            let first = (row % windows.out.0 * 2 * width) as u32;
                            let (above, below) = dx.split_at_mut(width);
                            let pairs = above.as_chunks_mut::<2>().0.iter_mut().zip(below.as_chunks_mut::<2>().0);
                            let places = (0..count as u32).map(|i| first + 2 * i);
                            for (((above, below), (&dy, &maximum)), place) in
                                pairs.zip(dy.iter().zip(maxima)).zip(places)
                            {
                                // Without a branch: which of four it is cannot be foreseen.
                                let at = |place: u32| {
                                    let mask = u32::from(place == maximum).wrapping_neg();
                                    MaybeUninit::new(f32::from_bits(dy.to_bits() & mask))
                                };
                                *above = [at(place), at(place + 1)];
                                *below = [at(place + width as u32), at(place + width as u32 + 1)];
                            }
                        }
                    },
                )
            })
        })
    }
}

/// Whether windows of 2×2 lie side by side inside the image.
fn two_by_two(windows: &Windows) -> bool {
    let Windows { image, kernel, stride, padding, out } = *windows;
    (kernel, stride, padding) == ((2, 2), 2, 0) && 2 * out.0 <= image.0 && 2 * out.1 <= image.1
}

/// [`largest`] where the windows are [`two_by_two`].
fn largest_of_four(windows: &Windows, x: &[f32], y: &mut [f32], maxima: &mut [u32]) {
    let (width, count) = (windows.image.1, windows.out.1);
    vectorised(
        #[inline(always)]
        || {
            let larger = |best: (f32, u32), other: (f32, u32)| {
                let larger = (other.0 > best.0) | other.0.is_nan();
                (if larger { other.0 } else { best.0 }, if larger { other.1 } else { best.1 })
            };
            let rows = y.chunks_exact_mut(count).zip(maxima.chunks_exact_mut(count));
            for (row, (y, maxima)) in rows.enumerate() {
                let first = 2 * row * width;
                let (above, below) = (&x[first..][..2 * count], &x[first + width..][..2 * count]);
                let pairs = above.as_chunks::<2>().0.iter().zip(below.as_chunks::<2>().0);
                let places = (0..count as u32).map(|i| first as u32 + 2 * i);
                for (((y, maximum), (above, below)), place) in y.iter_mut().zip(maxima).zip(pairs).zip(places) {
                    let best = larger((above[0], place), (above[1], place + 1));
                    let best = larger(best, (below[0], place + width as u32));
                    (*y, *maximum) = larger(best, (below[1], place + width as u32 + 1));
                }
            }
        },
    )
}

/// Takes the pixels of `x` that lie `STRIDE` apart, or `stride` if that is 0, for maxima that are larger.
#[inline(always)]
fn take<const STRIDE: usize>(x: &[f32], at: usize, stride: usize, y: &mut [f32], maxima: &mut [u32]) {
    // A constant stride lets the compiler load vectors.
    let stride = if STRIDE == 0 { stride } else { STRIDE };
    let count = y.len();
    let x = &x[..(count - 1) * stride + 1];
    let maxima = &mut maxima[..count];
    for i in 0..count {
        let value = x[i * stride];
        let larger = (value > y[i]) | value.is_nan();
        y[i] = if larger { value } else { y[i] };
        maxima[i] = if larger { (at + i * stride) as u32 } else { maxima[i] };
    }
}

/// The average of every window of every plane.
fn averages_of_planes(windows: &Windows, x: &[f32]) -> Vec<f32> {
    let (before, after) = plane_sizes(windows);
    let planes = x.len() / before.max(1);
    let task = rows_per_task(planes, before);
    let (width, count) = (windows.image.1, window_len(windows));
    // SAFETY: the tasks cover the output, and every value of every plane is written.
    unsafe {
        filled(planes * after, |y| {
            y.par_chunks_mut(task * after).zip(x.par_chunks((task * before).max(1))).for_each(|(y, x)| {
                for (y, x) in y.chunks_exact_mut(after).zip(x.chunks_exact(before)) {
                    for ((rows, columns), y) in windows.inside().zip(y) {
                        let row = |row: usize| x[row * width..][columns.clone()].iter().sum::<f32>();
                        y.write(rows.map(row).sum::<f32>() / count);
                    }
                }
            })
        })
    }
}

/// The gradient of every plane: the output's, shared out among the pixels of its windows.
fn share_over_planes(windows: &Windows, dy: &[f32]) -> Vec<f32> {
    let (before, after) = plane_sizes(windows);
    let planes = dy.len() / after.max(1);
    let task = rows_per_task(planes, before);
    let (width, count) = (windows.image.1, window_len(windows));
    let mut dx = vec![0f32; planes * before];
    dx.par_chunks_mut((task * before).max(1)).zip(dy.par_chunks(task * after)).for_each(|(dx, dy)| {
        for (dx, dy) in dx.chunks_exact_mut(before).zip(dy.chunks_exact(after)) {
            for ((rows, columns), dy) in windows.inside().zip(dy) {
                for row in rows {
                    for dx in &mut dx[row * width..][columns.clone()] {
                        *dx += dy / count;
                    }
                }
            }
        }
    });
    dx
}

/// Pixels of a window.
fn window_len(windows: &Windows) -> f32 {
    (windows.kernel.0 * windows.kernel.1) as f32
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Var};

    use super::super::check::check;
    use super::*;

    #[test]
    fn kernels_agree_with_the_compositions() -> Result<()> {
        let cases = [(2, 2, 0, false), (2, 2, 0, true), (3, 2, 1, true), (3, 1, 1, false), (2, 3, 1, true)];
        for (kernel, stride, padding, ceil_mode) in cases {
            for image in [(4, 4), (7, 5), (9, 8)] {
                let dims = [2, 3, image.0, image.1];
                check("max_pool2d", &[&dims], |t| max_pool2d(&t[0], kernel, stride, padding, ceil_mode))?;
                check("avg_pool2d", &[&dims], |t| avg_pool2d(&t[0], kernel, stride))?;
            }
        }
        Ok(())
    }

    #[test]
    fn of_equal_maxima_the_first_gets_the_gradient() -> Result<()> {
        for dtype in [DType::F32, DType::F64] {
            let x = Var::ones((1, 1, 2, 4), dtype, &Device::Cpu)?;
            let store = max_pool2d(&x, 2, 2, 0, false)?.sum_all()?.backward()?;
            let gradient = store.get(&x).expect("a gradient").to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(gradient, [1., 0., 1., 0., 0., 0., 0., 0.]);
        }
        Ok(())
    }

    #[test]
    fn a_nan_goes_through() -> Result<()> {
        let x = Tensor::new(&[[[[1f32, f32::NAN], [5., 2.]]]], &Device::Cpu)?;
        assert!(max_pool2d(&x, 2, 2, 0, false)?.flatten_all()?.to_vec1::<f32>()?[0].is_nan());
        Ok(())
    }

    #[test]
    fn windows_that_do_not_fit_are_an_error() -> Result<()> {
        let x = Tensor::zeros((1, 1, 4, 4), DType::F32, &Device::Cpu)?;
        assert!(max_pool2d(&x, 5, 1, 0, true).is_err());
        assert!(max_pool2d(&x, 2, 2, 2, false).is_err());
        assert!(max_pool2d(&x, 2, 0, 0, false).is_err());
        assert!(avg_pool2d(&x, 0, 1).is_err());
        Ok(())
    }
}
