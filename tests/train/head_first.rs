//! A new head that is trained before everything, features that runs share, and evaluations that are not made after every epoch.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use tallow::train::config::Head;
use tallow::train::{Event, Listener, Outcome, RunFolder, Start, TrainConfig, run};

use crate::run::{folder, weights};
use crate::{Heard, finish, small};

/// A run from the weights of another one, with a new head.
fn from(pretrained: &RunFolder) -> TrainConfig {
    small().with(|c| {
        c.model.weights = Some(pretrained.best_path().display().to_string());
        c.model.head = Head::New;
        c.data.augment = "none".into();
        c.optimizer.head_first_steps = 60;
        c.optimizer.lr = 1e-4;
    })
}

/// Runs to the end, and tells what was heard.
fn heard(config: &TrainConfig, folder: &RunFolder) -> Heard {
    let mut heard = Heard::default();
    let outcome = run(config, folder, Start::New, &mut heard, &AtomicBool::new(false)).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)));
    heard
}

#[test]
fn a_new_head_is_trained_alone_before_the_first_step() {
    let (_directory, pretrained) = folder();
    finish(&small().with(|c| c.length.epochs = 6.into()), &pretrained, Start::New).unwrap();
    let (_first, with) = folder();
    let (_second, without) = folder();
    let notes = heard(&from(&pretrained).with(|c| c.optimizer.head_first_steps = 1000), &with);
    let notes = notes.notes().join("\n");
    assert!(notes.contains("the head alone first for 1000 steps"), "{notes}");
    assert!(notes.contains("the head alone first: 1000 steps on the features of 90 images, "), "{notes}");
    let other = heard(&from(&pretrained).with(|c| c.optimizer.head_first_steps = 0), &without);
    assert!(!other.notes().join("\n").contains("head alone"));
    let first_loss = |folder: &RunFolder| folder.metrics().unwrap().steps[0].loss;
    // Ten classes: a head that knows nothing is at ln 10 = 2.30.
    assert!(first_loss(&with) < first_loss(&without) - 0.1, "{} {}", first_loss(&with), first_loss(&without));
    assert_eq!(with.metrics().unwrap().steps.len(), 12, "its steps are no steps of the run");
}

#[test]
fn a_head_that_was_loaded_or_is_all_that_is_trained_is_not_trained_first() {
    let (_directory, pretrained) = folder();
    finish(&small(), &pretrained, Start::New).unwrap();
    for config in [
        from(&pretrained).with(|c| c.model.head = Head::Keep),
        from(&pretrained).with(|c| c.model.freeze = Some("backbone".into())),
        from(&pretrained).with(|c| c.model.freeze = Some("head.*".into())),
        from(&pretrained).with(|c| c.model.weights = None),
    ] {
        let (_directory, folder) = folder();
        let heard = heard(&config, &folder);
        assert!(!heard.notes().join("\n").contains("the head alone"), "{:?}", heard.notes());
    }
}

/// Asks the run to stop at the n-th event.
struct StopAt<'a>(usize, &'a AtomicBool);

impl Listener for StopAt<'_> {
    fn on(&mut self, _: &Event) {
        match self.0.checked_sub(1) {
            Some(left) => self.0 = left,
            None => self.1.store(true, Ordering::Relaxed),
        }
    }
}

#[test]
fn a_run_that_trains_its_head_first_ends_the_same_wherever_it_was_stopped() {
    let (_directory, pretrained) = folder();
    finish(&small(), &pretrained, Start::New).unwrap();
    let config = from(&pretrained).with(|c| {
        c.regularization.ema = Some(0.8);
        c.length.eval_batch_size = Some(16);
    });
    let (_whole, whole) = folder();
    finish(&config, &whole, Start::New).unwrap();
    // While features are computed, just after the head was trained, and in the middle of the steps.
    for at in [2, 5, 9, 14] {
        let (_directory, folder) = folder();
        let stop = AtomicBool::new(false);
        let outcome = run(&config, &folder, Start::New, &mut StopAt(at, &stop), &stop).unwrap();
        assert!(matches!(outcome, Outcome::Interrupted { .. }), "{at}");
        finish(&config, &folder, Start::Resume).unwrap();
        assert!(weights(&folder.best_path()) == weights(&whole.best_path()), "stopped at event {at}");
        assert!(weights(&folder.last_path()) == weights(&whole.last_path()), "stopped at event {at}");
    }
}

#[test]
fn epochs_between_two_evaluations_are_told_together_and_change_no_weight() {
    let (_first, every) = folder();
    let (_second, some) = folder();
    let config = small().with(|c| c.length.epochs = 5.into());
    finish(&config, &every, Start::New).unwrap();
    let summary = finish(&config.clone().with(|c| c.length.eval_every = 2.into()), &some, Start::New).unwrap();
    assert!(weights(&some.last_path()) == weights(&every.last_path()));
    assert_eq!((summary.epochs, summary.steps), (5, 30));
    let (all, few) = (every.metrics().unwrap().epochs, some.metrics().unwrap().epochs);
    assert_eq!(few.iter().map(|epoch| epoch.epoch).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(few.iter().map(|e| e.test_loss).collect::<Vec<_>>(), [1, 3, 4].map(|i| all[i].test_loss));
    assert!((few[0].train_loss - (all[0].train_loss + all[1].train_loss) / 2.).abs() < 1e-9);
    assert_eq!(few[2].train_loss, all[4].train_loss);

    // Stopped in an epoch that is not evaluated, at its end, and in the next.
    for after in [2, 5, 8, 29] {
        let (_directory, folder) = folder();
        let stop = AtomicBool::new(false);
        struct Step<'a>(usize, &'a AtomicBool);
        impl Listener for Step<'_> {
            fn on(&mut self, event: &Event) {
                if matches!(event, Event::Step(step) if step.step == self.0) {
                    self.1.store(true, Ordering::Relaxed);
                }
            }
        }
        let config = config.clone().with(|c| c.length.eval_every = 2.into());
        run(&config, &folder, Start::New, &mut Step(after, &stop), &stop).unwrap();
        finish(&config, &folder, Start::Resume).unwrap();
        assert!(weights(&folder.last_path()) == weights(&every.last_path()), "stopped after step {after}");
        let epochs = folder.metrics().unwrap().epochs;
        let same = |(a, b): (&tallow::train::EpochMetrics, &tallow::train::EpochMetrics)| {
            (a.epoch, a.train_loss, a.test_loss) == (b.epoch, b.train_loss, b.test_loss)
        };
        assert!(epochs.len() == 3 && epochs.iter().zip(&few).all(same), "stopped after step {after}");
    }
}

#[test]
fn runs_beside_each_other_share_the_features_of_the_same_backbone() {
    let (_directory, pretrained) = folder();
    finish(&small(), &pretrained, Start::New).unwrap();
    let mut probe = from(&pretrained).with(|c| {
        c.model.freeze = Some("backbone".into());
        c.length.eval_batch_size = Some(16);
        c.length.epochs = 3.into();
        c.optimizer.lr = 1e-2;
    });
    probe.model.set.insert("drop_path_rate".into(), "0".into());
    let (_alone, alone) = folder();
    heard(&probe, &alone);
    assert!(!alone.shared_features_path().exists(), "a run by itself leaves nothing beside it");

    let directory = tempfile::tempdir().unwrap();
    let shared = directory.path().join("features");
    fs::create_dir(&shared).unwrap();
    let run = |name: &str, config: &TrainConfig| {
        let folder = RunFolder::new(directory.path().join(name));
        let heard = heard(config, &folder);
        assert!(weights(&folder.last_path()) == weights(&alone.last_path()), "{name}: other weights");
        // Computed, they are told batch by batch: 90 training samples and 40 to test in batches of 16.
        heard.0.iter().filter(|event| matches!(event, Event::Features { .. })).count()
    };
    assert_eq!(run("first", &probe), 6 + 3);
    assert_eq!(run("second", &probe.clone().with(|c| c.name = Some("another name".into()))), 1 + 1);
    let files = || {
        let mut files: Vec<_> = fs::read_dir(&shared).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    assert_eq!(files().len(), 2);

    // What was damaged, or is cut, is computed again.
    for damage in [|bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1, |bytes: &mut Vec<u8>| bytes.truncate(100)] {
        for file in files() {
            let mut bytes = fs::read(&file).unwrap();
            damage(&mut bytes);
            fs::write(&file, bytes).unwrap();
        }
        let name = format!("damaged {}", fs::read_dir(directory.path()).unwrap().count());
        assert_eq!(run(&name, &probe), 6 + 3);
    }

    // Other weights, another size or other samples are other features.
    let (_other, other) = folder();
    finish(&small().with(|c| c.compute.seed = 8), &other, Start::New).unwrap();
    let others = [
        probe.clone().with(|c| c.model.weights = Some(other.best_path().display().to_string())),
        probe.clone().with(|c| c.data.limit = Some(80)),
        probe.clone().with(|c| c.data.normalize = tallow::train::config::Normalize::None),
    ];
    for (number, config) in others.iter().enumerate() {
        let folder = RunFolder::new(directory.path().join(format!("other {number}")));
        let events = heard(config, &folder).0;
        let trained = |event: &&Event| matches!(event, Event::Features { done, .. } if *done > 40);
        assert!(events.iter().filter(trained).count() > 1, "{number}: the training part was computed");
    }
}
