//! Line charts as SVG: axes with round ticks, lines, markers with tooltips, a legend.
//!
//! A chart is drawn in explicit colours that suit white paper, so that the SVG stands alone in any viewer, and every
//! element has a class, so that a page's style sheet can put other colours and sizes in their place (a style sheet
//! outranks SVG's presentation attributes). The logical width is that of a phone: a wide screen puts two charts beside
//! each other.

use maud::{Markup, html};

use super::text::wrapped;

/// Colours that people with any kind of colour vision can tell apart: Okabe and Ito (2008) with Tol's purple and olive
/// in place of those too pale for thin lines on white. The style sheet holds their counterparts on black.
pub(super) const PALETTE: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#aa3377", "#8a8a00", "#3a9bdc", "#666666"];

pub(super) const WIDTH: f64 = 440.;
const LEGEND_LINE: f64 = 20.;

/// The fonts of a chart, where a page does not say others.
pub(super) const FONT: &str = "system-ui, 'Segoe UI', Helvetica, Arial, sans-serif";

/// The size of a chart and the room around its plot, in units of which a wide chart has [`WIDTH`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Frame {
    pub width: f64,
    pub height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// About how many ticks there are to the right and upwards.
    ticks: [usize; 2],
}

/// A chart by itself.
pub(super) const WIDE: Frame =
    Frame { width: WIDTH, height: 290., left: 52., right: 14., top: 12., bottom: 46., ticks: [6, 5] };

/// One of many, whose axes are those of its neighbours: its title stands in it, and what its axes measure is said once for all.
pub(super) const SMALL: Frame =
    Frame { width: 220., height: 170., left: 38., right: 8., top: 26., bottom: 24., ticks: [4, 4] };

/// A chart.
#[derive(Debug, Clone)]
pub(super) struct Chart {
    /// Its size.
    pub frame: Frame,
    /// What it shows, in a few words.
    pub title: String,
    /// What a reader who cannot see it should know.
    pub description: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// Drawn in this order.
    pub lines: Vec<Line>,
}

/// An axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// What it measures, and in what.
    pub label: String,
    /// From where to where; points beyond are drawn at the edge.
    pub range: [f64; 2],
    /// Ticks in equal ratios instead of equal distances; the range must be above 0.
    pub log: bool,
    /// Ticks at whole numbers only.
    pub whole: bool,
    /// Ticks at these values with these labels, in place of round ones.
    pub at: Option<Vec<(f64, String)>>,
}

/// A line through points; one that is not finite (or not above 0, on a logarithmic axis) leaves a gap.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Whose it is: its colour and the shape of its markers.
    pub key: usize,
    /// How it is drawn.
    pub style: Style,
    /// From left to right.
    pub points: Vec<Point>,
}

/// A point of a line.
#[derive(Debug, Clone)]
pub(super) struct Point {
    /// To the right.
    pub x: f64,
    /// Upwards.
    pub y: f64,
    /// From where to where an error bar goes.
    pub bar: Option<[f64; 2]>,
    /// How it is marked.
    pub mark: Mark,
}

/// How a point is marked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    /// Not at all.
    None,
    /// By the shape of its line's key, with this tooltip.
    Shape(String),
    /// By the shape and a ring around it, with this tooltip.
    Ring(String),
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Thin and pale: what was measured, under its smoothed course.
    Faint,
    /// Solid.
    Solid,
    /// Dashed.
    Dashed,
    /// Dotted.
    Dotted,
}

/// The colour of the run, series or class `key`.
pub(super) fn colour(key: usize) -> &'static str {
    PALETTE[key % PALETTE.len()]
}

impl Axis {
    /// An axis over `values`, with a little room on both sides; those that are not finite (or, on a logarithmic axis,
    /// not above 0) do not count.
    pub fn over(label: &str, log: bool, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|value| value.is_finite() && (!log || *value > 0.)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = if log { (0.1, 1.) } else { (0., 1.) };
        }
        let range = if log {
            let room = (high / low).powf(0.04).max(1.1);
            [low / room, high * room]
        } else {
            // One value alone still needs a range that its number can tell apart.
            let room = if high > low { 0.04 * (high - low) } else { 0.5 * high.abs().max(1e-3) };
            [low - room, high + room]
        };
        Self { label: label.into(), range, log, whole: false, at: None }
    }

    /// An axis over shares in percent, from 0 to 100 at most.
    pub fn percent(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let mut axis = Self::over(label, false, values);
        // A little more, so that a line along 100 can be seen.
        axis.range = [axis.range[0].max(0.), axis.range[1].min(100.5)];
        if axis.range[0] >= axis.range[1] {
            axis.range = [0., 100.5];
        }
        axis
    }

    /// Where `value` is, 0 at the start of the axis and 1 at its end, or none if it cannot be drawn.
    pub fn place(&self, value: f64) -> Option<f64> {
        let scale = |v: f64| if self.log { v.ln() } else { v };
        let [low, high] = self.range.map(scale);
        let place = (scale(value) - low) / (high - low);
        place.is_finite().then(|| place.clamp(0., 1.))
    }

    /// Round values in the range with their labels, about `count` of them.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let [low, high] = self.range;
        if let Some(at) = &self.at {
            return at.clone();
        }
        if !self.log {
            return linear_ticks(low, high, count, self.whole);
        }
        let inside = |steps: &[f64]| -> Vec<f64> {
            let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
            decades
                .flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)))
                .filter(|tick| (low..=high).contains(tick))
                .collect()
        };
        let ticks = [&[1.][..], &[1., 3.], &[1., 2., 5.]].into_iter().map(inside).find(|ticks| ticks.len() >= 3);
        let Some(mut ticks) = ticks else { return linear_ticks(low, high, count, self.whole) };
        let every = ticks.len().div_ceil(2 * count).max(1);
        ticks = ticks.into_iter().step_by(every).collect();
        ticks.into_iter().map(|tick| (tick, log_label(tick))).collect()
    }
}

fn linear_ticks(low: f64, high: f64, count: usize, whole: bool) -> Vec<(f64, String)> {
    let rough = (high - low) / count as f64;
    let power = 10f64.powf(rough.log10().floor());
    let mut step = power * [1., 2., 5., 10.].into_iter().find(|nice| nice * power >= rough * 0.999).unwrap_or(10.);
    if whole {
        step = step.max(1.);
    }
    let decimals = (-step.log10().floor()).clamp(0., 12.) as usize;
    let first = (low / step - 1e-9).ceil();
    (0..100)
        .map(|i| (first + i as f64) * step)
        .take_while(|tick| *tick <= high + 1e-9 * step)
        // The sum with 0 turns -0 into 0.
        .map(|tick| (tick, label(tick + 0., decimals, high)))
        .collect()
}

/// A tick of an axis that ends at `high`.
fn label(tick: f64, decimals: usize, high: f64) -> String {
    match high {
        // Learning rates: so many zeros leave no room for the axis.
        high if high < 1e-2 && tick != 0. => format!("{tick:.1e}").replace(".0e", "e"),
        high if high < 1e-2 => "0".into(),
        _ if tick == 0. => format!("{tick:.decimals$}"),
        high if high >= 1e6 => format!("{}M", tick / 1e6),
        high if high >= 1e4 => format!("{}k", tick / 1e3),
        _ => format!("{tick:.decimals$}"),
    }
}

fn log_label(tick: f64) -> String {
    match tick {
        // Longer ones would reach into the name of the axis.
        t if !(1e-2..1e4).contains(&t) => format!("{t:.0e}"),
        t => format!("{:.*}", (-t.log10().floor()).max(0.) as usize, t),
    }
}

impl Chart {
    /// The chart for a page that has a legend of its own.
    pub fn inline(&self) -> Markup {
        self.svg(&[], &[], None)
    }

    /// The chart as a part of a picture, with its upper left corner at `at`.
    pub fn nested(&self, at: [f64; 2]) -> Markup {
        self.svg(&[], &[], Some(at))
    }

    /// The chart for a file of its own, with a legend: `keys` names the colours, `styles` the ways lines are drawn.
    pub fn standalone(&self, keys: &[&str], styles: &[(Style, &str)]) -> String {
        self.svg(keys, styles, None).into_string()
    }

    /// How far to the right of its place each line is drawn: lines with error bars stand beside one another, so that no bar hides
    /// another.
    fn shifts(&self) -> Vec<f64> {
        const APART: f64 = 6.;
        let with_bars = |line: &&Line| line.points.iter().any(|point| point.bar.is_some());
        let middle = self.lines.iter().filter(with_bars).count().saturating_sub(1) as f64 / 2.;
        let mut place = -middle - 1.;
        let shift = |line: &Line| {
            if !with_bars(&line) {
                return 0.;
            }
            place += 1.;
            APART * place
        };
        self.lines.iter().map(shift).collect()
    }

    /// How the lines of each key are drawn, where that is the same for all of them.
    fn key_styles(&self, keys: usize) -> Vec<Style> {
        let style = |key| {
            let mut styles = self.lines.iter().filter(|line| line.key == key).map(|line| line.style);
            let first = styles.next().unwrap_or(Style::Solid);
            if styles.all(|style| style == first) { first } else { Style::Solid }
        };
        (0..keys).map(style).collect()
    }

    fn svg(&self, keys: &[&str], styles: &[(Style, &str)], at: Option<[f64; 2]>) -> Markup {
        let standalone = !keys.is_empty();
        let Frame { width, left, ticks, .. } = self.frame;
        let small = self.frame == SMALL;
        let top = self.frame.top + if standalone { legend_height(keys, styles) } else { 0. };
        let height = self.frame.height - self.frame.top + top;
        let (right, bottom) = (width - self.frame.right, height - self.frame.bottom);
        let at_x = |x: f64| self.x.place(x).map(|place| left + place * (right - left));
        let at_y = |y: f64| self.y.place(y).map(|place| bottom - place * (bottom - top));
        html! {
            svg xmlns="http://www.w3.org/2000/svg" x=[at.map(|[x, _]| x)] y=[at.map(|[_, y]| y)]
                viewBox={ "0 0 " (width) " " (height) } class="chart" role="img"
                aria-label={ (self.title) ". " (self.description) } font-family=(FONT) font-size="12"
                width=[standalone.then_some(2. * width).or(at.map(|_| width))] height=[at.map(|_| height)] {
                @if standalone {
                    rect width=(width) height=(height) fill="#ffffff" {}
                    text x=(left) y="22" font-size="14" font-weight="600" fill="#222222" { (self.title) }
                    (legend(left, keys, &self.key_styles(keys.len()), styles))
                }
                @if small {
                    // Values of a setting are short; a longer one is drawn narrower, not cut.
                    @let room = width - left - self.frame.right;
                    @let fitted = (self.title.chars().count() > 26).then_some(room);
                    text class="ink" x=(left) y="16" font-weight="600" fill="#222222" textLength=[fitted]
                        lengthAdjust=[fitted.map(|_| "spacingAndGlyphs")] { (self.title) }
                }
                g class="grid" stroke="#dddddd" stroke-width="1" {
                    @for y in self.y.ticks(ticks[1]).iter().filter_map(|(tick, _)| at_y(*tick)) {
                        line x1=(left) x2=(right) y1=(round(y)) y2=(round(y)) {}
                    }
                }
                g class="axis" stroke="#888888" stroke-width="1" {
                    line x1=(left) x2=(right) y1=(bottom) y2=(bottom) {}
                    @for x in self.x.ticks(ticks[0]).iter().filter_map(|(tick, _)| at_x(*tick)) {
                        line x1=(round(x)) x2=(round(x)) y1=(bottom) y2=(bottom + 4.) {}
                    }
                }
                g class="ink" fill="#444444" {
                    @for (tick, label) in self.x.ticks(ticks[0]) {
                        @if let Some(x) = at_x(tick) {
                            text x=(round(x)) y=(bottom + 18.) text-anchor="middle" { (label) }
                        }
                    }
                    @for (tick, label) in self.y.ticks(ticks[1]) {
                        @if let Some(y) = at_y(tick) {
                            text x=(left - 7.) y=(round(y + 4.)) text-anchor="end" { (label) }
                        }
                    }
                    @if !small {
                        text x=((left + right) / 2.) y=(height - 8.) text-anchor="middle" { (self.x.label) }
                        text transform={ "translate(13 " ((top + bottom) / 2.) ") rotate(-90)" } text-anchor="middle" {
                            (self.y.label)
                        }
                    }
                }
                @for (line, shift) in self.lines.iter().zip(self.shifts()) {
                    @let at_x = |x: f64| at_x(x).map(|x| x + shift);
                    (draw_line(line, &at_x, &at_y))
                    (draw_bars(line, &at_x, &at_y))
                }
                // Above every line, so that no line hides a tooltip.
                @for (line, shift) in self.lines.iter().zip(self.shifts()) {
                    (draw_marks(line, &|x| at_x(x).map(|x| x + shift), &at_y))
                }
            }
        }
    }
}

/// A line's course, with gaps where a point cannot be drawn.
fn draw_line(line: &Line, at_x: &dyn Fn(f64) -> Option<f64>, at_y: &dyn Fn(f64) -> Option<f64>) -> Markup {
    let mut path = String::new();
    let mut pen_down = false;
    for point in &line.points {
        match (at_x(point.x), at_y(point.y)) {
            (Some(x), Some(y)) => {
                path += &format!("{}{} {}", if pen_down { "L" } else { "M" }, round(x), round(y));
                pen_down = true;
            }
            _ => pen_down = false,
        }
    }
    let (class, width, opacity, dashes) = line.style.attributes();
    html! {
        @if !path.is_empty() {
            path d=(path) fill="none" class={ "run-" (line.key % PALETTE.len()) " " (class) } stroke=(colour(line.key))
                stroke-width=(width) stroke-opacity=[opacity] stroke-dasharray=[dashes] stroke-linejoin="round" {}
        }
    }
}

/// Error bars: upright, with a stroke across each end.
fn draw_bars(line: &Line, at_x: &dyn Fn(f64) -> Option<f64>, at_y: &dyn Fn(f64) -> Option<f64>) -> Markup {
    let bars = line.points.iter().filter_map(|point| {
        let [low, high] = point.bar?;
        Some((round(at_x(point.x)?), round(at_y(low)?), round(at_y(high)?)))
    });
    let path: String =
        bars.map(|(x, low, high)| format!("M{x} {low}V{high}M{0} {low}h8M{0} {high}h8", round(x - 4.))).collect();
    html! {
        @if !path.is_empty() {
            path d=(path) fill="none" class={ "run-" (line.key % PALETTE.len()) " bar" } stroke=(colour(line.key))
                stroke-width="1.5" {}
        }
    }
}

fn draw_marks(line: &Line, at_x: &dyn Fn(f64) -> Option<f64>, at_y: &dyn Fn(f64) -> Option<f64>) -> Markup {
    let marks = line.points.iter().filter_map(|point| {
        let (tooltip, ring) = match &point.mark {
            Mark::None => return None,
            Mark::Shape(tooltip) => (tooltip, false),
            Mark::Ring(tooltip) => (tooltip, true),
        };
        Some((round(at_x(point.x)?), round(at_y(point.y)?), tooltip, ring))
    });
    html! {
        @let colour = colour(line.key);
        g class={ "run-" (line.key % PALETTE.len()) " mark" } fill=(colour) stroke=(colour) stroke-width="0" {
            @for (x, y, tooltip, ring) in marks {
                g {
                    title { (tooltip) }
                    @if ring { circle class="ring" cx=(x) cy=(y) r="7.5" fill-opacity="0" stroke-width="1.5" {} }
                    path d=(shape(line.key, x, y)) {}
                }
            }
        }
    }
}

/// The marker of `key` around a point, as a path: shapes tell runs apart where colours do not.
pub(super) fn shape(key: usize, x: f64, y: f64) -> String {
    match key % 4 {
        0 => format!("M{} {y}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z", round(x - 3.5)),
        1 => format!("M{} {}h6.4v6.4h-6.4z", round(x - 3.2), round(y - 3.2)),
        2 => format!("M{x} {}l4.3 7.4h-8.6z", round(y - 4.6)),
        _ => format!("M{x} {}l4.5 4.5l-4.5 4.5l-4.5 -4.5z", round(y - 4.5)),
    }
}

/// A short piece of line with its marker, for a legend in HTML.
pub(super) fn swatch(key: usize) -> Markup {
    styled_swatch(key, Style::Solid)
}

/// As [`swatch`], of a line that is drawn in another way.
pub(super) fn styled_swatch(key: usize, style: Style) -> Markup {
    let (_, width, opacity, dashes) = style.attributes();
    html! {
        @let class = format!("swatch run-{}", key % PALETTE.len());
        svg class=(class) viewBox="0 0 28 12" width="28" height="12" aria-hidden="true" {
            path d="M1 6H27" stroke=(colour(key)) stroke-width=(width) stroke-opacity=[opacity] stroke-dasharray=[dashes]
                fill="none" {}
            g class="mark" fill=(colour(key)) { path d=(shape(key, 14., 6.)) {} }
        }
    }
}

/// A short piece of line in the colour of the text, for a legend in HTML.
pub(super) fn style_swatch(style: Style) -> Markup {
    let (_, width, opacity, dashes) = style.attributes();
    html! {
        svg class="swatch" viewBox="0 0 28 12" width="28" height="12" aria-hidden="true" {
            path d="M1 6H27" fill="none" stroke="currentColor" stroke-width=(width) stroke-opacity=[opacity]
                stroke-dasharray=[dashes] {}
        }
    }
}

/// The ring around a marker, for a legend in HTML.
pub(super) fn ring_swatch() -> Markup {
    html! {
        svg class="swatch" viewBox="0 0 28 12" width="28" height="12" aria-hidden="true" {
            circle cx="14" cy="6" r="5" fill="none" stroke="currentColor" stroke-width="1.5" {}
        }
    }
}

/// Of more names than this a legend only counts the rest.
const LEGEND: usize = 40;

/// Characters of a name in a line of a legend, where it has the whole width.
const LEGEND_NAME: usize = 56;

/// Many short names stand in two columns.
fn legend_columns(keys: &[&str]) -> usize {
    if keys.len() > 3 && keys.iter().all(|name| name.chars().count() <= 22) { 2 } else { 1 }
}

/// The lines of a legend: of every name that it shows its lines, how many lines they take, and how many names are left out.
fn legend_lines(keys: &[&str]) -> (Vec<Vec<String>>, usize, usize) {
    let names: Vec<Vec<String>> = keys.iter().take(LEGEND).map(|name| wrapped(name, LEGEND_NAME)).collect();
    let lines = match legend_columns(keys) {
        1 => names.iter().map(Vec::len).sum(),
        columns => names.len().div_ceil(columns),
    };
    (names, lines, keys.len().saturating_sub(LEGEND))
}

/// The height of a title and a legend.
pub(super) fn legend_height(keys: &[&str], styles: &[(Style, &str)]) -> f64 {
    let (_, lines, left_out) = legend_lines(keys);
    24. + LEGEND_LINE * (lines + usize::from(left_out > 0) + usize::from(!styles.is_empty())) as f64
}

/// The legend inside a chart that stands alone: its keys, each with its own style, and a line for the styles that all have.
pub(super) fn legend(left: f64, keys: &[&str], key_styles: &[Style], styles: &[(Style, &str)]) -> Markup {
    let (names, lines, left_out) = legend_lines(keys);
    let below = lines + usize::from(left_out > 0);
    let single = legend_columns(keys) == 1;
    // The column and the first line of every name.
    let place = |key: usize| match single {
        true => (0, names[..key].iter().map(Vec::len).sum()),
        false => (key / lines, key % lines),
    };
    html! {
        @for (key, name) in names.iter().enumerate() {
            @let (column, line) = place(key);
            @let (x, y) = (left + column as f64 * 190., 40. + LEGEND_LINE * line as f64);
            @let (_, width, _, dashes) = key_styles.get(key).copied().unwrap_or(Style::Solid).attributes();
            path d={ "M" (x) " " (y) "h28" } stroke=(colour(key)) stroke-width=(width) stroke-dasharray=[dashes] fill="none" {}
            path d=(shape(key, x + 14., y)) fill=(colour(key)) {}
            @for (i, part) in name.iter().enumerate() {
                text x=(x + 36.) y=(y + 4. + LEGEND_LINE * i as f64) fill="#222222" { (part) }
            }
        }
        @if left_out > 0 {
            text x=(left + 36.) y=(44. + LEGEND_LINE * lines as f64) fill="#444444" { "and " (left_out) " more" }
        }
        @for (i, (style, name)) in styles.iter().enumerate() {
            @let (x, y) = (left + i as f64 * 128., 40. + LEGEND_LINE * below as f64);
            @let (_, width, opacity, dashes) = style.attributes();
            path d={ "M" (x) " " (y) "h28" } stroke="#444444" stroke-width=(width) stroke-opacity=[opacity]
                stroke-dasharray=[dashes] fill="none" {}
            text x=(x + 36.) y=(y + 4.) fill="#444444" { (name) }
        }
    }
}

impl Style {
    /// Class, width, opacity and dashes.
    fn attributes(self) -> (&'static str, &'static str, Option<&'static str>, Option<&'static str>) {
        match self {
            Self::Faint => ("faint", "1", Some("0.3"), None),
            Self::Solid => ("solid", "2", None, None),
            Self::Dashed => ("dashed", "1.8", None, Some("6 3.5")),
            Self::Dotted => ("dotted", "2", None, Some("1.5 3.5")),
        }
    }
}

/// Tenths of a unit are enough for any screen, and keep files small.
pub(super) fn round(value: f64) -> f64 {
    (value * 10.).round() / 10.
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: &Axis) -> Vec<String> {
        axis.ticks(5).into_iter().map(|(_, label)| label).collect()
    }

    fn axis(range: [f64; 2], log: bool, whole: bool) -> Axis {
        Axis { label: "x".into(), range, log, whole, at: None }
    }

    #[test]
    fn ticks_are_round_and_inside_the_range() {
        assert_eq!(ticks(&axis([0., 1.], false, false)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(ticks(&axis([71.3, 96.2], false, false)), ["75", "80", "85", "90", "95"]);
        assert_eq!(ticks(&axis([-0.001, 0.001], false, false)), ["-1e-3", "-5e-4", "0", "5e-4", "1e-3"]);
        assert_eq!(ticks(&axis([0., 1.6e-4], false, false)), ["0", "5e-5", "1e-4", "1.5e-4"]);
        assert_eq!(ticks(&axis([0., 38_000.], false, true)), ["0", "10k", "20k", "30k"]);
        assert_eq!(ticks(&axis([0., 24_000.], false, true)), ["0", "5k", "10k", "15k", "20k"]);
    }

    #[test]
    fn whole_ticks_are_whole() {
        assert_eq!(ticks(&axis([0.9, 3.1], false, true)), ["1", "2", "3"]);
        assert_eq!(ticks(&axis([0.5, 1.5], false, true)), ["1"]);
    }

    #[test]
    fn logarithmic_ticks_fall_on_decades_or_between_them() {
        assert_eq!(ticks(&axis([0.002, 40.], true, false)), ["0.01", "0.1", "1", "10"]);
        assert_eq!(ticks(&axis([0.08, 2.5], true, false)), ["0.1", "0.3", "1"]);
    }

    #[test]
    fn an_axis_over_nothing_one_value_or_values_that_are_none_can_still_be_drawn() {
        for values in [vec![], vec![f64::NAN, f64::INFINITY], vec![3.], vec![0.], vec![-2., -2.]] {
            for log in [false, true] {
                let axis = Axis::over("y", log, values.clone());
                assert!(axis.range[0] < axis.range[1] && axis.range.iter().all(|v| v.is_finite()), "{values:?} {log}");
                assert!(!axis.ticks(5).is_empty(), "{values:?} {log}");
            }
        }
    }

    #[test]
    fn a_legend_of_very_many_names_counts_the_rest() {
        let names: Vec<String> = (0..300).map(|i| format!("a run with quite a long name {i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let drawn = legend(0., &names, &[], &[]).into_string();
        assert!(drawn.contains("name 39<") && !drawn.contains("name 40<") && drawn.contains("and 260 more"), "{drawn}");
        assert_eq!(legend_height(&names, &[]), 24. + 41. * LEGEND_LINE);
    }

    #[test]
    fn lines_with_error_bars_stand_beside_one_another_and_others_where_they_belong() {
        let line =
            |key, bar| Line { key, style: Style::Solid, points: vec![Point { x: 0., y: 0., bar, mark: Mark::None }] };
        let lines = vec![line(0, Some([0., 1.])), line(1, None), line(2, Some([0., 1.]))];
        let axis = axis([0., 1.], false, false);
        let chart =
            Chart { frame: WIDE, title: String::new(), description: String::new(), x: axis.clone(), y: axis, lines };
        assert_eq!(chart.shifts(), [-3., 0., 3.]);
    }

    #[test]
    fn a_point_that_is_no_number_leaves_a_gap() {
        let point = |x: f64, y: f64| Point { x, y, bar: None, mark: Mark::None };
        let points = vec![point(0., 0.), point(1., 1.), point(2., f64::NAN), point(3., 1.), point(4., 0.)];
        let line = Line { key: 0, style: Style::Solid, points };
        let drawn = draw_line(&line, &|x| x.is_finite().then_some(x), &|y| y.is_finite().then_some(y)).into_string();
        assert!(drawn.contains("d=\"M0 0L1 1M3 1L4 0\""), "{drawn}");
    }
}
