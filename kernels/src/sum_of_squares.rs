//! `Σ x²`, for the norm of gradients.

use rayon::prelude::*;

use crate::simd::vectorised;
use crate::tasks::rows_per_task;

/// The sum of the squares of all values, accumulated in float64.
pub fn sum_of_squares(x: &[f32]) -> f64 {
    let tasks = x.par_chunks(rows_per_task(x.len(), 1)).map(|x| {
        vectorised(
            #[inline(always)]
            || {
                let mut lanes = [0f64; 16];
                for x in x.chunks(lanes.len()) {
                    for (lane, &x) in lanes.iter_mut().zip(x) {
                        *lane += f64::from(x) * f64::from(x);
                    }
                }
                lanes.into_iter().sum::<f64>()
            },
        )
    });
    // Collected first: the order of the sum is that of the tasks.
    tasks.collect::<Vec<f64>>().into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn all_squares_are_summed_the_same_every_time() {
        for len in [0, 1, 15, 16, 17, 100_000] {
            let x = values(len, 1);
            let exact: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            assert!((sum_of_squares(&x) - exact).abs() <= 1e-12 * exact, "{len}");
            assert_eq!(sum_of_squares(&x), sum_of_squares(&x));
        }
        assert!(sum_of_squares(&[1., f32::NAN]).is_nan());
    }
}
