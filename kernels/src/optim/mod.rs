//! Optimisers' steps.

mod adamw;
mod sgd;

pub use adamw::{AdamWStep, adamw};
pub use sgd::{SgdStep, sgd, sgd_with_momentum};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::values;

    #[test]
    fn steps_are_the_formulas() {
        let (p, m, g) = (values(20_000, 1), values(20_000, 2), values(20_000, 3));
        let v: Vec<f32> = m.iter().map(|m| m * m).collect();
        let (mut new_p, mut new_m, mut new_v) = (p.clone(), m.clone(), v.clone());
        let step =
            AdamWStep { lr: 0.01, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.1, step: 3, grad_scale: 0.5 };
        adamw(&mut new_p, &mut new_m, &mut new_v, &g, &step);
        for i in 0..p.len() {
            let [p, m, v, g] = [p[i], m[i], v[i], 0.5 * g[i]].map(f64::from);
            let (m, v) = (0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g);
            let root = (v / (1. - 0.99f64.powi(3))).sqrt();
            let expected = p * 0.999 - 0.01 / (1. - 0.9f64.powi(3)) * m / (root + 1e-6);
            assert!((f64::from(new_m[i]) - m).abs() < 1e-6 && (f64::from(new_v[i]) - v).abs() < 1e-6);
            assert!((f64::from(new_p[i]) - expected).abs() < 1e-5 * expected.abs().max(1.), "{i}");
        }
        for nesterov in [false, true] {
            let step = SgdStep { lr: 0.1, momentum: 0.9, nesterov, weight_decay: 0.01, grad_scale: 0.5 };
            let (mut with, mut buffer, mut without) = (p.clone(), m.clone(), p.clone());
            sgd_with_momentum(&mut with, &mut buffer, &g, &step);
            sgd(&mut without, &g, &step);
            for i in 0..p.len() {
                let g = 0.5 * g[i] + 0.01 * p[i];
                let b = 0.9 * m[i] + g;
                let direction = if nesterov { g + 0.9 * b } else { b };
                assert!((buffer[i] - b).abs() < 1e-5 && (with[i] - p[i] + 0.1 * direction).abs() < 1e-5);
                assert!((without[i] - p[i] + 0.1 * g).abs() < 1e-5);
            }
        }
    }
}
