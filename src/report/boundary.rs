//! The decision boundary of a run on points in the plane: what the chosen model calls every place, under the points that it
//! was trained and tested on.

use std::fmt::Write;
use std::fs;

use maud::{Markup, PreEscaped, html};

use super::chart::colour;
use super::error::{Error, Result};
use super::text::shortened;
use super::{figure, numbers};
use crate::data::{self, DataOptions, Samples};
use crate::train::run_folder::Predictions;
use crate::train::{self, RunFolder, Scores, score_points};

/// The plane is drawn from minus to plus this, on both axes.
const SIDE: f64 = 2.2;
/// Cells on a side of the grid on which the model is asked.
const CELLS: usize = 192;
/// A cell's side in the picture.
const CELL: f64 = 2.;
const PLOT: f64 = CELLS as f64 * CELL;
const LEFT: f64 = 42.;
const TOP: f64 = 126.;
const WIDTH: f64 = LEFT + PLOT + 14.;
const HEIGHT: f64 = TOP + PLOT + 44.;
/// The share of a class's colour where it is certain: light enough for points to stand out.
const STRONGEST: f64 = 0.45;

/// What a model says on the grid, one value a corner, rows from the top: above `threshold` is the second class.
struct Field {
    values: Vec<f64>,
    threshold: f64,
    /// Whether the values are probabilities of the second class.
    probabilities: bool,
}

/// The points of one part of a data set.
struct Point {
    at: [f64; 2],
    label: u32,
}

/// Draws the decision boundary of the run in `folder`, which has ended, as `figures/boundary.svg` and, with the feature `png`,
/// as PNG. False where its data are images, the model tells apart another number of classes than two, or it has none (nearest neighbours).
///
/// # Errors
/// If a file of the run is not what it should be, its model does not load, or the pictures cannot be written.
pub fn boundary(folder: &RunFolder) -> Result<bool> {
    let config = folder.config()?;
    if !data::holds_points(&config.data.data) || !config.trains_head() {
        return Ok(false);
    }
    let options = DataOptions {
        limit: config.data.limit,
        test_limit: config.data.test_limit,
        val_fraction: config.data.val_fraction,
        ..DataOptions::default()
    };
    let dataset = data::open(&config.data.data, &options).map_err(train::Error::from)?;
    let (train, test) = (points(&*dataset.train), points(&*dataset.test));
    let predictions = folder.predictions()?;
    if predictions.predicted.len() != test.len() {
        let expected = format!("predictions for {} test points", test.len());
        let got = predictions.predicted.len().to_string();
        return Err(Error::Damaged { path: folder.predictions_path(), expected, got });
    }
    let Some(field) = Field::of(score_points(folder, &corners())?) else { return Ok(false) };
    let name = folder.summary()?.name;
    let picture = draw(&name, &dataset.classes, &field, &train, &test, &predictions);
    let figures = folder.root().join("figures");
    fs::create_dir_all(&figures).map_err(|source| Error::Write { path: figures.clone(), source })?;
    figure::write_figure(&figures.join("boundary"), &picture.into_string())?;
    Ok(true)
}

fn points(samples: &dyn Samples) -> Vec<Point> {
    let point = |index: usize| match samples.point(index) {
        Some(&[x, y]) => Some(Point { at: [f64::from(x), f64::from(y)], label: samples.label(index) }),
        _ => None,
    };
    (0..samples.len()).filter_map(point).collect()
}

/// The corners of all cells, row by row from the top left.
fn corners() -> Vec<[f32; 2]> {
    let at = |i: usize| (2. * SIDE * i as f64 / CELLS as f64 - SIDE) as f32;
    (0..=CELLS).flat_map(|row| (0..=CELLS).map(move |column| [at(column), -at(row)])).collect()
}

impl Field {
    fn of(scores: Scores) -> Option<Self> {
        let (values, threshold, probabilities) = match scores {
            Scores::Probabilities(rows) => {
                let second = |row: Vec<f32>| if let [_, second] = row[..] { Some(f64::from(second)) } else { None };
                (rows.into_iter().map(second).collect::<Option<Vec<f64>>>()?, 0.5, true)
            }
            // A value above 0 is for the first class.
            Scores::Decisions(rows) => {
                let second = |row: Vec<f64>| if let [value] = row[..] { Some(-value) } else { None };
                (rows.into_iter().map(second).collect::<Option<Vec<f64>>>()?, 0., false)
            }
        };
        Some(Self { values, threshold, probabilities })
    }

    fn corner(&self, row: usize, column: usize) -> f64 {
        self.values[row * (CELLS + 1) + column]
    }

    /// The mean over the corners of a cell.
    fn cell(&self, row: usize, column: usize) -> f64 {
        let pair = |row| self.corner(row, column) + self.corner(row, column + 1);
        (pair(row) + pair(row + 1)) / 4.
    }

    /// Where shades change, upwards.
    fn levels(&self) -> Vec<f64> {
        if self.probabilities { (1..10).map(|tenth| f64::from(tenth) / 10.).collect() } else { vec![self.threshold] }
    }

    /// The shade of the cells between two levels, the first below all of them.
    fn shade(&self, band: usize) -> String {
        let bands = self.levels().len();
        tint(2. * band as f64 / bands as f64 - 1.)
    }

    /// All cells above `level` as one path in units of cells: of every row the runs of cells.
    fn above(&self, level: f64) -> String {
        let mut path = String::new();
        for row in 0..CELLS {
            let mut column = 0;
            while column < CELLS {
                let length = (column..CELLS).take_while(|&c| self.cell(row, c) > level).count();
                if length > 0 {
                    let _ = write!(path, "M{column} {row}h{length}v1h-{length}z");
                }
                column += length.max(1);
            }
        }
        path
    }

    /// The line where the field has the value `level`, in units of cells: marching squares.
    fn contour(&self, level: f64) -> String {
        let mut path = String::new();
        for row in 0..CELLS {
            for column in 0..CELLS {
                for [from, to] in self.segments(row, column, level) {
                    let _ = write!(path, "M{} {}L{} {}", round(from[0]), round(from[1]), round(to[0]), round(to[1]));
                }
            }
        }
        path
    }

    /// The pieces of a contour in one cell: it enters and leaves where the sign changes along an edge.
    fn segments(&self, row: usize, column: usize, level: f64) -> Vec<[[f64; 2]; 2]> {
        // Clockwise from the top left.
        let corners = [(0, 0), (0, 1), (1, 1), (1, 0)];
        let value = |(down, right): (usize, usize)| self.corner(row + down, column + right) - level;
        let crossing = |edge: usize| {
            let (from, to) = (corners[edge], corners[(edge + 1) % 4]);
            let (a, b) = (value(from), value(to));
            ((a > 0.) != (b > 0.)).then(|| {
                let along = a / (a - b);
                let between = |from: usize, to: usize| from as f64 + along * (to as f64 - from as f64);
                [column as f64 + between(from.1, to.1), row as f64 + between(from.0, to.0)]
            })
        };
        match (0..4).filter_map(crossing).collect::<Vec<_>>()[..] {
            [a, b] => vec![[a, b]],
            // A saddle: the middle says which corners belong together.
            [top, right, bottom, left] => {
                let middle = corners.map(value).iter().sum::<f64>() > 0.;
                if middle == (value(corners[0]) > 0.) {
                    vec![[top, right], [bottom, left]]
                } else {
                    vec![[left, top], [right, bottom]]
                }
            }
            _ => vec![],
        }
    }
}

fn draw(
    name: &str,
    classes: &[String],
    field: &Field,
    train: &[Point],
    test: &[Point],
    predictions: &Predictions,
) -> Markup {
    let wrong: Vec<&Point> = test
        .iter()
        .zip(&predictions.predicted)
        .filter(|(point, called)| point.label != **called)
        .map(|(p, _)| p)
        .collect();
    let cells = format!("translate({LEFT} {TOP}) scale({CELL})");
    html! {
        svg xmlns="http://www.w3.org/2000/svg" class="tallow-figure" viewBox={ "0 0 " (WIDTH) " " (HEIGHT) }
            width=(WIDTH) height=(HEIGHT) role="img" aria-label=(description(name, classes, test, wrong.len()))
            font-family="system-ui, 'Segoe UI', Helvetica, Arial, sans-serif" font-size="12" {
            rect width=(WIDTH) height=(HEIGHT) fill="#ffffff" {}
            text x=(LEFT) y="22" font-size="14" font-weight="600" fill="#222222" {
                "Decision boundary: " (shortened(name, 32))
            }
            (legend(classes, field, test, wrong.len()))
            g transform=(cells) shape-rendering="crispEdges" {
                rect width=(CELLS) height=(CELLS) fill=(field.shade(0)) {}
                @for (band, level) in field.levels().into_iter().enumerate() {
                    @let path = field.above(level);
                    @if !path.is_empty() { path d=(path) fill=(field.shade(band + 1)) {} }
                }
            }
            g transform=(cells) {
                path class="boundary" d=(field.contour(field.threshold)) fill="none" stroke="#222222" stroke-width="1"
                    stroke-linecap="round" {}
            }
            (axes())
            g class="train" { @for point in train { (mark(point.label, place(point.at), false)) } }
            g class="test" { @for point in test { (mark(point.label, place(point.at), true)) } }
            g class="wrong" { @for point in wrong { (ring(place(point.at))) } }
        }
    }
}

fn description(name: &str, classes: &[String], test: &[Point], wrong: usize) -> String {
    format!(
        "Decision boundary of {name} between {} and {} in the plane; {wrong} of {} test points are on the wrong side.",
        classes[0],
        classes[1],
        test.len()
    )
}

/// Where a point of the plane is in the picture.
fn place([x, y]: [f64; 2]) -> [f64; 2] {
    let along = |value: f64| (value + SIDE) / (2. * SIDE) * PLOT;
    [round(LEFT + along(x)), round(TOP + PLOT - along(y))]
}

/// A point: circles and squares, so that classes differ in more than colour; test points filled, training points small and
/// hollow.
fn mark(label: u32, [x, y]: [f64; 2], filled: bool) -> Markup {
    let (radius, fill) = if filled { (3.6, colour(label as usize)) } else { (2.3, "#ffffff") };
    let (stroke, width) = if filled { ("#ffffff", "0.8") } else { (colour(label as usize), "1.1") };
    html! {
        @if label == 0 {
            circle cx=(x) cy=(y) r=(radius) fill=(fill) stroke=(stroke) stroke-width=(width) {}
        } @else {
            @let side = round(radius * 1.8);
            rect x=(round(x - side / 2.)) y=(round(y - side / 2.)) width=(side) height=(side) fill=(fill) stroke=(stroke)
                stroke-width=(width) {}
        }
    }
}

fn ring([x, y]: [f64; 2]) -> Markup {
    html! { circle cx=(x) cy=(y) r="7" fill="none" stroke="#000000" stroke-width="1.6" {} }
}

fn legend(classes: &[String], field: &Field, test: &[Point], wrong: usize) -> Markup {
    let columns = [LEFT + 8., LEFT + PLOT / 2. + 8.];
    let text = |x: f64, y: f64, content: String| html! { text x=(x + 14.) y=(y + 4.) fill="#222222" { (content) } };
    let bands = field.levels().len();
    html! {
        @for label in 0..2u32 {
            @let x = columns[label as usize];
            (mark(label, [x, 42.], true)) (text(x, 42., format!("{}, test", classes[label as usize])))
            (mark(label, [x, 62.], false)) (text(x, 62., format!("{}, training", classes[label as usize])))
        }
        (ring([columns[0], 82.]))
        (text(columns[0], 82., format!("wrong: {} of {}", numbers::count(wrong), numbers::count(test.len()))))
        path d={ "M" (columns[1] - 8.) " 82h16" } stroke="#222222" stroke-width="2" {}
        (text(columns[1], 82., if field.probabilities { "probability ½".into() } else { "decision value 0".into() }))
        @if field.probabilities {
            @let (x, step) = (columns[1] - 8., 10.);
            text x=(LEFT) y="108" fill="#222222" { "probability of " (classes[1]) }
            text x=(x - 6.) y="108" text-anchor="end" fill="#222222" { "0" }
            @for band in 0..=bands {
                rect x=(x + step * band as f64) y="98" width=(step) height="12" fill=(field.shade(band)) {}
            }
            text x=(x + step * (bands + 1) as f64 + 6.) y="108" fill="#222222" { "1" }
        } @else {
            @for (label, class) in classes.iter().enumerate() {
                rect x=(columns[label] - 8.) y="96" width="16" height="12" fill=(field.shade(label)) {}
                (text(columns[label], 102., format!("called {class}")))
            }
        }
    }
}

fn axes() -> Markup {
    let ticks = [-2., -1., 0., 1., 2.];
    let label = |tick: f64| format!("{tick}").replace('-', "−");
    html! {
        rect x=(LEFT) y=(TOP) width=(PLOT) height=(PLOT) fill="none" stroke="#888888" stroke-width="1" {}
        g fill="#444444" stroke="none" {
            @for tick in ticks {
                @let ([x, _], [_, y]) = (place([tick, 0.]), place([0., tick]));
                (PreEscaped(format!(
                    "<path d=\"M{x} {}v4M{LEFT} {y}h-4\" stroke=\"#888888\" fill=\"none\"/>", TOP + PLOT
                )))
                text x=(x) y=(TOP + PLOT + 18.) text-anchor="middle" { (label(tick)) }
                text x=(LEFT - 8.) y=(y + 4.) text-anchor="end" { (label(tick)) }
            }
            text x=(LEFT + PLOT / 2.) y=(TOP + PLOT + 36.) text-anchor="middle" { "first coordinate" }
            text transform={ "translate(13 " (TOP + PLOT / 2.) ") rotate(-90)" } text-anchor="middle" { "second coordinate" }
        }
    }
}

/// White for 0, the first class's colour towards -1, the second's towards 1.
fn tint(lean: f64) -> String {
    let full = colour(usize::from(lean > 0.));
    let channel = |at: usize| u8::from_str_radix(full.get(at..at + 2).unwrap_or("00"), 16).unwrap_or(0);
    let mixed = [1, 3, 5].map(|at| {
        let (white, share) = (255., STRONGEST * lean.abs());
        (white + share * (f64::from(channel(at)) - white)).round() as u8
    });
    format!("#{:02x}{:02x}{:02x}", mixed[0], mixed[1], mixed[2])
}

/// Hundredths of a cell cannot be seen.
fn round(value: f64) -> f64 {
    (value * 100.).round() / 100.
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field whose value is `value` of the place in the plane.
    fn field(value: impl Fn(f64, f64) -> f64, threshold: f64) -> Field {
        let values = corners().into_iter().map(|[x, y]| value(f64::from(x), f64::from(y))).collect();
        Field { values, threshold, probabilities: false }
    }

    #[test]
    fn the_contour_of_a_circle_is_that_circle() {
        let circle = field(|x, y| 1.2 - x.hypot(y), 0.);
        let mut length = 0.;
        for row in 0..CELLS {
            for column in 0..CELLS {
                for ends in circle.segments(row, column, 0.) {
                    let plane = ends.map(|[x, y]| [x, y].map(|v| 2. * SIDE * v / CELLS as f64 - SIDE));
                    for [x, y] in plane {
                        assert!((x.hypot(y) - 1.2).abs() < 1e-3, "{x}, {y}");
                    }
                    length += (plane[0][0] - plane[1][0]).hypot(plane[0][1] - plane[1][1]);
                }
            }
        }
        assert!((length - 2.4 * std::f64::consts::PI).abs() < 0.01, "{length}: a closed line");
    }

    #[test]
    fn cells_above_a_level_are_drawn_as_runs_from_the_top_left() {
        // The upper half, and of it the right half.
        let quarter = field(|x, y| x.min(y), 0.);
        let path = quarter.above(0.);
        assert!(path.starts_with("M96 0h96v1h-96zM96 1h96v1h-96z"), "{}", &path[..60]);
        assert_eq!(path.matches('z').count(), 96);
    }

    #[test]
    fn a_saddle_joins_the_corners_that_the_middle_belongs_to() {
        let mut saddle = field(|_, _| -1., 0.);
        let width = CELLS + 1;
        // One cell, high at the top left and the bottom right.
        (saddle.values[0], saddle.values[width + 1]) = (3., 3.);
        let joined = saddle.segments(0, 0, 0.);
        assert_eq!(joined.len(), 2);
        // The top right corner is cut off alone: its line runs from the top edge to the right one.
        assert!(joined.iter().any(|[a, b]| a[1] == 0. && b[0] == 1.), "{joined:?}");
        (saddle.values[0], saddle.values[width + 1]) = (0.5, 0.5);
        let apart = saddle.segments(0, 0, 0.);
        assert!(apart.iter().any(|[a, b]| (a[0] == 0. && b[1] == 0.) || (b[0] == 0. && a[1] == 0.)), "{apart:?}");
    }

    #[test]
    fn points_stand_where_they_are_in_the_plane() {
        assert_eq!(place([-SIDE, SIDE]), [LEFT, TOP]);
        assert_eq!(place([0., 0.]), [LEFT + PLOT / 2., TOP + PLOT / 2.]);
    }

    #[test]
    fn certainty_is_strong_and_doubt_is_white() {
        assert_eq!(tint(0.), "#ffffff");
        assert_ne!(tint(1.), tint(-1.));
    }
}
