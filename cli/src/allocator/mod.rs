//! The allocator of the binary: `mimalloc`, and for tensors blocks of their own, which are kept for the next ones of their size.

#[cfg(unix)]
mod blocks;

use std::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;
use tallow::train::memory::{self, GiveBack};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has the allocator keep free pages for a while. To be called first.
pub fn set_up() {
    // A step allocates and frees hundreds of tensors of the same sizes. Given back to the system in between, their pages are
    // cleared again and again, which takes a quarter of a step of a small ViT. `MIMALLOC_PURGE_DELAY` goes before this.
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        give_back_after(4000);
        memory::on_give_back(|when| give_back_after(if when == GiveBack::Late { 30_000 } else { 500 }));
    }
}

/// Has free pages given back to the system after so many milliseconds.
fn give_back_after(milliseconds: std::ffi::c_long) {
    // SAFETY: sets one number of the allocator that is in use.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, milliseconds) };
}

struct Allocator;

/// Whether memory of this size is a block of its own.
fn is_block(layout: Layout) -> bool {
    #[cfg(unix)]
    return layout.size() >= blocks::SMALLEST && layout.align() <= blocks::ALIGNMENT;
    #[cfg(not(unix))]
    false
}

// SAFETY: memory comes from one of two allocators, and which one follows from its layout alone.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        #[cfg(unix)]
        if is_block(layout) {
            return blocks::take(layout.size()).0;
        }
        // SAFETY: the caller's.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        #[cfg(unix)]
        if is_block(layout) {
            let (memory, is_new) = blocks::take(layout.size());
            if !memory.is_null() && !is_new {
                // SAFETY: the block has room for the layout.
                unsafe { memory.write_bytes(0, layout.size()) };
            }
            return memory;
        }
        // SAFETY: the caller's.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        #[cfg(unix)]
        if is_block(layout) {
            // SAFETY: the layout is the one that it was allocated with, so it is a block.
            return unsafe { blocks::give_back(memory) };
        }
        // SAFETY: the caller's.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller vouches for the size.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_block(layout), is_block(new)) {
            // SAFETY: the caller's.
            (false, false) => unsafe { MiMalloc.realloc(memory, layout, size) },
            #[cfg(unix)]
            // SAFETY: it is a block.
            (true, true) if unsafe { blocks::fits(memory, size) } => memory,
            _ => {
                // SAFETY: the caller's; the new memory is another one, and both have room for what is copied.
                unsafe {
                    let to = self.alloc(new);
                    if !to.is_null() {
                        to.copy_from_nonoverlapping(memory, layout.size().min(size));
                        self.dealloc(memory, layout);
                    }
                    to
                }
            }
        }
    }
}
