//! How sure a comparison can be: Wilson's interval, McNemar's exact test, Holm's correction.

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
}
