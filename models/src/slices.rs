//! Tensors as the kernels of the CPU see them: contiguous slices of float32.

use std::cell::RefCell;
use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Storage, StorageRef, Tensor, bail};

/// Whether the kernels can run: everything is float32 on the CPU.
pub(crate) fn serves<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> bool {
    tensors.into_iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// The values of a contiguous float32 tensor on the CPU, to be read as a slice. While it lives, the tensor cannot be changed in
/// place.
pub(crate) struct CpuValues<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl<'a> CpuValues<'a> {
    /// Fails if the tensor is another.
    pub fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
            bail!(
                "a CPU kernel expected a contiguous float32 tensor on the CPU, got {:?} with strides {:?} of {:?} on {:?}",
                tensor.dims(),
                layout.stride(),
                tensor.dtype(),
                tensor.device().location()
            )
        };
        Ok(Self { storage, range: start..end })
    }
}

impl Deref for CpuValues<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => unreachable!("checked when it was made"),
        }
    }
}

/// A tensor on the CPU that owns `values`.
pub(crate) fn tensor(values: Vec<f32>, dims: &[usize]) -> Result<Tensor> {
    Tensor::from_vec(values, dims, &candle_core::Device::Cpu)
}

/// Runs `f` on the values of a contiguous float32 tensor on the CPU, which it may change in place.
pub(crate) fn change<R>(tensor: &Tensor, f: impl FnOnce(&mut [f32]) -> R) -> Result<R> {
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn a_slice_shows_what_a_view_shows_and_nothing_else() -> Result<()> {
        let x = Tensor::arange(0f32, 12., &Device::Cpu)?.reshape((3, 4))?;
        assert_eq!(CpuValues::of(&x.narrow(0, 1, 1)?)?[..], [4., 5., 6., 7.]);
        let message = CpuValues::of(&x.t()?).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("contiguous") && message.contains("[4, 3]"), "{message}");
        assert!(CpuValues::of(&x.to_dtype(DType::F64)?).is_err());
        Ok(())
    }
}
