//! How sure a comparison can be: Wilson's interval, McNemar's exact test, Welch's t-test, Holm's correction.

/// The 97.5 % quantile of the standard normal law: what makes an interval a 95 % one.
const Z: f64 = 1.959_963_984_540_054;

/// The 95 % score interval of a share of `successes` in `trials` (Wilson 1927), in [0, 1]; none without trials.
///
/// Unlike the share ± 2 deviations it stays inside [0, 1] and is right for shares near 0 and 1.
pub fn wilson(successes: usize, trials: usize) -> Option<[f64; 2]> {
    if trials == 0 || successes > trials {
        return None;
    }
    let (n, share) = (trials as f64, successes as f64 / trials as f64);
    let centre = share + Z * Z / (2. * n);
    let half = Z * (share * (1. - share) / n + Z * Z / (4. * n * n)).sqrt();
    let scale = 1. + Z * Z / n;
    // Rounding must not leave a bound a hair inside the certain ends.
    let low = if successes == 0 { 0. } else { (centre - half) / scale };
    let high = if successes == trials { 1. } else { (centre + half) / scale };
    Some([low, high])
}

/// The p-value of McNemar's exact test, two-sided: two models answered the same samples, `only_a` counts those that
/// only the first got right, `only_b` those that only the second did. If neither were better, each of those samples
/// would have fallen to either side like a coin; this is how often coins would fall at least as unevenly.
///
/// McNemar (1947), in the binomial form: `min(1, 2 P(X ≤ min(only_a, only_b)))` with `X ~ Bin(only_a + only_b, 1/2)`.
pub fn mcnemar(only_a: usize, only_b: usize) -> f64 {
    let (least, n) = (only_a.min(only_b), only_a + only_b);
    // The largest term, C(n, least) / 2ⁿ, by its logarithm; the others by their ratio to the next larger one.
    let ln_largest: f64 = (1..=least).map(|i| (((n - least + i) as f64) / i as f64).ln()).sum::<f64>()
        - n as f64 * std::f64::consts::LN_2;
    let (mut sum, mut term) = (0., 1.);
    for k in (0..=least).rev() {
        sum += term;
        term *= k as f64 / (n - k + 1) as f64;
        if term < sum * f64::EPSILON {
            break;
        }
    }
    (2. * (ln_largest + f64::ln(sum)).exp()).min(1.)
}

/// P-values corrected for being several (Holm 1979), in the order given: whoever calls those below 0.05 a difference is
/// wrong about any of them in at most one of twenty families of tests.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![0.; p_values.len()];
    let mut floor: f64 = 0.;
    for (rank, &index) in order.iter().enumerate() {
        floor = floor.max(p_values[index] * (p_values.len() - rank) as f64).min(1.);
        corrected[index] = floor;
    }
    corrected
}

/// The mean of values and, of two or more, their standard deviation with n − 1 in the denominator; none without values.
pub fn mean_and_deviation(values: &[f64]) -> Option<(f64, Option<f64>)> {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (!values.is_empty()).then(|| (mean, (values.len() > 1).then(|| (squares / (count - 1.)).sqrt())))
}

/// What Welch's t-test gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Welch {
    /// The difference of the means over its standard error.
    pub t: f64,
    /// The degrees of freedom by Welch and Satterthwaite.
    pub degrees: f64,
    /// The two-sided p-value.
    pub p: f64,
}

/// Welch's t-test (1947), two-sided: whether two samples have the same mean, where their deviations may differ. None where
/// a sample has less than two values, or neither has a deviation.
pub fn welch(a: &[f64], b: &[f64]) -> Option<Welch> {
    let ((mean_a, Some(deviation_a)), (mean_b, Some(deviation_b))) = (mean_and_deviation(a)?, mean_and_deviation(b)?)
    else {
        return None;
    };
    let (n_a, n_b) = (a.len() as f64, b.len() as f64);
    let (error_a, error_b) = (deviation_a * deviation_a / n_a, deviation_b * deviation_b / n_b);
    let error = error_a + error_b;
    // Equal values have a deviation that is nothing but rounding.
    if error.sqrt() <= 1e-12 * mean_a.abs().max(mean_b.abs()) {
        return None;
    }
    let t = (mean_a - mean_b) / error.sqrt();
    let degrees = error * error / (error_a * error_a / (n_a - 1.) + error_b * error_b / (n_b - 1.));
    (t.is_finite() && degrees.is_finite()).then(|| Welch { t, degrees, p: student(t, degrees) })
}

/// How often Student's t with so many degrees of freedom lies at least as far from 0 as `t`.
fn student(t: f64, degrees: f64) -> f64 {
    incomplete_beta(degrees / 2., 0.5, degrees / (degrees + t * t)).clamp(0., 1.)
}

/// The regularised incomplete beta function, by its continued fraction (Press et al., Numerical Recipes, 6.4).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0. || x >= 1. {
        return if x <= 0. { 0. } else { 1. };
    }
    let ln_front = ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1. - x).ln();
    // The fraction converges quickly on this side of the mean, and the function is symmetric.
    if x < (a + 1.) / (a + b + 2.) {
        ln_front.exp() * beta_fraction(a, b, x) / a
    } else {
        1. - ln_front.exp() * beta_fraction(b, a, 1. - x) / b
    }
}

/// The continued fraction of the incomplete beta function, by Lentz's method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut d = 1. / away_from_zero(1. - (a + b) * x / (a + 1.));
    let (mut c, mut fraction) = (1., d);
    for m in (1..10_000).map(f64::from) {
        let even = m * (b - m) * x / ((a + 2. * m - 1.) * (a + 2. * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2. * m) * (a + 2. * m + 1.));
        for term in [even, odd] {
            d = 1. / away_from_zero(1. + term * d);
            c = away_from_zero(1. + term / c);
            fraction *= c * d;
        }
        if (c * d - 1.).abs() < 1e-15 {
            break;
        }
    }
    fraction
}

/// The logarithm of the gamma function for a positive number (Lanczos 1964, g = 7, nine terms).
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.;
    let sum = TERMS[0] + (1..9).map(|i| TERMS[i] / (x + i as f64)).sum::<f64>();
    let base = x + 7.5;
    0.5 * (2. * std::f64::consts::PI).ln() + (x + 0.5) * base.ln() - base + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` and `b` agree to nine digits.
    fn assert_near(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-9 * b.abs(), "{a} is not {b}");
    }

    // References: statsmodels 0.15.0, `proportion_confint(k, n, method="wilson")`.
    #[test]
    fn wilson_equals_statsmodels() {
        for (successes, trials, low, high) in [
            (954, 1000, 0.939187796058381, 0.965337507236735),
            (741, 1000, 0.712961737400788, 0.767193765009174),
            (9812, 10000, 0.978347338307702, 0.983683101660359),
            (3, 7, 0.15821985525147, 0.749541635472343),
            (0, 10, 0., 0.277532799862889),
            (10, 10, 0.722467200137111, 1.),
            (1, 1, 0.206549314377237, 1.),
        ] {
            let [l, h] = wilson(successes, trials).unwrap();
            assert_near(l, low);
            assert_near(h, high);
        }
    }

    #[test]
    fn wilson_says_nothing_without_trials_or_of_impossible_counts() {
        assert_eq!(wilson(0, 0), None);
        assert_eq!(wilson(4, 3), None);
    }

    // References: scipy 1.17.1, `binomtest(b, b + c, 0.5).pvalue`; statsmodels' `mcnemar(exact=True)` says the same.
    #[test]
    fn mcnemar_equals_scipy() {
        for (only_a, only_b, p) in [
            (0, 1, 1.),
            (5, 0, 0.0625),
            (2, 9, 0.0654296875),
            (10, 10, 1.),
            (11, 10, 1.),
            (121, 59, 4.43444926375516e-06),
            (220, 7, 5.37423184857929e-56),
            (520, 480, 0.217448293204141),
            (5200, 4800, 6.59351559867234e-05),
            (40000, 41000, 0.000447821823137564),
        ] {
            assert_near(mcnemar(only_a, only_b), p);
            assert_near(mcnemar(only_b, only_a), p);
        }
    }

    #[test]
    fn mcnemar_is_1_where_the_models_never_differ_and_0_beyond_what_a_float_can_hold() {
        assert_eq!(mcnemar(0, 0), 1.);
        assert_eq!(mcnemar(0, 2000), 0.);
    }

    // References: statsmodels 0.15.0, `multipletests(p, method="holm")`.
    #[test]
    fn holm_equals_statsmodels() {
        for (given, expected) in [
            (vec![0.01, 0.04, 0.03, 0.005, 0.9], vec![0.04, 0.09, 0.09, 0.025, 0.9]),
            (vec![0.02, 0.02, 0.6], vec![0.06, 0.06, 0.6]),
            (vec![], vec![]),
        ] {
            let corrected = holm(&given);
            assert_eq!(corrected.len(), expected.len());
            for (a, b) in corrected.iter().zip(expected) {
                assert_near(*a, b);
            }
        }
    }

    // References: scipy 1.17.1, `ttest_ind(a, b, equal_var=False)`.
    #[test]
    fn welch_equals_scipy() {
        for (a, b, t, degrees, p) in [
            (
                &[0.954, 0.957, 0.949][..],
                &[0.741, 0.762, 0.733][..],
                23.222875340021307,
                2.289697581973514,
                0.0009091690873577927,
            ),
            (&[0.9, 0.91], &[0.9, 0.92], -0.4472135954999579, 1.4705882352941175, 0.7117227912336697),
            (&[1., 2., 3., 4., 5.], &[2., 2., 2.], std::f64::consts::SQRT_2, 4., 0.2301996410804989),
            (&[0.1, 0.2, 0.3, 0.4], &[0.15, 0.25, 0.36], -0.037635496474749314, 4.903187727176592, 0.9714623984341961),
            (&[0.5, 0.5, 0.5], &[0.4, 0.41], 19., 1., 0.033475416713148076),
        ] {
            let found = welch(a, b).unwrap();
            assert_near(found.t, t);
            assert_near(found.degrees, degrees);
            assert_near(found.p, p);
            assert_near(welch(b, a).unwrap().t, -t);
        }
    }

    #[test]
    fn welch_says_nothing_of_single_values_or_where_none_deviates() {
        assert_eq!(welch(&[0.5], &[0.4, 0.41]), None);
        assert_eq!(welch(&[], &[0.4, 0.41]), None);
        assert_eq!(welch(&[0.1, 0.1, 0.1], &[0.2, 0.2]), None);
    }

    // References: scipy 1.17.1, `2 * t.sf(abs(t), degrees)`.
    #[test]
    fn students_t_equals_scipy() {
        for (t, degrees, p) in [
            (0., 3., 1.),
            (1., 1., 0.5),
            (2.5, 2.3, 0.11333288937919846),
            (12., 4., 0.000276428548502973),
            (-0.3, 100., 0.7647998803003035),
            (40., 2., 0.0006244146721847406),
            (1e-3, 7.5, 0.9992281986746556),
        ] {
            assert_near(student(t, degrees), p);
        }
    }

    #[test]
    fn a_deviation_needs_two_values() {
        assert_eq!(mean_and_deviation(&[]), None);
        assert_eq!(mean_and_deviation(&[3.]), Some((3., None)));
        let (mean, deviation) = mean_and_deviation(&[2., 4., 4., 4., 5., 5., 7., 9.]).unwrap();
        assert_near(mean, 5.);
        assert_near(deviation.unwrap(), (32f64 / 7.).sqrt());
    }
}
