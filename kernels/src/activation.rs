//! Activations and their derivatives, applied to every value. Their vector code is the compiler's (`simd.rs`).

use rayon::prelude::*;

use crate::memory::{Out, filled, written};
use crate::simd::{self, vectorised};
use crate::tasks::rows_per_task;
use crate::value::Value;

/// Functions of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)`, with the derivative 0 at 0.
    Relu,
    /// `tanh(x)`.
    Tanh,
    /// `x Φ(x)`, by the error function.
    Gelu,
    /// Its approximation by a tanh.
    GeluTanh,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
    /// `x sigmoid(x)`.
    Silu,
}

/// Runs an expression for the function that an activation is, named `$f` in it.
macro_rules! with_function {
    ($activation:expr, $f:ident, $run:expr) => {
        match $activation {
            Activation::Relu => {
                type $f = Relu;
                $run
            }
            Activation::Tanh => {
                type $f = Tanh;
                $run
            }
            Activation::Gelu => {
                type $f = Gelu;
                $run
            }
            Activation::GeluTanh => {
                type $f = GeluTanh;
                $run
            }
            Activation::QuickGelu => {
                type $f = QuickGelu;
                $run
            }
            Activation::Silu => {
                type $f = Silu;
                $run
            }
        }
    };
}

impl Activation {
    /// The function of every value.
    pub fn forward(self, x: &[f32]) -> Vec<f32> {
        with_function!(self, F, forward::<F>(x))
    }

    /// The gradient of `x` for that of the function's values.
    pub fn backward(self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        assert_eq!(x.len(), dy.len(), "values and gradients that do not fit");
        with_function!(self, F, backward::<F>(x, dy))
    }

    /// The function of every value, on this thread; gives what was written.
    pub(crate) fn values<'a, V: Value>(self, x: &[V], y: &'a mut Out<V>) -> &'a mut [V] {
        assert_eq!(x.len(), y.len(), "values and functions that do not fit");
        with_function!(self, F, values::<F, V>(x, y));
        // SAFETY: as many were written as there are.
        unsafe { written(y) }
    }

    /// The function in place of every value, on this thread.
    pub(crate) fn replace<V: Value>(self, x: &mut [V]) {
        with_function!(self, F, replace::<F, V>(x))
    }

    /// Multiplies `gradient` by the derivative at every value of `x`, in whose place the function's value is put, and writes
    /// it to `dx`; on this thread.
    pub(crate) fn backward_in_place<V: Value>(self, x: &mut [V], gradient: &[f32], dx: &mut Out<V>) {
        assert!([gradient.len(), dx.len()] == [x.len(); 2], "values and gradients that do not fit");
        with_function!(self, F, backward_in_place::<F, V>(x, gradient, dx))
    }
}

/// A function of one number and its derivative.
trait Function {
    /// The function at `x`.
    fn value(x: f32) -> f32;

    /// The derivative at `x`.
    fn slope(x: f32) -> f32;
}

fn forward<F: Function>(x: &[f32]) -> Vec<f32> {
    let task = rows_per_task(x.len(), 1);
    // SAFETY: the chunks cover the output, and every value of a chunk is written.
    unsafe {
        filled(x.len(), |y| {
            y.par_chunks_mut(task).zip(x.par_chunks(task)).for_each(|(y, x)| values::<F, f32>(x, y));
        })
    }
}

fn backward<F: Function>(x: &[f32], dy: &[f32]) -> Vec<f32> {
    let task = rows_per_task(x.len(), 1);
    // SAFETY: the chunks cover the output, and every value of a chunk is written.
    unsafe {
        filled(x.len(), |dx| {
            dx.par_chunks_mut(task).zip(x.par_chunks(task)).zip(dy.par_chunks(task)).for_each(|((dx, x), dy)| {
                vectorised(
                    #[inline(always)]
                    || {
                        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                            dx.write(F::slope(x) * dy);
                        }
                    },
                )
            })
        })
    }
}

fn values<F: Function, V: Value>(x: &[V], y: &mut Out<V>) {
    vectorised(
        #[inline(always)]
        || {
            for (y, &x) in y.iter_mut().zip(x) {
                y.write(V::of(F::value(x.wide())));
            }
        },
    )
}

fn replace<F: Function, V: Value>(x: &mut [V]) {
    vectorised(
        #[inline(always)]
        || {
            for x in x {
                *x = V::of(F::value(x.wide()));
            }
        },
    )
}

fn backward_in_place<F: Function, V: Value>(x: &mut [V], gradient: &[f32], dx: &mut Out<V>) {
    vectorised(
        #[inline(always)]
        || {
            for ((x, &gradient), dx) in x.iter_mut().zip(gradient).zip(dx) {
                let at = x.wide();
                dx.write(V::of(gradient * F::slope(at)));
                *x = V::of(F::value(at));
            }
        },
    )
}

struct Relu;

impl Function for Relu {
    // Written so that NaN goes through.
    #[inline(always)]
    fn value(x: f32) -> f32 {
        if x <= 0. { 0. } else { x }
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        if x <= 0. { 0. } else { 1. }
    }
}

struct Tanh;

impl Function for Tanh {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        simd::tanh(x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let y = simd::tanh(x);
        1. - y * y
    }
}

struct Gelu;

impl Function for Gelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * simd::cumulative_normal(x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        simd::cumulative_normal(x) + x * simd::normal_density(x)
    }
}

struct GeluTanh;

impl GeluTanh {
    // (1 + tanh(u)) / 2 = sigmoid(2 u)
    const SCALE: f32 = 2. * 0.797_884_6;
    const CUBIC: f32 = 0.044715;
}

impl Function for GeluTanh {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * simd::sigmoid(Self::SCALE * (x + Self::CUBIC * x * x * x))
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = simd::sigmoid(Self::SCALE * (x + Self::CUBIC * x * x * x));
        s + x * s * (1. - s) * Self::SCALE * (1. + 3. * Self::CUBIC * x * x)
    }
}

struct QuickGelu;

impl Function for QuickGelu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * simd::sigmoid(1.702 * x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = simd::sigmoid(1.702 * x);
        s + 1.702 * x * s * (1. - s)
    }
}

struct Silu;

impl Function for Silu {
    #[inline(always)]
    fn value(x: f32) -> f32 {
        x * simd::sigmoid(x)
    }

    #[inline(always)]
    fn slope(x: f32) -> f32 {
        let s = simd::sigmoid(x);
        s + x * s * (1. - s)
    }
}

/// The gradient of what ReLU made `y` of.
pub fn before_relu(y: &[f32], dy: &[f32]) -> Vec<f32> {
    assert_eq!(y.len(), dy.len(), "values and gradients that do not fit");
    let task = rows_per_task(y.len(), 1);
    // SAFETY: the tasks cover all values.
    unsafe {
        filled(y.len(), |dx| {
            let tasks = dx.par_chunks_mut(task).zip(y.par_chunks(task).zip(dy.par_chunks(task)));
            tasks.for_each(|(dx, (y, dy))| {
                for ((dx, &y), &dy) in dx.iter_mut().zip(y).zip(dy) {
                    dx.write(if y <= 0. { 0. } else { dy });
                }
            });
        })
    }
}

/// ReLU in place of every value, on all threads.
pub fn relu_in_place(y: &mut [f32]) {
    let task = rows_per_task(y.len(), 1);
    y.par_chunks_mut(task).for_each(|y| Activation::Relu.replace(y));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::as_out;
    use crate::random::values as random;

    const ALL: [Activation; 6] = [
        Activation::Relu,
        Activation::Tanh,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
    ];

    #[test]
    fn slopes_are_those_of_finite_differences_and_in_place_gives_the_same() {
        let (x, dy) = (random(1000, 1), random(1000, 2));
        for activation in ALL {
            let (y, dx) = (activation.forward(&x), activation.backward(&x, &dy));
            let moved = |by: f32| activation.forward(&x.iter().map(|x| x + by).collect::<Vec<_>>());
            for (i, (above, below)) in moved(1e-2).into_iter().zip(moved(-1e-2)).enumerate() {
                let slope = (above - below) / 2e-2;
                let kink = activation == Activation::Relu && x[i].abs() < 2e-2;
                assert!(kink || (dx[i] - slope * dy[i]).abs() < 2e-3, "{activation:?} at {}", x[i]);
            }
            let (mut value, mut gradient) = (x.clone(), vec![0.; dy.len()]);
            // SAFETY: the kernel writes values.
            activation.backward_in_place(&mut value, &dy, unsafe { as_out(&mut gradient) });
            assert!(value == y && gradient == dx, "{activation:?}");
            value.copy_from_slice(&x);
            activation.replace(&mut value);
            assert_eq!(value, y, "{activation:?}");
            // SAFETY: the kernel writes values.
            let out = unsafe { as_out(&mut value) };
            assert_eq!(activation.values(&x, out), y, "{activation:?}");
        }
        assert_eq!(before_relu(&Activation::Relu.forward(&x), &dy), Activation::Relu.backward(&x, &dy));
    }
}
