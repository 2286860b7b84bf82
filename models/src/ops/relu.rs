//! `y = max(x, 0)`.

use candle_core::{Result, Tensor};

/// `max(x, 0)`, with the derivative 0 at 0 as in PyTorch (Candle's own has 1).
pub fn relu(x: &Tensor) -> Result<Tensor> {
    composed(x)
}

fn composed(x: &Tensor) -> Result<Tensor> {
    x.le(0.)?.where_cond(&x.zeros_like()?, x)
}
