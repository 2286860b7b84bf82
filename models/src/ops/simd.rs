//! Plain loops and arithmetic that the compiler turns into vector code when they are inlined into [`vectorised`].

/// Runs `f` compiled for the widest vectors that this CPU has (AVX-512, AVX2, NEON, or none), found out at run time. Only what
/// is inlined gets them: mark the closure, and every closure called inside, `#[inline(always)]`.
#[inline(always)]
pub(super) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Sums are kept in so many lanes on every CPU, so that all get the same digits.
const LANES: usize = 32;

/// `Σ f(a)`.
#[inline(always)]
pub(super) fn sum(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
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
pub(super) fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
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
pub(super) fn max(a: &[f32]) -> f32 {
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
    lanes.into_iter().fold(f32::NEG_INFINITY, |x, y| if x.is_nan() { x } else { larger(x, y) })
}

/// `eˣ` to within two units in the last place; results below the normal numbers are 0.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
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
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    // Cephes' polynomial for eʳ, |r| ≤ ln 2 / 2.
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = (p * r) * r + r + 1.;
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
pub(super) fn sigmoid(x: f32) -> f32 {
    1. / (1. + exp(-x))
}

/// `tanh(x)`, to within a few units in the last place also near 0.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    // Cephes: a polynomial where 1 - 2 / (e²ˣ + 1) would cancel.
    let z = x * x;
    let p = -5.704_988_7e-3;
    let p = p * z + 2.063_909e-2;
    let p = p * z - 5.373_971_6e-2;
    let p = p * z + 1.333_144_3e-1;
    let p = p * z - 3.333_328e-1;
    let small = p * z * x + x;
    let large = 1. - 2. / (exp(2. * x) + 1.);
    if x.abs() < 0.625 { small } else { large }
}

/// The standard normal law at `x`: its cumulative distribution Φ(x), to a relative error of a few 1e-7 also far out on the
/// left, and its density φ(x).
#[inline(always)]
pub(super) fn normal(x: f32) -> (f32, f32) {
    // erfc(z) = t · exp(-z² + P(t)), t = 1 / (1 + z / 2): Press et al., "Numerical Recipes", 6.2; z = |x| / sqrt 2.
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1. / (1. + 0.5 * z);
    let p = 0.170_872_77;
    let p = p * t - 0.822_152_23;
    let p = p * t + 1.488_515_9;
    let p = p * t - 1.135_204;
    let p = p * t + 0.278_868_07;
    let p = p * t - 0.186_288_06;
    let p = p * t + 0.096_784_18;
    let p = p * t + 0.374_091_96;
    let p = p * t + 1.000_023_7;
    let p = p * t - 1.265_512_2;
    let gauss = exp(-0.5 * x * x);
    let tail = 0.5 * t * gauss * exp(p);
    let cumulative = if x > 0. { 1. - tail } else { tail };
    (cumulative, gauss * 0.398_942_3)
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
        let cumulative = |x: f64| 0.5 * libm_erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
        assert!(worst(-5., 9., |x| normal(x).0, cumulative) < 2e-6);
        assert!(worst(-2., 9., |x| normal(x).0, cumulative) < 6e-7);
    }

    /// `erfc` in float64 by Candle's `erf` where that does not cancel, and by a continued fraction where it does.
    fn libm_erfc(z: f64) -> f64 {
        if z < 1.5 {
            return 1. - candle_core::cpu::erf::erf_f64(z);
        }
        let fraction = (1..200).rev().fold(z, |f, k| z + f64::from(k) / 2. / f);
        (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt())
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
        assert!(tanh(f32::NAN).is_nan() && normal(f32::NAN).0.is_nan());
        assert_eq!((normal(-40.).0, normal(40.).0), (0., 1.));
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
