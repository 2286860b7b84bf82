//! Self-attention whose scores have a bias for every head and pair of tokens: `softmax(q kᵀ / sqrt(d) + bias) v`.
//!
//! On the CPU `kernels/src/attention.rs` computes it, and the bias' gradient, which is the sum over the batch of that of the scores.
//! Elsewhere it is a composition, which holds the scores of all heads at once.

use candle_core::{D, Result, Tensor, bail};
use tallow_kernels::attention::{self as kernel, Operands, Sizes};

use super::attention::check_heads;
use super::softmax;
use crate::autograd::Function;
use crate::slices::{CpuValues, serves, tensor};

/// Self-attention over a packed projection, `qkv [batch, tokens, 3 * heads * d]`, whose rows hold q, k and v one after the other,
/// with `bias [heads, tokens, tokens]`; gives `[batch, tokens, heads * d]`.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn attention_qkv_biased(qkv: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (batch, tokens, packed) = qkv.dims3()?;
    let (heads, ..) = bias.dims3()?;
    if packed % 3 != 0 || tokens == 0 || bias.dims() != [heads, tokens, tokens] {
        bail!(
            "attention_qkv_biased: expected [batch, tokens, 3 * heads * d] and bias [heads, tokens, tokens], got {:?} and {:?}",
            qkv.dims(),
            bias.dims()
        )
    }
    let width = packed / 3;
    check_heads(width, heads)?;
    if serves([qkv, bias]) {
        return fused(qkv, bias, Sizes { batch, queries: tokens, keys: tokens, width, heads });
    }
    let part = |i| {
        let part = qkv.narrow(D::Minus1, i * width, width)?.reshape((batch, tokens, heads, width / heads))?;
        part.transpose(1, 2)?.contiguous()
    };
    let scores = (part(0)?.matmul(&part(1)?.t()?)? * (width as f64 / heads as f64).powf(-0.5))?;
    let scores = scores.broadcast_add(&bias.to_dtype(scores.dtype())?.unsqueeze(0)?)?;
    softmax(&scores)?.matmul(&part(2)?)?.transpose(1, 2)?.reshape((batch, tokens, width))
}

fn fused(qkv: &Tensor, bias: &Tensor, sizes: Sizes) -> Result<Tensor> {
    let (qkv, bias) = (qkv.contiguous()?, bias.contiguous()?);
    let (y, log_sums) = {
        let (qkv, bias) = (CpuValues::of(&qkv)?, CpuValues::of(&bias)?);
        kernel::forward(Operands::packed(&qkv, sizes).with_bias(&bias))
    };
    let function = Function::new("attention_qkv_biased", [&qkv, &bias]);
    function.output(y, (sizes.batch, sizes.queries, sizes.width)).backward(move |call| {
        let (qkv, bias) = (CpuValues::of(&call.operands[0])?, CpuValues::of(&call.operands[1])?);
        let (y, dy) = (CpuValues::of(call.output)?, CpuValues::of(call.gradient)?);
        let gradients = kernel::packed_backward_biased(&qkv, &bias, sizes, &log_sums, (&y, &dy));
        let gradients = gradients.into_iter().zip(call.operands);
        gradients.map(|(gradient, operand)| tensor(gradient, operand.dims()).map(Some)).collect()
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::gradcheck::{check, distance, values};
    use crate::ops::attention_qkv;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for (batch, tokens, heads, head_dim) in [(1, 1, 1, 2), (2, 5, 3, 4), (3, 17, 2, 8), (1, 33, 2, 16)] {
            let (qkv, bias) = ([batch, tokens, 3 * heads * head_dim], [heads, tokens, tokens]);
            check("attention_qkv_biased", &[&qkv, &bias], |t| attention_qkv_biased(&t[0], &t[1]))?;
        }
        Ok(())
    }

    #[test]
    fn more_queries_than_fit_a_block_give_the_same_result() -> Result<()> {
        check("attention_qkv_biased", &[&[1, 700, 6], &[1, 700, 700]], |t| attention_qkv_biased(&t[0], &t[1]))
    }

    #[test]
    fn without_a_bias_it_is_attention() -> Result<()> {
        let (qkv, zeros) = (values(&[2, 9, 72], 1)?, Tensor::zeros((3, 9, 9), DType::F32, &Device::Cpu)?);
        assert_eq!(distance(&attention_qkv_biased(&qkv, &zeros)?, &attention_qkv(&qkv, 3)?)?, 0.);
        assert!(attention_qkv_biased(&qkv, &zeros.narrow(1, 0, 4)?).is_err());
        assert!(attention_qkv_biased(&qkv.narrow(2, 0, 70)?, &zeros).is_err());
        Ok(())
    }
}
