//! The four implementations of the perceptron, as runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tallow::models::mlp::Implementation;
use tallow::train::config::{OptimizerKind, Precision, ScheduleKind};
use tallow::train::{Event, Listener, Outcome, Start, TrainConfig, run};

use crate::finish;
use crate::run::{folder, weights};

const FOUR: [Implementation; 4] =
    [Implementation::Manual, Implementation::Autograd, Implementation::Layers, Implementation::Optimizer];

fn config(implementation: Implementation) -> TrainConfig {
    TrainConfig::default().with(|c| {
        c.model.model = "mlp_circles".into();
        c.data.data = "circles".into();
        c.optimizer.implementation = implementation;
        c.optimizer.optimizer = OptimizerKind::Sgd;
        c.optimizer.momentum = 0.;
        c.optimizer.weight_decay = 0.;
        c.regularization.clip_grad = 0.;
        c.schedule.schedule = ScheduleKind::Constant;
        c.optimizer.lr = 0.3;
        c.length.batch_size = 10.into();
        c.length.epochs = 3.into();
        c.compute.seed = 5;
        c.compute.device = "cpu".into();
    })
}

#[test]
fn the_four_give_the_same_run_to_rounding() {
    let runs = FOUR.map(|implementation| {
        let (_directory, folder) = folder();
        let summary = finish(&config(implementation), &folder, Start::New).unwrap();
        (folder.metrics().unwrap(), summary)
    });
    let (first, summary) = &runs[3];
    assert_eq!(first.steps.len(), 60);
    assert!(first.steps[59].loss < first.steps[0].loss, "it learns");
    for ((metrics, other), implementation) in runs.iter().zip(FOUR) {
        for (a, b) in metrics.steps.iter().zip(&first.steps) {
            let what = format!("{implementation:?}, step {}", a.step);
            assert!((a.loss - b.loss).abs() < 2e-5, "{what}: loss {} and {}", a.loss, b.loss);
            assert!((a.grad_norm - b.grad_norm).abs() < 1e-4, "{what}: {} and {}", a.grad_norm, b.grad_norm);
        }
        assert!((other.test_loss - summary.test_loss).abs() < 2e-5, "{implementation:?}");
        assert_eq!(other.test_accuracy, summary.test_accuracy, "{implementation:?}");
    }
}

#[test]
fn the_four_are_not_one_and_the_same_computation() {
    let bits = FOUR.map(|implementation| {
        let (_directory, folder) = folder();
        finish(&config(implementation), &folder, Start::New).unwrap();
        weights(&folder.best_path())
    });
    assert!(bits[0] != bits[3], "written out by hand it rounds in other places");
}

/// Stops after so many steps.
struct StopAfter<'a>(&'a AtomicBool, AtomicUsize);

impl Listener for StopAfter<'_> {
    fn on(&mut self, event: &Event) {
        if matches!(event, Event::Step(_)) && self.1.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_run_by_hand_that_was_interrupted_ends_as_one_that_was_not() {
    for implementation in FOUR {
        let config = config(implementation);
        let (_directory, whole) = folder();
        finish(&config, &whole, Start::New).unwrap();
        let (_other, folder) = folder();
        let stop = AtomicBool::new(false);
        let outcome = run(&config, &folder, Start::New, &mut StopAfter(&stop, 27.into()), &stop).unwrap();
        assert!(matches!(outcome, Outcome::Interrupted { step: 27 }), "{outcome:?}");
        finish(&config, &folder, Start::Resume).unwrap();
        assert!(weights(&folder.best_path()) == weights(&whole.best_path()), "{implementation:?}");
    }
}

#[test]
fn what_an_implementation_by_hand_does_not_do_is_refused_by_name() {
    type Change = fn(&mut TrainConfig);
    let changes: [(&str, Change); 10] = [
        ("optimizer", |c| c.optimizer.optimizer = OptimizerKind::Adamw),
        ("momentum", |c| c.optimizer.momentum = 0.9),
        ("weight_decay", |c| c.optimizer.weight_decay = 1e-4),
        ("clip_grad", |c| c.regularization.clip_grad = 1.),
        ("accumulate", |c| c.length.accumulate = 2),
        ("label_smoothing", |c| c.regularization.label_smoothing = 0.1),
        ("layer_decay", |c| c.regularization.layer_decay = Some(0.9)),
        ("freeze", |c| c.model.freeze = Some("backbone".into())),
        ("dtype", |c| c.compute.dtype = Precision::Bf16),
        ("act", |c| drop(c.model.set.insert("act".into(), "relu".into()))),
    ];
    for (field, change) in changes {
        for implementation in &FOUR[..3] {
            let mut config = config(*implementation);
            change(&mut config);
            let (_directory, folder) = folder();
            let error = finish(&config, &folder, Start::New).expect_err(field).to_string();
            assert!(error.starts_with(&format!("{field}: expected ")), "{error}");
        }
    }
    let vit = config(Implementation::Manual).with(|c| {
        c.model.model = "vit_mnist".into();
        c.data.data = "mnist".into();
    });
    let (_directory, folder) = folder();
    let error = finish(&vit, &folder, Start::New).unwrap_err().to_string();
    assert!(error.starts_with("implementation: expected optimizer, as vit_mnist is no perceptron"), "{error}");
}
