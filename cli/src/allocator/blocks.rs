//! Memory of at least a megabyte: mapped block by block, and kept when it is free.
//!
//! A training step needs blocks of the same sizes again and again. A page that comes from the system is cleared first, which on some
//! virtual machines takes longer than the work on it, so free blocks are kept for the next ones: those of about the same size, and
//! where there are none, parts of larger ones. What is in use and what is kept together exceed what was ever in use at once by little, so the
//! peak of the process is nearly that of what it uses.

use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// From this size on memory is a block.
pub const SMALLEST: usize = 1 << 20;
/// What the memory of a block is aligned to: what lies in front of it.
pub const ALIGNMENT: usize = size_of::<Front>();

/// Blocks are whole multiples of this: of a page, on every system.
const UNIT: usize = 1 << 16;
/// As many free blocks are kept.
const MOST: usize = 512;
/// By so many bytes free blocks may exceed what was once in use: next to nothing of a large process, and room enough for a small one.
const SPARE: usize = 1 << 25;

/// What lies in front of a block's memory: its size, all in all.
#[repr(C, align(64))]
struct Front {
    size: usize,
}

/// Free memory.
#[derive(Clone, Copy)]
struct Free {
    start: usize,
    size: usize,
}

struct Blocks {
    /// In the order of memory; no two touch each other.
    free: [Free; MOST],
    count: usize,
    /// Bytes of the free ones, of those in use, and the most that were ever in use.
    kept: usize,
    used: usize,
    peak: usize,
}

static BLOCKS: Mutex<Blocks> =
    Mutex::new(Blocks { free: [Free { start: 0, size: 0 }; MOST], count: 0, kept: 0, used: 0, peak: 0 });

fn blocks() -> MutexGuard<'static, Blocks> {
    BLOCKS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Blocks {
    /// Takes out a free block of this size, or one that is an eighth larger at most.
    fn find(&mut self, size: usize) -> Option<Free> {
        let (at, free) = self.smallest_from(size)?;
        (free.size - size <= size / 8).then(|| self.remove(at))
    }

    /// Takes this size out of a larger free block.
    fn split(&mut self, size: usize) -> Option<Free> {
        let (at, free) = self.smallest_from(size)?;
        if free.size == size {
            return Some(self.remove(at));
        }
        self.free[at].size -= size;
        self.kept -= size;
        Some(Free { start: free.start + free.size - size, size })
    }

    /// The smallest free block of at least this size.
    fn smallest_from(&self, size: usize) -> Option<(usize, Free)> {
        let free = self.free[..self.count].iter().copied().enumerate();
        free.filter(|(_, free)| free.size >= size).min_by_key(|(_, free)| free.size)
    }

    fn remove(&mut self, at: usize) -> Free {
        let free = self.free[at];
        self.free.copy_within(at + 1..self.count, at);
        self.count -= 1;
        self.kept -= free.size;
        free
    }

    /// Puts a block among the free ones, as one with those that it touches.
    fn insert(&mut self, mut block: Free) {
        let mut at = self.free[..self.count].partition_point(|free| free.start < block.start);
        if at < self.count && block.start + block.size == self.free[at].start {
            block.size += self.remove(at).size;
        }
        if at > 0 && self.free[at - 1].start + self.free[at - 1].size == block.start {
            at -= 1;
            let before = self.remove(at);
            block = Free { start: before.start, size: before.size + block.size };
        }
        if self.count == MOST {
            return unmap(block);
        }
        self.free.copy_within(at..self.count, at + 1);
        self.free[at] = block;
        self.count += 1;
        self.kept += block.size;
    }

    /// Gives free memory back to the system, the smallest blocks first, until no more than `most` bytes are kept.
    fn keep(&mut self, most: usize) {
        while self.kept > most {
            let Some((at, free)) = self.smallest_from(0) else { return };
            let excess = self.kept - most;
            if free.size <= excess {
                unmap(self.remove(at));
            } else {
                // The end of it is enough.
                self.free[at].size -= excess;
                self.kept -= excess;
                unmap(Free { start: free.start + free.size - excess, size: excess });
            }
        }
    }
}

/// Memory of so many bytes, aligned to [`ALIGNMENT`], and whether it is new, and so all zeros. Null if there is none.
pub fn take(size: usize) -> (*mut u8, bool) {
    let Some(size) = size.checked_add(ALIGNMENT).and_then(|size| size.checked_next_multiple_of(UNIT)) else {
        return (ptr::null_mut(), false);
    };
    let mut blocks = blocks();
    let mut found = blocks.find(size);
    let limit = blocks.peak + SPARE;
    if found.is_none() && blocks.used + blocks.kept + size > limit {
        found = blocks.split(size);
    }
    let is_new = found.is_none();
    let block = match found {
        Some(block) => block,
        None => {
            // Room is made before it is taken.
            let most = limit.saturating_sub(blocks.used + size);
            blocks.keep(most);
            match map(size) {
                Some(block) => block,
                None => return (ptr::null_mut(), false),
            }
        }
    };
    blocks.used += block.size;
    blocks.peak = blocks.peak.max(blocks.used);
    drop(blocks);
    let front = ptr::with_exposed_provenance_mut::<Front>(block.start);
    // SAFETY: the block begins with its front, is aligned to a page, and no one else's.
    unsafe {
        front.write(Front { size: block.size });
        (front.add(1).cast(), is_new)
    }
}

/// Takes the memory of a block back.
///
/// # Safety
/// [`take`] must have given it, and nobody may read it any more.
pub unsafe fn give_back(memory: *mut u8) {
    let front = memory.cast::<Front>().wrapping_sub(1);
    // SAFETY: the caller's: it lies behind its front.
    let block = Free { start: front.expose_provenance(), size: unsafe { (*front).size } };
    let mut blocks = blocks();
    blocks.used -= block.size;
    blocks.insert(block);
}

/// Whether a block has room for so many bytes, and not for twice as many.
///
/// # Safety
/// [`take`] must have given it.
pub unsafe fn fits(memory: *mut u8, size: usize) -> bool {
    // SAFETY: the caller's: it lies behind its front.
    let room = unsafe { (*memory.cast::<Front>().wrapping_sub(1)).size } - ALIGNMENT;
    size <= room && room / 2 <= size
}

/// A new block from the system.
fn map(size: usize) -> Option<Free> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    // SAFETY: a new mapping, wherever the system likes.
    let start = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return None;
    }
    // Large pages are cleared faster than as many small ones. It is a wish, so a refusal is no error.
    #[cfg(target_os = "linux")]
    // SAFETY: of the mapping that was just made.
    unsafe {
        libc::madvise(start, size, libc::MADV_HUGEPAGE);
    }
    Some(Free { start: start.expose_provenance(), size })
}

/// Gives memory back to the system.
fn unmap(block: Free) {
    // SAFETY: whole pages of mappings, which nobody uses.
    unsafe { libc::munmap(ptr::with_exposed_provenance_mut(block.start), block.size) };
}

#[cfg(test)]
mod tests {
    /// The binary's allocator serves its tests, too.
    #[test]
    fn memory_is_whole_zeroed_and_keeps_what_is_in_it_when_it_grows() {
        for size in [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20] {
            let mut first = vec![7u8; size];
            first.extend_from_slice(&[9; 3]);
            assert!(first[..size].iter().all(|&x| x == 7) && first[size..] == [9; 3]);
            first.reserve_exact(3 * size);
            assert!(first[..size].iter().all(|&x| x == 7));
            first.truncate(10);
            first.shrink_to_fit();
            assert_eq!(first, [7; 10]);
            drop(vec![7u8; size]);
            assert!(vec![0u8; size].iter().all(|&x| x == 0), "{size}");
        }
    }

    #[test]
    fn blocks_are_aligned_and_used_again() {
        for _ in 0..4 {
            let own = vec![1f64; 1 << 20];
            assert!(own.as_ptr().addr().is_multiple_of(super::ALIGNMENT));
        }
        let threads: Vec<_> = (0..4u8)
            .map(|seed| {
                std::thread::spawn(move || {
                    for turn in 0..50 {
                        let own = vec![seed; (1 << 20) + 70_000 * usize::from(seed) * turn];
                        assert!(own.iter().all(|&x| x == seed));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("memory of its own"));
        let blocks = super::blocks();
        assert!(blocks.kept + blocks.used <= blocks.peak + super::SPARE, "{} {}", blocks.kept, blocks.used);
    }
}
