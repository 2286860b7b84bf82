//! The fixed positions of masked autoencoders: sines and cosines of a patch's column and of its row.

use candle_core::{Device, Result, Tensor};

/// Position encodings `[prefix + rows * columns, dim]` in float32, in reading order, after `prefix` rows of zeros: a quarter of the
/// columns each for the sine and the cosine of the patch's column, then for those of its row, times `10000^(-i / (dim / 4))`. Columns
/// beyond a multiple of 4 are 0.
///
/// MAE's `get_2d_sincos_pos_embed`.
///
/// # Errors
/// Those of Candle.
pub fn sinusoidal_2d([rows, columns]: [usize; 2], dim: usize, prefix: usize) -> Result<Tensor> {
    let quarter = dim / 4;
    let rates: Vec<f64> = (0..quarter).map(|i| 10_000f64.powf(-(i as f64) / quarter as f64)).collect();
    let mut values = vec![0f32; (prefix + rows * columns) * dim];
    for (place, values) in values.chunks_exact_mut(dim.max(1)).skip(prefix).enumerate() {
        let along = [place % columns, place / columns].map(|at| at as f64);
        for (half, at) in values.chunks_exact_mut((2 * quarter).max(1)).zip(along) {
            for (i, rate) in rates.iter().enumerate() {
                (half[i], half[quarter + i]) = ((at * rate).sin() as f32, (at * rate).cos() as f32);
            }
        }
    }
    Tensor::from_vec(values, (prefix + rows * columns, dim), &Device::Cpu)
}
