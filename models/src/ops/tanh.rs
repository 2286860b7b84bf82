//! `y = tanh(x)`.

use candle_core::{Result, Tensor};
use tallow_kernels::activation::Activation;

use super::elementwise::map;
use crate::slices::serves;

/// The hyperbolic tangent.
///
/// # Errors
/// Those of Candle.
pub fn tanh(x: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(y) = super::cuda::activation(x, None, "tanh", composed)? {
        return Ok(y);
    }
    if serves([x]) { map(x, "tanh", Activation::Tanh) } else { composed(x) }
}

fn composed(x: &Tensor) -> Result<Tensor> {
    x.tanh()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::check;

    #[test]
    fn kernel_agrees_with_the_composition() -> Result<()> {
        check("tanh", &[&[7, 50]], |t| tanh(&t[0]))
    }
}
