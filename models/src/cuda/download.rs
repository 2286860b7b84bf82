//! Output on its way from a device: into page-locked memory, in the order of the device's stream, while the host goes on.

use std::ffi::c_void;
use std::sync::Mutex;

use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::result::{event, malloc_host, memcpy_dtoh_async};
use candle_core::cuda::cudarc::driver::sys::{CUevent, CUevent_flags};
use candle_core::{DType, Device, Result, Shape, Tensor, bail};

use super::launch::{device_of, place};

/// The least memory of a copy, in bytes.
const SMALLEST: usize = 4096;

/// Memory of copies that are done with, for the next ones: page-locked memory takes long to be had.
static FREE: Mutex<Vec<Slot>> = Mutex::new(vec![]);

/// A copy from the device that has begun.
#[derive(Debug)]
pub struct Download {
    /// There until it is dropped.
    slot: Option<Slot>,
    dtype: DType,
    shape: Shape,
}

/// Page-locked memory of the host, with an event of a device's context.
#[derive(Debug)]
struct Slot {
    host: *mut c_void,
    capacity: usize,
    arrived: CUevent,
    /// Which device's.
    ordinal: usize,
}

// SAFETY: the memory and the event may be used from any thread, by one at a time.
unsafe impl Send for Slot {}
// SAFETY: what is shared is only read.
unsafe impl Sync for Slot {}

impl Download {
    /// Begins to copy the values that a contiguous tensor has once the device comes to it.
    pub fn begin(tensor: &Tensor) -> Result<Self> {
        let tensor = tensor.contiguous()?;
        let Some(device) = device_of(&tensor) else {
            bail!("download: expected a tensor on a CUDA device, got {:?}", tensor.device().location())
        };
        let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let slot = Slot::of(stream.context().ordinal(), bytes)?;
        let from = place(&tensor)?;
        // SAFETY: the slot has room, and belongs to this copy until it has arrived.
        unsafe {
            if bytes > 0 {
                let to = std::slice::from_raw_parts_mut(slot.host.cast::<u8>(), bytes);
                memcpy_dtoh_async(to, from, stream.cu_stream()).w()?;
            }
            event::record(slot.arrived, stream.cu_stream()).w()?;
        }
        Ok(Self { slot: Some(slot), dtype: tensor.dtype(), shape: tensor.shape().clone() })
    }

    /// Waits for the copy, and gives it as a tensor on the CPU.
    pub fn end(&self) -> Result<Tensor> {
        let Some(slot) = &self.slot else { bail!("download: a copy that was given up") };
        let bytes = self.shape.elem_count() * self.dtype.size_in_bytes();
        // SAFETY: so many bytes have been written once the event has come.
        let bytes = unsafe {
            event::synchronize(slot.arrived).w()?;
            std::slice::from_raw_parts(slot.host.cast::<u8>(), bytes)
        };
        Tensor::from_raw_buffer(bytes, self.dtype, self.shape.dims(), &Device::Cpu)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let Some(slot) = self.slot.take() else { return };
        // SAFETY: the event is the slot's. Only memory that nothing is written to any more is used again; a driver that
        // refuses leaves no more than a leak.
        if unsafe { event::synchronize(slot.arrived) }.is_ok() {
            FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(slot);
        }
    }
}

impl Slot {
    /// Memory for so many bytes, for the device whose context is bound to this thread.
    fn of(ordinal: usize, bytes: usize) -> Result<Self> {
        let mut free = FREE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(found) = free.iter().position(|slot| slot.ordinal == ordinal && slot.capacity >= bytes) {
            return Ok(free.swap_remove(found));
        }
        let capacity = bytes.max(SMALLEST);
        let arrived = event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).w()?;
        // SAFETY: the context is bound to this thread.
        let host = match unsafe { malloc_host(capacity, 0) }.w() {
            Ok(host) => host,
            Err(error) => {
                // SAFETY: nothing was recorded.
                let _ = unsafe { event::destroy(arrived) };
                return Err(error);
            }
        };
        Ok(Self { host, capacity, arrived, ordinal })
    }
}
