//! The two pictures of every comparison: loss over steps and accuracy over epochs, train and test together.

use super::chart::{Axis, Chart, Line, Mark, Point, Style, WIDE};
use super::numbers;
use super::run::{Epoch, Run, Step};

/// Beyond this many epochs a run's points are drawn without markers.
const MARKED_EPOCHS: usize = 24;

/// Beyond this many runs only the test results have markers, and only the smoothed training loss is drawn.
pub(super) const FEW: usize = 4;

/// More columns than this cannot be told apart in a chart.
const COLUMNS: usize = 360;

/// Losses that fall by more than this factor are drawn on a logarithmic axis.
const LOG_FACTOR: f64 = 20.;

/// The steps that a smoothed training loss averages over: a thirtieth of the run.
pub(super) const SMOOTHING: usize = 30;

/// How the lines are drawn, in the order of a legend.
pub(super) fn styles(runs: &[Run]) -> Vec<(Style, &'static str)> {
    let mut styles = vec![(Style::Solid, "test"), (Style::Dashed, "train")];
    if runs.iter().flat_map(|run| &run.epochs).any(|epoch| epoch.val_accuracy.is_some()) {
        styles.push((Style::Dotted, "validation"));
    }
    styles
}

/// Loss over optimiser steps.
pub(super) fn loss(runs: &[Run]) -> Chart {
    let mut lines: Vec<Line> = vec![];
    let mut raw = vec![];
    for (key, run) in runs.iter().enumerate() {
        let steps: Vec<[f64; 2]> = run.steps.iter().map(|s| [s.step as f64, s.loss.unwrap_or(f64::NAN)]).collect();
        if runs.len() <= FEW {
            raw.extend(steps.iter().map(|[_, loss]| *loss).filter(|loss| loss.is_finite()));
            lines.push(Line { key, style: Style::Faint, points: unmarked(envelope(&steps)) });
        }
        lines.push(Line {
            key,
            style: Style::Dashed,
            points: unmarked(thinned(&smoothed(&run.steps, |step| step.loss))),
        });
    }
    for (key, run) in runs.iter().enumerate() {
        let points = |value: fn(&Epoch) -> Option<f64>, what: &str| -> Vec<Point> {
            let show = |epoch: &Epoch, loss| {
                format!("{}, epoch {}: {what} loss {}", run.name, epoch.epoch + 1, numbers::value(loss))
            };
            run.epochs.iter().map(|epoch| point(run, epoch, end_of(epoch, &run.steps), value(epoch), show)).collect()
        };
        lines.push(Line { key, style: Style::Dotted, points: points(|epoch| epoch.val_loss, "validation") });
        lines.push(Line { key, style: Style::Solid, points: points(|epoch| epoch.test_loss, "test") });
    }
    tidy(&mut lines, runs.len());

    // What was measured step by step may leave the frame; its smoothed course and what was evaluated may not.
    let mut main: Vec<f64> = lines
        .iter()
        .filter(|line| line.style != Style::Faint)
        .flat_map(|line| line.points.iter().map(|p| p.y))
        .collect();
    main.retain(|loss| loss.is_finite());
    let (low, high) = main.iter().fold((f64::INFINITY, 0f64), |(low, high), loss| (low.min(*loss), high.max(*loss)));
    let log = low > 0. && high > LOG_FACTOR * low;
    raw.sort_by(f64::total_cmp);
    let quantile = |share: f64| raw.get((share * raw.len().saturating_sub(1) as f64) as usize).copied();
    let mut y = Axis::over(
        if log { "loss (logarithmic)" } else { "loss" },
        log,
        main.into_iter().chain(quantile(0.99)).chain(quantile(0.02)),
    );
    if !log && low >= 0. {
        y.range[0] = y.range[0].max(0.);
    }
    let mut x = Axis::over("optimiser steps", false, lines.iter().flat_map(|line| line.points.iter().map(|p| p.x)));
    x.whole = true;
    x.range[0] = x.range[0].max(0.);
    let course = |run: &Run| {
        let losses: Vec<f64> = run.epochs.iter().filter_map(|epoch| epoch.test_loss).collect();
        match losses[..] {
            [] => format!("{}: no test loss", run.name),
            [only] => format!("{}: test loss {}", run.name, numbers::value(only)),
            [first, .., last] => {
                format!("{}: test loss from {} to {}", run.name, numbers::value(first), numbers::value(last))
            }
        }
    };
    Chart { frame: WIDE, title: "Loss over optimiser steps".into(), description: describe(runs, course), x, y, lines }
}

/// Learning rate and gradient norm over optimiser steps; none where no run tells them.
pub(super) fn steps(runs: &[Run]) -> Option<[Chart; 2]> {
    let told = runs.iter().flat_map(|run| &run.steps).any(|step| step.lr.is_some() && step.grad_norm.is_some());
    told.then(|| {
        let rates = runs.iter().enumerate().map(|(key, run)| {
            let rates: Vec<[f64; 2]> =
                run.steps.iter().map(|step| [f64::from(step.step), step.lr.unwrap_or(f64::NAN)]).collect();
            Line { key, style: Style::Solid, points: unmarked(thinned(&rates)) }
        });
        let mut norms = vec![];
        for (key, run) in runs.iter().enumerate() {
            let all: Vec<[f64; 2]> =
                run.steps.iter().map(|step| [f64::from(step.step), step.grad_norm.unwrap_or(f64::NAN)]).collect();
            let smooth = thinned(&smoothed(&run.steps, |step| step.grad_norm));
            if runs.len() <= FEW {
                norms.push(Line { key, style: Style::Faint, points: unmarked(envelope(&all)) });
            }
            norms.push(Line { key, style: Style::Solid, points: unmarked(smooth) });
        }
        [
            over_steps(runs, "Learning rate over optimiser steps", "learning rate", rates.collect()),
            over_steps(runs, "Norm of the gradients over optimiser steps", "norm of the gradients", norms),
        ]
    })
}

/// A chart of values that are never below 0 over optimiser steps, on a logarithmic axis where they differ much.
fn over_steps(runs: &[Run], title: &str, label: &str, mut lines: Vec<Line>) -> Chart {
    tidy(&mut lines, runs.len());
    let drawn = || lines.iter().filter(|line| line.style != Style::Faint).flat_map(|line| &line.points);
    let (mut values, mut ends) = (vec![], vec![]);
    for point in drawn().filter(|point| point.y.is_finite()) {
        values.push(point.y);
        ends.push(point.x);
    }
    let (low, high) = values.iter().fold((f64::INFINITY, 0f64), |(low, high), y| (low.min(*y), high.max(*y)));
    let log = low > 0. && high > LOG_FACTOR * low && label != "learning rate";
    let label = if log { format!("{label} (logarithmic)") } else { label.into() };
    let mut y = Axis::over(&label, log, values);
    if !log {
        y.range[0] = 0.;
    }
    let mut x = Axis::over("optimiser steps", false, ends);
    x.whole = true;
    x.range[0] = x.range[0].max(0.);
    let course = |run: &Run| format!("{}: {} steps", run.name, numbers::count(run.steps.len()));
    Chart { frame: WIDE, title: title.into(), description: describe(runs, course), x, y, lines }
}

/// Accuracy over epochs.
pub(super) fn accuracy(runs: &[Run]) -> Chart {
    let mut lines: Vec<Line> = vec![];
    for (key, run) in runs.iter().enumerate() {
        let samples = run.correct().map_or(0, |(_, samples)| samples);
        let points = |value: fn(&Epoch) -> Option<f64>, what: &str| -> Vec<Point> {
            let show = |epoch: &Epoch, percent: f64| {
                format!(
                    "{}, epoch {}: {what} accuracy {}",
                    run.name,
                    f64::from(epoch.epoch) + 1.,
                    numbers::percent(percent / 100., samples)
                )
            };
            let percent = |epoch: &Epoch| value(epoch).map(|share| 100. * share);
            run.epochs
                .iter()
                .map(|epoch| point(run, epoch, f64::from(epoch.epoch) + 1., percent(epoch), show))
                .collect()
        };
        lines.push(Line { key, style: Style::Dashed, points: points(|epoch| epoch.train_accuracy, "training") });
        lines.push(Line { key, style: Style::Dotted, points: points(|epoch| epoch.val_accuracy, "validation") });
        lines.push(Line { key, style: Style::Solid, points: points(|epoch| epoch.test_accuracy, "test") });
        if let (Some(summary), Some(line)) = (&run.summary, lines.last_mut()) {
            let chosen = run.epochs.iter().position(|epoch| epoch.epoch as usize == summary.best_epoch);
            if let Some(point) = chosen.and_then(|chosen| line.points.get_mut(chosen)) {
                let accuracy = numbers::percent(summary.test_accuracy, samples);
                let tip = format!(
                    "{}, epoch {}: test accuracy {accuracy}, the chosen checkpoint",
                    run.name,
                    summary.best_epoch + 1
                );
                point.mark = Mark::Ring(tip);
            }
        }
    }
    tidy(&mut lines, runs.len());
    let mut x = Axis::over("epochs", false, lines.iter().flat_map(|line| line.points.iter().map(|p| p.x)));
    x.whole = true;
    x.range[0] = x.range[0].max(0.5);
    let y = Axis::percent("accuracy in percent", lines.iter().flat_map(|line| line.points.iter().map(|p| p.y)));
    let course = |run: &Run| {
        let shares: Vec<f64> = run.epochs.iter().filter_map(|epoch| epoch.test_accuracy).collect();
        match shares[..] {
            [] => format!("{}: no test accuracy", run.name),
            [only] => format!("{}: test accuracy {}", run.name, numbers::percent(only, 0)),
            [first, .., last] => {
                format!(
                    "{}: test accuracy from {} to {}",
                    run.name,
                    numbers::percent(first, 0),
                    numbers::percent(last, 0)
                )
            }
        }
    };
    Chart { frame: WIDE, title: "Accuracy over epochs".into(), description: describe(runs, course), x, y, lines }
}

fn describe(runs: &[Run], course: impl Fn(&Run) -> String) -> String {
    let mut courses: Vec<String> = runs.iter().take(12).map(course).collect();
    if runs.len() > 12 {
        courses.push(format!("and {} more runs", runs.len() - 12));
    }
    courses.join("; ") + "."
}

/// Leaves out lines without a point that can be drawn, and markers where there would be too many.
fn tidy(lines: &mut Vec<Line>, runs: usize) {
    lines.retain(|line| line.points.iter().any(|point| point.x.is_finite() && point.y.is_finite()));
    for line in lines.iter_mut().filter(|line| runs > FEW && line.style != Style::Solid) {
        line.points.iter_mut().for_each(|point| point.mark = Mark::None);
    }
}

/// The point of an epoch.
fn point(run: &Run, epoch: &Epoch, x: f64, y: Option<f64>, show: impl Fn(&Epoch, f64) -> String) -> Point {
    let mark = match y {
        Some(y) if run.epochs.len() <= MARKED_EPOCHS => Mark::Shape(show(epoch, y)),
        _ => Mark::None,
    };
    Point { x, y: y.unwrap_or(f64::NAN), bar: None, mark }
}

/// How many optimiser steps had been made when the epoch was evaluated.
fn end_of(epoch: &Epoch, steps: &[Step]) -> f64 {
    steps.iter().rev().find(|step| step.epoch == epoch.epoch).map_or(f64::NAN, |step| f64::from(step.step) + 1.)
}

/// An exponential mean whose weight falls to 1/e over a thirtieth of the run, without the bias towards its start. Steps
/// without a value leave it as it is.
fn smoothed(steps: &[Step], value: fn(&Step) -> Option<f64>) -> Vec<[f64; 2]> {
    let keep = (-1. / (steps.len() as f64 / SMOOTHING as f64).max(1.)).exp();
    let (mut sum, mut weight) = (0., 0.);
    steps
        .iter()
        .map(|step| {
            if let Some(value) = value(step).filter(|value| value.is_finite()) {
                (sum, weight) = (keep * sum + (1. - keep) * value, keep * weight + (1. - keep));
            }
            [f64::from(step.step), sum / weight]
        })
        .collect()
}

/// The smallest and the largest of each column, where there are more points than columns.
fn envelope(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    if points.len() <= 2 * COLUMNS {
        return points.to_vec();
    }
    let mut out = vec![];
    for column in points.chunks(points.len().div_ceil(COLUMNS)) {
        let finite = || column.iter().filter(|point| point[1].is_finite());
        let (low, high) =
            (finite().min_by(|a, b| a[1].total_cmp(&b[1])), finite().max_by(|a, b| a[1].total_cmp(&b[1])));
        match (low, high) {
            (Some(low), Some(high)) if low[0] < high[0] => out.extend([*low, *high]),
            (Some(low), Some(high)) => out.extend([*high, *low]),
            _ => out.push([column[0][0], f64::NAN]),
        }
    }
    out
}

/// The last point of each column, where there are more points than columns.
fn thinned(points: &[[f64; 2]]) -> Vec<[f64; 2]> {
    if points.len() <= COLUMNS {
        return points.to_vec();
    }
    points.chunks(points.len().div_ceil(COLUMNS)).filter_map(|column| column.last().copied()).collect()
}

fn unmarked(points: Vec<[f64; 2]>) -> Vec<Point> {
    points.into_iter().map(|[x, y]| Point { x, y, bar: None, mark: Mark::None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses(losses: &[f64]) -> Vec<Step> {
        losses
            .iter()
            .enumerate()
            .map(|(step, loss)| Step {
                epoch: 0,
                step: step as u32,
                loss: loss.is_finite().then_some(*loss),
                lr: None,
                grad_norm: None,
            })
            .collect()
    }

    #[test]
    fn smoothing_keeps_a_constant_from_its_first_step_and_passes_over_gaps() {
        let losses = smoothed(&losses(&[2., 2., f64::NAN, 2.]), |step| step.loss);
        assert!(losses.iter().all(|[_, loss]| (loss - 2.).abs() < 1e-12), "{losses:?}");
    }

    #[test]
    fn smoothing_forgets_a_step_over_a_thirtieth_of_the_run() {
        let mut losses = vec![0.; 3000];
        losses[1500] = 1.;
        let curve = smoothed(&self::losses(&losses), |step| step.loss);
        // After a hundred steps a peak has fallen to 1/e of what it was; what is left of the bias is far below 1e-6.
        assert!((curve[1600][1] / curve[1500][1] - (-1f64).exp()).abs() < 1e-6);
    }

    #[test]
    fn long_runs_are_drawn_by_the_extremes_of_each_column() {
        let mut losses = vec![1.; 100_000];
        (losses[50_000], losses[70_000]) = (9., 0.1);
        let points: Vec<[f64; 2]> = losses.iter().enumerate().map(|(i, loss)| [i as f64, *loss]).collect();
        let drawn = envelope(&points);
        assert!(drawn.len() <= 2 * COLUMNS);
        assert!(drawn.contains(&[50_000., 9.]) && drawn.contains(&[70_000., 0.1]));
        assert!(drawn.windows(2).all(|pair| pair[0][0] <= pair[1][0]), "in order");
    }
}
