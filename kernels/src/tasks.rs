//! How kernels share their work among threads.

use std::ops::Range;

/// How many rows of `width` values make one task: a few tasks a thread, none so small that handing it out costs more than
/// doing it. It depends on nothing else, so that sums over tasks come out the same every time.
pub fn rows_per_task(rows: usize, width: usize) -> usize {
    const SMALLEST: usize = 8192;
    let even = rows.div_ceil(4 * rayon::current_num_threads());
    even.max(SMALLEST.div_ceil(width.max(1))).max(1)
}

/// The images of a batch shared out among threads, each share with its part of `out`, of `size` values an image; or none, if it is
/// empty. A thread sums up gradients over its share, and the threads' sums are added in order.
pub fn shares<T>(batch: usize, size: usize, out: &mut [T]) -> Vec<(Range<usize>, &mut [T])> {
    let share = batch.div_ceil(rayon::current_num_threads()).max(1);
    let mut outs = out.chunks_mut((share * size).max(1));
    let images = (0..batch).step_by(share).map(|first| first..batch.min(first + share));
    images.map(|images| (images, outs.next().unwrap_or_default())).collect()
}
