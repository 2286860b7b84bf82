//! What is computed of every row by itself: tasks of rows, in vector code, with sums over all rows beside it where they are wanted.

use rayon::prelude::*;

use crate::column_sums::add_up;
use crate::memory::{Out, filled};
use crate::simd::vectorised;
use crate::tasks::rows_per_task;

/// What `write` gives for every row: it is given the place of `dim` values and the row of each of `inputs`, and is to be inlined.
///
/// # Safety
/// `write` must write every value.
pub(crate) unsafe fn map_rows<const N: usize>(
    inputs: [&[f32]; N],
    dim: usize,
    write: impl Fn(&mut Out, [&[f32]; N]) + Sync,
) -> Vec<f32> {
    // SAFETY: the caller's.
    let (out, _) = unsafe {
        map_and_sum_rows(
            inputs,
            dim,
            0,
            #[inline(always)]
            |out, row, _| write(out, row),
        )
    };
    out
}

/// The same, and the `sums` values to which `write` adds for every row. Tasks sum their rows apart and are added in order: the digits do
/// not depend on which task ends first.
///
/// # Safety
/// `write` must write every value.
pub(crate) unsafe fn map_and_sum_rows<const N: usize>(
    inputs: [&[f32]; N],
    dim: usize,
    sums: usize,
    write: impl Fn(&mut Out, [&[f32]; N], &mut [f32]) + Sync,
) -> (Vec<f32>, Vec<f32>) {
    let len = inputs.first().map_or(0, |input| input.len());
    assert!(dim > 0 && len.is_multiple_of(dim), "values that are no rows of {dim}");
    assert!(inputs.iter().all(|input| input.len() == len), "rows that do not fit each other");
    let per_task = rows_per_task(len / dim, dim);
    let mut total = vec![];
    // SAFETY: the tasks cover the output, and the caller vouches for the rows.
    let out = unsafe {
        filled(len, |out| {
            let tasks = out.par_chunks_mut(per_task * dim).enumerate();
            let parts = tasks.map(|(task, out)| {
                let mut of_task = vec![0f32; sums];
                vectorised(
                    #[inline(always)]
                    || {
                        for (row, out) in out.chunks_exact_mut(dim).enumerate() {
                            let start = (task * per_task + row) * dim;
                            write(out, inputs.map(|input| &input[start..][..dim]), &mut of_task);
                        }
                    },
                );
                of_task
            });
            total = add_up(parts.collect(), sums);
        })
    };
    (out, total)
}
