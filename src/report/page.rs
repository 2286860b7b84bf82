//! The page: everything a reader sees, in the order in which it is read.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart;
use super::comparison::{Comparison, GroupOutcome, LEVEL, Outcome, Row};
use super::configuration::differences;
use super::pictures::Pictures;
use super::run::Run;
use super::sweep::{self, Results};
use super::text::breakable;
use super::{answers, confusion, curves, numbers, per_class};

const STYLE: &str = include_str!("style.css");

/// Up to this many runs stand side by side in the tables, and show everything at once; more stand below each other, and
/// all but the best are folded.
const FEW: usize = 4;

/// Up to this many runs have every pair's test shown; beyond, each run's test against the best.
const PAIRWISE: usize = 12;

/// The whole file.
pub(super) fn page(runs: &[Run], comparison: &Comparison, pictures: &Pictures) -> String {
    let title = title(&pictures.courses, runs.len());
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
                    h1 { (breakable(&title)) }
                    p class="headline" { (breakable(&comparison.headline)) }
                }
                main {
                    (results_section(comparison, pictures))
                    (curves_section(runs, comparison, pictures))
                    (learning_speed_section(pictures))
                    (numbers_section(comparison))
                    @if comparison.is_repeated() { (group_tests_section(comparison)) }
                    @if runs.len() > 1 { (tests_section(comparison)) }
                    (confusion_section(runs, comparison))
                    (answers_section(runs, comparison))
                    (figures_section(runs, comparison))
                    (configuration_section(runs))
                }
                footer { "Written by Tallow " (env!("CARGO_PKG_VERSION")) "." }
            }
        }
    };
    markup.into_string()
}

fn title(courses: &[Run], runs: usize) -> String {
    if let [a, b] = courses {
        return format!("{} against {}", a.name, b.name);
    }
    let names = courses.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    if courses.len() == 1 || names.chars().count() <= 60 { names } else { format!("{runs} runs compared") }
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

/// What every setting reached, as a picture and in numbers.
fn results_section(comparison: &Comparison, pictures: &Pictures) -> Markup {
    let Some(results) = &pictures.results else {
        return html! {
            @if comparison.is_repeated() {
                section aria-labelledby="results" { h2 id="results" { "Over the seeds" } (group_table(comparison)) }
            }
        };
    };
    let (heading, drawn, styles) = match results {
        Results::Line(chart) => (chart.title.as_str(), chart.inline(), sweep::STYLES),
        Results::Rows(dots) => ("What each reached", dots.inline(), [chart::Style::Solid; 2]),
    };
    html! {
        section aria-labelledby="results" {
            h2 id="results" { (heading) }
            ul class="legend" {
                @for (key, name) in sweep::KEYS.iter().enumerate() {
                    li { (chart::styled_swatch(key, styles[key])) (name) }
                }
            }
            div class="side-by-side" {
                figure {
                    (drawn)
                    figcaption {
                        "Accuracy at the end: test accuracy of the chosen checkpoint, and training accuracy over the last \
                         epoch, while the weights change. " (sweep::bars(comparison))
                    }
                }
                (group_table(comparison))
            }
        }
    }
}

/// A line a group.
fn group_table(comparison: &Comparison) -> Markup {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".into());
    let table = html! {
        table {
            thead {
                tr {
                    th scope="col" { "runs" }
                    @for what in ["seeds", "test accuracy", "test loss", "time"] { th scope="col" class="number" { (what) } }
                }
            }
            tbody {
                @for (i, group) in comparison.groups.iter().enumerate() {
                    @let (accuracy, loss) = (group.test_accuracy, group.test_loss);
                    tr {
                        th scope="row" { (breakable(&group.name)) }
                        td class="number" { (accuracy.map_or(0, |spread| spread.count)) }
                        td class="number" {
                            (or_dash(accuracy.map(|s| numbers::spread(s.mean, s.deviation, comparison.samples(i)))))
                        }
                        td class="number" { (or_dash(loss.map(|s| numbers::value_spread(s.mean, s.deviation)))) }
                        td class="number" { (or_dash(group.seconds.map(|s| numbers::duration(s.mean)))) }
                    }
                }
            }
        }
    };
    html! {
        div {
            (scrolling("What each setting reached", table))
            @if comparison.is_repeated() {
                p class="note" { "Means over runs with different seeds ± their standard deviation; time: of one run." }
            }
        }
    }
}

fn learning_speed_section(pictures: &Pictures) -> Markup {
    let Some(charts) = &pictures.learning_speed else { return html! {} };
    html! {
        section aria-labelledby="learning-speed" {
            h2 id="learning-speed" { "Which learns quicker" }
            ul class="legend" {
                @for (key, course) in pictures.courses.iter().enumerate() { li { (chart::swatch(key)) (breakable(&course.name)) } }
            }
            div class="side-by-side" {
                @for (chart, caption) in charts.iter().zip([
                    "Test accuracy over the training images that the model has seen, the same image once for every epoch.",
                    "Test accuracy over the time that training took, evaluation apart.",
                ]) {
                    figure { (chart.inline()) figcaption { (caption) } }
                }
            }
        }
    }
}

fn curves_section(runs: &[Run], comparison: &Comparison, pictures: &Pictures) -> Markup {
    let learnt: Vec<&Run> = runs.iter().filter(|run| !run.steps.is_empty()).collect();
    let differ = |setting| learnt.iter().any(|run| run.setting(setting) != learnt[0].setting(setting));
    let (objectives, smoothing) = (differ("method"), differ("label_smoothing"));
    let courses = &pictures.courses;
    let chosen = courses.iter().any(|course| course.summary.is_some());
    html! {
        section aria-labelledby="curves" {
            h2 id="curves" { "Curves" }
            ul class="legend" {
                @if courses.len() > 1 {
                    @for (key, course) in courses.iter().enumerate() { li { (chart::swatch(key)) (breakable(&course.name)) } }
                }
                @for (style, name) in &pictures.styles { li { (chart::style_swatch(*style)) (name) } }
                @if chosen { li { (chart::ring_swatch()) "chosen checkpoint" } }
            }
            div class="side-by-side" {
                figure {
                    (pictures.loss.inline())
                    figcaption {
                        "Loss over optimiser steps. Training loss is drawn as its exponential mean over a thirtieth of \
                         the run" @if courses.len() <= curves::FEW { ", over the pale line of what each step's batch gave" }
                        "; test loss as it was after each epoch."
                        @if comparison.is_repeated() { " Lines are means over the seeds." }
                        @if objectives {
                            " The runs learn different things (labels, pixels, another network's answers), so their losses do not compare."
                        } @else if smoothing {
                            " The runs differ in label smoothing, so their training losses do not compare."
                        }
                    }
                }
                figure {
                    (pictures.accuracy.inline())
                    figcaption {
                        "Accuracy over epochs. Training accuracy is measured over the epoch, while the weights change; \
                         test accuracy after it."
                        @if comparison.is_repeated() { " Lines are means over the seeds." }
                    }
                }
            }
            @if let Some(multiples) = &pictures.multiples { (multiples.inline()) }
            @if let Some([rate, norm]) = &pictures.steps {
                details {
                    summary { "Learning rate and gradients" }
                    div class="side-by-side" {
                        figure { (rate.inline()) figcaption { "Learning rate of every step." } }
                        figure {
                            (norm.inline())
                            figcaption {
                                "The global norm of the gradients before they were clipped, as its exponential mean over a \
                                 thirtieth of the run"
                                @if courses.len() <= curves::FEW { ", over the pale line of every step" } "."
                            }
                        }
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
            table class={ "facts runs-" (names.len()) } {
                thead { tr { td {} @for name in names { th scope="col" { (breakable(name)) } } } }
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
                        th scope="row" { (breakable(name)) }
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

fn numbers_section(comparison: &Comparison) -> Markup {
    let rows = &comparison.runs;
    let name = |row: &Row| if row.finished { row.name.clone() } else { format!("{} (unfinished)", row.name) };
    let names: Vec<String> = rows.iter().map(name).collect();
    html! {
        section aria-labelledby="numbers" {
            h2 id="numbers" { "Numbers" @if comparison.is_repeated() { " of each run" } }
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
            @if row.method.is_some() && row.test_accuracy.is_some() { " " span class="quiet" { "of the nearest neighbours" } }
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
                (Some(weights), _) => (breakable(weights)),
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
    let mut facts = vec![
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
        fact("model", false, &|row| html! { (breakable(&or_dash(row.model.clone()))) }),
        fact("without labels", false, &|row| html! { (or_dash(row.method.clone())) }),
        fact("weights", false, &weights),
        fact("data", false, &|row| html! { (breakable(&or_dash(row.data.clone()))) }),
        fact("test images", true, &|row| html! { (or_dash(row.test_samples.map(numbers::count))) }),
        fact("device", false, &device),
    ];
    if rows.iter().all(|row| row.method.is_none()) {
        facts.retain(|fact| fact.name.0 != "without labels");
    }
    // Of fewer than six classes all are among the top five.
    if rows.iter().all(|row| row.test_top5.is_none()) {
        facts.retain(|fact| fact.name.0 != "top-5 accuracy");
    }
    facts
}

/// Whether groups differ by more than their seeds do.
fn group_tests_section(comparison: &Comparison) -> Markup {
    if comparison.groups.len() < 2 {
        return html! {};
    }
    let names: Vec<&str> = comparison.groups.iter().map(|group| group.name.as_str()).collect();
    let tested =
        comparison.group_tests.iter().filter(|test| matches!(test.outcome, GroupOutcome::Tested { .. })).count();
    let mean = |group: &usize| comparison.groups[*group].test_accuracy.map_or(-1., |spread| spread.mean);
    let best = (0..names.len()).rev().max_by(|a, b| mean(a).total_cmp(&mean(b))).unwrap_or(0);
    let cell = |a, b| group_difference(comparison, a, b);
    let reasons = comparison.group_tests.iter().filter_map(|test| match &test.outcome {
        GroupOutcome::NotTested { reason } => Some(reason.as_str()),
        GroupOutcome::Tested { .. } => None,
    });
    html! {
        section aria-labelledby="group-tests" {
            h2 id="group-tests" { "More than the seed?" }
            @if names.len() <= PAIRWISE { (pairwise(&names, cell)) } @else { (against_best(&names, best, cell)) }
            (not_tested(reasons))
            @if tested > 0 {
                p class="note" {
                    "Welch's t-test compares the mean test accuracies of runs with different seeds by how far the seeds lie \
                     apart. A difference below p = " (LEVEL) " counts as more than chance"
                    @if tested > 1 { ", after Holm's correction for " (tested) " tests" }
                    ". With two or three seeds only large differences can be seen."
                }
            }
        }
    }
}

/// The difference in points as seen from group `a`, with its p-value.
fn group_difference(comparison: &Comparison, a: usize, b: usize) -> Markup {
    match comparison.group_test(a, b).map(|test| (test, &test.outcome)) {
        Some((test, GroupOutcome::Tested { difference, p_corrected, .. })) => {
            let seen = if test.a == a { *difference } else { -difference };
            points_cell(seen, comparison.samples(a).min(comparison.samples(b)), *p_corrected)
        }
        Some((_, GroupOutcome::NotTested { reason })) => not_tested_cell(reason),
        None => html! { td class="number quiet" { "–" } },
    }
}

fn tests_section(comparison: &Comparison) -> Markup {
    let names: Vec<&str> = comparison.runs.iter().map(|row| row.name.as_str()).collect();
    let tested = comparison.tests.iter().filter(|test| matches!(test.outcome, Outcome::Tested { .. })).count();
    let reasons = comparison.tests.iter().filter_map(|test| match &test.outcome {
        Outcome::NotTested { reason } => Some(reason.as_str()),
        Outcome::Tested { .. } => None,
    });
    let cell = |a, b| difference(comparison, a, b);
    let tables = html! {
        @if let [test] = &comparison.tests[..] {
            (one_test(names[test.a], names[test.b], &test.outcome))
        } @else {
            @let all = names.len() <= PAIRWISE;
            @if all { (pairwise(&names, cell)) } @else { (against_best(&names, best(comparison), cell)) }
            (not_tested(reasons))
        }
    };
    html! {
        section aria-labelledby="tests" {
            h2 id="tests" { "More than chance?" }
            @if comparison.is_repeated() {
                details { summary { "Single runs against each other" } (tables) }
            } @else {
                (tables)
            }
            @if tested > 0 {
                p class="note" {
                    "McNemar's exact test counts the images that one run got right and the other wrong; were neither \
                     better, they would fall to either side like coins. A difference below p = " (LEVEL)
                    " counts as more than chance"
                    @if tested > 1 { ", after Holm's correction for " (tested) " tests" }
                    ". It compares these trained weights on these test images"
                    @if comparison.is_repeated() { "." } @else {
                        ". Seeds were not varied: another seed may give other weights, and how much that changes this test \
                         does not see."
                    }
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
            thead { tr { td {} @for what in ["right", "wrong"] { th scope="col" class="number" { (breakable(b)) " " (what) } } } }
            tbody {
                @for (what, counts) in [("right", [both, only_a]), ("wrong", [only_b, neither])] {
                    tr {
                        th scope="row" { (breakable(a)) " " (what) }
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
            points_cell(seen, both + only_a + only_b + neither, *p_corrected)
        }
        Some((_, Outcome::NotTested { reason })) => not_tested_cell(reason),
        None => html! { td class="number quiet" { "–" } },
    }
}

/// A difference with its sign, bold where it is more than chance, over its p-value.
fn points_cell(difference: f64, samples: usize, p: f64) -> Markup {
    let sign = if difference > 0. { "+" } else { if difference < 0. { "−" } else { "" } };
    html! {
        td class="number" {
            span class=[(p < LEVEL).then_some("sure")] { (sign) (numbers::points(difference, samples)) }
            br; span class="quiet" { (numbers::p_value(p)) }
        }
    }
}

fn not_tested_cell(reason: &str) -> Markup {
    html! { td class="number quiet" title=(reason) { "not tested" } }
}

fn pairwise(names: &[&str], cell: impl Fn(usize, usize) -> Markup) -> Markup {
    let table = html! {
        table {
            caption { "Points by which that of a row is ahead of that of a column; bold where it is more than chance" }
            thead { tr { td {} @for name in names { th scope="col" class="number" { (breakable(name)) } } } }
            tbody {
                @for (a, name) in names.iter().enumerate() {
                    tr { th scope="row" { (breakable(name)) } @for b in 0..names.len() { (cell(a, b)) } }
                }
            }
        }
    };
    scrolling("Differences between all pairs", table)
}

fn against_best(names: &[&str], best: usize, cell: impl Fn(usize, usize) -> Markup) -> Markup {
    let table = html! {
        table {
            caption { "Points by which each is ahead of the best, " (names[best]) "; bold where it is more than chance" }
            thead { tr { th scope="col" { "run" } th scope="col" class="number" { "difference" } } }
            tbody {
                @for (a, name) in names.iter().enumerate() {
                    tr { th scope="row" { (breakable(name)) } (cell(a, best)) }
                }
            }
        }
    };
    scrolling("Differences from the best", table)
}

/// Why some pairs were not tested.
fn not_tested<'a>(all: impl Iterator<Item = &'a str>) -> Markup {
    let mut reasons: Vec<(usize, &str)> = vec![];
    for reason in all {
        match reasons.iter_mut().find(|(_, known)| *known == reason) {
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
                div { @if runs.len() > 1 { h3 { (breakable(&run.name)) } } (content) }
            } @else {
                details open[i == best] { summary { (breakable(&run.name)) } (content) }
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
                (each_run(runs, comparison, |run| {
                    Some(html! { (confusion::confusion(run)?) @if let Some(table) = per_class::per_class(run) { (table) } })
                }))
            }
            p class="note" {
                "Precision: of the images that were called so, how many are. Recall: of the images that are, how many were called \
                 so. F1: the harmonic mean of both. The mean counts every class alike."
            }
        }
    }
}

fn answers_section(runs: &[Run], comparison: &Comparison) -> Markup {
    let answers = |run: &Run| answers::answers(run, runs.len());
    if runs.iter().all(|run| answers(run).is_none()) {
        return html! {};
    }
    html! {
        section aria-labelledby="mistakes" {
            h2 id="mistakes" { "The most confident mistakes" }
            p class="note" { "Test images that the chosen checkpoint was most sure of and wrong about." }
            (each_run(runs, comparison, answers))
        }
    }
}

fn figures_section(runs: &[Run], comparison: &Comparison) -> Markup {
    if runs.iter().all(|run| run.figures.is_empty()) {
        return html! {};
    }
    let figures = |run: &Run| {
        (!run.figures.is_empty()).then(|| {
            html! { div class="side-by-side" { @for figure in &run.figures { (figure.inline()) } } }
        })
    };
    html! {
        section aria-labelledby="figures" {
            h2 id="figures" { "Pictures" }
            (each_run(runs, comparison, figures))
        }
    }
}

fn configuration_section(runs: &[Run]) -> Markup {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    let cell = |value: &Option<String>| {
        html! { @match value { Some(value) => code { (breakable(value)) }, None => span class="quiet" { "not set" } } }
    };
    let found: Vec<Fact> = differences(runs)
        .iter()
        .map(|difference| Fact {
            name: html! { code { (breakable(&difference.setting)) } },
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
                        summary { "All settings" @if runs.len() > 1 { " of " (breakable(&run.name)) } }
                        pre tabindex="0" { (run.config) }
                    }
                }
                @if let Some(load) = &run.load {
                    details {
                        summary { "Loaded weights" @if runs.len() > 1 { " of " (breakable(&run.name)) } }
                        pre class="prose" tabindex="0" { (load) }
                    }
                }
            }
        }
    }
}
