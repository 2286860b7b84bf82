//! CUDA kernels of the operations, forward and backward: one family a file, its source beside it (`.cu`), which the build
//! compiles to PTX. Every function here gives nothing where its kernel does not serve (another device or type, an older GPU, a
//! kernel that disagreed with its composition: see `trust`), and the composition does instead.

mod activation;
mod attention;
mod column_sums;
mod cross_entropy;
mod download;
pub(crate) mod launch;
mod layer_norm;
mod libraries;
mod linear;
mod max_pool;
mod memory;
mod product;
mod residual;
pub(crate) mod trust;
mod windows;

/// The PTX of every `.cu` file.
pub(crate) mod ptx {
    include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
}

use candle_core::{DType, Result, Tensor};

use tallow_kernels::matmul::computes_narrow;

pub(super) use activation::activation;
pub(super) use attention::{attention, attention_qkv};
pub(super) use cross_entropy::cross_entropy;
pub(super) use download::Download;
pub(super) use layer_norm::layer_norm;
pub use libraries::problem;
pub(super) use linear::linear;
pub(super) use max_pool::max_pool2d;
pub use memory::{keep_memory, peak_memory};
pub(super) use residual::scale_add;
pub use trust::{Kernel, kernels};
pub(super) use windows::unfold;

/// `x` as products are to read it: in bf16 where [`tallow_kernels::matmul::set_matmul_precision`] asks for that and `x` is float32 on CUDA. What
/// linear layers give is then bf16 too, and so is everything up to the loss; parameters stay float32.
pub(super) fn narrowed(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cuda() && x.dtype() == DType::F32 && computes_narrow() {
        x.to_dtype(DType::BF16)
    } else {
        Ok(x.clone())
    }
}
