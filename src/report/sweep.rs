//! Accuracy at the end of every experiment: over the number that was swept, or a row for each.

use super::chart::{Axis, Chart, Line, Mark, Point, Style, WIDE};
use super::comparison::Comparison;
use super::dots::{Dot, Dots, Row};
use super::group::{Group, Spread, Sweep, sweep};
use super::numbers;

/// What the two kinds of points are; each has a colour, a shape and a line of its own.
pub(super) const KEYS: [&str; 2] = ["test", "train"];

/// How lines through them are drawn.
pub(super) const STYLES: [Style; 2] = [Style::Solid, Style::Dashed];

/// More rows than this are no picture any more.
const MOST_ROWS: usize = 100;

/// The picture of the results.
pub(super) enum Results {
    /// Over the swept number.
    Line(Chart),
    /// A row a group.
    Rows(Dots),
}

/// The picture of what every group reached; none for so few that a sentence says it.
pub(super) fn results(comparison: &Comparison) -> Option<Results> {
    let groups = &comparison.groups;
    let enough = groups.len() >= if comparison.is_repeated() { 2 } else { 3 };
    if !enough || groups.iter().all(|group| group.test_accuracy.is_none()) {
        return None;
    }
    match sweep(groups) {
        Sweep::Numbers { setting, values } => Some(Results::Line(line(comparison, &setting, &values))),
        Sweep::Other => (groups.len() <= MOST_ROWS).then(|| Results::Rows(rows(comparison))),
    }
}

/// What the bars in it are.
pub(super) fn bars(comparison: &Comparison) -> &'static str {
    let several = |group: &Group| group.test_accuracy.is_some_and(|spread| spread.count > 1);
    match (comparison.groups.iter().any(several), comparison.groups.iter().all(several)) {
        (_, true) => "Bars reach one standard deviation over the seeds to both sides of the mean.",
        (true, false) => {
            "Bars reach one standard deviation over the seeds to both sides of the mean; where there is one seed, they are the \
             95 % interval (Wilson) that the number of test images gives."
        }
        (false, false) => {
            "Bars are the 95 % interval (Wilson) that the number of test images gives. Seeds were not varied: how far another \
             seed would lie from this one is not known."
        }
    }
}

/// The swept setting as people call it.
pub(super) fn label(setting: &str) -> &str {
    setting.strip_prefix("set.").unwrap_or(setting)
}

/// Values that lie apart by ratios rather than by differences belong on a logarithmic axis.
fn by_ratio(values: &[f64]) -> bool {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    if sorted.len() < 3 || sorted[0] <= 0. {
        return false;
    }
    let unevenness = |gaps: Vec<f64>| {
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        gaps.iter().map(|gap| (gap / mean - 1.).powi(2)).sum::<f64>()
    };
    let gaps = |distance: fn(f64, f64) -> f64| sorted.windows(2).map(|pair| distance(pair[0], pair[1])).collect();
    unevenness(gaps(|a, b| (b / a).ln())) < unevenness(gaps(|a, b| b - a))
}

/// Where the bar of a group's test accuracy goes, in percent.
fn bar(comparison: &Comparison, group: &Group) -> Option<[f64; 2]> {
    let spread = group.test_accuracy?;
    match spread.deviation {
        Some(_) => deviation(spread),
        None => {
            let interval = group.runs.iter().find_map(|&run| comparison.runs[run].interval)?;
            Some(interval.map(|share| 100. * share))
        }
    }
}

fn deviation(spread: Spread) -> Option<[f64; 2]> {
    let deviation = spread.deviation?;
    Some([100. * (spread.mean - deviation), 100. * (spread.mean + deviation)])
}

/// The two points of a group: test and training accuracy with their bars, in percent.
fn points(comparison: &Comparison, index: usize) -> [Option<Dot>; 2] {
    let group = &comparison.groups[index];
    let dot = |spread: Option<Spread>, bar: Option<[f64; 2]>, what: &str| {
        let spread = spread?;
        let share = numbers::spread(spread.mean, spread.deviation, comparison.samples(index));
        let seeds = if spread.count > 1 { format!(", mean of {} seeds", spread.count) } else { String::new() };
        Some(Dot { at: 100. * spread.mean, bar, tip: format!("{}: {what} accuracy {share}{seeds}", group.name) })
    };
    [
        dot(group.test_accuracy, bar(comparison, group), "test"),
        dot(group.train_accuracy, group.train_accuracy.and_then(deviation), "training"),
    ]
}

fn line(comparison: &Comparison, setting: &str, values: &[f64]) -> Chart {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let lines: Vec<Line> = (0..KEYS.len())
        .rev() // test results above those of training
        .map(|key| {
            let point = |&group: &usize| {
                let dot = points(comparison, group)[key].take()?;
                Some(Point { x: values[group], y: dot.at, bar: dot.bar, mark: Mark::Shape(dot.tip) })
            };
            Line { key, style: STYLES[key], points: order.iter().filter_map(point).collect() }
        })
        .collect();
    let log = by_ratio(values);
    let name = label(setting);
    let mut x =
        Axis::over(&if log { format!("{name} (logarithmic)") } else { name.into() }, log, values.iter().copied());
    x.at = ticks(&x, values);
    let reached =
        lines.iter().flat_map(|line| &line.points).flat_map(|point| [Some([point.y; 2]), point.bar]).flatten();
    let y = Axis::percent("accuracy in percent", reached.flatten());
    let described: Vec<String> = order
        .iter()
        .filter_map(|&i| {
            Some(format!("{} {}: {}", name, values[i], numbers::percent(comparison.groups[i].test_accuracy?.mean, 0)))
        })
        .collect();
    Chart {
        frame: WIDE,
        title: format!("Accuracy over {name}"),
        description: format!("Test accuracy, {}.", described.join("; ")),
        x,
        y,
        lines,
    }
}

/// The swept values themselves as ticks, where they are few and lie apart.
fn ticks(axis: &Axis, values: &[f64]) -> Option<Vec<(f64, String)>> {
    let mut at: Vec<(f64, String)> = values
        .iter()
        .map(|value| {
            (
                *value,
                if *value != 0. && !(1e-4..1e6).contains(&value.abs()) {
                    format!("{value:e}")
                } else {
                    value.to_string()
                },
            )
        })
        .collect();
    at.sort_by(|a, b| a.0.total_cmp(&b.0));
    let place = |tick: &(f64, String)| axis.place(tick.0).unwrap_or(0.);
    // A character takes about a sixtieth of the axis.
    let apart = |pair: &[(f64, String)]| {
        let room = (pair[0].1.len() + pair[1].1.len()) as f64 / 2. + 1.;
        place(&pair[1]) - place(&pair[0]) > room / 60.
    };
    at.windows(2).all(apart).then_some(at)
}

fn rows(comparison: &Comparison) -> Dots {
    let rows: Vec<Row> = (0..comparison.groups.len())
        .map(|group| Row { name: comparison.groups[group].name.clone(), dots: points(comparison, group) })
        .collect();
    let reached =
        rows.iter().flat_map(|row| row.dots.iter().flatten()).flat_map(|dot| [Some([dot.at; 2]), dot.bar]).flatten();
    Dots { title: "Accuracy at the end".into(), x: Axis::percent("accuracy in percent", reached.flatten()), rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doublings_lie_apart_by_ratio_and_even_steps_do_not() {
        for values in [&[16., 32., 64., 128.][..], &[128., 16., 32., 64.], &[2., 7., 14., 28.], &[1e-4, 1e-3, 1e-2]] {
            assert!(by_ratio(values), "{values:?}");
        }
        for values in [&[2., 4., 6., 8.][..], &[0., 0.1, 0.5], &[1., 10.], &[-1., 1., 10.], &[3., 3.5, 4.]] {
            assert!(!by_ratio(values), "{values:?}");
        }
    }

    #[test]
    fn swept_values_are_ticks_where_they_do_not_touch() {
        let labels = |values: &[f64], log: bool| {
            let ticks = ticks(&Axis::over("x", log, values.iter().copied()), values)?;
            Some(ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>())
        };
        assert_eq!(labels(&[64., 16., 128.], true), Some(["16", "64", "128"].map(String::from).to_vec()));
        assert_eq!(labels(&[0.001, 1e-5], true), Some(["1e-5", "0.001"].map(String::from).to_vec()));
        assert_eq!(labels(&[1., 2., 1000.], false), None);
    }
}
