//! Rotary positions: pairs of values of every head turned by the angles of their patch's place. What attention then compares is
//! the difference of the places.
//!
//! `(a, b)` becomes `(a cos - b sin, b cos + a sin)`; the gradient is the same turned back. On the CPU `kernels/src/rope.rs`
//! computes it, elsewhere a composition.
//!
//! Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.

use candle_core::{D, Result, Tensor, bail};
use tallow_kernels::rope::{self as kernel, Sizes};

use super::wide;
use crate::autograd::{Call, Function};
use crate::slices::{CpuValues, serves, tensor};

/// Which pairs are turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turned {
    /// Heads of a row.
    pub heads: usize,
    /// How many of them are turned, from the first on.
    pub turned: usize,
    /// Pairs are made of a head's two halves, and not of neighbours.
    pub half: bool,
}

/// Turns the last tokens of `x [batch, tokens, heads * d]`, which are the patches, by angles of these cosines and sines,
/// `[patches, tables, d / 2]`, where `tables` is 1 for angles that all heads share, or their number.
///
/// # Errors
/// If the shapes do not fit each other.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor, which: Turned) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    let (patches, tables, pairs) = cos.dims3()?;
    let Turned { heads, turned, half } = which;
    let fits = heads > 0 && turned <= heads && patches <= tokens && tables > 0 && turned % tables == 0;
    if !fits || width != 2 * heads * pairs || sin.dims() != cos.dims() {
        bail!(
            "rope: expected x [batch, tokens, {heads} * d] and angles [patches, tables, d / 2], got {:?} with {:?} and {:?}",
            x.dims(),
            cos.dims(),
            sin.dims()
        )
    }
    if serves([x, cos, sin]) && width > 0 {
        let sizes = Sizes { batch, tokens, patches, heads, turned, head_dim: 2 * pairs, tables, half };
        fused(x, [cos, sin], sizes)
    } else {
        composed(x, [cos, sin], which)
    }
}

fn composed(x: &Tensor, angles: [&Tensor; 2], Turned { heads: _, turned, half }: Turned) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    let (patches, tables, pairs) = angles[0].dims3()?;
    let (prefix, columns) = (tokens - patches, turned * 2 * pairs);
    // Where the two of a pair lie: behind one another in halves, or side by side.
    let (first, second, apart) = if half { (2, pairs, 4) } else { (pairs, 2, 5) };
    let values = x.narrow(1, prefix, patches)?.narrow(2, 0, columns)?.to_dtype(wide(x.dtype()))?;
    let values = values.reshape(&[batch, patches, turned / tables, tables, first, second][..])?;
    let spread = |angles: &Tensor| {
        let (first, second) = if half { (1, pairs) } else { (pairs, 1) };
        angles.to_dtype(values.dtype())?.reshape(&[1, patches, 1, tables, first, second][..])
    };
    let (cos, sin) = (spread(angles[0])?, spread(angles[1])?);
    let (a, b) = (values.narrow(apart, 0, 1)?, values.narrow(apart, 1, 1)?);
    let to_a = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let to_b = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    let y = Tensor::cat(&[to_a, to_b], apart)?.reshape((batch, patches, columns))?.to_dtype(x.dtype())?;
    let y = match width - columns {
        0 => y,
        rest => Tensor::cat(&[y, x.narrow(1, prefix, patches)?.narrow(2, columns, rest)?], D::Minus1)?,
    };
    if prefix == 0 { Ok(y) } else { Tensor::cat(&[x.narrow(1, 0, prefix)?, y], 1) }
}

fn fused(x: &Tensor, [cos, sin]: [&Tensor; 2], sizes: Sizes) -> Result<Tensor> {
    let (x, cos, sin) = (x.contiguous()?, cos.contiguous()?, sin.contiguous()?);
    let y = kernel::turn(&CpuValues::of(&x)?, [&CpuValues::of(&cos)?, &CpuValues::of(&sin)?], sizes, false);
    Function::new("rope", [&x, &cos, &sin]).output(y, x.shape()).backward(move |call| gradients(sizes, call))
}

fn gradients(sizes: Sizes, call: &Call) -> Result<Vec<Option<Tensor>>> {
    let [x, cos, sin] = call.operands else { bail!("rope: expected three operands") };
    let dy = CpuValues::of(call.gradient)?;
    let dx = match call.wants(0) {
        true => {
            let dx = kernel::turn(&dy, [&CpuValues::of(cos)?, &CpuValues::of(sin)?], sizes, true);
            Some(tensor(dx, x.dims())?)
        }
        false => None,
    };
    if !(call.wants(1) || call.wants(2)) {
        return Ok(vec![dx, None, None]);
    }
    let [dcos, dsin] = kernel::angle_gradients(&CpuValues::of(x)?, &dy, sizes);
    Ok(vec![dx, Some(tensor(dcos, cos.dims())?), Some(tensor(dsin, sin.dims())?)])
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        for half in [false, true] {
            for (batch, tokens, patches, heads, turned, tables, pairs) in
                [(1, 1, 1, 1, 1, 1, 1), (2, 7, 6, 3, 2, 1, 4), (2, 5, 5, 6, 4, 2, 6), (1, 19, 16, 2, 2, 2, 2)]
            {
                let (x, angles) = ([batch, tokens, heads * 2 * pairs], [patches, tables, pairs]);
                let which = Turned { heads, turned, half };
                check("rope", &[&x, &angles, &angles], |t| rope(&t[0], &t[1], &t[2], which))?;
            }
        }
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_an_error() -> Result<()> {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu);
        let which = Turned { heads: 2, turned: 2, half: true };
        let x = zeros(&[1, 5, 16])?;
        for angles in [&[4, 1, 3][..], &[6, 1, 4], &[4, 3, 4]] {
            let angles = zeros(angles)?;
            assert!(rope(&x, &angles, &angles, which).is_err(), "{angles:?}");
        }
        assert!(rope(&x, &zeros(&[4, 1, 4])?, &zeros(&[3, 1, 4])?, which).is_err());
        Ok(())
    }
}
