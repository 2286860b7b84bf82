//! How many threads compute.

use anyhow::Context;

use crate::error::{Result, usage};

/// More than this is a mistake of typing.
const MOST: usize = 1024;

/// Bytes of a thread's stack.
const STACK: usize = 16 << 20;

/// How many threads there are, and who said so.
#[derive(Debug, Clone, Copy)]
pub struct Threads {
    /// At least 1.
    pub count: usize,
    /// In words.
    pub from: &'static str,
}

/// Sets the number of threads for Candle, Rayon and gemm: what `--threads` says, else the environment's
/// `RAYON_NUM_THREADS`, else the cores at hand. To be called once, before any thread starts.
///
/// # Errors
/// If the number makes no sense, or threads cannot be started.
pub fn set(asked: Option<usize>) -> Result<Threads> {
    let environment = || std::env::var("RAYON_NUM_THREADS").ok()?.parse().ok().filter(|&n| n > 0);
    let (count, from) = asked
        .map(|count| (count, "--threads"))
        .or_else(|| Some((environment()?, "RAYON_NUM_THREADS")))
        .unwrap_or_else(|| (cores(), "one a core"));
    if count > MOST {
        return Err(usage(format!("--threads: expected at most {MOST}, got {count}; leave it out to use every core")));
    }
    // SAFETY: the process has a single thread here, so nobody reads the environment at the same time.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", count.to_string()) };
    // Candle adds gradients in a pool of its own, whose threads wait by spinning and so take the cores from Rayon's.
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // SAFETY: as above.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(count)
        // Commands run in the pool, and want the room that a main thread has.
        .stack_size(STACK)
        .build_global()
        .with_context(|| format!("cannot start {count} threads; try fewer (--threads)"))?;
    Ok(Threads { count, from })
}

/// The cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
