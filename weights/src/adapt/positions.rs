//! Position embeddings for another grid of patches, as timm's `resample_abs_pos_embed`, or as transformers interpolates them.

use candle_core::{Device, Result, Tensor};

use super::resample::Resampling;

/// Resamples position embeddings `[1, prefix + old.0 * old.1, dim]` to the grid `new` (rows, columns): bicubic with antialias,
/// in float32. The first `prefix` entries (class and register tokens) stay as they are. Gives
/// `[1, prefix + new.0 * new.1, dim]`.
///
/// # Errors
/// If the shape is another.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let positions = Tensor::ones((1, 1 + 14 * 14, 8), candle_core::DType::F32, &Device::Cpu)?;
/// let fewer = tallow_weights::adapt::resample_positions(&positions, 1, (14, 14), (4, 6))?;
/// assert_eq!(fewer.dims(), [1, 1 + 4 * 6, 8]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn resample_positions(
    positions: &Tensor,
    prefix: usize,
    old: (usize, usize),
    new: (usize, usize),
) -> Result<Tensor> {
    resample_positions_by(positions, prefix, old, new, Resampling::Bicubic)
}

/// As [`resample_positions`], in the way of `law`.
///
/// # Errors
/// As there.
pub fn resample_positions_by(
    positions: &Tensor,
    prefix: usize,
    old: (usize, usize),
    new: (usize, usize),
    law: Resampling,
) -> Result<Tensor> {
    let (one, count, dim) = positions.dims3()?;
    if one != 1 || count != prefix + old.0 * old.1 {
        candle_core::bail!(
            "pos_embed: expected [1, {prefix} + {} * {}, dim], got {:?}",
            old.0,
            old.1,
            positions.dims()
        );
    }
    let values = positions.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?;
    let (kept, grid) = values.split_at(prefix * dim);
    // Columns first, as PyTorch.
    let narrower = along_rows(grid, old.0, old.1, dim, new.1, law);
    let transposed = along_columns(&narrower, old.0, new.1 * dim, new.0, law);
    let values = [kept, &transposed].concat();
    Tensor::from_vec(values, (1, prefix + new.0 * new.1, dim), &Device::Cpu)
}

/// `[rows, columns, dim]` → `[rows, new, dim]`
fn along_rows(grid: &[f32], rows: usize, columns: usize, dim: usize, new: usize, law: Resampling) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows * new * dim);
    for row in grid.chunks_exact(columns * dim) {
        out.extend(along_columns(row, columns, dim, new, law));
    }
    out
}

/// `[old, width]` → `[new, width]`: every new row is a weighted sum of the old ones.
fn along_columns(grid: &[f32], old: usize, width: usize, new: usize, law: Resampling) -> Vec<f32> {
    let matrix = law.matrix(old, new);
    let mut out = vec![0f32; new * width];
    for (weights, target) in matrix.chunks_exact(old).zip(out.chunks_exact_mut(width)) {
        for (&weight, source) in weights.iter().zip(grid.chunks_exact(width)).filter(|(weight, _)| **weight != 0.) {
            for (target, &source) in target.iter_mut().zip(source) {
                *target += weight as f32 * source;
            }
        }
    }
    out
}
