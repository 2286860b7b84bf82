//! The result of comparing runs: one row a run, one test a pair of runs, one sentence; where runs are repeated with other
//! seeds, the same of the groups that they make.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::group::{Group, Spread};
use super::run::Run;
use super::{numbers, statistics};
use crate::train::median;
use crate::train::run_folder::{Predictions, Summary};
use crate::train::study::svm;

/// What a comparison found. `Display` is a compact table for a terminal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The result in one sentence.
    pub headline: String,
    /// The HTML file.
    pub report: PathBuf,
    /// In the order given.
    pub runs: Vec<Row>,
    /// Every pair of runs, in the order of `runs`; of very many runs, the best against every other. Empty for a single run.
    pub tests: Vec<PairTest>,
    /// Runs that differ in nothing but their seed, in the order of their first runs.
    pub groups: Vec<Group>,
    /// Every pair of groups, as `tests`; empty where no group has runs with several seeds.
    pub group_tests: Vec<GroupTest>,
}

/// The numbers of one run. What an unfinished run does not tell yet is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The run's name; unlike that of every other row.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether the run has ended.
    pub finished: bool,
    /// What was done in place of training with labels (mae, dino, knn), whose accuracy is that of nearest neighbours; `None` for training
    /// with labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The model as the user named it.
    pub model: Option<String>,
    /// Where the weights came from; `None` means drawn from the seed, or that nothing is known of them.
    pub weights: Option<String>,
    /// The data set as the user named it.
    pub data: Option<String>,
    /// Parameters of the model.
    pub parameters: Option<usize>,
    /// Parameters that were trained.
    pub trainable_parameters: Option<usize>,
    /// Epochs that were run.
    pub epochs: usize,
    /// Optimiser steps that were run.
    pub steps: usize,
    /// Seconds of the run.
    pub seconds: Option<f64>,
    /// Training images per second, median over the epochs.
    pub images_per_second: Option<f64>,
    /// Peak resident memory in bytes.
    pub peak_memory_bytes: Option<u64>,
    /// The device, in words.
    pub device: Option<String>,
    /// Threads for compute.
    pub threads: Option<usize>,
    /// Test samples.
    pub test_samples: Option<usize>,
    /// Test accuracy of the chosen checkpoint, in [0, 1].
    pub test_accuracy: Option<f64>,
    /// Its 95 % interval (Wilson), in [0, 1].
    pub interval: Option<[f64; 2]>,
    /// Top-5 test accuracy of the chosen checkpoint, in [0, 1]; none for fewer than six classes, of which five are always all or
    /// all but one.
    pub test_top5: Option<f64>,
    /// Test loss of the chosen checkpoint.
    pub test_loss: Option<f64>,
    /// The epoch of the chosen checkpoint, counted from 0.
    pub best_epoch: Option<usize>,
    /// What chose it.
    pub chosen_by: Option<String>,
    /// Test accuracy after the last epoch so far, in [0, 1].
    pub final_test_accuracy: Option<f64>,
}

/// McNemar's exact test between two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairTest {
    /// Index of the first run in [`Comparison::runs`].
    pub a: usize,
    /// Index of the second.
    pub b: usize,
    /// Their answers side by side, or why they are not.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a test.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The runs answered the same samples.
    Tested {
        /// Samples that both got right.
        both: usize,
        /// Samples that only the first got right.
        only_a: usize,
        /// Samples that only the second got right.
        only_b: usize,
        /// Samples that neither got right.
        neither: usize,
        /// The accuracy of the first less that of the second, in [-1, 1].
        difference: f64,
        /// The p-value by itself.
        p: f64,
        /// The p-value after Holm's correction for all pairs that were tested here.
        p_corrected: f64,
    },
    /// They cannot be tested against each other.
    NotTested {
        /// Why.
        reason: String,
    },
}

/// Welch's t-test between the test accuracies of two groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupTest {
    /// Index of the first group in [`Comparison::groups`].
    pub a: usize,
    /// Index of the second.
    pub b: usize,
    /// What the test gave, or why it was not made.
    #[serde(flatten)]
    pub outcome: GroupOutcome,
}

/// What became of a test between groups.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum GroupOutcome {
    /// Both have runs with several seeds.
    Tested {
        /// The mean accuracy of the first less that of the second, in [-1, 1].
        difference: f64,
        /// The difference over its standard error.
        t: f64,
        /// Degrees of freedom.
        degrees: f64,
        /// The p-value by itself.
        p: f64,
        /// The p-value after Holm's correction for all pairs of groups that were tested here.
        p_corrected: f64,
    },
    /// They cannot be tested against each other.
    NotTested {
        /// Why.
        reason: String,
    },
}

/// Of more runs or groups than this, each is tested against the best alone.
const MOST_IN_PAIRS: usize = 64;

/// The p-value below which a difference counts as more than chance.
pub(super) const LEVEL: f64 = 0.05;

impl Comparison {
    pub(super) fn new(runs: &[Run], report: PathBuf) -> Self {
        let rows: Vec<Row> = runs.iter().map(Row::new).collect();
        let tests = test_pairs(runs, &rows);
        let groups = Group::of(runs);
        let group_tests = if repeated(&groups) { test_groups(runs, &groups) } else { vec![] };
        let headline = match repeated(&groups) {
            true => headline_of_groups(&rows, &groups, &group_tests),
            false => headline(&rows, &tests),
        };
        Self { headline, report, runs: rows, tests, groups, group_tests }
    }

    /// Whether there are runs that differ in nothing but their seed.
    pub(super) fn is_repeated(&self) -> bool {
        repeated(&self.groups)
    }

    /// The test between two groups, whichever way round it was made.
    pub(super) fn group_test(&self, a: usize, b: usize) -> Option<&GroupTest> {
        find_group_test(&self.group_tests, a, b)
    }

    /// How many test samples the runs of a group have.
    pub(super) fn samples(&self, group: usize) -> usize {
        samples(&self.runs, &self.groups[group])
    }

    /// The test between two runs, whichever way round it was made.
    pub(super) fn test(&self, a: usize, b: usize) -> Option<&PairTest> {
        find(&self.tests, a, b)
    }
}

fn repeated(groups: &[Group]) -> bool {
    groups.iter().any(|group| group.runs.len() > 1)
}

fn samples(rows: &[Row], group: &Group) -> usize {
    group.runs.iter().filter_map(|&run| rows[run].test_samples).min().unwrap_or(0)
}

fn find_group_test(tests: &[GroupTest], a: usize, b: usize) -> Option<&GroupTest> {
    tests.iter().find(|test| (test.a, test.b) == (a, b) || (test.a, test.b) == (b, a))
}

fn find(tests: &[PairTest], a: usize, b: usize) -> Option<&PairTest> {
    tests.iter().find(|test| (test.a, test.b) == (a, b) || (test.a, test.b) == (b, a))
}

impl Row {
    fn new(run: &Run) -> Self {
        let text = |key| run.setting(key).and_then(|value| value.as_str()).map(str::to_string);
        let summary = run.summary.as_ref();
        let correct = run.correct();
        let last = run.epochs.last();
        Self {
            name: run.name.clone(),
            folder: run.folder.clone(),
            finished: summary.is_some(),
            method: text("method"),
            model: summary.map(|s| s.model.clone()).or_else(|| text("model")),
            weights: summary.map_or_else(|| text("weights"), |s| s.weights.clone()),
            data: summary.map(|s| s.data.clone()).or_else(|| text("data")),
            parameters: summary.map(|s| s.parameters),
            trainable_parameters: summary.map(|s| s.trainable_parameters),
            epochs: summary.map_or(run.epochs.len(), |s| s.epochs),
            steps: summary.map_or(run.steps.last().map_or(0, |step| step.step as usize + 1), |s| s.steps),
            seconds: summary
                .map(|s| s.seconds)
                .or_else(|| last.map(|_| run.epochs.iter().filter_map(|epoch| epoch.seconds).sum())),
            images_per_second: summary
                .map(|s| s.images_per_second)
                .or_else(|| median(&run.epochs.iter().filter_map(|epoch| epoch.images_per_second).collect::<Vec<_>>())),
            peak_memory_bytes: summary.and_then(|s| s.peak_memory_bytes),
            device: summary.map(|s| s.device.clone()),
            threads: summary.map(|s| s.threads),
            test_samples: correct.map(|(_, samples)| samples),
            test_accuracy: correct.and_then(|(hits, samples)| (samples > 0).then(|| hits as f64 / samples as f64)),
            interval: correct.and_then(|(hits, samples)| statistics::wilson(hits, samples)),
            test_top5: summary.filter(|s| s.classes.len() > 5).map(|s| s.test_top5).filter(|share| share.is_finite()),
            // A support vector machine has none, nor have neighbours; that of any other model may be no number.
            test_loss: summary
                .filter(|s| s.model != svm::NAME && (s.method.is_none() || s.test_loss.is_finite()))
                .map(|s| s.test_loss),
            best_epoch: summary.map(|s| s.best_epoch),
            chosen_by: summary.map(|s| s.chosen_by.clone()),
            final_test_accuracy: summary
                .map(|s| s.final_test_accuracy)
                .filter(|accuracy| accuracy.is_finite())
                .or_else(|| last.and_then(|epoch| epoch.test_accuracy)),
        }
    }
}

/// Every pair of so many things, or of very many the best with every other.
fn pairs(accuracies: &[Option<f64>]) -> Vec<(usize, usize)> {
    let count = accuracies.len();
    if count <= MOST_IN_PAIRS {
        return (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect();
    }
    let accuracy = |i: &usize| accuracies[*i].unwrap_or(-1.);
    let best = (0..count).rev().max_by(|a, b| accuracy(a).total_cmp(&accuracy(b))).unwrap_or(0);
    (0..count).filter(|&other| other != best).map(|other| (best.min(other), best.max(other))).collect()
}

/// Tests pairs of groups, and corrects the p-values for being several.
fn test_groups(runs: &[Run], groups: &[Group]) -> Vec<GroupTest> {
    let means: Vec<Option<f64>> = groups.iter().map(|group| Some(group.test_accuracy?.mean)).collect();
    let test = |(a, b): (usize, usize)| GroupTest { a, b, outcome: test_two_groups(runs, &groups[a], &groups[b]) };
    let mut tests: Vec<GroupTest> = pairs(&means).into_iter().map(test).collect();
    let p_values: Vec<f64> = tests.iter().filter_map(|test| test.outcome.p()).collect();
    let mut corrected = statistics::holm(&p_values).into_iter();
    for test in &mut tests {
        if let GroupOutcome::Tested { p_corrected, .. } = &mut test.outcome {
            *p_corrected = corrected.next().unwrap_or(1.);
        }
    }
    tests
}

fn test_two_groups(runs: &[Run], a: &Group, b: &Group) -> GroupOutcome {
    let not_tested = |reason: String| GroupOutcome::NotTested { reason };
    let (one, two) = (a.accuracies(runs), b.accuracies(runs));
    for (group, accuracies) in [(a, &one), (b, &two)] {
        if accuracies.len() < 2 {
            let runs = if accuracies.is_empty() { "no finished run" } else { "one finished run" };
            return not_tested(format!("{} has {runs}, a test needs two with different seeds", group.name));
        }
    }
    let test_sets = |group: &Group| -> std::collections::BTreeSet<String> {
        group.runs.iter().filter_map(|&run| Some(runs[run].summary.as_ref()?.test_set.clone())).collect()
    };
    if test_sets(a) != test_sets(b) || test_sets(a).len() > 1 {
        return not_tested("their test sets are not the same".into());
    }
    let Some(statistics::Welch { t, degrees, p }) = statistics::welch(&one, &two) else {
        return not_tested("every seed gave the same accuracy, so there is no deviation to test against".into());
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    GroupOutcome::Tested { difference: mean(&one) - mean(&two), t, degrees, p, p_corrected: p }
}

impl GroupOutcome {
    fn p(&self) -> Option<f64> {
        match self {
            Self::Tested { p, .. } => Some(*p),
            Self::NotTested { .. } => None,
        }
    }

    /// What the test says, as the end of a sentence about the difference.
    pub(super) fn verdict(&self, several: bool) -> String {
        match self {
            Self::NotTested { reason } => format!("not tested: {reason}"),
            Self::Tested { p_corrected, .. } => {
                let corrected = if several { ", Holm-corrected" } else { "" };
                format!(
                    "{} (Welch's t-test over seeds, {}{corrected})",
                    sureness(*p_corrected),
                    numbers::p_value(*p_corrected)
                )
            }
        }
    }
}

/// What a p-value says of a difference.
fn sureness(p: f64) -> &'static str {
    if p < LEVEL { "more than noise" } else { "within what chance alone gives" }
}

/// Tests pairs of runs, and corrects the p-values for being several.
fn test_pairs(runs: &[Run], rows: &[Row]) -> Vec<PairTest> {
    let accuracies: Vec<Option<f64>> = rows.iter().map(|row| row.test_accuracy).collect();
    let mut tests: Vec<PairTest> = pairs(&accuracies)
        .into_iter()
        .map(|(a, b)| PairTest { a, b, outcome: test_pair(&runs[a], &runs[b]) })
        .collect();
    let p_values: Vec<f64> = tests.iter().filter_map(|test| test.outcome.p()).collect();
    let mut corrected = statistics::holm(&p_values).into_iter();
    for test in &mut tests {
        if let Outcome::Tested { p_corrected, .. } = &mut test.outcome {
            *p_corrected = corrected.next().unwrap_or(1.);
        }
    }
    tests
}

/// A finished run's answers, or why there are none.
fn answers(run: &Run) -> Result<(&Summary, &Predictions), Outcome> {
    let not_tested = |reason| Err(Outcome::NotTested { reason });
    match (&run.summary, &run.predictions) {
        (Some(summary), Some(predictions)) => Ok((summary, predictions)),
        (None, _) => not_tested(format!("{} has not finished", run.name)),
        (_, None) => not_tested(format!("{} has no predictions.json", run.name)),
    }
}

fn test_pair(a: &Run, b: &Run) -> Outcome {
    let not_tested = |reason: &str| Outcome::NotTested { reason: reason.into() };
    let ((summary_a, one), (summary_b, two)) = match (answers(a), answers(b)) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(reason), _) | (_, Err(reason)) => return reason,
    };
    if one.labels.is_empty() || two.labels.is_empty() {
        return not_tested("there are no test samples");
    }
    if summary_a.test_set != summary_b.test_set || one.labels != two.labels {
        return not_tested("their test sets are not the same");
    }
    let (mut both, mut only_a, mut only_b, mut neither) = (0, 0, 0, 0);
    for (i, label) in one.labels.iter().enumerate() {
        match (one.predicted[i] == *label, two.predicted[i] == *label) {
            (true, true) => both += 1,
            (true, false) => only_a += 1,
            (false, true) => only_b += 1,
            (false, false) => neither += 1,
        }
    }
    let difference = (only_a as f64 - only_b as f64) / one.labels.len() as f64;
    let p = statistics::mcnemar(only_a, only_b);
    Outcome::Tested { both, only_a, only_b, neither, difference, p, p_corrected: p }
}

impl Outcome {
    fn p(&self) -> Option<f64> {
        match self {
            Self::Tested { p, .. } => Some(*p),
            Self::NotTested { .. } => None,
        }
    }

    /// What the test says, as the end of a sentence about the difference.
    pub(super) fn verdict(&self, several: bool) -> String {
        match self {
            Self::NotTested { reason } => format!("not tested: {reason}"),
            Self::Tested { p_corrected, .. } => {
                let (verdict, corrected) = (sureness(*p_corrected), if several { ", Holm-corrected" } else { "" });
                format!("{verdict} (McNemar's exact test, {}{corrected})", numbers::p_value(*p_corrected))
            }
        }
    }
}

/// How many runs have not finished.
fn unfinished(rows: &[Row]) -> String {
    match rows.iter().filter(|row| !row.finished).count() {
        0 => String::new(),
        _ if rows.len() == 1 => " The run has not finished.".into(),
        1 => " One run has not finished.".into(),
        n => format!(" {n} runs have not finished."),
    }
}

fn after(epochs: usize) -> String {
    if epochs == 1 { " after 1 epoch".into() } else { format!(" after {epochs} epochs") }
}

/// The result of groups in one sentence or two.
fn headline_of_groups(rows: &[Row], groups: &[Group], tests: &[GroupTest]) -> String {
    let tail = unfinished(rows);
    let mut ranked: Vec<(&Group, Spread, usize)> =
        groups.iter().enumerate().filter_map(|(i, group)| Some((group, group.test_accuracy?, i))).collect();
    ranked.sort_by(|a, b| b.1.mean.total_cmp(&a.1.mean));
    let accuracy = |(group, spread, _): &(&Group, Spread, usize)| {
        let seeds = if spread.count == 1 { "one seed".into() } else { format!("{} seeds", spread.count) };
        format!("{} ({seeds})", numbers::spread(spread.mean, spread.deviation, samples(rows, group)))
    };
    let sentence = match &ranked[..] {
        [] => "No final result yet.".into(),
        [only] => {
            let epochs = rows[only.0.runs[0]].epochs;
            format!("{}: {} of the test images right{}.", only.0.name, accuracy(only), after(epochs))
        }
        [best, second, ..] => {
            let (a, b) = (best.0, second.0);
            let first = match ranked.len() {
                2 => format!("{} {} against {} {}", a.name, accuracy(best), b.name, accuracy(second)),
                n => format!(
                    "{} is the best of {n} settings with {}, ahead of {} with {}",
                    a.name,
                    accuracy(best),
                    b.name,
                    accuracy(second)
                ),
            };
            let several = tests.iter().filter(|test| test.outcome.p().is_some()).count() > 1;
            match find_group_test(tests, best.2, second.2).map(|test| &test.outcome) {
                Some(outcome @ GroupOutcome::Tested { difference, .. }) => {
                    let points = numbers::points(*difference, samples(rows, a).min(samples(rows, b)));
                    format!("{first}: the difference of {points} points is {}.", outcome.verdict(several))
                }
                Some(outcome) => format!("{first} ({}).", outcome.verdict(several)),
                None => format!("{first}."),
            }
        }
    };
    sentence + &tail
}

/// The result in one sentence or two.
fn headline(rows: &[Row], tests: &[PairTest]) -> String {
    let mut ranked: Vec<(usize, f64)> =
        rows.iter().enumerate().filter_map(|(i, row)| Some((i, row.test_accuracy?))).collect();
    // Stable: of runs that are equal the first given comes first.
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let tail = unfinished(rows);
    let accuracy = |(i, share): (usize, f64)| numbers::percent(share, rows[i].test_samples.unwrap_or(0));
    let after = |i: usize| after(rows[i].epochs);
    let sentence = match ranked[..] {
        [] => {
            let Some((row, share)) = rows.iter().find_map(|row| Some((row, row.final_test_accuracy?))) else {
                return format!("No test results yet.{tail}");
            };
            let accuracy = numbers::percent(share, 0);
            return format!("No final result yet: {} is at {accuracy} after epoch {}.", row.name, row.epochs);
        }
        [best] if rows.len() == 1 => {
            let row = &rows[best.0];
            let samples = row.test_samples.unwrap_or(0);
            let interval = row
                .interval
                .map_or(String::new(), |interval| format!(" (95 % interval {})", numbers::interval(interval, samples)));
            format!("{} of {} test images right{interval}{}.", accuracy(best), numbers::count(samples), after(best.0))
        }
        [best] => format!("{}: {}{}.", rows[best.0].name, accuracy(best), after(best.0)),
        [best, second, ..] => {
            let (a, b) = (&rows[best.0], &rows[second.0]);
            let several = tests.iter().filter(|test| test.outcome.p().is_some()).count() > 1;
            let first = match ranked.len() {
                2 if a.epochs == b.epochs => {
                    format!("{} {} against {} {}{}", a.name, accuracy(best), b.name, accuracy(second), after(best.0))
                }
                2 => {
                    let (after_a, after_b) = (after(best.0), after(second.0));
                    format!("{} {}{after_a} against {} {}{after_b}", a.name, accuracy(best), b.name, accuracy(second))
                }
                n => format!(
                    "{} is the best of {n} runs with {}, ahead of {} with {}",
                    a.name,
                    accuracy(best),
                    b.name,
                    accuracy(second)
                ),
            };
            let samples = a.test_samples.unwrap_or(0).min(b.test_samples.unwrap_or(0));
            match find(tests, best.0, second.0).map(|test| &test.outcome) {
                Some(Outcome::Tested { only_a, only_b, .. }) if only_a == only_b => format!("{first}: no difference."),
                Some(outcome @ Outcome::Tested { difference, .. }) => {
                    let points = numbers::points(*difference, samples);
                    format!("{first}: the difference of {points} points is {}.", outcome.verdict(several))
                }
                Some(outcome) => format!("{first} ({}).", outcome.verdict(several)),
                None => format!("{first}."),
            }
        }
    };
    sentence + &tail
}

impl Comparison {
    /// A line for every run.
    fn run_lines(&self) -> Vec<[String; 7]> {
        let dash = || "–".to_string();
        let mut lines =
            vec![["run", "accuracy", "95 % interval", "final", "epochs", "time", "images/s"].map(String::from)];
        for row in &self.runs {
            let samples = row.test_samples.unwrap_or(0);
            let percent = |share: Option<f64>| share.map_or_else(dash, |share| numbers::percent(share, samples));
            lines.push([
                if row.finished { row.name.clone() } else { format!("{} (unfinished)", row.name) },
                percent(row.test_accuracy),
                row.interval.map_or_else(dash, |interval| numbers::interval(interval, samples)),
                percent(row.final_test_accuracy),
                row.epochs.to_string(),
                row.seconds.map_or_else(dash, numbers::duration),
                row.images_per_second.map_or_else(dash, numbers::rate),
            ]);
        }
        lines
    }

    /// A line for every group.
    fn group_lines(&self) -> Vec<[String; 5]> {
        let mut lines = vec![["runs", "seeds", "accuracy", "test loss", "time"].map(String::from)];
        for (i, group) in self.groups.iter().enumerate() {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".into());
            let accuracy = |s: Spread| numbers::spread(s.mean, s.deviation, self.samples(i));
            lines.push([
                group.name.clone(),
                group.test_accuracy.map_or(0, |spread| spread.count).to_string(),
                or_dash(group.test_accuracy.map(accuracy)),
                or_dash(group.test_loss.map(|s| numbers::value_spread(s.mean, s.deviation))),
                or_dash(group.seconds.map(|s| numbers::duration(s.mean))),
            ]);
        }
        lines
    }
}

/// Lines of cells as a table: the first column to the left, the others to the right.
fn table<const N: usize>(f: &mut fmt::Formatter<'_>, lines: &[[String; N]]) -> fmt::Result {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for line in lines {
        write!(f, "{:<1$}", line[0], widths[0])?;
        for (cell, width) in line.iter().zip(widths).skip(1) {
            write!(f, "  {cell:>width$}")?;
        }
        writeln!(f)?;
    }
    Ok(())
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_repeated() {
            table(f, &self.group_lines())?
        } else {
            table(f, &self.run_lines())?
        }
        writeln!(f, "\n{}", self.headline)?;
        write!(f, "Report: {}", self.report.display())
    }
}
