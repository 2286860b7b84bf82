//! Memory that kernels fill, without zeros being written to it first.

use std::mem::MaybeUninit;

/// Memory that a kernel fills.
pub type Out = [MaybeUninit<f32>];

/// A vector of `len` values that `fill` writes, without writing zeros first.
///
/// # Safety
/// `fill` must write every value.
#[inline]
pub unsafe fn filled(len: usize, fill: impl FnOnce(&mut Out)) -> Vec<f32> {
    let mut out = Vec::with_capacity(len);
    fill(&mut out.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is at least `len`, and the caller vouches for the values.
    unsafe { out.set_len(len) };
    out
}

/// Copies `values` to the start of `out`.
#[inline]
pub fn copy(values: &[f32], out: &mut Out) {
    for (out, &value) in out.iter_mut().zip(values) {
        out.write(value);
    }
}

/// What was written to `out`.
///
/// # Safety
/// All of it must have been written.
#[inline(always)]
pub unsafe fn written(out: &mut Out) -> &mut [f32] {
    // SAFETY: the caller vouches for the values; the two types have one layout.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [f32]) }
}

/// Values as memory that a kernel writes anew.
///
/// # Safety
/// Nothing but values may be written to it.
#[inline]
pub(crate) unsafe fn as_out(values: &mut [f32]) -> &mut Out {
    // SAFETY: the two types have one layout, and the caller vouches for what is written.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut Out) }
}

/// The first `len` values of scratch memory, which grows if it has to, for a kernel to write. They hold whatever was there.
///
/// # Safety
/// As [`as_out`].
#[inline]
pub(crate) unsafe fn scratch(memory: &mut Vec<f32>, len: usize) -> &mut Out {
    if memory.len() < len {
        memory.resize(len, 0.);
    }
    // SAFETY: the caller's.
    unsafe { as_out(&mut memory[..len]) }
}

/// A pointer that tasks share which write to different places behind it.
#[derive(Debug, Clone, Copy)]
pub struct Shared(*mut f32);

// SAFETY: it is only a number; who writes through it vouches for the places being different.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The pointer to the start of `out`.
    #[inline]
    pub fn new(out: &mut Out) -> Self {
        Self(out.as_mut_ptr().cast())
    }

    /// A pointer to where a caller may write.
    pub(crate) fn from(start: *mut f32) -> Self {
        Self(start)
    }

    /// `len` places from `offset` on, for a task to write.
    ///
    /// # Safety
    /// They must lie within what [`Shared::new`] was given, which must outlive them, and nobody else may use them meanwhile.
    #[inline]
    pub(crate) unsafe fn part<'a>(self, offset: usize, len: usize) -> &'a mut Out {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(offset).cast(), len) }
    }

    /// The pointer to the value at `offset`.
    ///
    /// # Safety
    /// `offset` must lie within what [`Shared::new`] was given.
    #[inline]
    pub unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's.
        unsafe { self.0.add(offset) }
    }
}
