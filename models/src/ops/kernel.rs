//! How the CPU kernels see tensors (contiguous float32 slices), where they write, and how work is shared among threads.

use std::cell::RefCell;
use std::mem::MaybeUninit;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Tensor, bail};

/// Memory that a kernel fills.
pub(super) type Out = [MaybeUninit<f32>];

/// Whether the kernels can run: everything is float32 on the CPU.
pub(super) fn serves(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// The values of a contiguous float32 tensor.
pub(super) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => {
            bail!("a kernel expected a contiguous tensor, got strides {:?} for {:?}", layout.stride(), layout.dims())
        }
    }
}

/// Runs `f` on the values of a float32 tensor on the CPU, which are copied first if they are not contiguous.
pub(super) fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => Ok(f(values(storage, layout)?)),
        _ => bail!("a CPU kernel got a tensor of another device"),
    }
}

/// A vector of `len` values that `fill` writes, without writing zeros first.
///
/// # Safety
/// `fill` must write every value.
pub(super) unsafe fn filled(len: usize, fill: impl FnOnce(&mut Out)) -> Vec<f32> {
    let mut out = Vec::with_capacity(len);
    fill(&mut out.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is at least `len`, and the caller vouches for the values.
    unsafe { out.set_len(len) };
    out
}

/// Copies `values` to the start of `out`.
pub(super) fn copy(values: &[f32], out: &mut Out) {
    for (out, &value) in out.iter_mut().zip(values) {
        out.write(value);
    }
}

/// What was written to `out`.
///
/// # Safety
/// All of it must have been written.
#[inline(always)]
pub(super) unsafe fn written(out: &mut Out) -> &mut [f32] {
    // SAFETY: the caller vouches for the values; the two types have one layout.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [f32]) }
}

/// A tensor on the CPU that owns `values`.
pub(super) fn tensor(values: Vec<f32>, dims: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, dims, &candle_core::Device::Cpu)
}

/// How many rows of `width` values make one task: a few tasks a thread, none so small that handing it out costs more than
/// doing it. It depends on nothing else, so that sums over tasks come out the same every time.
pub(super) fn rows_per_task(rows: usize, width: usize) -> usize {
    const SMALLEST: usize = 8192;
    let even = rows.div_ceil(4 * rayon::current_num_threads());
    even.max(SMALLEST.div_ceil(width.max(1))).max(1)
}

/// A pointer that tasks share which write to different places behind it.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32);

// SAFETY: it is only a number; who writes through it vouches for the places being different.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The pointer to the start of `out`.
    pub fn new(out: &mut Out) -> Self {
        Self(out.as_mut_ptr().cast())
    }

    /// A pointer to where a caller may write.
    pub fn from(start: *mut f32) -> Self {
        Self(start)
    }

    /// The pointer to the value at `offset`.
    ///
    /// # Safety
    /// `offset` must lie within what [`Shared::new`] was given.
    pub unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's.
        unsafe { self.0.add(offset) }
    }
}

/// Runs `f` on the values of a contiguous float32 tensor on the CPU, which it may change in place.
pub(super) fn change<R>(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
    let change = Change { f: RefCell::new(Some(f)), result: RefCell::new(None) };
    tensor.inplace_op1(&change)?;
    match change.result.into_inner() {
        Some(result) => Ok(result),
        None => bail!("a change in place did not run"),
    }
}

struct Change<F, R> {
    f: RefCell<Option<F>>,
    result: RefCell<Option<R>>,
}

impl<R, F: FnOnce(&mut [f32]) -> R> InplaceOp1 for Change<F, R> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            bail!("a change in place expected a contiguous float32 tensor, got strides {:?}", layout.stride())
        };
        if let Some(f) = self.f.take() {
            self.result.replace(Some(f(&mut values[start..end])));
        }
        Ok(())
    }
}
