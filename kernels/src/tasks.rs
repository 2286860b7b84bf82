//! How kernels share their work among threads.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a thread that finds no work goes on looking for it.
const PATIENCE: Duration = Duration::from_micros(500);

/// How many threads share the work of a kernel. They are kept awake from here on: see [`stay_awake`].
pub fn threads() -> usize {
    let threads = rayon::current_num_threads();
    if threads > 1 {
        stay_awake();
    }
    threads
}

/// Keeps the pool's other threads from falling asleep between the many short tasks of a step: each looks for work until it has found
/// none for [`PATIENCE`]. Rayon's threads sleep after some 20 microseconds, and waking one takes about as long as a small kernel does.
fn stay_awake() {
    static AWAKE: AtomicUsize = AtomicUsize::new(0);
    // A thread outside of the pool sleeps while the pool works for it.
    let Some(this) = rayon::current_thread_index() else { return };
    let others = rayon::current_num_threads() - 1;
    let asleep = AWAKE.load(Ordering::Relaxed) == 0;
    if !asleep || AWAKE.compare_exchange(0, others, Ordering::Relaxed, Ordering::Relaxed).is_err() {
        return;
    }
    rayon::spawn_broadcast(move |thread| {
        if thread.index() == this {
            return;
        }
        let mut last = Instant::now();
        while last.elapsed() < PATIENCE {
            match rayon::yield_now() {
                Some(rayon::Yield::Executed) => last = Instant::now(),
                _ => std::thread::yield_now(),
            }
        }
        AWAKE.fetch_sub(1, Ordering::Relaxed);
    });
}

/// How many rows of `width` values make one task: a few tasks a thread, none so small that handing it out costs more than
/// doing it. It depends on nothing else, so that sums over tasks come out the same every time.
pub fn rows_per_task(rows: usize, width: usize) -> usize {
    const SMALLEST: usize = 8192;
    let even = rows.div_ceil(4 * threads());
    even.max(SMALLEST.div_ceil(width.max(1))).max(1)
}

/// The images of a batch shared out among threads, each share with its part of `out`, of `size` values an image; or none, if it is
/// empty. A thread sums up gradients over its share, and the threads' sums are added in order.
pub fn shares<T>(batch: usize, size: usize, out: &mut [T]) -> Vec<(Range<usize>, &mut [T])> {
    let share = batch.div_ceil(threads()).max(1);
    let mut outs = out.chunks_mut((share * size).max(1));
    let images = (0..batch).step_by(share).map(|first| first..batch.min(first + share));
    images.map(|images| (images, outs.next().unwrap_or_default())).collect()
}
