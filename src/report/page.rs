//! The page: everything a reader sees, in the order in which it is read.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{self, Chart};
use super::comparison::{Comparison, LEVEL, Outcome, Row};
use super::configuration::differences;
use super::run::Run;
use super::{confusion, curves, mistakes, numbers};

const STYLE: &str = include_str!("style.css");

/// Up to this many runs stand side by side in the tables, and show everything at once; more stand below each other, and
/// all but the best are folded.
const FEW: usize = 4;

/// Up to this many runs have every pair's test shown; beyond, each run's test against the best.
const PAIRWISE: usize = 12;

/// The whole file.
pub(super) fn page(runs: &[Run], comparison: &Comparison, loss: &Chart, accuracy: &Chart) -> String {
    let title = title(runs);
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
                    (numbers_section(&comparison.runs))
                    @if runs.len() > 1 { (tests_section(comparison)) }
                    (confusion_section(runs, comparison))
                    (mistakes_section(runs, comparison))
                    (configuration_section(runs))
                }
                footer { "Written by Tallow " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    };
    markup.into_string()
}

fn title(runs: &[Run]) -> String {
    if let [a, b] = runs {
        return format!("{} against {}", a.name, b.name);
    }
    let names = runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    if runs.len() == 1 || names.chars().count() <= 60 { names } else { format!("{} runs compared", runs.len()) }
}

/// The run with the best test accuracy.
fn best(comparison: &Comparison) -> usize {
    let accuracy = |run: &usize| comparison.runs[*run].test_accuracy.unwrap_or(-1.);
    (0..comparison.runs.len()).rev().max_by(|a, b| accuracy(a).total_cmp(&accuracy(b))).unwrap_or(0)
}

/// What can be wider than a phone: it scrolls by itself, with the keyboard too.
fn scrolling(label: &str, content: Markup) -> Markup {
    html! { div class="scroll" tabindex="0" role="region" aria-label=(label) { (content) } }
}

fn curves_section(runs: &[Run], loss: &Chart, accuracy: &Chart) -> Markup {
    let smoothing = runs.iter().any(|run| run.setting("label_smoothing") != runs[0].setting("label_smoothing"));
    html! {
        section aria-labelledby="curves" {
            h2 id="curves" { "Curves" }
            ul class="legend" {
                @if runs.len() > 1 {
                    @for (key, run) in runs.iter().enumerate() { li { (chart::swatch(key)) (run.name) } }
                }
                @for (style, name) in curves::styles(runs) { li { (chart::style_swatch(style)) (name) } }
                @if runs.iter().any(|run| run.summary.is_some()) { li { (chart::ring_swatch()) "chosen checkpoint" } }
            }
            div class="side-by-side" {
                figure {
                    (loss.inline())
                    figcaption {
                        "Loss over optimiser steps. Training loss is drawn as its exponential mean over a thirtieth of \
                         the run" @if runs.len() <= curves::FEW { ", over the pale line of what each step's batch gave" }
                        "; test loss as it was after each epoch."
                        @if smoothing {
                            " The runs differ in label smoothing, so their training losses do not compare."
                        }
                    }
                }
                figure {
                    (accuracy.inline())
                    figcaption {
                        "Accuracy over epochs. Training accuracy is measured over the epoch, while the weights change; \
                         test accuracy after it."
                    }
                }
            }
        }
    }
}

/// Something told of every run: what it is, whether it is a number, and its value in each run.
struct Fact {
    name: Markup,
    number: bool,
    values: Vec<Markup>,
}

/// A table with a column a run where there are few, and a row a run where there are many. Then what is the same in
/// every run is told once, below.
fn fact_table(label: &str, names: &[String], facts: &[Fact]) -> Markup {
    if names.len() <= FEW {
        let table = html! {
            table class="facts" {
                thead { tr { td {} @for name in names { th scope="col" { (name) } } } }
                tbody {
                    @for fact in facts {
                        tr { th scope="row" { (fact.name) } @for value in &fact.values { td { (value) } } }
                    }
                }
            }
        };
        return scrolling(label, table);
    }
    let same = |fact: &&Fact| fact.values.iter().all(|value| value.0 == fact.values[0].0);
    let (common, own): (Vec<&Fact>, Vec<&Fact>) = facts.iter().partition(same);
    let class = |fact: &Fact| fact.number.then_some("number");
    let table = html! {
        table class="wide" {
            thead {
                tr { th scope="col" { "run" } @for fact in &own { th scope="col" class=[class(fact)] { (fact.name) } } }
            }
            tbody {
                @for (run, name) in names.iter().enumerate() {
                    tr {
                        th scope="row" { (name) }
                        @for fact in &own { td class=[class(fact)] { (fact.values[run]) } }
                    }
                }
            }
        }
    };
    html! {
        (scrolling(label, table))
        @if !common.is_empty() {
            p class="note" {
                "The same in every run: "
                @for (i, fact) in common.iter().enumerate() {
                    @if i > 0 { ", " }
                    (fact.name) " " span class="common" { (fact.values[0]) }
                }
                "."
            }
        }
    }
}

fn numbers_section(rows: &[Row]) -> Markup {
    let name = |row: &Row| if row.finished { row.name.clone() } else { format!("{} (unfinished)", row.name) };
    let names: Vec<String> = rows.iter().map(name).collect();
    html! {
        section aria-labelledby="numbers" {
            h2 id="numbers" { "Numbers" }
            (fact_table("Numbers of each run", &names, &facts(rows)))
            p class="note" {
                "Test accuracy is that of the chosen checkpoint, with its 95 % interval (Wilson) in percent. Images a \
                 second: training, median over the epochs. Memory: peak of the process."
            }
        }
    }
}

fn facts(rows: &[Row]) -> Vec<Fact> {
    let fact = |name: &str, number: bool, value: &dyn Fn(&Row) -> Markup| Fact {
        name: html! { (name) },
        number,
        values: rows.iter().map(value).collect(),
    };
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".into());
    let percent = |row: &Row, share: Option<f64>| {
        or_dash(share.map(|share| numbers::percent(share, row.test_samples.unwrap_or(0))))
    };
    let accuracy = |row: &Row| {
        html! {
            strong { (percent(row, row.test_accuracy)) }
            @if let Some(interval) = row.interval {
                " " span class="quiet" { (numbers::interval(interval, row.test_samples.unwrap_or(0))) }
            }
        }
    };
    let chosen = |row: &Row| {
        html! {
            @match (row.best_epoch, row.chosen_by.as_deref()) {
                (Some(epoch), Some("last")) => { "epoch " (epoch + 1) ", the last" },
                (Some(epoch), Some("val_accuracy")) => { "epoch " (epoch + 1) ", best on validation" },
                (Some(epoch), by) => { "epoch " (epoch + 1) @if let Some(by) = by { ", by " (by) } },
                (None, _) => { "–" },
            }
        }
    };
    let weights = |row: &Row| {
        html! {
            @match (&row.weights, row.finished) {
                (Some(weights), _) => (weights),
                (None, true) => "from scratch",
                (None, false) => "–",
            }
        }
    };
    let parameters = |row: &Row| {
        html! {
            @if let (Some(all), Some(trained)) = (row.parameters, row.trainable_parameters) {
                (numbers::short_count(all)) " "
                span class="quiet" {
                    @if all == trained { "all trained" } @else { (numbers::short_count(trained)) " trained" }
                }
            } @else { "–" }
        }
    };
    let device = |row: &Row| {
        html! {
            (or_dash(row.device.clone()))
            @if let Some(threads) = row.threads { ", " (threads) @if threads == 1 { " thread" } @else { " threads" } }
        }
    };
    vec![
        fact("test accuracy", true, &accuracy),
        fact("after the last epoch", true, &|row| html! { (percent(row, row.final_test_accuracy)) }),
        fact("chosen checkpoint", false, &chosen),
        fact("top-5 accuracy", true, &|row| html! { (percent(row, row.test_top5)) }),
        fact("test loss", true, &|row| html! { (or_dash(row.test_loss.map(numbers::value))) }),
        fact("epochs", true, &|row| html! { (numbers::count(row.epochs)) }),
        fact("steps", true, &|row| html! { (numbers::count(row.steps)) }),
        fact("time", true, &|row| html! { (or_dash(row.seconds.map(numbers::duration))) }),
        fact("images a second", true, &|row| html! { (or_dash(row.images_per_second.map(numbers::rate))) }),
        fact("peak memory", true, &|row| html! { (or_dash(row.peak_memory_bytes.map(numbers::bytes))) }),
        fact("parameters", false, &parameters),
        fact("model", false, &|row| html! { (or_dash(row.model.clone())) }),
        fact("weights", false, &weights),
        fact("data", false, &|row| html! { (or_dash(row.data.clone())) }),
        fact("test images", true, &|row| html! { (or_dash(row.test_samples.map(numbers::count))) }),
        fact("device", false, &device),
    ]
}

fn tests_section(comparison: &Comparison) -> Markup {
    let names: Vec<&str> = comparison.runs.iter().map(|row| row.name.as_str()).collect();
    let tested = comparison.tests.iter().filter(|test| matches!(test.outcome, Outcome::Tested { .. })).count();
    html! {
        section aria-labelledby="tests" {
            h2 id="tests" { "More than chance?" }
            @if let [test] = &comparison.tests[..] {
                (one_test(names[test.a], names[test.b], &test.outcome))
            } @else {
                @let all = names.len() <= PAIRWISE;
                @if all { (pairwise(comparison, &names)) } @else { (against_best(comparison, &names)) }
                (reasons(comparison))
            }
            @if tested > 0 {
                p class="note" {
                    "McNemar's exact test counts the images that one run got right and the other wrong; were neither \
                     better, they would fall to either side like coins. A difference below p = " (LEVEL)
                    " counts as more than chance"
                    @if tested > 1 { ", after Holm's correction for " (tested) " tests" }
                    ". It compares these trained weights on these test images: another seed may give other weights."
                }
            }
        }
    }
}

fn one_test(a: &str, b: &str, outcome: &Outcome) -> Markup {
    let Outcome::Tested { both, only_a, only_b, neither, difference, p, .. } = outcome else {
        return html! { p { (capitalised(&outcome.verdict(false))) "." } };
    };
    let samples = both + only_a + only_b + neither;
    let counts = html! {
        table {
            caption { "Of " (numbers::count(samples)) " test images" }
            thead { tr { td {} @for what in ["right", "wrong"] { th scope="col" class="number" { (b) " " (what) } } } }
            tbody {
                @for (what, counts) in [("right", [both, only_a]), ("wrong", [only_b, neither])] {
                    tr {
                        th scope="row" { (a) " " (what) }
                        @for count in counts { td class="number" { (numbers::count(*count)) } }
                    }
                }
            }
        }
    };
    html! {
        (scrolling("Which run got how many test images right", counts))
        p {
            "The difference of " (numbers::points(*difference, samples)) " points is " (outcome.verdict(false)) "."
            @if *p < 0.001 && *p > 0. { " In full, p = " (format!("{p:.1e}")) "." }
        }
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The difference in points as seen from run `a`, with its p-value.
fn difference(comparison: &Comparison, a: usize, b: usize) -> Markup {
    match comparison.test(a, b).map(|test| (test, &test.outcome)) {
        Some((test, Outcome::Tested { both, only_a, only_b, neither, difference, p_corrected, .. })) => {
            let seen = if test.a == a { *difference } else { -difference };
            let sign = if seen > 0. { "+" } else { if seen < 0. { "−" } else { "" } };
            html! {
                td class="number" {
                    span class=[(*p_corrected < LEVEL).then_some("sure")] {
                        (sign) (numbers::points(seen, both + only_a + only_b + neither))
                    }
                    br; span class="quiet" { (numbers::p_value(*p_corrected)) }
                }
            }
        }
        Some((_, Outcome::NotTested { reason })) => html! { td class="number quiet" title=(reason) { "not tested" } },
        None => html! { td class="number quiet" { "–" } },
    }
}

fn pairwise(comparison: &Comparison, names: &[&str]) -> Markup {
    let table = html! {
        table {
            caption {
                "Points by which the run of a row is ahead of the run of a column; bold where it is more than chance"
            }
            thead { tr { td {} @for name in names { th scope="col" class="number" { (name) } } } }
            tbody {
                @for (a, name) in names.iter().enumerate() {
                    tr { th scope="row" { (name) } @for b in 0..names.len() { (difference(comparison, a, b)) } }
                }
            }
        }
    };
    scrolling("Differences between all pairs of runs", table)
}

fn against_best(comparison: &Comparison, names: &[&str]) -> Markup {
    let best = best(comparison);
    let table = html! {
        table {
            caption {
                "Points by which each run is ahead of the best, " (names[best]) "; bold where it is more than chance"
            }
            thead { tr { th scope="col" { "run" } th scope="col" class="number" { "difference" } } }
            tbody {
                @for (run, name) in names.iter().enumerate() {
                    tr { th scope="row" { (name) } (difference(comparison, run, best)) }
                }
            }
        }
    };
    scrolling("Differences from the best run", table)
}

/// Why some pairs were not tested.
fn reasons(comparison: &Comparison) -> Markup {
    let mut reasons: Vec<(usize, &str)> = vec![];
    for test in &comparison.tests {
        let Outcome::NotTested { reason } = &test.outcome else { continue };
        match reasons.iter_mut().find(|(_, known)| known == reason) {
            Some((pairs, _)) => *pairs += 1,
            None => reasons.push((1, reason)),
        }
    }
    html! {
        @for (pairs, reason) in reasons {
            p class="note" { (pairs) @if pairs == 1 { " pair" } @else { " pairs" } " not tested: " (reason) "." }
        }
    }
}

/// What each run shows; of many runs all but the best are folded.
fn each_run(runs: &[Run], comparison: &Comparison, show: impl Fn(&Run) -> Option<Markup>) -> Markup {
    let best = best(comparison);
    let shown = runs.iter().enumerate().filter_map(|(i, run)| Some((i, run, show(run)?)));
    html! {
        @for (i, run, content) in shown {
            @if runs.len() <= FEW {
                div { @if runs.len() > 1 { h3 { (run.name) } } (content) }
            } @else {
                details open[i == best] { summary { (run.name) } (content) }
            }
        }
    }
}

fn confusion_section(runs: &[Run], comparison: &Comparison) -> Markup {
    if runs.iter().all(|run| confusion::confusion(run).is_none()) {
        return html! {};
    }
    html! {
        section aria-labelledby="confusion" {
            h2 id="confusion" { "What was taken for what" }
            p class="note" {
                "The chosen checkpoint's answers on the test set. In a matrix a row is what the images are, a column what \
                 they were taken for."
            }
            div class=[(runs.len() <= FEW).then_some("side-by-side")] {
                (each_run(runs, comparison, confusion::confusion))
            }
        }
    }
}

fn mistakes_section(runs: &[Run], comparison: &Comparison) -> Markup {
    let mistakes = |run: &Run| mistakes::mistakes(run, runs.len());
    if runs.iter().all(|run| mistakes(run).is_none()) {
        return html! {};
    }
    html! {
        section aria-labelledby="mistakes" {
            h2 id="mistakes" { "The most confident mistakes" }
            p class="note" { "Test images that the chosen checkpoint was most sure of and wrong about." }
            (each_run(runs, comparison, mistakes))
        }
    }
}

fn configuration_section(runs: &[Run]) -> Markup {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    let cell = |value: &Option<String>| {
        html! { @match value { Some(value) => code { (value) }, None => span class="quiet" { "not set" } } }
    };
    let found: Vec<Fact> = differences(runs)
        .iter()
        .map(|difference| Fact {
            name: html! { code { (difference.setting) } },
            number: false,
            values: difference.values.iter().map(cell).collect(),
        })
        .collect();
    html! {
        section aria-labelledby="configuration" {
            h2 id="configuration" { "Configuration" }
            @if !found.is_empty() {
                p class="note" { "The settings in which the runs differ." }
                (fact_table("Settings in which the runs differ", &names, &found))
            } @else if runs.len() > 1 {
                p { "The runs have the same settings." }
            }
            @for run in runs {
                @if !run.config.is_empty() {
                    details {
                        summary { "All settings" @if runs.len() > 1 { " of " (run.name) } }
                        pre tabindex="0" { (run.config) }
                    }
                }
                @if let Some(load) = &run.load {
                    details {
                        summary { "Loaded weights" @if runs.len() > 1 { " of " (run.name) } }
                        pre class="prose" tabindex="0" { (load) }
                    }
                }
            }
        }
    }
}
