//! The fixed sines and cosines of Vaswani et al., "Attention Is All You Need", 2017, section 3.5.

use candle_core::{Device, Result, Tensor};

/// Position encodings `[len, dim]` in float32: `sin(pos / 10000^(2i/dim))` in column `2i`, the cosine of the same angle in
/// column `2i + 1`.
///
/// # Errors
/// Those of Candle.
pub fn sinusoidal(len: usize, dim: usize) -> Result<Tensor> {
    let rates: Vec<f64> = (0..dim).map(|column| 10_000f64.powf((column - column % 2) as f64 / -(dim as f64))).collect();
    let mut values = Vec::with_capacity(len * dim);
    for position in 0..len {
        for (column, rate) in rates.iter().enumerate() {
            let angle = position as f64 * rate;
            values.push(if column % 2 == 0 { angle.sin() } else { angle.cos() } as f32);
        }
    }
    Tensor::from_vec(values, (len, dim), &Device::Cpu)
}
