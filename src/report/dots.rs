//! A dot plot as SVG: a row for each of several named things, dots with error bars along one axis.

use maud::{Markup, html};

use super::chart::{Axis, FONT, PALETTE, WIDTH, colour, legend, legend_height, round, shape};
use super::text::wrapped;

/// Between the left edge and the axis stand the names.
const LEFT: f64 = 184.;
const RIGHT: f64 = 16.;
/// The height of a row, and of every line of a name beyond the first.
const ROW: f64 = 26.;
const NAME_LINE: f64 = 15.;
const BOTTOM: f64 = 46.;
/// Characters of a name that fit into a line.
const NAME: usize = 24;

/// A dot plot.
pub(super) struct Dots {
    /// What it shows, in a few words.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// From top to bottom.
    pub rows: Vec<Row>,
}

/// A row.
pub(super) struct Row {
    /// What stands before it.
    pub name: String,
    /// A dot for each key, where there is one; the first lies above the others.
    pub dots: [Option<Dot>; 2],
}

/// A dot.
pub(super) struct Dot {
    /// Where it is.
    pub at: f64,
    /// From where to where its bar goes.
    pub bar: Option<[f64; 2]>,
    /// What it says when it is pointed at.
    pub tip: String,
}

impl Dots {
    /// The plot for a page that has a legend of its own.
    pub fn inline(&self) -> Markup {
        self.svg(&[])
    }

    /// The plot for a file of its own; `keys` names the kinds of dots.
    pub fn standalone(&self, keys: &[&str]) -> String {
        self.svg(keys).into_string()
    }

    fn svg(&self, keys: &[&str]) -> Markup {
        let standalone = !keys.is_empty();
        let top = 8. + if standalone { legend_height(keys, &[]) } else { 0. };
        let names: Vec<Vec<String>> = self.rows.iter().map(|row| wrapped(&row.name, NAME)).collect();
        let (middles, bottom) = middles(top, &names);
        let height = bottom + BOTTOM;
        let right = WIDTH - RIGHT;
        let at = |x: f64| self.x.place(x).map(|place| round(LEFT + place * (right - LEFT)));
        let ticks: Vec<(f64, String)> =
            self.x.ticks(5).into_iter().filter_map(|(tick, label)| Some((at(tick)?, label))).collect();
        let described: Vec<&str> =
            self.rows.iter().filter_map(|row| row.dots[0].as_ref()).map(|dot| dot.tip.as_str()).collect();
        html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (WIDTH) " " (height) } class="chart" role="img"
                aria-label={ (self.title) ". " (described.join("; ")) "." } font-family=(FONT) font-size="12"
                width=[standalone.then_some(2. * WIDTH)] {
                @if standalone {
                    rect width=(WIDTH) height=(height) fill="#ffffff" {}
                    text x="14" y="22" font-size="14" font-weight="600" fill="#222222" { (self.title) }
                    (legend(14., keys, &[], &[]))
                }
                g class="grid" stroke="#dddddd" stroke-width="1" {
                    @for (x, _) in &ticks { line x1=(x) x2=(x) y1=(top) y2=(bottom) {} }
                }
                g class="axis" stroke="#888888" stroke-width="1" {
                    line x1=(LEFT) x2=(right) y1=(bottom) y2=(bottom) {}
                }
                g class="ink" fill="#444444" {
                    @for (x, label) in &ticks { text x=(x) y=(bottom + 18.) text-anchor="middle" { (label) } }
                    text x=((LEFT + right) / 2.) y=(height - 8.) text-anchor="middle" { (self.x.label) }
                    @for (lines, middle) in names.iter().zip(&middles) {
                        @let first = middle + 4. - NAME_LINE * (lines.len() - 1) as f64 / 2.;
                        @for (i, line) in lines.iter().enumerate() {
                            text x=(LEFT - 10.) y=(round(first + NAME_LINE * i as f64)) text-anchor="end" { (line) }
                        }
                    }
                }
                @for (row, middle) in self.rows.iter().zip(&middles) {
                    @for (key, dot) in row.dots.iter().enumerate().rev() {
                        @if let Some(dot) = dot { (draw(dot, key, *middle, &at)) }
                    }
                }
            }
        }
    }
}

/// The middle of every row, whose height follows from its name's lines, and where the last one ends.
fn middles(top: f64, names: &[Vec<String>]) -> (Vec<f64>, f64) {
    let mut y = top;
    let middle = |lines: &Vec<String>| {
        let height = ROW + NAME_LINE * (lines.len() - 1) as f64;
        y += height;
        y - height / 2.
    };
    let middles = names.iter().map(middle).collect();
    (middles, y)
}

fn draw(dot: &Dot, key: usize, y: f64, at: &dyn Fn(f64) -> Option<f64>) -> Markup {
    let class = format!("run-{}", key % PALETTE.len());
    let bar = dot.bar.and_then(|[low, high]| Some((at(low)?, at(high)?)));
    html! {
        @if let Some((low, high)) = bar {
            path class={ (class) " bar" } fill="none" stroke=(colour(key)) stroke-width="1.5"
                d={ "M" (low) " " (y) "H" (high) "M" (low) " " (y - 4.) "v8M" (high) " " (y - 4.) "v8" } {}
        }
        @if let Some(x) = at(dot.at) {
            g class={ (class) " mark" } fill=(colour(key)) stroke=(colour(key)) stroke-width="0" {
                g { title { (dot.tip) } path d=(shape(key, x, y)) {} }
            }
        }
    }
}
