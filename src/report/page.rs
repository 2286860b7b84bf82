//! The page: everything a reader sees, in the order in which it is read.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{self, Chart};
use super::comparison::{Comparison, LEVEL, Outcome, Row};
use super::configuration::differences;
use super::run::Run;
use super::{confusion, curves, mistakes, numbers};

const STYLE: &str = include_str!("style.css");

/// Up to this many runs stand side by side in the tables; more stand below each other.
const COLUMNS: usize = 4;

/// Up to this many runs have every pair's test shown; beyond, each run's test against the best.
const PAIRWISE: usize = 12;

/// The whole file.
pub(super) fn page(runs: &[Run], comparison: &Comparison, loss: &Chart, accuracy: &Chart) -> String {
    let title = match runs {
        [run] => run.name.clone(),
        [a, b] => format!("{} against {}", a.name, b.name),
        [first, rest @ ..] => format!("{} and {} other runs", first.name, rest.len()),
        [] => "No runs".into(),
    };
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "Tallow " (env!("CARGO_PKG_VERSION")) };
                title { (title) " – Tallow" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    p class="headline" { (comparison.headline) }
                }
                main {
                    (curves_section(runs, loss, accuracy))
                    (numbers_section(comparison))
                    @if runs.len() > 1 { (tests_section(comparison)) }
                    section aria-labelledby="confusion" {
                        h2 id="confusion" { "What was taken for what" }
                        p class="note" {
                            "The chosen checkpoint's answers on the test set: a row is what the images are, a column what they \
                             were taken for."
                        }
                        div class="side-by-side" { @for run in runs { (confusion::confusion(run)) } }
                    }
                    @if runs.iter().any(|run| run.predictions.as_ref().is_some_and(|p| !p.mistakes.is_empty())) {
                        section aria-labelledby="mistakes" {
                            h2 id="mistakes" { "The most confident mistakes" }
                            p class="note" { "Test images that the chosen checkpoint is most sure of and wrong about." }
                            (mistakes::mistakes(runs))
                        }
                    }
                    (configuration_section(runs))
                }
                footer { "Written by Tallow " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    };
    markup.into_string()
}

fn curves_section(runs: &[Run], loss: &Chart, accuracy: &Chart) -> Markup {
    let smoothing = setting_differs(runs, "label_smoothing");
    html! {
        section aria-labelledby="curves" {
            h2 id="curves" { "Curves" }
            ul class="legend" {
                @if runs.len() > 1 {
                    @for (key, run) in runs.iter().enumerate() { li { (chart::swatch(key)) (run.name) } }
                }
                @for (style, name) in curves::styles(runs) { li { (chart::style_swatch(style)) (name) } }
                li {
                    svg class="swatch" viewBox="0 0 28 12" width="28" height="12" aria-hidden="true" {
                        circle cx="14" cy="6" r="5" fill="none" stroke="currentColor" stroke-width="1.5" {}
                    }
                    "chosen checkpoint"
                }
            }
            div class="side-by-side" {
                figure {
                    (loss.inline())
                    figcaption {
                        "Loss over optimiser steps. Training loss: pale line as measured on each step's batch, dashed line its \
                         exponential mean over a thirtieth of the run. Test loss: after each epoch."
                        @if smoothing { " The runs differ in label smoothing, so their training losses do not compare." }
                    }
                }
                figure {
                    (accuracy.inline())
                    figcaption {
                        "Accuracy over epochs. Training accuracy is measured while the weights change, over the epoch; test \
                         accuracy after it."
                    }
                }
            }
        }
    }
}

fn setting_differs(runs: &[Run], key: &str) -> bool {
    runs.iter().any(|run| run.setting(key) != runs[0].setting(key))
}

/// A table with a column a run where there are few, and a row a run where there are many. `rows` are the things told of every
/// run: a name, a value a run, and whether the values are numbers.
fn table(label: &str, names: &[String], rows: &[(Markup, Vec<Markup>, bool)]) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label=(label) {
            @if names.len() <= COLUMNS {
                table class="facts" {
                    thead { tr { td {} @for name in names { th scope="col" { (name) } } } }
                    tbody {
                        @for (name, values, number) in rows {
                            tr {
                                th scope="row" { (name) }
                                @for value in values { td class=[number.then_some("figure")] { (value) } }
                            }
                        }
                    }
                }
            } @else {
                table {
                    thead { tr { th scope="col" { "run" } @for (name, _, number) in rows { th scope="col" class=[number.then_some("number")] { (name) } } } }
                    tbody {
                        @for (run, name) in names.iter().enumerate() {
                            tr {
                                th scope="row" { (name) }
                                @for (_, values, number) in rows { td class=[number.then_some("number")] { (values[run]) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn numbers_section(comparison: &Comparison) -> Markup {
    let rows = &comparison.runs;
    let names: Vec<String> = rows
        .iter()
        .enumerate()
        .map(|(_, row)| if row.finished { row.name.clone() } else { format!("{} (unfinished)", row.name) })
        .collect();
    let each = |value: &dyn Fn(&Row) -> Markup| -> Vec<Markup> { rows.iter().map(value).collect() };
    let text = |value: Option<&String>| html! { @match value { Some(text) => { (text) }, None => { "–" } } };
    let percent = |row: &Row, share: Option<f64>| {
        share.map_or_else(|| "–".into(), |share| numbers::percent(share, row.test_samples.unwrap_or(0)))
    };
    let facts = [
        (
            html! { "test accuracy" },
            each(&|row| {
                html! {
                    strong { (percent(row, row.test_accuracy)) }
                    @if let Some(interval) = row.interval {
                        " " span class="quiet" { (numbers::interval(interval, row.test_samples.unwrap_or(0))) }
                    }
                }
            }),
            true,
        ),
        (html! { "after the last epoch" }, each(&|row| html! { (percent(row, row.final_test_accuracy)) }), true),
        (
            html! { "chosen checkpoint" },
            each(&|row| {
                html! {
                    @match (row.best_epoch, row.chosen_by.as_deref()) {
                        (Some(epoch), Some("last")) => { "epoch " (epoch + 1) ", the last" },
                        (Some(epoch), Some("val_accuracy")) => { "epoch " (epoch + 1) ", best on validation" },
                        (Some(epoch), by) => { "epoch " (epoch + 1) @if let Some(by) = by { ", by " (by) } },
                        (None, _) => { "–" },
                    }
                }
            }),
            true,
        ),
        (html! { "top-5 accuracy" }, each(&|row| html! { (percent(row, row.test_top5)) }), true),
        (html! { "test images" }, each(&|row| html! { (row.test_samples.map_or("–".into(), numbers::count)) }), true),
        (html! { "model" }, each(&|row| text(row.model.as_ref())), false),
        (
            html! { "weights" },
            each(&|row| {
                html! {
                    @match (&row.weights, row.finished) { (Some(weights), _) => (weights), (None, true) => "from scratch", (None, false) => "–" }
                }
            }),
            false,
        ),
        (html! { "data" }, each(&|row| text(row.data.as_ref())), false),
        (
            html! { "parameters" },
            each(&|row| {
                html! {
                    @match (row.parameters, row.trainable_parameters) {
                        (Some(all), Some(trained)) => {
                            (numbers::short_count(all))
                            " " span class="quiet" { @if all == trained { "all trained" } @else { (numbers::short_count(trained)) " trained" } }
                        },
                        _ => { "–" },
                    }
                }
            }),
            true,
        ),
        (html! { "epochs" }, each(&|row| html! { (numbers::count(row.epochs)) }), true),
        (html! { "steps" }, each(&|row| html! { (numbers::count(row.steps)) }), true),
        (html! { "time" }, each(&|row| html! { (row.seconds.map_or("–".into(), numbers::duration)) }), true),
        (
            html! { "images a second" },
            each(&|row| html! { (row.images_per_second.map_or("–".into(), numbers::rate)) }),
            true,
        ),
        (
            html! { "peak memory" },
            each(&|row| html! { (row.peak_memory_bytes.map_or("–".into(), numbers::bytes)) }),
            true,
        ),
        (
            html! { "device" },
            each(&|row| {
                html! {
                    (text(row.device.as_ref()))
                    @if let Some(threads) = row.threads { ", " (threads) " " (if threads == 1 { "thread" } else { "threads" }) }
                }
            }),
            false,
        ),
    ];
    html! {
        section aria-labelledby="numbers" {
            h2 id="numbers" { "Numbers" }
            (table("Numbers of each run", &names, &facts))
            p class="note" {
                "Test accuracy is that of the chosen checkpoint, with its 95 % interval (Wilson) in percent. Images a second: \
                 training, median over the epochs. Memory: peak of the process."
            }
        }
    }
}

fn tests_section(comparison: &Comparison) -> Markup {
    let names: Vec<&str> = comparison.runs.iter().map(|row| row.name.as_str()).collect();
    let tested = comparison.tests.iter().filter(|test| matches!(test.outcome, Outcome::Tested { .. })).count();
    html! {
        section aria-labelledby="tests" {
            h2 id="tests" { "More than chance?" }
            @if let [test] = &comparison.tests[..] {
                (one_test(names[test.a], names[test.b], &test.outcome))
            } @else if names.len() <= PAIRWISE {
                (pairwise(comparison, &names))
            } @else {
                (against_best(comparison, &names))
            }
            @if tested > 0 {
                p class="note" {
                    "McNemar's exact test counts the images that one run got right and the other wrong; were neither better, they \
                     would fall to either side like coins. A difference below p = " (LEVEL) " counts as more than chance"
                    @if tested > 1 { ", after Holm's correction for " (tested) " tests" }
                    ". It compares these trained weights on these test images: another seed may give other weights."
                }
            }
        }
    }
}

fn one_test(a: &str, b: &str, outcome: &Outcome) -> Markup {
    let Outcome::Tested { both, only_a, only_b, neither, difference, p, .. } = outcome else {
        return html! { p { (outcome.verdict(false)) "." } };
    };
    let samples = both + only_a + only_b + neither;
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Which run got how many test images right" {
            table {
                caption { "Of " (numbers::count(samples)) " test images" }
                thead { tr { td {} th scope="col" class="number" { (b) " right" } th scope="col" class="number" { (b) " wrong" } } }
                tbody {
                    tr { th scope="row" { (a) " right" } td class="number" { (numbers::count(*both)) } td class="number" { (numbers::count(*only_a)) } }
                    tr { th scope="row" { (a) " wrong" } td class="number" { (numbers::count(*only_b)) } td class="number" { (numbers::count(*neither)) } }
                }
            }
        }
        p {
            "The difference of " (numbers::points(*difference, samples)) " points is " (outcome.verdict(false)) "."
            @if *p < 0.001 && *p > 0. { " In full, p = " (format!("{p:.1e}")) "." }
        }
    }
}

/// The difference in points as seen from run `a`, with its p-value.
fn cell(comparison: &Comparison, a: usize, b: usize) -> Markup {
    let Some(test) = comparison.test(a, b) else { return html! { td class="none" { "–" } } };
    match &test.outcome {
        Outcome::Tested { both, only_a, only_b, neither, difference, p_corrected, .. } => {
            let seen = if test.a == a { *difference } else { -difference };
            let sign = if seen > 0. {
                "+"
            } else if seen < 0. {
                "−"
            } else {
                "±"
            };
            html! {
                td class=[(*p_corrected < LEVEL).then_some(if seen > 0. { "number better" } else { "number worse" }).or(Some("number"))] {
                    (sign) (numbers::points(seen, both + only_a + only_b + neither)) br;
                    span class="quiet" { (numbers::p_value(*p_corrected)) }
                }
            }
        }
        Outcome::NotTested { reason } => html! { td class="number none" title=(reason) { "not tested" } },
    }
}

fn pairwise(comparison: &Comparison, names: &[&str]) -> Markup {
    let mut reasons: Vec<&String> = comparison
        .tests
        .iter()
        .filter_map(|test| match &test.outcome {
            Outcome::NotTested { reason } => Some(reason),
            Outcome::Tested { .. } => None,
        })
        .collect();
    reasons.sort();
    reasons.dedup();
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Differences between all pairs of runs" {
            table {
                caption { "Points by which the run of a row is ahead of the run of a column; bold where it is more than chance" }
                thead { tr { td {} @for name in names { th scope="col" class="number" { (name) } } } }
                tbody {
                    @for (a, name) in names.iter().enumerate() {
                        tr { th scope="row" { (name) } @for b in 0..names.len() { (cell(comparison, a, b)) } }
                    }
                }
            }
        }
        @for reason in reasons { p class="note" { "Not tested: " (reason) "." } }
    }
}

fn against_best(comparison: &Comparison, names: &[&str]) -> Markup {
    let accuracy = |run: usize| comparison.runs[run].test_accuracy.unwrap_or(-1.);
    let best = (0..names.len()).rev().max_by(|&a, &b| accuracy(a).total_cmp(&accuracy(b))).unwrap_or(0);
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Differences from the best run" {
            table {
                caption { "Points by which each run differs from the best, " (names[best]) "; bold where it is more than chance" }
                thead { tr { th scope="col" { "run" } th scope="col" class="number" { "difference" } } }
                tbody { @for (run, name) in names.iter().enumerate() { tr { th scope="row" { (name) } (cell(comparison, run, best)) } } }
            }
        }
    }
}

fn configuration_section(runs: &[Run]) -> Markup {
    let found = if runs.len() > 1 { differences(runs) } else { vec![] };
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    let rows: Vec<(Markup, Vec<Markup>, bool)> = found
        .iter()
        .map(|difference| {
            let values = difference.values.iter();
            let cell = |value: &Option<String>| html! { @match value { Some(value) => code { (value) }, None => span class="quiet" { "not set" } } };
            (html! { code { (difference.setting) } }, values.map(cell).collect(), false)
        })
        .collect();
    html! {
        section aria-labelledby="configuration" {
            h2 id="configuration" { "Configuration" }
            @if !rows.is_empty() {
                p class="note" { "The settings in which the runs differ." }
                (table("Settings in which the runs differ", &names, &rows))
            } @else if runs.len() > 1 {
                p { "The runs have the same settings." }
            }
            @for run in runs {
                @if !run.config.is_empty() {
                    details { summary { "All settings of " (run.name) } pre tabindex="0" { (run.config.to_string()) } }
                }
            }
        }
    }
}
