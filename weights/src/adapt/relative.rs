//! Tables of relative position biases for another grid of patches, as timm's `resize_rel_pos_bias_table` without SciPy, or plainly.
//!
//! Biases near to each other are more telling than distant ones: the old distances are spread out in a geometric progression onto
//! the new range, and the table is interpolated linearly between them. The class token's three entries stay.

use candle_core::{Device, Result, Tensor};

use super::positions::resample_positions_by;
use super::resample::Resampling;

/// Resamples a table `[(2 * old.0 - 1) * (2 * old.1 - 1) + 3, heads]` for a grid of `old` rows and columns of patches to the grid
/// `new`, in float32.
///
/// # Errors
/// If the table has another shape.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// let table = Tensor::ones((27 * 27 + 3, 12), DType::F32, &Device::Cpu)?;
/// let larger = tallow_weights::adapt::resample_relative(&table, (14, 14), (24, 24))?;
/// assert_eq!(larger.dims(), [47 * 47 + 3, 12]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn resample_relative(table: &Tensor, old: (usize, usize), new: (usize, usize)) -> Result<Tensor> {
    let sides = |grid: (usize, usize)| (2 * grid.0.max(1) - 1, 2 * grid.1.max(1) - 1);
    let (old, new) = (sides(old), sides(new));
    let (rows, heads) = table.dims2()?;
    if rows != old.0 * old.1 + 3 {
        candle_core::bail!("relative positions: expected [{} * {} + 3, heads], got {:?}", old.0, old.1, table.dims());
    }
    let values = table.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?;
    let (grid, class) = values.split_at(old.0 * old.1 * heads);
    let (along_rows, along_columns) = (axis(old.0, new.0), axis(old.1, new.1));
    let mut out = Vec::with_capacity((new.0 * new.1 + 3) * heads);
    for &(row, below) in &along_rows {
        for &(column, right) in &along_columns {
            for head in 0..heads {
                let at = |row: usize, column: usize| f64::from(grid[(row * old.1 + column) * heads + head]);
                let along = |row: usize| match old.1 {
                    1 => at(row, 0),
                    _ => at(row, column) * (1. - right) + at(row, column + 1) * right,
                };
                let value = if old.0 == 1 { along(0) } else { along(row) * (1. - below) + along(row + 1) * below };
                out.push(value as f32);
            }
        }
    }
    out.extend_from_slice(class);
    Tensor::from_vec(out, (new.0 * new.1 + 3, heads), &Device::Cpu)
}

/// The same as transformers interpolates it: bilinearly between the distances as they are.
///
/// # Errors
/// If the table has another shape.
pub fn resample_relative_plainly(table: &Tensor, old: (usize, usize), new: (usize, usize)) -> Result<Tensor> {
    let sides = |grid: (usize, usize)| (2 * grid.0.max(1) - 1, 2 * grid.1.max(1) - 1);
    let (old, new) = (sides(old), sides(new));
    let (rows, heads) = table.dims2()?;
    if rows != old.0 * old.1 + 3 {
        candle_core::bail!("relative positions: expected [{} * {} + 3, heads], got {:?}", old.0, old.1, table.dims());
    }
    let grid = table.narrow(0, 0, rows - 3)?.unsqueeze(0)?;
    let grid = resample_positions_by(&grid, 0, old, new, Resampling::BilinearPlain)?;
    let class = table.narrow(0, rows - 3, 3)?.to_dtype(candle_core::DType::F32)?;
    Tensor::cat(&[grid.reshape(((), heads))?, class], 0)
}

/// For every new distance along an axis, the old one before it and how far it lies on the way to the next.
fn axis(old: usize, new: usize) -> Vec<(usize, f64)> {
    let places = spread(old, new);
    let half = (new / 2) as f64;
    let target = |i: usize| i as f64 - half;
    (0..new)
        .map(|i| {
            let at = target(i);
            let above = places.partition_point(|place| *place < at).clamp(1, places.len().max(2) - 1);
            let (low, high) = match (places.get(above - 1), places.get(above)) {
                (Some(&low), Some(&high)) => (low, high),
                _ => return (0, 0.),
            };
            // Beyond the ends the nearest is taken: each side's share is how near the other one lies.
            let (left, right) = ((at - low).max(0.), (high - at).max(0.));
            match left + right {
                0. => (above - 1, 0.5),
                whole => (above - 1, left / whole),
            }
        })
        .collect()
}

/// Where the old distances lie among the new ones: 0, and to both sides of it steps that grow by one factor, so that they cover the
/// new range.
fn spread(old: usize, new: usize) -> Vec<f64> {
    let (old_half, new_half) = ((old / 2) as i32, (new / 2) as f64);
    let (mut left, mut right) = (1.01f64, 1.5f64);
    let mut factor = 0.;
    while right - left > 1e-6 {
        factor = (left + right) / 2.;
        let reach = (1. - factor.powi(old_half)) / (1. - factor);
        if reach > new_half { right = factor } else { left = factor }
    }
    let mut places = vec![];
    let mut place = 1.;
    for i in 0..old_half {
        places.push(place);
        place += factor.powi(i + 1);
    }
    let negative = places.iter().rev().map(|place| -place);
    negative.chain([0.]).chain(places.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_table_is_pytorchs() {
        // interpolate(table of 3×3 distances, size=(5, 5), mode="bilinear"), then the class token's three.
        let expected = [
            1.0f32, 2.2, 4.0, 2.8, 2.0, 3.8, 4.04, 4.4, 4.16, 4.0, 8.0, 6.8, 5.0, 6.2, 7.0, 5.0, 5.24, 5.6, 7.16, 8.2,
            3.0, 4.2, 6.0, 7.8, 9.0, 10., 20., 30.,
        ];
        let table = [1f32, 4., 2., 8., 5., 7., 3., 6., 9., 10., 20., 30.];
        let table = Tensor::new(table.as_slice(), &Device::Cpu).unwrap().reshape((12, 1)).unwrap();
        let got = resample_relative_plainly(&table, (2, 2), (3, 3)).unwrap().flatten_all().unwrap();
        for (got, expected) in got.to_vec1::<f32>().unwrap().iter().zip(expected) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
    }
}
