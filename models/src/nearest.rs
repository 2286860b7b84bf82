//! The names that a mistyped one may have been meant to be.

/// The names among `known` that `name` may have been meant to be, best first.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    const SHOWN: usize = 3;
    const ALIKE: f64 = 0.85;
    let mut scored: Vec<(f64, &str)> =
        known.map(|k| (strsim::jaro_winkler(name, k), k)).filter(|&(score, _)| score > ALIKE).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(SHOWN).map(|(_, k)| k.into()).collect()
}
