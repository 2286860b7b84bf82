//! Numbers as people read them.

/// A share in [0, 1] as percent, with as many decimals as `samples` samples can tell apart.
pub(super) fn percent(share: f64, samples: usize) -> String {
    format!("{:.*} %", decimals(samples), 100. * share)
}

/// A mean share in percent with its standard deviation, where there is one: `95.4 ± 0.3 %`.
pub(super) fn spread(mean: f64, deviation: Option<f64>, samples: usize) -> String {
    let decimals = decimals(samples);
    match deviation {
        Some(deviation) => format!("{:.decimals$} ± {:.decimals$} %", 100. * mean, 100. * deviation),
        None => percent(mean, samples),
    }
}

/// A mean of measured values with its standard deviation, where there is one: `0.1234 ± 0.0021`.
pub(super) fn value_spread(mean: f64, deviation: Option<f64>) -> String {
    let text = value(mean);
    match deviation {
        Some(deviation) if !text.contains('e') => {
            let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            format!("{text} ± {deviation:.decimals$}")
        }
        Some(deviation) => format!("{text} ± {}", value(deviation)),
        None => text,
    }
}

/// A 95 % interval of shares in percent, without the sign: `93.9 to 96.5`.
pub(super) fn interval([low, high]: [f64; 2], samples: usize) -> String {
    let decimals = decimals(samples);
    format!("{:.decimals$} to {:.decimals$}", 100. * low, 100. * high)
}

/// The distance between two shares in percentage points, without the sign.
pub(super) fn points(difference: f64, samples: usize) -> String {
    format!("{:.*}", decimals(samples), 100. * difference.abs())
}

fn decimals(samples: usize) -> usize {
    if samples >= 5000 { 2 } else { 1 }
}

/// A p-value: `p < 0.001`, `p = 0.034`, `p = 0.21`.
pub(super) fn p_value(p: f64) -> String {
    match p {
        p if p < 0.001 => "p < 0.001".into(),
        p if p < 0.1 => format!("p = {p:.3}"),
        p => format!("p = {p:.2}"),
    }
}

/// A count with its digits in groups of three: `22,050,664`.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A large count in short: `22.1 M`.
pub(super) fn short_count(number: usize) -> String {
    match number as f64 {
        n if n >= 999.95e6 => format!("{:.1} G", n / 1e9),
        n if n >= 999.95e3 => format!("{:.1} M", n / 1e6),
        n if n >= 1e4 => format!("{:.1} k", n / 1e3),
        _ => count(number),
    }
}

/// A time: `8.4 s`, `1 min 52 s`, `2 h 05 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round();
    match seconds {
        s if !s.is_finite() || s < 0. => "–".into(),
        s if s < 9.95 => format!("{s:.1} s"),
        _ if whole < 60. => format!("{whole:.0} s"),
        _ if whole < 3600. => format!("{:.0} min {:02.0} s", (whole / 60.).floor(), whole % 60.),
        _ => format!("{:.0} h {:02.0} min", (whole / 3600.).floor(), (whole % 3600. / 60.).floor()),
    }
}

/// A rate, with three digits: `4.83`, `75.3`, `1,240`.
pub fn rate(value: f64) -> String {
    match value {
        v if !v.is_finite() || v < 0. => "–".into(),
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => count(v.round() as usize),
    }
}

/// An amount of memory: `812 MB`, `2.17 GB` (powers of ten).
pub(super) fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        b if b >= 999.5e6 => format!("{:.2} GB", b / 1e9),
        b if b >= 999.5e3 => format!("{:.0} MB", b / 1e6),
        b => format!("{:.0} kB", b / 1e3),
    }
}

/// A measured value with four digits: `2.301`, `0.004217`, `1.2e-7`.
pub(super) fn value(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "not a number".into(),
        0. => "0".into(),
        v if !(1e-4..1e6).contains(&v) => format!("{value:.3e}"),
        v => format!("{value:.*}", (3. - v.log10().floor()).max(0.) as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(percent(0.954, 1000), "95.4 %");
        assert_eq!(percent(0.9812, 10_000), "98.12 %");
        assert_eq!(interval([0.0391, 1.], 20), "3.9 to 100.0");
        assert_eq!(points(-0.213, 1000), "21.3");
        assert_eq!(
            (p_value(2e-9), p_value(0.034), p_value(0.21)),
            ("p < 0.001".into(), "p = 0.034".into(), "p = 0.21".into())
        );
        assert_eq!((count(7), count(1000), count(22_050_664)), ("7".into(), "1,000".into(), "22,050,664".into()));
        assert_eq!((short_count(22_050_664), short_count(9_999)), ("22.1 M".into(), "9,999".into()));
        assert_eq!(
            (duration(8.44), duration(59.6), duration(112.), duration(7504.)),
            ("8.4 s".into(), "1 min 00 s".into(), "1 min 52 s".into(), "2 h 05 min".into())
        );
        assert_eq!((rate(4.834), rate(75.31), rate(1240.4)), ("4.83".into(), "75.3".into(), "1,240".into()));
        assert_eq!((bytes(812_400_000), bytes(2_170_000_000)), ("812 MB".into(), "2.17 GB".into()));
        assert_eq!(
            (value(2.3014), value(0.0042171), value(12345.6), value(0.)),
            ("2.301".into(), "0.004217".into(), "12346".into(), "0".into())
        );
    }

    #[test]
    fn a_deviation_has_the_digits_of_its_mean() {
        assert_eq!(spread(0.954, Some(0.0031), 1000), "95.4 ± 0.3 %");
        assert_eq!(spread(0.954, None, 10_000), "95.40 %");
        assert_eq!(value_spread(0.12345, Some(0.0021)), "0.1235 ± 0.0021");
        assert_eq!(value_spread(2.3, None), "2.300");
    }

    #[test]
    fn what_is_no_number_is_told_as_such() {
        assert_eq!((duration(f64::NAN), rate(f64::INFINITY)), ("–".into(), "–".into()));
        assert_eq!((value(f64::NAN), value(f64::NEG_INFINITY)), ("not a number".into(), "not a number".into()));
    }
}
