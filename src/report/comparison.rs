//! The result of comparing runs: one row a run, one test a pair of runs, one sentence.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::run::Run;
use super::{numbers, statistics};
use crate::train::run_folder::{Predictions, Summary};

/// What a comparison found. `Display` is a compact table for a terminal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The result in one sentence.
    pub headline: String,
    /// The HTML file.
    pub report: PathBuf,
    /// In the order given.
    pub runs: Vec<Row>,
    /// Every pair of runs, in the order of `runs`; empty for a single run.
    pub tests: Vec<PairTest>,
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
    /// Top-5 test accuracy of the chosen checkpoint, in [0, 1].
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

/// The p-value below which a difference counts as more than chance.
pub(super) const LEVEL: f64 = 0.05;

impl Comparison {
    pub(super) fn new(runs: &[Run], report: PathBuf) -> Self {
        let rows: Vec<Row> = runs.iter().map(Row::new).collect();
        let tests = test_pairs(runs);
        Self { headline: headline(&rows, &tests), report, runs: rows, tests }
    }

    /// The test between two runs, whichever way round it was made.
    pub(super) fn test(&self, a: usize, b: usize) -> Option<&PairTest> {
        find(&self.tests, a, b)
    }
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
                .or_else(|| median(run.epochs.iter().filter_map(|epoch| epoch.images_per_second).collect())),
            peak_memory_bytes: summary.and_then(|s| s.peak_memory_bytes),
            device: summary.map(|s| s.device.clone()),
            threads: summary.map(|s| s.threads),
            test_samples: correct.map(|(_, samples)| samples),
            test_accuracy: correct.and_then(|(hits, samples)| (samples > 0).then(|| hits as f64 / samples as f64)),
            interval: correct.and_then(|(hits, samples)| statistics::wilson(hits, samples)),
            test_top5: summary.map(|s| s.test_top5),
            test_loss: summary.map(|s| s.test_loss),
            best_epoch: summary.map(|s| s.best_epoch),
            chosen_by: summary.map(|s| s.chosen_by.clone()),
            final_test_accuracy: summary
                .map(|s| s.final_test_accuracy)
                .or_else(|| last.and_then(|epoch| epoch.test_accuracy)),
        }
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.),
    }
}

/// Tests every pair of runs, and corrects the p-values for being several.
fn test_pairs(runs: &[Run]) -> Vec<PairTest> {
    let mut tests: Vec<PairTest> = (0..runs.len())
        .flat_map(|a| (a + 1..runs.len()).map(move |b| (a, b)))
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
                let verdict = if *p_corrected < LEVEL { "more than noise" } else { "within what chance alone gives" };
                let corrected = if several { ", Holm-corrected" } else { "" };
                format!("{verdict} (McNemar's exact test, {}{corrected})", numbers::p_value(*p_corrected))
            }
        }
    }
}

/// The result in one sentence or two.
fn headline(rows: &[Row], tests: &[PairTest]) -> String {
    let mut ranked: Vec<(usize, f64)> =
        rows.iter().enumerate().filter_map(|(i, row)| Some((i, row.test_accuracy?))).collect();
    // Stable: of runs that are equal the first given comes first.
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    let unfinished = rows.iter().filter(|row| !row.finished).count();
    let tail = match unfinished {
        0 => String::new(),
        _ if rows.len() == 1 => " The run has not finished.".into(),
        1 => " One run has not finished.".into(),
        n => format!(" {n} runs have not finished."),
    };
    let accuracy = |(i, share): (usize, f64)| numbers::percent(share, rows[i].test_samples.unwrap_or(0));
    let after = |i: usize| match rows[i].epochs {
        1 => " after 1 epoch".into(),
        n => format!(" after {n} epochs"),
    };
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

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 7] = std::array::from_fn(width);
        for line in &lines {
            write!(f, "{:<1$}", line[0], widths[0])?;
            for (cell, width) in line.iter().zip(widths).skip(1) {
                write!(f, "  {cell:>width$}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\n{}", self.headline)?;
        write!(f, "Report: {}", self.report.display())
    }
}
