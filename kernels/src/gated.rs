//! Gated activations: `f(gate) · x`, and the gradients, with both apart or behind one another in every row.
//!
//! Shazeer, "GLU Variants Improve Transformer", 2020.

use rayon::prelude::*;

use crate::activation::Activation;
use crate::memory::{Out, filled};
use crate::simd::vectorised;
use crate::tasks::rows_per_task;

/// `f(gate) · x` for rows of `2 * width` values, the gate first: rows of `width` values.
pub fn forward(activation: Activation, x: &[f32], width: usize) -> Vec<f32> {
    let width = width.max(1);
    assert!(x.len().is_multiple_of(2 * width), "values that are no rows");
    let rows = x.len() / (2 * width);
    let task = rows_per_task(rows, 2 * width);
    // SAFETY: the tasks cover the output, and every value of every row is written.
    unsafe {
        filled(rows * width, |y| {
            y.par_chunks_mut(task * width).zip(x.par_chunks(2 * task * width)).for_each(|(y, x)| {
                for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(2 * width)) {
                    let (gate, x) = x.split_at(width);
                    row(activation, gate, x, y);
                }
            })
        })
    }
}

/// The gradient of the rows, for that of what they gave.
pub fn backward(activation: Activation, x: &[f32], dy: &[f32], width: usize) -> Vec<f32> {
    let width = width.max(1);
    assert!(x.len() == 2 * dy.len() && dy.len().is_multiple_of(width), "values and gradients that do not fit");
    let task = rows_per_task(dy.len() / width, 2 * width);
    // SAFETY: the tasks cover the output, and every value of every row is written.
    unsafe {
        filled(x.len(), |dx| {
            let tasks = dx.par_chunks_mut(2 * task * width).zip(x.par_chunks(2 * task * width));
            tasks.zip(dy.par_chunks(task * width)).for_each_init(Scratch::default, |scratch, ((dx, x), dy)| {
                let rows = dx.chunks_exact_mut(2 * width).zip(x.chunks_exact(2 * width)).zip(dy.chunks_exact(width));
                for ((dx, x), dy) in rows {
                    let (gate, x) = x.split_at(width);
                    scratch.row_backward(activation, [gate, x, dy], dx.split_at_mut(width));
                }
            })
        })
    }
}

/// `f(gate) · x` of gates and values apart.
pub fn forward_apart(activation: Activation, gate: &[f32], x: &[f32]) -> Vec<f32> {
    assert_eq!(gate.len(), x.len(), "gates and values that do not fit");
    let task = rows_per_task(x.len(), 1);
    // SAFETY: the tasks cover the output, and every value is written.
    unsafe {
        filled(x.len(), |y| {
            let tasks = y.par_chunks_mut(task).zip(gate.par_chunks(task).zip(x.par_chunks(task)));
            tasks.for_each(|(y, (gate, x))| row(activation, gate, x, y));
        })
    }
}

/// The gradients of gates and values, for that of what they gave.
pub fn backward_apart(activation: Activation, gate: &[f32], x: &[f32], dy: &[f32]) -> [Vec<f32>; 2] {
    assert!([gate.len(), x.len()] == [dy.len(); 2], "values and gradients that do not fit");
    let task = rows_per_task(x.len(), 1).min(1 << 14);
    let mut dx = vec![];
    // SAFETY: the tasks cover both outputs, and every value is written.
    let dgate = unsafe {
        filled(gate.len(), |dgate| {
            dx = filled(x.len(), |dx| {
                let out = dgate.par_chunks_mut(task).zip(dx.par_chunks_mut(task));
                let values = gate.par_chunks(task).zip(x.par_chunks(task)).zip(dy.par_chunks(task));
                out.zip(values).for_each_init(Scratch::default, |scratch, (out, ((gate, x), dy))| {
                    scratch.row_backward(activation, [gate, x, dy], out);
                });
            });
        })
    };
    [dgate, dx]
}

fn row(activation: Activation, gate: &[f32], x: &[f32], y: &mut Out) {
    let y = activation.values(gate, y);
    vectorised(
        #[inline(always)]
        || y.iter_mut().zip(x).for_each(|(y, x)| *y *= x),
    )
}

/// Memory of a thread for one row.
#[derive(Default)]
struct Scratch {
    value: Vec<f32>,
    gradient: Vec<f32>,
}

impl Scratch {
    fn row_backward(&mut self, activation: Activation, [gate, x, dy]: [&[f32]; 3], (dgate, dx): (&mut Out, &mut Out)) {
        let Self { value, gradient } = self;
        // The gate's gradient is that of its activation, for `x · dy`.
        gradient.clear();
        gradient.extend(x.iter().zip(dy).map(|(x, dy)| x * dy));
        value.clear();
        value.extend_from_slice(gate);
        activation.backward_in_place(value, gradient, dgate);
        for ((dx, value), dy) in dx.iter_mut().zip(value).zip(dy) {
            dx.write(*value * dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn the_gate_is_the_first_half_of_a_row() {
        let x = values(3 * 10, 1);
        let y = forward(Activation::Silu, &x, 5);
        for (y, x) in y.chunks_exact(5).zip(x.chunks_exact(10)) {
            for i in 0..5 {
                assert!((y[i] - x[i] / (1. + (-x[i]).exp()) * x[5 + i]).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn gates_and_values_apart_give_the_same() {
        let (x, dy) = (values(3 * 10, 1), values(3 * 5, 2));
        let half =
            |i: usize, x: &[f32]| x.chunks_exact(10).flat_map(|row| row[5 * i..][..5].to_vec()).collect::<Vec<_>>();
        let [gate, values] = [0, 1].map(|i| half(i, &x));
        assert_eq!(forward_apart(Activation::Silu, &gate, &values), forward(Activation::Silu, &x, 5));
        let [dgate, dx] = backward_apart(Activation::Silu, &gate, &values, &dy);
        let packed = backward(Activation::Silu, &x, &dy, 5);
        assert_eq!([dgate, dx], [0, 1].map(|i| half(i, &packed)));
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (x, dy) = (values(2 * 8, 1), values(8, 2));
        let dx = backward(Activation::Silu, &x, &dy, 4);
        let objective = |x: &[f32]| forward(Activation::Silu, x, 4).iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f32>();
        for i in 0..x.len() {
            let moved = |by: f32| {
                let mut x = x.clone();
                x[i] += by;
                objective(&x)
            };
            assert!((dx[i] - (moved(1e-2) - moved(-1e-2)) / 2e-2).abs() < 5e-3, "value {i}");
        }
    }
}
