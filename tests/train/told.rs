//! What is told of a run before and while it happens: what it will take, and hints with the flag to try.

use std::sync::atomic::{AtomicBool, Ordering};

use tallow::train::{Estimate, Event, Listener, Outcome, RunFolder, Start, TrainConfig, config::ScheduleKind, run};

use crate::{Heard, small};

/// Stops a run after a number of steps, and keeps what happened.
struct Stopping<'a> {
    heard: Heard,
    after: usize,
    stop: &'a AtomicBool,
}

impl Listener for Stopping<'_> {
    fn on(&mut self, event: &Event) {
        self.heard.on(event);
        if matches!(event, Event::Step(step) if step.step + 1 == self.after) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

/// The events of a run that is stopped after so many steps, and the losses and norms of these, bit for bit.
fn begun(config: &TrainConfig, after: usize) -> (Heard, Vec<[u64; 2]>) {
    let directory = tempfile::tempdir().unwrap();
    let folder = RunFolder::new(directory.path().join("run"));
    let stop = AtomicBool::new(false);
    let mut listener = Stopping { heard: Heard::default(), after, stop: &stop };
    let outcome = run(config, &folder, Start::New, &mut listener, &stop).unwrap();
    assert_eq!(outcome, Outcome::Interrupted { step: after });
    let steps = folder.metrics().unwrap().steps.iter().map(|s| [s.loss.to_bits(), s.grad_norm.to_bits()]).collect();
    let stop = AtomicBool::new(false);
    let mut resumed = Stopping { heard: Heard::default(), after: after + 1, stop: &stop };
    run(&folder.config().unwrap(), &folder, Start::Resume, &mut resumed, &stop).unwrap();
    assert!(estimate(&resumed.heard).is_none() && hints(&resumed.heard).is_empty(), "a run that goes on is known");
    (listener.heard, steps)
}

fn estimate(heard: &Heard) -> Option<Estimate> {
    heard.0.iter().find_map(|event| if let Event::Estimate(estimate) = event { Some(*estimate) } else { None })
}

fn hints(heard: &Heard) -> Vec<&str> {
    heard.0.iter().filter_map(|event| if let Event::Hint(text) = event { Some(text.as_str()) } else { None }).collect()
}

#[test]
fn what_a_long_run_will_take_is_told_before_its_first_step_and_changes_nothing_about_it() {
    let constant = small().with(|c| c.schedule.schedule = ScheduleKind::Constant);
    // Batch norms move with every pass in training mode.
    let cnn = constant.clone().with(|c| {
        c.model.model = "cnn_cifar10".into();
        c.model.set = [("img_size", "28"), ("in_chans", "1"), ("batch_norm", "true"), ("drop_rate", "0.5")]
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .into();
    });
    for config in [constant, cnn] {
        let (short, steps) = begun(&config.clone().with(|c| c.length.epochs = 3.into()), 7);
        assert!(estimate(&short).is_none(), "a run of a second");
        let (long, same) = begun(&config.with(|c| c.length.epochs = 20_000.into()), 7);
        assert_eq!(steps, same);
        let told = estimate(&long).expect("an estimate");
        assert_eq!((told.epochs, told.img_size), (20_000, [28, 28]));
        assert!(told.seconds_per_epoch > 0. && told.seconds_per_epoch < 60., "{told:?}");
        assert!((told.seconds / told.seconds_per_epoch / 20_000. - 1.).abs() < 1e-9, "{told:?}");
        let memory = told.memory_bytes.map(|bytes| bytes > 10_000_000);
        assert_eq!(memory, cfg!(target_os = "linux").then_some(true), "{told:?}");
        let at = |of: fn(&Event) -> bool| long.0.iter().position(of).unwrap();
        assert!(at(|event| matches!(event, Event::Estimate(_))) < at(|event| matches!(event, Event::Step(_))));
    }
}

#[test]
fn few_steps_are_told_with_the_epochs_that_make_a_hundred() {
    let (heard, _) = begun(&small().with(|c| c.length.epochs = 3.into()), 2);
    assert_eq!(hints(&heard), ["18 steps in all are few to learn in: `epochs = 17` makes 102"]);
    let (heard, _) = begun(&small().with(|c| c.length.epochs = 17.into()), 2);
    assert!(hints(&heard).is_empty(), "{:?}", hints(&heard));
    let perceptron = small().with(|c| {
        c.model.model = "mlp_mnist".into();
        c.model.set = Default::default();
        c.length.epochs = 3.into();
    });
    let (heard, _) = begun(&perceptron, 2);
    assert!(hints(&heard).is_empty(), "{:?}", hints(&heard));
}

#[test]
fn a_run_that_learns_its_samples_by_heart_is_told_so_once() {
    // So few digits that others are not like them.
    let config = small().with(|c| {
        c.model.model = "mlp_mnist".into();
        c.model.set = Default::default();
        c.data.limit = Some(40);
        c.length.epochs = 20.into();
        c.length.batch_size = 20.into();
        c.data.augment = "none".into();
        c.optimizer.lr = 1e-2;
        c.optimizer.weight_decay = 0.;
        c.schedule.schedule = ScheduleKind::Constant;
    });
    let directory = tempfile::tempdir().unwrap();
    let folder = RunFolder::new(directory.path().join("run"));
    let mut heard = Heard::default();
    run(&config, &folder, Start::New, &mut heard, &AtomicBool::new(false)).unwrap();
    let by_heart: Vec<_> = hints(&heard).into_iter().filter(|hint| hint.contains("by heart")).collect();
    let epochs = folder.metrics().unwrap().epochs;
    let course: Vec<_> = epochs.iter().map(|epoch| (epoch.train_accuracy, epoch.test_loss)).collect();
    assert_eq!(by_heart.len(), 1, "{course:?}");
    assert!(by_heart[0].contains("test loss") && by_heart[0].contains("`val_fraction = 0.1`"), "{}", by_heart[0]);
}
