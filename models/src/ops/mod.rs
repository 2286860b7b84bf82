//! Operations with a correct backward, a file each: a kernel of `tallow-kernels` on the CPU, one of `cuda`, and a composition of
//! Candle's own differentiable ops that serves every other device and type and is what the kernels are tested against.
//!
//! Every function checks its shapes and chooses by itself: float32 on the CPU runs the kernel (`fused` in each file), float32 and
//! bfloat16 on CUDA that of `cuda`, all else the composition (`composed`).
//! The backward works only for the operands that need a gradient.

mod attention;
mod attention_bias;
mod batch_norm;
mod branch;
mod conv2d;
mod conv_pool;
mod cross_entropy;
mod elementwise;
mod gated;
mod gelu;
mod group_norm;
mod layer_norm;
mod linear;
mod patch_embed;
mod pool;
mod relu;
mod resample_grid;
mod residual;
mod rms_norm;
mod rope;
mod same_padding;
mod softmax;
mod standardized;
mod tanh;
mod unit_length;
mod windows;

#[cfg(feature = "cuda")]
use crate::cuda;
pub use attention::{attention, attention_qkv};
pub use attention_bias::attention_qkv_biased;
pub use batch_norm::{Running, batch_norm};
pub(crate) use branch::branch_last;
pub use branch::{Branch, Inner, Middle, Prepacked, branch};
pub use conv_pool::conv_pool_relu;
pub use conv2d::conv2d;
pub use cross_entropy::cross_entropy;
pub use gated::{gated, gated_apart};
pub use gelu::{Gelu, gelu, gelu_tanh, quick_gelu, silu};
pub use group_norm::group_norm;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use patch_embed::{patch_embed, patches};
pub use pool::{avg_pool2d, max_pool2d};
pub use relu::relu;
pub use resample_grid::resample_grid;
pub use residual::{add, scale_add};
pub use rms_norm::rms_norm;
pub use rope::{Turned, rope};
pub use same_padding::{conv2d_same, max_pool2d_same};
pub use softmax::softmax;
pub use standardized::standardized;
pub use tallow_kernels::matmul::{
    Kernel, Kernels, KernelsError, MatmulPrecision, computes_integers, kernels, matmul_kernel, multiplies_integers,
    set_kernels, set_matmul_precision,
};
pub use tanh::tanh;
pub use unit_length::unit_length;

use candle_core::DType;

/// The type to compute norms, softmax and losses in: half types carry too few digits for sums.
fn wide(dtype: DType) -> DType {
    match dtype {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}
