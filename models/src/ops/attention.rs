//! Scaled dot-product attention of several heads: `softmax(q kᵀ / sqrt(d)) v`.
//!
//! Vaswani et al., "Attention Is All You Need", 2017. The kernels never hold all scores: the backward computes the probabilities
//! again from the logarithm of every row's sum, as in Dao et al., "FlashAttention", 2022.

use candle_core::{D, Result, Tensor, bail};
use tallow_kernels::attention::{self as kernel, Operands, Sizes};

use super::softmax;
use crate::autograd::Function;
use crate::slices::{CpuValues, serves, tensor};

/// Attention of `q [batch, queries, heads * d]` to `k` and `v [batch, keys, heads * d]`, scaled by `d^-1/2`; gives
/// `[batch, queries, heads * d]`.
///
/// # Errors
/// If the shapes do not fit each other, or `num_heads` does not divide their width.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, num_heads: usize) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let (_, keys, _) = k.dims3()?;
    if k.dims() != [batch, keys, width] || v.dims() != k.dims() || queries == 0 || keys == 0 {
        bail!(
            "attention: expected q [batch, queries, width], k and v [batch, keys, width], got {:?}, {:?}, {:?}",
            q.dims(),
            k.dims(),
            v.dims()
        )
    }
    check_heads(width, num_heads)?;
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::attention(q, k, v, num_heads, composed)? {
        return Ok(y);
    }
    if serves([q, k, v]) { fused(q, k, v, num_heads) } else { composed(q, k, v, num_heads) }
}

/// Self-attention over a packed projection: `qkv [batch, tokens, 3 * heads * d]`, whose rows hold q, k and v one after the
/// other, gives `[batch, tokens, heads * d]`.
///
/// # Errors
/// If the width is not a multiple of `3 * num_heads`.
pub fn attention_qkv(qkv: &Tensor, num_heads: usize) -> Result<Tensor> {
    let (_, tokens, packed) = qkv.dims3()?;
    if packed % 3 != 0 || tokens == 0 {
        bail!("attention_qkv: expected [batch, tokens, 3 * heads * d], got {:?}", qkv.dims())
    }
    let width = packed / 3;
    check_heads(width, num_heads)?;
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::attention_qkv(qkv, num_heads, composed)? {
        return Ok(y);
    }
    if serves([qkv]) {
        return fused_qkv(qkv, num_heads);
    }
    let part = |i| qkv.narrow(D::Minus1, i * width, width);
    composed(&part(0)?, &part(1)?, &part(2)?, num_heads)
}

pub(super) fn check_heads(width: usize, num_heads: usize) -> Result<()> {
    if num_heads == 0 || width == 0 || !width.is_multiple_of(num_heads) {
        bail!("attention: expected a number of heads that divides the width {width}, got {num_heads}")
    }
    Ok(())
}

fn composed(q: &Tensor, k: &Tensor, v: &Tensor, num_heads: usize) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let head_dim = width / num_heads;
    let heads = |x: &Tensor| x.reshape((batch, (), num_heads, head_dim))?.transpose(1, 2)?.contiguous();
    let scores = (heads(q)?.matmul(&heads(k)?.t()?)? * (head_dim as f64).powf(-0.5))?;
    let out = softmax::composed(&scores)?.matmul(&heads(v)?)?;
    out.transpose(1, 2)?.reshape((batch, queries, width))
}

/// q, k, v in tensors of their own.
fn fused(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let [q, k, v] = [q.contiguous()?, k.contiguous()?, v.contiguous()?];
    let (batch, queries, width) = q.dims3()?;
    let sizes = Sizes { batch, queries, keys: k.dim(1)?, width, heads };
    let (y, log_sums) = {
        let (q, k, v) = (CpuValues::of(&q)?, CpuValues::of(&k)?, CpuValues::of(&v)?);
        kernel::forward(Operands::separate(&q, &k, &v, sizes))
    };
    Function::new("attention", [&q, &k, &v]).output(y, q.shape()).backward(move |call| {
        let (q, k, v) =
            (CpuValues::of(&call.operands[0])?, CpuValues::of(&call.operands[1])?, CpuValues::of(&call.operands[2])?);
        let (y, dy) = (CpuValues::of(call.output)?, CpuValues::of(call.gradient)?);
        let gradients = kernel::backward(Operands::separate(&q, &k, &v, sizes), &log_sums, (&y, &dy));
        let gradients = gradients.into_iter().zip(call.operands);
        gradients.map(|(gradient, operand)| tensor(gradient, operand.dims()).map(Some)).collect()
    })
}

/// q, k, v behind one another in every row of one tensor.
fn fused_qkv(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let qkv = qkv.contiguous()?;
    let (batch, tokens, packed) = qkv.dims3()?;
    let width = packed / 3;
    let sizes = Sizes { batch, queries: tokens, keys: tokens, width, heads };
    let (y, log_sums) = kernel::forward(Operands::packed(&CpuValues::of(&qkv)?, sizes));
    Function::new("attention_qkv", [&qkv]).output(y, (batch, tokens, width)).backward(move |call| {
        let (qkv, y, dy) =
            (CpuValues::of(&call.operands[0])?, CpuValues::of(call.output)?, CpuValues::of(call.gradient)?);
        let gradient = kernel::packed_backward(&qkv, sizes, &log_sums, (&y, &dy));
        Ok(vec![Some(tensor(gradient, call.operands[0].dims())?)])
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for (batch, queries, keys, heads, head_dim) in
            [(1, 1, 1, 1, 1), (2, 3, 5, 2, 16), (1, 17, 17, 3, 24), (2, 1, 9, 2, 32), (1, 197, 40, 1, 64)]
        {
            let width = heads * head_dim;
            let [q, kv] = [[batch, queries, width], [batch, keys, width]];
            check("attention", &[&q, &kv, &kv], |t| attention(&t[0], &t[1], &t[2], heads))?;
        }
        Ok(())
    }

    #[test]
    fn packed_kernel_agrees_with_the_composition() -> Result<()> {
        for (batch, tokens, heads, head_dim) in [(1, 1, 1, 8), (2, 17, 3, 24), (1, 33, 2, 64), (2, 5, 4, 16)] {
            check("attention_qkv", &[&[batch, tokens, 3 * heads * head_dim]], |t| attention_qkv(&t[0], heads))?;
        }
        Ok(())
    }

    #[test]
    fn more_queries_than_fit_a_block_give_the_same_result() -> Result<()> {
        check("attention_qkv", &[&[1, 700, 24]], |t| attention_qkv(&t[0], 1))
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        assert!(attention_qkv(&zeros(&[1, 4, 20])?, 2).is_err());
        assert!(attention_qkv(&zeros(&[1, 4, 24])?, 3).is_err());
        assert!(attention_qkv(&zeros(&[1, 4, 24])?, 0).is_err());
        let (q, k) = (zeros(&[1, 4, 8])?, zeros(&[1, 5, 6])?);
        assert!(attention(&q, &k, &k, 2).is_err());
        assert_eq!(attention_qkv(&zeros(&[0, 4, 24])?, 2)?.dims(), [0, 4, 8]);
        Ok(())
    }
}
