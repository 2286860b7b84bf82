//! A run that was interrupted and resumed ends where an uninterrupted one ends, bit for bit.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicBool;

use tallow::train::config::Normalize;
use tallow::train::{EpochMetrics, Error, Event, Listener, Outcome, RunFolder, Start, StepMetrics, TrainConfig, run};
use tallow::weights::Whitening;

use crate::run::{folder, weights};
use crate::{Heard, Stopper, finish, small};

/// 3 epochs of 6 steps, with a validation split, augmentation, dropped paths and a momentum of every kind.
fn config() -> TrainConfig {
    small().with(|c| {
        c.length.epochs = 3.into();
        c.data.val_fraction = 0.1;
        c.data.limit = Some(100);
        c.data.augment = "crop".into();
    })
}

/// The same with the head alone, on features that are kept.
fn frozen() -> TrainConfig {
    let mut config = config().with(|c| {
        c.model.freeze = Some("backbone".into());
        c.data.augment = "none".into();
    });
    config.model.set.insert("drop_path_rate".into(), "0".into());
    config
}

/// The same on whitened images, small ones, so that the whitening takes no time.
fn whitened(config: TrainConfig) -> TrainConfig {
    let mut config = config.with(|c| c.data.normalize = Normalize::Zca);
    config.model.set.extend([("img_size".to_string(), "14".to_string()), ("patch_size".to_string(), "7".to_string())]);
    config
}

/// A CNN with batch norm and dropout, mixed batches, and averages of the weights.
fn averaged() -> TrainConfig {
    let set = [("in_chans", "1"), ("img_size", "8"), ("batch_norm", "true"), ("drop_rate", "0.2")];
    config().with(|c| {
        c.model.model = "cnn_cifar10".into();
        c.data.mixup = 0.4;
        c.data.cutmix = 1.;
        c.regularization.ema = Some(0.8);
        c.model.set = set.map(|(key, value)| (key.to_string(), value.to_string())).into();
    })
}

/// All of a run's result that time has no part in.
#[derive(Debug, PartialEq)]
struct Result {
    weights: [Vec<(String, Vec<u32>)>; 2],
    steps: Vec<StepMetrics>,
    epochs: Vec<EpochMetrics>,
    predictions: tallow::train::Predictions,
    chosen: (usize, String),
    whitening: [Option<Vec<u8>>; 2],
    averages: Option<Vec<u8>>,
}

fn result(folder: &RunFolder) -> Result {
    let metrics = folder.metrics().unwrap();
    let summary = folder.summary().unwrap();
    Result {
        weights: [weights(&folder.best_path()), weights(&folder.last_path())],
        steps: metrics.steps.into_iter().map(|step| step.with(|m| m.images_per_second = 0.)).collect(),
        epochs: metrics
            .epochs
            .into_iter()
            .map(|epoch| {
                epoch.with(|m| {
                    m.seconds = 0.;
                    m.images_per_second = 0.;
                })
            })
            .collect(),
        predictions: folder.predictions().unwrap(),
        chosen: (summary.best_epoch, summary.chosen_by),
        whitening: [folder.best_path(), folder.last_path()].map(|path| fs::read(path.join(Whitening::FILE)).ok()),
        averages: fs::read(folder.last_path().join("ema.safetensors")).ok(),
    }
}

fn uninterrupted(config: &TrainConfig) -> Result {
    let (_directory, folder) = folder();
    finish(config, &folder, Start::New).unwrap();
    result(&folder)
}

#[test]
fn a_run_that_is_stopped_and_resumed_ends_as_if_it_had_not_been() {
    for config in [
        config(),
        frozen(),
        whitened(config()),
        whitened(frozen().with(|c| c.regularization.ema = Some(0.8))),
        averaged(),
    ] {
        let expected = uninterrupted(&config);
        let (_directory, folder) = folder();
        // In the middle of an epoch, at its end, at the start of the next.
        for (after, start) in [(2, Start::New), (5, Start::Resume), (12, Start::Resume)] {
            let stop = AtomicBool::new(false);
            let outcome = run(&config, &folder, start, &mut Stopper { after, stop: &stop }, &stop).unwrap();
            assert_eq!(outcome, Outcome::Interrupted { step: after + 1 });
            assert!(!folder.summary_path().exists());
        }
        // The settings of a resume are those that the folder remembers.
        finish(&folder.config().unwrap(), &folder, Start::Resume).unwrap();
        assert_eq!(result(&folder), expected);
    }
}

/// Breaks off in the middle of everything, as a kill does, at the n-th event.
struct Breaker {
    left: usize,
}

impl Listener for Breaker {
    fn on(&mut self, _: &Event) {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            // No message: it is meant.
            None => resume_unwind(Box::new("broken off")),
        }
    }
}

#[test]
fn a_run_that_breaks_off_at_any_event_and_is_resumed_ends_as_if_it_had_not() {
    for config in [
        config(),
        frozen(),
        whitened(config()),
        whitened(frozen().with(|c| c.regularization.ema = Some(0.8))),
        averaged(),
    ] {
        let config = config.with(|c| c.compute.checkpoint_every = Some(4));
        let expected = uninterrupted(&config);
        let (_directory, folder) = folder();
        let mut attempts = 0;
        for left in [0, 3, 9, 5, 6, 7, 4, 10, 8, 9] {
            let broken = catch_unwind(AssertUnwindSafe(|| {
                run(&config, &folder, Start::Resume, &mut Breaker { left }, &AtomicBool::new(false))
            }));
            attempts += usize::from(broken.is_err());
        }
        assert!(attempts >= 8, "only {attempts} attempts were broken off");
        finish(&config, &folder, Start::Resume).unwrap();
        assert_eq!(result(&folder), expected);
    }
}

#[test]
fn a_kill_between_the_renames_of_a_checkpoint_loses_nothing() {
    let config = config();
    let expected = uninterrupted(&config);
    let stop_at = |folder: &RunFolder, after| {
        let stop = AtomicBool::new(false);
        run(&config, folder, Start::Resume, &mut Stopper { after, stop: &stop }, &stop).unwrap();
    };
    let hidden = |folder: &RunFolder, ending: &str| folder.checkpoints_path().join(format!(".last.{ending}"));

    // The old one was moved away, the new one is complete and not yet in its place.
    let (_first, moved) = folder();
    stop_at(&moved, 3);
    fs::rename(moved.last_path(), hidden(&moved, "old")).unwrap();
    let (_second, other) = folder();
    stop_at(&other, 7);
    fs::rename(other.last_path(), hidden(&moved, "new")).unwrap();
    fs::copy(other.metrics_path(), moved.metrics_path()).unwrap();
    fs::rename(other.best_path(), moved.best_path()).unwrap();
    finish(&config, &moved, Start::Resume).unwrap();
    assert_eq!(result(&moved), expected);

    // The new one is half-written, the old one still in its place.
    let (_third, half) = folder();
    stop_at(&half, 8);
    fs::create_dir(hidden(&half, "unfinished")).unwrap();
    fs::write(hidden(&half, "unfinished").join("model.safetensors"), "half").unwrap();
    finish(&config, &half, Start::Resume).unwrap();
    assert_eq!(result(&half), expected);
    assert!(!hidden(&half, "unfinished").exists());
}

#[test]
fn a_resume_of_a_run_that_has_ended_changes_nothing() {
    let config = config();
    let (_directory, folder) = folder();
    finish(&config, &folder, Start::New).unwrap();
    let before = result(&folder);
    finish(&config, &folder, Start::Resume).unwrap();
    assert_eq!(result(&folder), before);
}

#[test]
fn a_resume_with_other_settings_is_refused_and_names_them() {
    let (_directory, folder) = folder();
    let stop = AtomicBool::new(true);
    run(&config(), &folder, Start::New, &mut Heard::default(), &stop).unwrap();
    // More epochs alone would extend it.
    let other = config().with(|c| {
        c.optimizer.lr = 0.5;
        c.optimizer.weight_decay = 0.1;
        c.length.epochs = 9.into();
    });
    let error = finish(&other, &folder, Start::Resume).unwrap_err();
    assert!(matches!(error, Error::Differs { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("lr (0.001 against 0.5)") && text.contains("weight_decay (0.05 against 0.1)"), "{text}");
    assert_eq!(folder.config().unwrap().epochs(), 3, "what is refused changes nothing");
}

#[test]
fn a_damaged_checkpoint_is_an_error_that_names_the_file() {
    type Damage = (&'static str, fn(&[u8]) -> Vec<u8>);
    let damages: [Damage; 7] = [
        ("checkpoints/last/state.toml", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("checkpoints/last/model.safetensors", |bytes| bytes[..bytes.len() - 1].to_vec()),
        ("checkpoints/last/optimizer.safetensors", |_| Vec::new()),
        ("checkpoints/last/preprocessing.safetensors", |bytes| bytes[..bytes.len() / 2].to_vec()),
        ("checkpoints/last/preprocessing.safetensors", |bytes| {
            // The last value of the matrix is no number.
            [&bytes[..bytes.len() - 4], &f32::NAN.to_le_bytes()].concat()
        }),
        ("config.toml", |_| b"epochs = -1".to_vec()),
        ("metrics.jsonl", |bytes| bytes[..bytes.len() / 2].to_vec()),
    ];
    for (name, damage) in damages {
        let (_directory, folder) = folder();
        let stop = AtomicBool::new(false);
        run(&whitened(config()), &folder, Start::New, &mut Stopper { after: 2, stop: &stop }, &stop).unwrap();
        let path = folder.root().join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, damage(&bytes)).unwrap();
        let error = finish(&whitened(config()), &folder, Start::Resume).expect_err(name).to_string();
        assert!(error.contains(name) && !error.contains('\n'), "{name}: {error}");
    }
}
