//! Training: settings, optimisers and schedules against PyTorch, runs and their folders, interruption.

mod by_hand;
mod config;
mod extension;
mod head_first;
mod older;
mod optimizer;
mod parity;
mod pretraining;
mod resume;
mod run;
mod schedule;
#[cfg(feature = "svm")]
mod svm;
mod told;
mod zero_shot;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tallow::train::{Event, Listener, Outcome, Result, RunFolder, Start, Summary, TrainConfig, run};

/// A file that PyTorch computed; `references/train/make.py` says how.
fn reference(name: &str) -> Value {
    let text = std::fs::read_to_string(references().join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn references() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/references/train")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// A ViT and a run so small that an epoch takes a fraction of a second: 6 steps an epoch.
fn small() -> TrainConfig {
    let set = [("embed_dim", "16"), ("depth", "2"), ("num_heads", "2"), ("drop_path_rate", "0.1")];
    TrainConfig::default().with(|c| {
        c.model.model = "vit_mnist".into();
        c.data.data = "mnist".into();
        c.data.limit = Some(90);
        c.data.test_limit = Some(40);
        c.length.epochs = 2.into();
        c.length.batch_size = 16.into();
        c.optimizer.lr = 1e-3;
        c.compute.seed = 7;
        c.compute.device = "cpu".into();
        c.model.set = set.map(|(key, value)| (key.to_string(), value.to_string())).into();
    })
}

/// Keeps what happened.
#[derive(Default)]
struct Heard(Vec<Event>);

impl Listener for Heard {
    fn on(&mut self, event: &Event) {
        self.0.push(event.clone());
    }
}

impl Heard {
    fn notes(&self) -> Vec<&str> {
        let mut notes = Vec::new();
        for event in &self.0 {
            if let Event::Note(text) = event {
                notes.push(text.as_str());
            }
        }
        notes
    }

    fn warnings(&self) -> Vec<&str> {
        let mut warnings = Vec::new();
        for event in &self.0 {
            if let Event::Warning(text) = event {
                warnings.push(text.as_str());
            }
        }
        warnings
    }
}

/// Asks the run to stop after a step.
struct Stopper<'a> {
    after: usize,
    stop: &'a AtomicBool,
}

impl Listener for Stopper<'_> {
    fn on(&mut self, event: &Event) {
        if matches!(event, Event::Step(step) if step.step == self.after) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs to the end.
fn finish(config: &TrainConfig, folder: &RunFolder, start: Start) -> Result<Summary> {
    match run(config, folder, start, &mut Heard::default(), &AtomicBool::new(false))? {
        Outcome::Finished(summary) => Ok(summary),
        Outcome::Interrupted { step } => panic!("interrupted at step {step} though nobody asked for it"),
        other => panic!("{other:?}"),
    }
}
