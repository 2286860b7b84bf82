//! Small multiples: the curves of every value of a sweep in a chart of their own, all with the same axes.

use maud::{Markup, html};

use super::chart::{Chart, FONT, Mark, SMALL, Style, legend, legend_height};
use super::curves;
use super::run::Run;

/// Small charts side by side in a file of their own.
const COLUMNS: usize = 4;

/// More charts than this are not looked at.
const MOST: usize = 16;

/// In so few points a line needs its markers to be seen.
const MARKED: usize = 8;

/// Space between charts, and the height of a heading.
const GAP: f64 = 10.;
const HEADING: f64 = 24.;

/// Small charts in rows.
pub(super) struct Multiples {
    /// What they show, in a few words.
    title: String,
    /// What the charts of a row have on their axes, and the charts.
    rows: Vec<(String, Vec<Chart>)>,
}

/// Loss and accuracy of every course in charts of their own, which are called as `labels` say, by their `order`; none for too
/// many.
pub(super) fn multiples(courses: &[Run], labels: &[String], order: &[usize], title: String) -> Option<Multiples> {
    if courses.len() > MOST {
        return None;
    }
    let row = |all: Chart, of_one: fn(&[Run]) -> Chart| {
        let small = |&i: &usize| {
            let mut chart = of_one(std::slice::from_ref(&courses[i]));
            (chart.frame, chart.title) = (SMALL, labels[i].clone());
            (chart.x, chart.y) = (all.x.clone(), all.y.clone());
            chart.lines.retain(|line| line.style != Style::Faint);
            for line in &mut chart.lines {
                line.key = i;
                if line.points.len() > MARKED {
                    line.points.iter_mut().for_each(|point| point.mark = Mark::None);
                }
            }
            chart
        };
        (all.title, order.iter().map(small).collect())
    };
    let rows = vec![row(curves::loss(courses), curves::loss), row(curves::accuracy(courses), curves::accuracy)];
    Some(Multiples { title, rows })
}

impl Multiples {
    /// The charts for a page.
    pub fn inline(&self) -> Markup {
        html! {
            @for (heading, charts) in &self.rows {
                figure {
                    div class="multiples" { @for chart in charts { (chart.inline()) } }
                    figcaption { (heading) ", every chart with the same axes." }
                }
            }
        }
    }

    /// The charts as one picture in a file of its own.
    pub fn standalone(&self, styles: &[(Style, &str)]) -> String {
        let columns = self.rows.iter().map(|(_, charts)| charts.len()).max().unwrap_or(0).clamp(1, COLUMNS);
        let lines = |charts: &[Chart]| charts.len().div_ceil(columns) as f64;
        let width = (columns as f64 * (SMALL.width + GAP) + GAP).max(440.);
        let top = legend_height(&[], styles) + GAP;
        let (mut y, mut drawn) = (top, vec![]);
        for (heading, charts) in &self.rows {
            drawn.push((y, heading, charts));
            y += HEADING + lines(charts) * (SMALL.height + GAP);
        }
        let picture = html! {
            svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (width) " " (y) } class="chart" role="img"
                aria-label=(self.title) font-family=(FONT) font-size="12" width=(1.5 * width) {
                rect width=(width) height=(y) fill="#ffffff" {}
                text x=(GAP) y="22" font-size="14" font-weight="600" fill="#222222" { (self.title) }
                (legend(GAP, &[], &[], styles))
                @for (y, heading, charts) in drawn {
                    text x=(GAP) y=(y + 14.) font-weight="600" fill="#444444" { (heading) }
                    @for (i, chart) in charts.iter().enumerate() {
                        (chart.nested([
                            GAP + (i % columns) as f64 * (SMALL.width + GAP),
                            y + HEADING + (i / columns) as f64 * (SMALL.height + GAP),
                        ]))
                    }
                }
            }
        };
        picture.into_string()
    }
}
