//! Storages on their way from one tensor to another.

use std::sync::{Mutex, PoisonError};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
#[cfg(feature = "cuda")]
use candle_core::backend::BackendDevice;
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Storage, Tensor, bail};

/// One float32 that is never read: the output of a function of which only the backward is wanted.
pub(super) fn unread(device: &Device) -> Result<Storage> {
    match device {
        Device::Cpu => Ok(Storage::Cpu(CpuStorage::F32(vec![0.]))),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            // SAFETY: it is never read.
            let storage = unsafe { device.alloc_uninit(&candle_core::Shape::from(1), candle_core::DType::F32)? };
            Ok(Storage::Cuda(storage))
        }
        other => bail!("a differentiable function expected a tensor on the CPU or on CUDA, got {:?}", other.location()),
    }
}

/// The storage of a tensor that is not read any more.
pub(crate) fn take_storage(tensor: &Tensor) -> Result<Storage> {
    let taking = Taking(Mutex::new(None));
    tensor.inplace_op1(&taking)?;
    match taking.0.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(storage) => Ok(storage),
        None => bail!("an output without storage"),
    }
}

/// Gives up the values of a tensor that only histories hold from now on, none of which reads them: neither the backward of what it was
/// computed by nor those of what was computed from it. Of another tensor's values (of a variable, of a view's) nobody could know that. It
/// does nothing where there is no history, which alone would hold them, and on GPUs, where a kernel may not have read them yet.
pub(crate) fn release(tensor: Tensor) -> Result<()> {
    if tensor.device().is_cpu() && tensor.track_op() && !tensor.is_variable() {
        take_storage(&tensor)?;
    }
    Ok(())
}

/// Takes a storage and leaves an empty one, or one of a single value, in its place.
struct Taking(Mutex<Option<Storage>>);

impl Taking {
    fn keep(&self, storage: Storage) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(storage);
    }
}

impl InplaceOp1 for Taking {
    fn name(&self) -> &'static str {
        "take_storage"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        self.keep(Storage::Cpu(std::mem::replace(storage, CpuStorage::F32(vec![]))));
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, storage: &mut CudaStorage, _: &Layout) -> Result<()> {
        // SAFETY: it is not read.
        let value = unsafe { storage.device.alloc_uninit(&candle_core::Shape::from(1), candle_core::DType::U8)? };
        self.keep(Storage::Cuda(std::mem::replace(storage, value)));
        Ok(())
    }
}
