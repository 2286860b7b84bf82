//! Plain loops and arithmetic that the compiler turns into vector code when they are inlined into [`vectorised`].
//!
//! Polynomials are written with `mul_add`, one instruction on every CPU with AVX2 or NEON, for which the chain from one term to
//! the next takes half of the time; it rounds alike on those that have no such instruction.

/// Runs `f` compiled for the widest vectors that this CPU has (AVX-512, AVX2, NEON, or none), found out at run time. Only what
/// is inlined gets them: mark the closure, and every closure called inside, `#[inline(always)]`.
#[inline(always)]
pub fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Sums are kept in so many lanes on every CPU, so that all get the same digits.
const LANES: usize = 32;

/// `Σ f(a)`.
#[inline(always)]
pub fn sum(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let chunks = a.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &a) in lanes.iter_mut().zip(chunk) {
            *lane += f(a);
        }
    }
    for (lane, &a) in lanes.iter_mut().zip(rest) {
        *lane += f(a);
    }
    total(lanes)
}

/// `Σ f(a, b)` over two slices of one length.
#[inline(always)]
pub fn sum2<A: Copy, B: Copy>(a: &[A], b: &[B], f: impl Fn(A, B) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let (a_rest, b_rest) = (a_chunks.remainder(), b_chunks.remainder());
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f(a, b);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane += f(a, b);
    }
    total(lanes)
}

#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest value; NaN if there is one, -∞ if there is none.
#[inline(always)]
pub fn max(a: &[f32]) -> f32 {
    let larger = |x: f32, y: f32| if y > x || y.is_nan() { y } else { x };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = a.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &a) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, a);
        }
    }
    for (lane, &a) in lanes.iter_mut().zip(rest) {
        *lane = larger(*lane, a);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = larger(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// `eˣ` to within two units in the last place; results below the normal numbers are 0.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LARGEST: f32 = 88.722_84;
    const SMALLEST: f32 = -87.336_54;
    // Adding it and taking it away rounds to the nearest integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.;
    // ln 2 in two parts, so that n · ln 2 is exact enough.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons with NaN are false: it goes through.
    let clamped = if x > LARGEST { LARGEST } else { x };
    let clamped = if clamped < SMALLEST { SMALLEST } else { clamped };
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, clamped));
    // Cephes' polynomial for eʳ, |r| ≤ ln 2 / 2.
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = (p * r).mul_add(r, r) + 1.;
    // 2ⁿ in two factors: n can be 128, which one exponent cannot hold.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    let y = p * power(half) * power(n.wrapping_sub(half));
    let y = if x > LARGEST { f32::INFINITY } else { y };
    if x < SMALLEST { 0. } else { y }
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1. / (1. + exp(-x))
}

/// `tanh(x)`, to within a few units in the last place also near 0.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    // Cephes: a polynomial where 1 - 2 / (e²ˣ + 1) would cancel.
    let z = x * x;
    let p = -5.704_988_7e-3_f32;
    let p = p.mul_add(z, 2.063_909e-2);
    let p = p.mul_add(z, -5.373_971_6e-2);
    let p = p.mul_add(z, 1.333_144_3e-1);
    let p = p.mul_add(z, -3.333_328e-1);
    let small = (p * z).mul_add(x, x);
    let large = 1. - 2. / (exp(2. * x) + 1.);
    if x.abs() < 0.625 { small } else { large }
}

/// The standard normal law's cumulative distribution Φ(x), to within 2e-7.
#[inline(always)]
pub fn cumulative_normal(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// The standard normal law's density φ(x).
#[inline(always)]
pub fn normal_density(x: f32) -> f32 {
    exp(-0.5 * x * x) * 0.398_942_3
}

/// The error function, to within 2e-7: Eigen's quotient of polynomials.
#[inline(always)]
fn erf(x: f32) -> f32 {
    // Beyond, it is 1 in float32. Comparisons with NaN are false: it goes through.
    let x = if x > 4. { 4. } else { x };
    let x = if x < -4. { -4. } else { x };
    let z = x * x;
    let p = -2.726_142_3e-10_f32;
    let p = p.mul_add(z, 2.770_681_4e-8);
    let p = p.mul_add(z, -2.101_024e-6);
    let p = p.mul_add(z, -5.692_506_4e-5);
    let p = p.mul_add(z, -7.349_906_3e-4);
    let p = p.mul_add(z, -2.954_6e-3);
    let p = p.mul_add(z, -1.609_603_3e-2);
    let q = -1.456_607_2e-5_f32;
    let q = q.mul_add(z, -2.133_740_5e-4);
    let q = q.mul_add(z, -1.682_827e-3);
    let q = q.mul_add(z, -7.373_329e-3);
    let q = q.mul_add(z, -1.426_473_9e-2);
    x * p / q
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of `f` against `exact` between `from` and `to`, relative to the exact value.
    fn worst(from: f32, to: f32, f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        let steps = 100_000;
        (0..=steps)
            .map(|i| from + (to - from) * i as f32 / steps as f32)
            .map(|x| ((f64::from(f(x)) - exact(f64::from(x))) / exact(f64::from(x)).abs().max(1e-37)).abs())
            .fold(0., f64::max)
    }

    #[test]
    fn functions_are_exact_to_a_few_units_in_the_last_place() {
        assert!(worst(-87.3, 88.7, exp, f64::exp) < 2.5e-7);
        assert!(worst(-9., 9., tanh, f64::tanh) < 3e-7);
        assert!(worst(-80., 80., sigmoid, |x| 1. / (1. + (-x).exp())) < 4e-7);
        let density = |x: f64| (-0.5 * x * x).exp() / (2. * std::f64::consts::PI).sqrt();
        assert!(worst(-9., 9., normal_density, density) < 4e-6);
    }

    #[test]
    fn the_normal_law_is_exact_to_a_few_units_in_the_last_place_of_one() {
        for i in -10_000..=10_000 {
            let x = i as f32 / 1000.;
            let exact = 0.5 + 0.5 * libm::erf(f64::from(x) * std::f64::consts::FRAC_1_SQRT_2);
            let error = (f64::from(cumulative_normal(x)) - exact).abs();
            assert!(error < 2e-7, "{x}: {error:e}");
        }
    }

    #[test]
    fn the_ends_of_the_numbers_are_what_they_should_be() {
        assert_eq!(exp(f32::NEG_INFINITY), 0.);
        assert_eq!(exp(-1000.), 0.);
        assert_eq!(exp(0.), 1.);
        assert_eq!(exp(89.), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!((tanh(-40.), tanh(40.), tanh(1e-20)), (-1., 1., 1e-20));
        assert!(tanh(f32::NAN).is_nan() && cumulative_normal(f32::NAN).is_nan());
        assert!(cumulative_normal(-40.).abs() < 2e-7 && (cumulative_normal(40.) - 1.).abs() < 2e-7);
    }

    #[test]
    fn reductions_take_every_value_of_any_length() {
        for len in [0, 1, 31, 32, 33, 100] {
            let a: Vec<f32> = (0..len).map(|i| i as f32).collect();
            assert_eq!(sum(&a, |x| x), (0..len).sum::<i32>() as f32);
            assert_eq!(sum2(&a, &a, |x, y| x - y + 1.), len as f32);
            assert_eq!(max(&a), a.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
        assert!(max(&[1., f32::NAN, 2.]).is_nan());
    }
}
