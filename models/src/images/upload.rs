//! Input on its way to a device: from page-locked memory, on a stream of its own, while kernels run on the device's.

use std::ffi::c_void;

use candle_core::cuda::WrapErr;
use candle_core::cuda::cudarc::driver::result::{event, free_host, free_sync, malloc_host, malloc_sync, stream};
use candle_core::cuda::cudarc::driver::result::{memcpy_dtod_async, memcpy_htod_async};
use candle_core::cuda::cudarc::driver::sys::{CUdeviceptr, CUevent, CUevent_flags, CUevent_wait_flags, CUstream};
use candle_core::{CpuStorage, CudaDevice, DType, Device, Result, Shape, Storage, Tensor, bail};

use crate::cuda::launch::{Output, place};

/// Copies to a device, two of which may be under way at once.
///
/// The stream is not one of cudarc's: with a second stream of its own, that would order every use of every tensor by events.
pub struct Uploads {
    device: CudaDevice,
    stream: CUstream,
    slots: [Slot; 2],
    next: usize,
}

/// A copy that has begun, to be taken by [`Uploads::end`].
#[derive(Debug)]
#[must_use = "what was uploaded becomes a tensor with `Uploads::end`"]
pub struct Upload {
    slot: usize,
    dtype: DType,
    shape: Shape,
}

/// Memory that copies pass through.
struct Slot {
    /// On the host, page-locked.
    host: *mut c_void,
    staged: CUdeviceptr,
    capacity: usize,
    /// The copy has reached the device.
    arrived: CUevent,
    /// The device's own stream has taken it.
    taken: CUevent,
    busy: bool,
}

impl Uploads {
    /// For a CUDA device.
    ///
    /// # Errors
    /// If it is none, or refuses a stream.
    pub fn new(device: &Device) -> Result<Self> {
        let Device::Cuda(device) = device else {
            bail!("uploads: expected a CUDA device, got {:?}", device.location())
        };
        device.cuda_stream().context().bind_to_thread().w()?;
        let event = || event::create(CUevent_flags::CU_EVENT_DISABLE_TIMING).w();
        let slot = || -> Result<Slot> {
            let (arrived, taken) = (event()?, event()?);
            Ok(Slot { host: std::ptr::null_mut(), staged: 0, capacity: 0, arrived, taken, busy: false })
        };
        let slots = [slot()?, slot()?];
        let stream = stream::create(stream::StreamKind::NonBlocking).w()?;
        Ok(Self { device: device.clone(), stream, slots, next: 0 })
    }

    /// Begins to copy a tensor on the CPU, of 8-bit levels or of float32, which is free again when this returns.
    ///
    /// # Errors
    /// If it is another tensor, two copies are under way, or there is no memory for it.
    pub fn begin(&mut self, tensor: &Tensor) -> Result<Upload> {
        let tensor = tensor.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        let first = layout.start_offset();
        let count = tensor.elem_count();
        let bytes = match &*storage {
            Storage::Cpu(CpuStorage::U8(levels)) => &levels[first..first + count],
            // SAFETY: any four bytes of a float32 are bytes.
            Storage::Cpu(CpuStorage::F32(values)) => unsafe {
                std::slice::from_raw_parts(values[first..first + count].as_ptr().cast(), 4 * count)
            },
            _ => bail!(
                "uploads: expected u8 or float32 on the CPU, got {:?} on {:?}",
                tensor.dtype(),
                tensor.device().location()
            ),
        };
        let slot = self.copy(bytes)?;
        Ok(Upload { slot, dtype: tensor.dtype(), shape: tensor.shape().clone() })
    }

    /// Begins to copy bytes through the slot that it gives.
    fn copy(&mut self, bytes: &[u8]) -> Result<usize> {
        self.device.cuda_stream().context().bind_to_thread().w()?;
        let slot = &mut self.slots[self.next];
        if slot.busy {
            bail!("uploads: expected at most two copies under way, got a third")
        }
        slot.reserve(self.stream, bytes.len())?;
        // SAFETY: the slot's memory has room; its last copy has been waited for before the host's part is written again,
        // and is taken by the device before the device's part is.
        unsafe {
            event::synchronize(slot.arrived).w()?;
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), slot.host.cast(), bytes.len());
            stream::wait_event(self.stream, slot.taken, WAIT).w()?;
            if !bytes.is_empty() {
                let host = std::slice::from_raw_parts(slot.host.cast::<u8>(), bytes.len());
                memcpy_htod_async(slot.staged, host, self.stream).w()?;
            }
            event::record(slot.arrived, self.stream).w()?;
        }
        slot.busy = true;
        let begun = self.next;
        self.next = (self.next + 1) % self.slots.len();
        Ok(begun)
    }

    /// What was copied, as a tensor on the device: its values are there for all that the device does after this.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn end(&mut self, Upload { slot, dtype, shape }: Upload) -> Result<Tensor> {
        let bytes = shape.elem_count() * dtype.size_in_bytes();
        let slot = &mut self.slots[slot];
        slot.busy = false;
        let tensor = Output::new(&self.device, dtype, shape)?.tensor();
        let stream = self.device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        // SAFETY: both places have room for the bytes; the copy waits for those to arrive, and the next upload for the copy.
        unsafe {
            stream::wait_event(stream.cu_stream(), slot.arrived, WAIT).w()?;
            if bytes > 0 {
                memcpy_dtod_async(place(&tensor)?, slot.staged, bytes, stream.cu_stream()).w()?;
            }
            event::record(slot.taken, stream.cu_stream()).w()?;
        }
        Ok(tensor)
    }
}

/// No flags of `cuStreamWaitEvent`.
const WAIT: CUevent_wait_flags = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;

impl Slot {
    /// Makes room for so many bytes.
    fn reserve(&mut self, stream: CUstream, bytes: usize) -> Result<()> {
        if bytes <= self.capacity {
            return Ok(());
        }
        self.free(stream);
        // SAFETY: the context is bound to this thread.
        unsafe {
            self.host = malloc_host(bytes, 0).w()?;
            self.staged = malloc_sync(bytes).w()?;
        }
        self.capacity = bytes;
        Ok(())
    }

    /// Gives the memory back when nothing is copied to or from it any more.
    fn free(&mut self, stream: CUstream) {
        // SAFETY: the memory is this slot's, and nothing uses it once both streams are past its events. A driver that refuses
        // leaves no more than a leak.
        unsafe {
            let _ = (stream::synchronize(stream), event::synchronize(self.taken));
            if !self.host.is_null() {
                let _ = free_host(std::mem::replace(&mut self.host, std::ptr::null_mut()));
            }
            if self.staged != 0 {
                let _ = free_sync(std::mem::take(&mut self.staged));
            }
        }
        self.capacity = 0;
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        let _ = self.device.cuda_stream().context().bind_to_thread();
        for slot in &mut self.slots {
            slot.free(self.stream);
            // SAFETY: the events are this slot's, and are done with.
            let _ = unsafe { (event::destroy(slot.arrived), event::destroy(slot.taken)) };
        }
        // SAFETY: the stream is this struct's, and nothing runs on it any more.
        let _ = unsafe { stream::destroy(self.stream) };
    }
}
