//! Tensors on their way to the host.

use candle_core::{Device, Result, Tensor};

#[cfg(feature = "cuda")]
use crate::cuda::Download;

/// The values that a tensor has now, to be read later. On CUDA they are copied when the device comes to it, while it and the host go
/// on; whoever reads them waits for no more than that.
#[derive(Debug)]
pub struct Readback(Kind);

#[derive(Debug)]
enum Kind {
    Here(Tensor),
    #[cfg(feature = "cuda")]
    Download(Download),
}

impl Readback {
    /// Has the values of `tensor` copied, if they are not on the host.
    ///
    /// # Errors
    /// If there is no memory for the copy.
    pub fn new(tensor: &Tensor) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if tensor.device().is_cuda() {
            return Download::begin(tensor).map(|download| Self(Kind::Download(download)));
        }
        Ok(Self(Kind::Here(tensor.detach())))
    }

    /// The tensor, on the CPU.
    ///
    /// # Errors
    /// If the device has failed.
    pub fn read(&self) -> Result<Tensor> {
        match &self.0 {
            Kind::Here(tensor) => tensor.to_device(&Device::Cpu),
            #[cfg(feature = "cuda")]
            Kind::Download(download) => download.end(),
        }
    }
}
