//! A run's events on stderr: a bar on a terminal, lines elsewhere, nothing with `--quiet`.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::estimate::told;
use crate::output::{counted, rate, seconds, stderr_line};
use crate::session::Session;
use crate::wording::with_flags;
use tallow::train::{EpochMetrics, Event, Listener, StepMetrics};

/// Where there is no terminal, a line at most this often between the lines of epochs.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows a run's events.
pub struct Progress {
    display: Display,
    epochs: usize,
    steps: usize,
    /// Whether the bar says how much time is left.
    timed: bool,
    /// Where steps read kept features, whether the first epoch, whose time has that of computing them in it, is still to be told.
    kept: Option<bool>,
}

enum Display {
    Quiet,
    Lines { last: Instant },
    Bar(ProgressBar),
}

impl Progress {
    /// A display that suits where stderr goes.
    pub fn new(session: &Session) -> Self {
        let display = match (session.flags().quiet, std::io::stderr().is_terminal()) {
            (true, _) => Display::Quiet,
            (false, false) => Display::Lines { last: Instant::now() },
            (false, true) => Display::Bar(ProgressBar::no_length().with_style(untimed())),
        };
        Self { display, epochs: 0, steps: 0, timed: false, kept: None }
    }

    fn line(&self, text: String) {
        match &self.display {
            Display::Quiet => {}
            Display::Lines { .. } => stderr_line(&text),
            Display::Bar(bar) => bar.println(with_flags(&text)),
        }
    }

    fn step(&mut self, step: &StepMetrics) {
        let what = if self.kept.is_some() { "kept features/s" } else { "images/s" };
        let text = format!("loss {:.4}  lr {:.2e}  {} {what}", step.loss, step.lr, rate(step.images_per_second));
        match &mut self.display {
            Display::Quiet => {}
            Display::Lines { last } if last.elapsed() < LINE_EVERY => {}
            Display::Lines { last } => {
                *last = Instant::now();
                stderr_line(&format!(
                    "epoch {}/{}  step {}/{}  {text}",
                    step.epoch + 1,
                    self.epochs,
                    step.step + 1,
                    self.steps
                ));
            }
            Display::Bar(bar) => {
                if !self.timed {
                    // Until a step is done, nothing tells how long the others will take.
                    self.timed = true;
                    bar.set_style(style());
                }
                bar.set_position(step.step as u64 + 1);
                bar.set_message(format!("epoch {}/{}  {text}", step.epoch + 1, self.epochs));
            }
        }
    }

    fn counted(&mut self, done: usize, total: usize, what: &'static str) {
        match &mut self.display {
            Display::Quiet => {}
            Display::Lines { last } if last.elapsed() < LINE_EVERY => {}
            Display::Lines { last } => {
                *last = Instant::now();
                stderr_line(&format!("{done} of {total} {what}"));
            }
            Display::Bar(bar) => {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                bar.set_message(what);
            }
        }
    }

    fn epoch(&self, epoch: &EpochMetrics) -> String {
        let validation = match (epoch.val_loss, epoch.val_accuracy) {
            (Some(loss), Some(accuracy)) => format!("  val {}", measured(loss, accuracy)),
            _ => String::new(),
        };
        format!(
            "epoch {}/{}  train {}{validation}  test {}  {}  {} {}",
            epoch.epoch + 1,
            self.epochs,
            measured(epoch.train_loss, epoch.train_accuracy),
            measured(epoch.test_loss, epoch.test_accuracy),
            seconds(epoch.seconds),
            rate(epoch.images_per_second),
            if self.kept == Some(false) { "kept features/s" } else { "images/s" },
        )
    }
}

impl Listener for Progress {
    fn on(&mut self, event: &Event) {
        match event {
            Event::Start { run, epochs, steps_per_epoch, trainable_parameters, resumed_at_step, kept_features } => {
                (self.epochs, self.steps, self.timed) = (*epochs, epochs * steps_per_epoch, false);
                self.kept = kept_features.then_some(true);
                if let Display::Bar(bar) = &self.display {
                    bar.set_style(untimed());
                    bar.set_length(self.steps as u64);
                    bar.set_position(*resumed_at_step as u64);
                    bar.reset_eta();
                    bar.set_message("the first step");
                }
                let resumed = if *resumed_at_step > 0 {
                    format!(", going on after step {resumed_at_step}")
                } else {
                    String::new()
                };
                self.line(format!(
                    "{run}: {} of {}, {} to train{resumed}",
                    counted(*epochs, "epoch"),
                    counted(*steps_per_epoch, "step"),
                    counted(*trainable_parameters, "parameter")
                ));
            }
            Event::Step(step) => self.step(step),
            Event::Epoch(epoch) => {
                self.line(self.epoch(epoch));
                self.kept = self.kept.map(|_| false);
            }
            Event::Features { done, total } => self.counted(*done, *total, "images through the backbone"),
            Event::Evaluation { done, total } => {
                if let Display::Bar(bar) = &self.display {
                    bar.set_message(format!("testing {done}/{total}"));
                }
            }
            Event::Solved { done, total } => self.counted(*done, *total, "pairs of classes"),
            Event::Hashing { done, total } => self.counted(*done, *total, "samples read, to know them again"),
            Event::Checkpoint { .. } => {}
            Event::Estimate(estimate) => self.line(told(estimate)),
            Event::Note(text) => self.line(text.clone()),
            Event::Warning(text) => self.line(format!("warning: {text}")),
            Event::Hint(text) => self.line(format!("hint: {text}")),
            Event::Interrupted { .. } | Event::End { .. } => {
                if let Display::Bar(bar) = &self.display {
                    bar.finish_and_clear();
                }
            }
            // Events of a later library: nothing is shown of them.
            _ => {}
        }
    }
}

/// A bar for `count` of something, where stderr is a terminal.
pub fn count(session: &Session, count: usize, what: &'static str) -> ProgressBar {
    if session.flags().quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    ProgressBar::new(count as u64).with_style(style()).with_message(what)
}

/// An accuracy and a loss, as far as there are such.
fn measured(loss: f64, accuracy: f64) -> String {
    match (loss.is_finite(), accuracy.is_finite()) {
        (_, false) if loss.is_nan() => "–".into(),
        (_, false) => format!("loss {loss:.4}"),
        (false, true) if loss.is_nan() => format!("{:5.2} %", 100. * accuracy),
        _ => format!("{:5.2} % (loss {loss:.4})", 100. * accuracy),
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:24} {pos}/{len}  {eta} left  {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A bar that says nothing of the time that is left.
fn untimed() -> ProgressStyle {
    ProgressStyle::with_template("{bar:24} {pos}/{len}  {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}
