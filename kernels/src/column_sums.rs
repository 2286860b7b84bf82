//! Sums over rows: the gradient of everything that is broadcast over a batch.

use rayon::prelude::*;

use crate::simd::vectorised;
use crate::tasks::rows_per_task;

/// The sum of the rows of `a`, each of `width` values.
pub fn column_sums(a: &[f32], width: usize) -> Vec<f32> {
    let rows = a.len() / width.max(1);
    column_sums_of(
        rows,
        width,
        rows_per_task(rows, width),
        #[inline(always)]
        |row, sums| {
            for (sum, &a) in sums.iter_mut().zip(&a[row * width..][..width]) {
                *sum += a;
            }
        },
    )
}

/// Adds up what `add(row, sums)` adds to `width` sums for every row. Tasks of `per_task` rows sum their rows apart and are added in order: the
/// digits do not depend on which task ends first. `add` runs vectorised and is to be inlined.
pub(crate) fn column_sums_of(
    rows: usize,
    width: usize,
    per_task: usize,
    add: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let starts: Vec<usize> = (0..rows).step_by(per_task).collect();
    let partial: Vec<Vec<f32>> = starts
        .into_par_iter()
        .map(|start| {
            let mut sums = vec![0f32; width];
            vectorised(
                #[inline(always)]
                || {
                    for row in start..rows.min(start + per_task) {
                        add(row, &mut sums);
                    }
                },
            );
            sums
        })
        .collect();
    add_up(partial, width)
}

/// The sum of vectors of `width` values, in order.
pub(crate) fn add_up(parts: Vec<Vec<f32>>, width: usize) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_else(|| vec![0f32; width]);
    for part in parts {
        for (total, part) in total.iter_mut().zip(part) {
            *total += part;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn columns_are_summed_over_all_rows() {
        for (rows, width) in [(0, 3), (1, 1), (7, 5), (20_000, 3)] {
            let a = values(rows * width, 1);
            for (column, sum) in column_sums(&a, width).into_iter().enumerate() {
                let exact: f64 = (0..rows).map(|row| f64::from(a[row * width + column])).sum();
                assert!((f64::from(sum) - exact).abs() < 1e-2, "{rows}x{width}");
            }
        }
    }
}
