//! Maximum and average of windows, and their gradients, for every plane: a channel of an image.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::windows::Windows;
use crate::memory::{filled, written};
use crate::simd::vectorised;
use crate::tasks::rows_per_task;

/// Values of one channel of one image, before and after.
fn plane_sizes(windows: &Windows) -> (usize, usize) {
    (windows.image.0 * windows.image.1, windows.out.0 * windows.out.1)
}

/// The maximum of every window of every plane, and where in its plane it is.
pub fn largest_of_planes(windows: &Windows, x: &[f32]) -> (Vec<f32>, Vec<u32>) {
    let (before, after) = plane_sizes(windows);
    let planes = planes_of(x, before);
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
pub fn spread_over_planes(windows: &Windows, dy: &[f32], maxima: &[u32]) -> Vec<f32> {
    let (before, after) = plane_sizes(windows);
    let planes = planes_of(dy, after);
    assert_eq!(dy.len(), maxima.len(), "gradients and maxima that do not fit");
    if two_by_two(windows) && before == 4 * after {
        return spread(windows, dy, maxima);
    }
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

/// The average of every window of every plane; what lies outside counts as 0.
pub fn averages_of_planes(windows: &Windows, x: &[f32]) -> Vec<f32> {
    let (before, after) = plane_sizes(windows);
    let planes = planes_of(x, before);
    let (task, width, count) = (rows_per_task(planes, before), windows.image.1, window_size(windows));
    // SAFETY: the tasks cover the output, and every value of every plane is written.
    unsafe {
        filled(planes * after, |y| {
            y.par_chunks_mut((task * after).max(1)).zip(x.par_chunks((task * before).max(1))).for_each(|(y, x)| {
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

/// The gradient of every plane whose windows were averaged.
pub fn spread_averages(windows: &Windows, dy: &[f32]) -> Vec<f32> {
    let (before, after) = plane_sizes(windows);
    let planes = planes_of(dy, after);
    let (task, width, count) = (rows_per_task(planes, before), windows.image.1, window_size(windows));
    let mut dx = vec![0f32; planes * before];
    dx.par_chunks_mut((task * before).max(1)).zip(dy.par_chunks((task * after).max(1))).for_each(|(dx, dy)| {
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

/// Planes of so many values.
fn planes_of(x: &[f32], size: usize) -> usize {
    assert!(x.len().is_multiple_of(size.max(1)), "values that are no planes");
    x.len() / size.max(1)
}

/// Pixels of a window.
fn window_size(windows: &Windows) -> f32 {
    (windows.kernel.0 * windows.kernel.1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn largest_values_and_averages_of_windows_side_by_side_and_of_others() {
        for (image, stride, padding, ceil) in [((4, 6), 2, 0, false), ((7, 5), 2, 0, true), ((5, 6), 1, 1, false)] {
            let windows = Windows::new(image, (2, 2), stride, padding, ceil).expect("windows");
            let (before, after) = plane_sizes(&windows);
            let x = values(3 * before, 1);
            let (y, maxima) = largest_of_planes(&windows, &x);
            let averages = averages_of_planes(&windows, &x);
            let dy = values(y.len(), 2);
            let (spread, shared) = (spread_over_planes(&windows, &dy, &maxima), spread_averages(&windows, &dy));
            let (mut of_maxima, mut of_averages) = (vec![0f32; x.len()], vec![0f32; x.len()]);
            for (i, y) in y.iter().enumerate() {
                let (plane, window) = (i / after * before, windows.inside().nth(i % after).expect("a window"));
                let places: Vec<usize> = window
                    .0
                    .flat_map(|row| window.1.clone().map(move |column| plane + row * image.1 + column))
                    .collect();
                let largest = places.iter().fold(f32::NEG_INFINITY, |m, &at| m.max(x[at]));
                assert!(*y == largest && x[plane + maxima[i] as usize] == largest);
                let average = places.iter().map(|&at| x[at]).sum::<f32>() / 4.;
                assert!((averages[i] - average).abs() < 1e-6);
                of_maxima[plane + maxima[i] as usize] += dy[i];
                places.into_iter().for_each(|at| of_averages[at] += dy[i] / 4.);
            }
            let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(near(&spread, &of_maxima) && near(&shared, &of_averages), "{image:?}");
        }
    }
}
