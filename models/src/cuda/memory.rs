//! A device's memory: what is freed is kept for what comes next, and the peak of what was in use.

use std::ffi::c_void;

use candle_core::Device;
use candle_core::cuda::cudarc::driver::result::device::get_default_mem_pool;
use candle_core::cuda::cudarc::driver::sys::{
    CUmemPool_attribute, CUmemoryPool, cuMemPoolGetAttribute, cuMemPoolSetAttribute,
};

/// Lets the device keep memory that tensors give back; else the driver returns it to the system whenever the host waits for
/// the device, and the next step asks for it anew. A driver without pools leaves things as they are.
pub fn keep_memory(device: &Device) {
    if let Some(pool) = pool(device) {
        let mut everything = u64::MAX;
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the attribute is a u64. Nothing depends on it, so a refusal is no error.
        let _ = unsafe { cuMemPoolSetAttribute(pool, attribute, (&raw mut everything).cast::<c_void>()) };
    }
}

/// The most bytes of tensors that were on a CUDA device at once in this process, where its driver tells.
pub fn peak_memory(device: &Device) -> Option<u64> {
    let mut bytes = 0u64;
    let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH;
    // SAFETY: the attribute is a u64.
    unsafe { cuMemPoolGetAttribute(pool(device)?, attribute, (&raw mut bytes).cast::<c_void>()) }.result().ok()?;
    Some(bytes)
}

/// The pool that tensors come from.
fn pool(device: &Device) -> Option<CUmemoryPool> {
    let Device::Cuda(device) = device else { return None };
    let stream = device.cuda_stream();
    let context = stream.context();
    context.bind_to_thread().ok()?;
    // SAFETY: the context's device is there.
    unsafe { get_default_mem_pool(context.cu_device()) }.ok()
}
