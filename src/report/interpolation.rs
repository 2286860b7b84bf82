//! Accuracy between two sets of weights, over α.

use super::chart::{Axis, Chart, Line, Mark, Point, Style, WIDE};
use super::numbers;
use crate::train::interpolate::{AtAlpha, Interpolated};

/// The picture of what [`Interpolate`](crate::train::interpolate::Interpolate) measured, with a ring around the chosen model.
pub fn interpolation(title: &str, measured: &Interpolated) -> String {
    let chosen = measured.chosen.map(|(at, _)| at);
    let other = measured.data.1.as_deref().unwrap_or_default();
    type Accuracy = fn(&AtAlpha) -> Option<f64>;
    let all: [(String, Accuracy); 3] = [
        (format!("test part of {}", measured.data.0), |point| Some(point.test_accuracy)),
        ("validation part".into(), |point| point.val_accuracy),
        (other.to_string(), |point| point.other_accuracy),
    ];
    let (mut names, mut lines) = (Vec::new(), Vec::new());
    for (name, accuracy) in &all {
        let values: Option<Vec<f64>> = measured.points.iter().map(accuracy).collect();
        let Some(values) = values.filter(|values| !values.is_empty()) else { continue };
        let points = measured.points.iter().zip(values).enumerate().map(|(at, (point, value))| {
            let told = format!("{name}, α {}: {}", round(point.alpha), numbers::percent(value, 0));
            let mark = if chosen == Some(at) { Mark::Ring(told) } else { Mark::Shape(told) };
            Point { x: point.alpha, y: 100. * value, bar: None, mark }
        });
        lines.push(Line { key: names.len(), style: Style::Solid, points: points.collect() });
        names.push(name.as_str());
    }
    let values =
        |of: fn(&Point) -> f64| lines.iter().flat_map(move |line| line.points.iter().map(of)).collect::<Vec<_>>();
    let x = Axis::over("α: 0 is the base, 1 the fine-tuned model", false, values(|point| point.x));
    let y = Axis::percent("accuracy in percent", values(|point| point.y));
    let described: Vec<String> = lines
        .iter()
        .zip(&names)
        .filter_map(|(line, name)| Some((name, line.points.first()?, line.points.last()?)))
        .map(|(name, first, last)| format!("{name}: from {:.2} to {:.2} percent", first.y, last.y))
        .collect();
    let chart = Chart { frame: WIDE, title: title.into(), description: described.join("; ") + ".", x, y, lines };
    chart.standalone(&names, &[])
}

fn round(alpha: f64) -> String {
    format!("{alpha:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}
