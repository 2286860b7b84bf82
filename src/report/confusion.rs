//! What was taken for what: a matrix for a few classes, the most confused pairs for many.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::numbers;
use super::run::Run;
use crate::train::run_folder::Predictions;

/// Up to this many classes the whole matrix is shown.
const MATRIX: usize = 20;

/// How many pairs of classes, and how many classes, are listed for more.
const LISTED: usize = 12;

/// How often label `true_label` was called `predicted`; sorted by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    true_label: usize,
    predicted: usize,
    count: usize,
}

/// The pairs that occur. It needs no room for those that don't: labels come from a file.
fn cells(predictions: &Predictions) -> Vec<Cell> {
    let mut counts = BTreeMap::<(u32, u32), usize>::new();
    for pair in predictions.labels.iter().copied().zip(predictions.predicted.iter().copied()) {
        *counts.entry(pair).or_default() += 1;
    }
    let cell = |((label, predicted), count)| Cell { true_label: label as usize, predicted: predicted as usize, count };
    counts.into_iter().map(cell).collect()
}

/// A run's confusions, or nothing for a run without predictions.
pub(super) fn confusion(run: &Run) -> Option<Markup> {
    let predictions = run.predictions.as_ref().filter(|predictions| !predictions.labels.is_empty())?;
    let cells = cells(predictions);
    let largest = cells.iter().map(|cell| cell.true_label.max(cell.predicted)).max().unwrap_or(0);
    let classes = run.summary.as_ref().map_or(0, |summary| summary.classes.len()).max(largest + 1);
    Some(if classes <= MATRIX { matrix(run, &cells, classes) } else { pairs(run, &cells) })
}

fn matrix(run: &Run, cells: &[Cell], classes: usize) -> Markup {
    let mut counts = vec![vec![0; classes]; classes];
    for cell in cells {
        counts[cell.true_label][cell.predicted] = cell.count;
    }
    let names: Vec<String> = (0..classes).map(|label| run.class(label)).collect();
    // Longer names stand upright, so that the columns stay as narrow as their numbers.
    let heading = if names.iter().any(|name| name.chars().count() > 3) { "upright" } else { "level" };
    html! {
        div class="scroll" tabindex="0" role="region" aria-label={ "Confusion matrix of " (run.name) } {
            table class="matrix" {
                thead {
                    tr {
                        td {}
                        @for name in &names { th scope="col" class=(heading) { span { (name) } } }
                        th scope="col" class="recall" { "right" }
                    }
                }
                tbody {
                    @for (label, row) in counts.iter().enumerate() {
                        tr {
                            th scope="row" { (names[label]) }
                            @for (predicted, &count) in row.iter().enumerate() {
                                (matrix_cell(&names, label, predicted, count, row.iter().sum()))
                            }
                            td class="recall" { (share(row[label], row.iter().sum())) }
                        }
                    }
                }
            }
        }
    }
}

fn matrix_cell(names: &[String], label: usize, predicted: usize, count: usize, of_class: usize) -> Markup {
    if count == 0 {
        return html! { td {} };
    }
    let (part, class) = (count as f64 / of_class as f64, if label == predicted { "hit" } else { "miss" });
    // Mistakes are rare: the root lets one in a hundred still be seen.
    let shade = if label == predicted { 8. + 47. * part } else { 8. + 77. * part.sqrt() };
    let tooltip = format!("{} taken for {}: {count} of {of_class}", names[label], names[predicted]);
    html! { td class=(class) style=(format!("--share:{shade:.0}%")) title=(tooltip) { (count) } }
}

/// A part of a class in percent.
fn share(part: usize, all: usize) -> String {
    if all == 0 { "–".into() } else { numbers::percent(part as f64 / all as f64, 0) }
}

fn pairs(run: &Run, cells: &[Cell]) -> Markup {
    // Right and all, by class.
    let mut totals = BTreeMap::<usize, (usize, usize)>::new();
    for cell in cells {
        let (right, all) = totals.entry(cell.true_label).or_default();
        *all += cell.count;
        *right += if cell.true_label == cell.predicted { cell.count } else { 0 };
    }
    let mut confused: Vec<&Cell> = cells.iter().filter(|cell| cell.true_label != cell.predicted).collect();
    confused.sort_by_key(|cell| std::cmp::Reverse(cell.count));
    let mut weakest: Vec<(&usize, &(usize, usize))> = totals.iter().collect();
    weakest.sort_by(|(_, a), (_, b)| (a.0 * b.1).cmp(&(b.0 * a.1)));
    html! {
        div class="pair" {
            div class="scroll" tabindex="0" role="region" aria-label={ "Most confused classes of " (run.name) } {
                table {
                    caption { "Most confused of " (numbers::count(totals.len())) " classes" }
                    thead {
                        tr {
                            @for name in ["true", "taken for"] { th scope="col" { (name) } }
                            @for name in ["times", "of the class"] { th scope="col" class="number" { (name) } }
                        }
                    }
                    tbody {
                        @for cell in confused.iter().take(LISTED) {
                            tr {
                                td { (run.class(cell.true_label)) }
                                td { (run.class(cell.predicted)) }
                                td class="number" { (cell.count) }
                                td class="number" { (share(cell.count, totals[&cell.true_label].1)) }
                            }
                        }
                    }
                }
            }
            div class="scroll" tabindex="0" role="region" aria-label={ "Weakest classes of " (run.name) } {
                table {
                    caption { "Weakest classes" }
                    thead {
                        tr {
                            th scope="col" { "class" }
                            @for name in ["right", "images"] { th scope="col" class="number" { (name) } }
                        }
                    }
                    tbody {
                        @for (label, (right, all)) in weakest.into_iter().take(LISTED) {
                            tr {
                                th scope="row" { (run.class(*label)) }
                                td class="number" { (share(*right, *all)) }
                                td class="number" { (all) }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_that_a_file_makes_up_costs_no_memory() {
        let predictions = Predictions {
            labels: vec![u32::MAX, 3, 3],
            predicted: vec![0, 3, 3],
            confidence: vec![0.5; 3],
            mistakes: vec![],
            right: vec![],
        };
        let expected = [
            Cell { true_label: 3, predicted: 3, count: 2 },
            Cell { true_label: u32::MAX as usize, predicted: 0, count: 1 },
        ];
        assert_eq!(cells(&predictions), expected);
    }
}
