//! Tensors as the kernels of the CPU see them: contiguous slices of float32.

use std::cell::RefCell;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Tensor, bail};

/// Whether the kernels can run: everything is float32 on the CPU.
pub(crate) fn serves(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.device().is_cpu() && t.dtype() == DType::F32)
}

/// The values of a contiguous float32 tensor.
pub(crate) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => {
            bail!("a kernel expected a contiguous tensor, got strides {:?} for {:?}", layout.stride(), layout.dims())
        }
    }
}

/// Runs `f` on the values of a float32 tensor on the CPU, which are copied first if they are not contiguous.
pub(crate) fn read<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => Ok(f(values(storage, layout)?)),
        _ => bail!("a CPU kernel got a tensor of another device"),
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
