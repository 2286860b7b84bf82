//! The speed of learning: test accuracy over the training images that a model has seen, and over the seconds that this took.

use super::chart::{Axis, Chart, Line, Mark, Point, Style, WIDE};
use super::numbers;
use super::run::Run;

/// Of more courses than this, lines lie over one another.
const MOST: usize = 6;

/// Times that differ by more than this factor are drawn on a logarithmic axis.
const LOG_FACTOR: f64 = 10.;

/// A course whose epochs all end within this share of the axis, as where kept features make all but the first take no time, is
/// drawn as the one point where it ends: its line would stand upright.
const AT_ONCE: f64 = 0.02;

/// Up to so many epochs every point is marked.
const MARKED_EPOCHS: usize = 24;

/// Accuracy over images and over seconds, for two courses or a few more. Courses that do not tell are left out.
pub(super) fn learning_speed(courses: &[Run]) -> Option<[Chart; 2]> {
    let all: Vec<Option<Vec<Reached>>> = courses.iter().map(reached).collect();
    if courses.len() > MOST || all.iter().flatten().count() < 2 {
        return None;
    }
    let title = |over: &str| format!("Test accuracy over {over}");
    Some([
        chart(courses, &all, title("training images seen"), "training images seen", |point| point.images),
        chart(courses, &all, title("seconds of training"), "seconds of training", |point| point.seconds),
    ])
}

/// What a course has reached after an epoch.
struct Reached {
    epoch: u32,
    images: f64,
    /// Evaluation apart.
    seconds: f64,
    accuracy: f64,
}

fn reached(run: &Run) -> Option<Vec<Reached>> {
    let samples = run.train_samples()? as f64;
    let (mut seconds, mut points) = (0., vec![]);
    for epoch in &run.epochs {
        seconds += samples / epoch.images_per_second.filter(|rate| *rate > 0.)?;
        let images = samples * (f64::from(epoch.epoch) + 1.);
        points.push(Reached { epoch: epoch.epoch, images, seconds, accuracy: epoch.test_accuracy? });
    }
    (!points.is_empty()).then_some(points)
}

fn chart(courses: &[Run], all: &[Option<Vec<Reached>>], title: String, label: &str, x: fn(&Reached) -> f64) -> Chart {
    let known =
        || courses.iter().zip(all).enumerate().filter_map(|(key, (run, all))| Some((key, run, all.as_deref()?)));
    let furthest = known().filter_map(|(_, _, reached)| reached.last()).map(x).fold(0., f64::max);
    let line = |(key, course, reached): (usize, &Run, &[Reached])| {
        let reached = match reached {
            [first, .., last] if x(last) - x(first) < AT_ONCE * furthest => std::slice::from_ref(last),
            course => course,
        };
        let mark = |point: &Reached| match reached.len() <= MARKED_EPOCHS {
            true => Mark::Shape(format!(
                "{}, epoch {}: test accuracy {} after {} images and {}",
                course.name,
                point.epoch + 1,
                numbers::percent(point.accuracy, 0),
                numbers::count(point.images as usize),
                numbers::duration(point.seconds)
            )),
            false => Mark::None,
        };
        let point =
            |reached: &Reached| Point { x: x(reached), y: 100. * reached.accuracy, bar: None, mark: mark(reached) };
        Line { key, style: Style::Solid, points: reached.iter().map(point).collect() }
    };
    let lines: Vec<Line> = known().map(line).collect();
    let ends: Vec<f64> = known().filter_map(|(_, _, reached)| reached.last()).map(x).collect();
    let (first, last) = ends.iter().fold((f64::INFINITY, 0f64), |(low, high), end| (low.min(*end), high.max(*end)));
    let log = first > 0. && last > LOG_FACTOR * first;
    let label = if log { format!("{label} (logarithmic)") } else { label.into() };
    let mut axis = Axis::over(&label, log, lines.iter().flat_map(|line| line.points.iter().map(|p| p.x)));
    if !log {
        axis.range[0] = 0.;
    }
    let y = Axis::percent("test accuracy in percent", lines.iter().flat_map(|line| line.points.iter().map(|p| p.y)));
    let described: Vec<String> = known()
        .filter_map(|(_, course, reached)| Some((course, reached.last()?)))
        .map(|(course, end)| {
            let accuracy = numbers::percent(end.accuracy, 0);
            let images = numbers::count(end.images as usize);
            format!("{}: {accuracy} after {images} images and {}", course.name, numbers::duration(end.seconds))
        })
        .collect();
    Chart { frame: WIDE, title, description: described.join("; ") + ".", x: axis, y, lines }
}
