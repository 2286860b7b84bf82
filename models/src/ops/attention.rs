//! Scaled dot-product attention of several heads: `softmax(q kᵀ / sqrt(d)) v`.
//!
//! Vaswani et al., "Attention Is All You Need", 2017.

use candle_core::{D, Result, Tensor, bail};

use super::softmax;

/// Attention of `q [batch, queries, heads * d]` to `k` and `v [batch, keys, heads * d]`, scaled by `d^-1/2`; gives
/// `[batch, queries, heads * d]`.
///
/// # Errors
/// If the shapes do not fit each other, or `num_heads` does not divide their width.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, num_heads: usize) -> Result<Tensor> {
    let (batch, _, width) = q.dims3()?;
    let (_, keys, _) = k.dims3()?;
    if k.dims() != [batch, keys, width] || v.dims() != k.dims() {
        bail!(
            "attention: expected q [batch, queries, width], k and v [batch, keys, width], got {:?}, {:?}, {:?}",
            q.dims(),
            k.dims(),
            v.dims()
        )
    }
    check_heads(width, num_heads)?;
    composed(q, k, v, num_heads)
}

/// Self-attention over a packed projection: `qkv [batch, tokens, 3 * heads * d]`, whose rows hold q, k and v one after the
/// other, gives `[batch, tokens, heads * d]`.
///
/// # Errors
/// If the width is not a multiple of `3 * num_heads`.
pub fn attention_qkv(qkv: &Tensor, num_heads: usize) -> Result<Tensor> {
    let (_, _, packed) = qkv.dims3()?;
    if packed % 3 != 0 {
        bail!("attention_qkv: expected a width of three times heads * d, got {packed}")
    }
    let width = packed / 3;
    check_heads(width, num_heads)?;
    let part = |i| qkv.narrow(D::Minus1, i * width, width);
    composed(&part(0)?, &part(1)?, &part(2)?, num_heads)
}

fn check_heads(width: usize, num_heads: usize) -> Result<()> {
    if num_heads == 0 || width % num_heads != 0 {
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
