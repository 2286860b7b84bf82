//! The allocator of the binary, and when it gives memory back to the system.

use tallow::train::memory::{self, GiveBack};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc.h, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Has the allocator keep free pages for a while. To be called first.
pub fn set_up() {
    // A step allocates and frees hundreds of tensors of the same sizes. Given back to the system in between, their pages are
    // cleared again and again, which takes a quarter of a step of a small ViT; never given back, they are an eighth of the
    // memory of a large one. `MIMALLOC_PURGE_DELAY` goes before this.
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
