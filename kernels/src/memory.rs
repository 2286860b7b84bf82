//! Memory that kernels fill, without zeros being written to it first.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use crate::value::Value;

/// Memory that a kernel fills.
pub type Out<V = f32> = [MaybeUninit<V>];

/// A vector of `len` values that `fill` writes, without writing zeros first.
///
/// # Safety
/// `fill` must write every value.
#[inline]
pub unsafe fn filled<V: Value>(len: usize, fill: impl FnOnce(&mut Out<V>)) -> Vec<V> {
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
pub unsafe fn written<V: Value>(out: &mut Out<V>) -> &mut [V] {
    // SAFETY: the caller vouches for the values; the two types have one layout.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [V]) }
}

/// Values as memory that a kernel writes anew.
///
/// # Safety
/// Nothing but values may be written to it.
#[inline]
pub(crate) unsafe fn as_out<V: Value>(values: &mut [V]) -> &mut Out<V> {
    // SAFETY: the two types have one layout, and the caller vouches for what is written.
    unsafe { &mut *(std::ptr::from_mut(values) as *mut Out<V>) }
}

thread_local! {
    /// What scratch memory this thread has had and does not use at the moment.
    static IDLE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Scratch memory of a thread, which it keeps from task to task and from kernel to kernel: neither is it asked for anew, nor
/// are its pages, which the system would clear.
pub(crate) struct Scratch(Vec<f32>);

impl Scratch {
    /// Some that is idle, or none yet.
    pub fn take() -> Self {
        Self(IDLE.with_borrow_mut(Vec::pop).unwrap_or_default())
    }

    /// The first `len` values. They are whatever was there.
    #[inline]
    pub fn values(&mut self, len: usize) -> &mut [f32] {
        if self.0.len() < len {
            self.0.resize(len, 0.);
        }
        &mut self.0[..len]
    }

    /// Room for `len` values of any kind, for a kernel to write.
    #[inline]
    pub fn out<V: Value>(&mut self, len: usize) -> &mut Out<V> {
        const { assert!(align_of::<V>() <= align_of::<f32>() && size_of::<f32>().is_multiple_of(size_of::<V>())) };
        let memory = self.values(len.div_ceil(size_of::<f32>() / size_of::<V>()));
        // SAFETY: there is room for as many, and whatever is written to it is a float32 as well: they have no invalid bits.
        unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), len) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.0);
        // Where the thread is ending there is nobody to keep it for.
        let _ = IDLE.try_with(|idle| idle.borrow_mut().push(memory));
    }
}

/// A pointer that tasks share which write to different places behind it.
#[derive(Debug, Clone, Copy)]
pub struct Shared<V = f32>(*mut V);

// SAFETY: it is only a number; who writes through it vouches for the places being different.
unsafe impl<V: Value> Send for Shared<V> {}
// SAFETY: as above.
unsafe impl<V: Value> Sync for Shared<V> {}

impl<V: Value> Shared<V> {
    /// The pointer to the start of `out`.
    #[inline]
    pub fn new(out: &mut Out<V>) -> Self {
        Self(out.as_mut_ptr().cast())
    }

    /// A pointer to where a caller may write.
    pub(crate) fn from(start: *mut V) -> Self {
        Self(start)
    }

    /// `len` places from `offset` on, for a task to write.
    ///
    /// # Safety
    /// They must lie within what [`Shared::new`] was given, which must outlive them, and nobody else may use them meanwhile.
    #[inline]
    pub(crate) unsafe fn part<'a>(self, offset: usize, len: usize) -> &'a mut Out<V> {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(offset).cast(), len) }
    }

    /// The pointer to the value at `offset`.
    ///
    /// # Safety
    /// `offset` must lie within what [`Shared::new`] was given.
    #[inline]
    pub unsafe fn at(self, offset: usize) -> *mut V {
        // SAFETY: the caller's.
        unsafe { self.0.add(offset) }
    }
}
