//! The median.

/// The value in the middle, or the mean of the two there; none of no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.),
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn half_of_the_values_are_above_it() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.]), Some(3.));
        assert_eq!(median(&[5., 1., 3.]), Some(3.));
        assert_eq!(median(&[4., 1., 3., 2.]), Some(2.5));
    }
}
