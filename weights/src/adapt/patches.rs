//! Patch kernels for another patch size: FlexiViT's pseudo-inverse resize (Beyer et al. 2022), as timm's `resample_patch_embed`.

use candle_core::{DType, Device, Result, Tensor};

use super::resample::Resampling;

/// Resizes kernels `[dim, channels, height, width]` to `new` (height, width) so that a patch enlarged or shrunk by bicubic
/// resampling with antialias has the same product with the new kernel as the original patch with the old one: with B the
/// matrix that resizes a patch, w_new = pinv(B)ᵀ w.
///
/// # Errors
/// If the kernels have another rank.
pub fn resample_patches(kernels: &Tensor, new: (usize, usize)) -> Result<Tensor> {
    resample_patches_by(kernels, new, Resampling::Bicubic)
}

/// As [`resample_patches`], in the way of `law`.
///
/// # Errors
/// As there.
pub fn resample_patches_by(kernels: &Tensor, new: (usize, usize), law: Resampling) -> Result<Tensor> {
    let (dim, channels, height, width) = kernels.dims4()?;
    // B is the Kronecker product of one matrix a side, and so is its pseudo-inverse.
    let rows = pseudo_inverse(&law.matrix(height, new.0), new.0, height)?;
    let columns = pseudo_inverse(&law.matrix(width, new.1), new.1, width)?;
    let rows = Tensor::from_vec(rows, (height, new.0), &Device::Cpu)?;
    let columns = Tensor::from_vec(columns, (width, new.1), &Device::Cpu)?;
    let kernels = kernels.to_dtype(DType::F64)?.reshape((dim * channels, height, width))?;
    let narrower = kernels.broadcast_matmul(&columns)?;
    let resized = rows.t()?.contiguous()?.broadcast_matmul(&narrower)?;
    resized.reshape((dim, channels, new.0, new.1))?.to_dtype(DType::F32)
}

/// The Moore-Penrose inverse `[columns, rows]` of a matrix `[rows, columns]` of full rank, by its normal equations.
fn pseudo_inverse(matrix: &[f64], rows: usize, columns: usize) -> Result<Vec<f64>> {
    let at = |i: usize, j: usize| matrix[i * columns + j];
    let mut inverse = vec![0.; rows * columns];
    if rows >= columns {
        // (AᵀA)⁻¹ Aᵀ
        let gram = square(columns, |i, j| (0..rows).map(|k| at(k, i) * at(k, j)).sum());
        for row in 0..rows {
            let column = solve(gram.clone(), (0..columns).map(|j| at(row, j)).collect())?;
            (0..columns).for_each(|j| inverse[j * rows + row] = column[j]);
        }
    } else {
        // Aᵀ (AAᵀ)⁻¹, row by row: the Gram matrix is symmetric.
        let gram = square(rows, |i, j| (0..columns).map(|k| at(i, k) * at(j, k)).sum());
        for column in 0..columns {
            let row = solve(gram.clone(), (0..rows).map(|i| at(i, column)).collect())?;
            inverse[column * rows..][..rows].copy_from_slice(&row);
        }
    }
    Ok(inverse)
}

fn square(size: usize, entry: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..size * size).map(|at| entry(at / size, at % size)).collect()
}

/// Solves `matrix · x = right` by elimination with pivots.
fn solve(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Result<Vec<f64>> {
    let size = right.len();
    for step in 0..size {
        let pivot = (step..size)
            .max_by(|&i, &j| matrix[i * size + step].abs().total_cmp(&matrix[j * size + step].abs()))
            .unwrap_or(step);
        if matrix[pivot * size + step].abs() < 1e-12 {
            candle_core::bail!("a patch resize of {size} pixels that cannot be inverted");
        }
        (0..size).for_each(|column| matrix.swap(step * size + column, pivot * size + column));
        right.swap(step, pivot);
        for row in step + 1..size {
            let factor = matrix[row * size + step] / matrix[step * size + step];
            for column in step..size {
                matrix[row * size + column] -= factor * matrix[step * size + column];
            }
            right[row] -= factor * right[step];
        }
    }
    for step in (0..size).rev() {
        let known: f64 = (step + 1..size).map(|column| matrix[step * size + column] * right[column]).sum();
        right[step] = (right[step] - known) / matrix[step * size + step];
    }
    Ok(right)
}
