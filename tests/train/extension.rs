//! More epochs for a run that was planned with fewer.

use std::sync::atomic::{AtomicBool, Ordering};

use tallow::train::config::ScheduleKind;
use tallow::train::{Extension, Outcome, RunFolder, Start, StepMetrics, TrainConfig, run};

use crate::run::{folder, weights};
use crate::{Heard, Stopper, finish, small};

/// Epochs of 6 steps.
fn config(schedule: ScheduleKind, epochs: usize) -> TrainConfig {
    small().with(|c| {
        c.schedule.schedule = schedule;
        c.length.epochs = epochs.into();
        c.schedule.gamma = 0.5;
        c.schedule.step_size = 2;
        c.data.limit = Some(100);
        c.data.val_fraction = 0.1;
    })
}

fn steps(folder: &RunFolder) -> Vec<StepMetrics> {
    let metrics = folder.metrics().unwrap();
    metrics.steps.into_iter().map(|step| step.with(|m| m.images_per_second = 0.)).collect()
}

fn rates(folder: &RunFolder) -> Vec<f64> {
    steps(folder).iter().map(|step| step.lr).collect()
}

type Weights = Vec<(String, Vec<u32>)>;

/// Weights and steps, which all else follows from.
fn result(folder: &RunFolder) -> ([Weights; 2], Vec<StepMetrics>, f64) {
    let accuracy = folder.summary().unwrap().test_accuracy;
    ([weights(&folder.last_path()), weights(&folder.best_path())], steps(folder), accuracy)
}

/// The settings that the folder remembers, with more epochs.
fn longer(folder: &RunFolder, epochs: usize) -> TrainConfig {
    folder.config().unwrap().with(|c| c.length.epochs = epochs.into())
}

#[test]
fn a_schedule_that_knows_no_end_goes_on_as_if_the_run_had_been_that_long_from_the_start() {
    for schedule in [ScheduleKind::Constant, ScheduleKind::Exponential, ScheduleKind::Step] {
        let (_directory, whole) = folder();
        finish(&config(schedule, 5), &whole, Start::New).unwrap();
        let (_directory, extended) = folder();
        finish(&config(schedule, 2), &extended, Start::New).unwrap();
        let mut heard = Heard::default();
        run(&longer(&extended, 5), &extended, Start::Resume, &mut heard, &AtomicBool::new(false)).unwrap();
        assert_eq!(result(&extended), result(&whole), "{schedule:?}");
        let told = heard.notes().join("\n");
        assert!(told.contains("3 more epochs, 3 to 5") && told.contains("schedule goes on"), "{told}");
        let config = extended.config().unwrap();
        assert_eq!((config.epochs(), config.extended.len()), (5, 0));
        assert_eq!(extended.summary().unwrap().epochs, 5);
    }
}

#[test]
fn after_a_cosine_the_new_epochs_have_the_rate_that_it_ended_at() {
    let cosine = |min_lr| config(ScheduleKind::Cosine, 2).with(|c| c.schedule.min_lr = min_lr);
    let (_directory, folder) = folder();
    finish(&cosine(1e-5), &folder, Start::New).unwrap();
    let before = steps(&folder);
    let mut heard = Heard::default();
    run(&longer(&folder, 4), &folder, Start::Resume, &mut heard, &AtomicBool::new(false)).unwrap();
    assert_eq!(steps(&folder)[..before.len()], before, "what was run stays");
    assert_eq!(rates(&folder)[before.len()..], [1e-5; 12]);
    let told = heard.notes().join("\n");
    assert!(told.contains("the cosine schedule ends with epoch 2") && told.contains("learning rate 1e-5"), "{told}");
    assert!(heard.warnings().iter().all(|warning| !warning.contains("learning rate of 0")));

    // A second time, and one that changes nothing.
    finish(&longer(&folder, 5), &folder, Start::Resume).unwrap();
    assert_eq!(rates(&folder)[before.len()..], [1e-5; 18]);
    let (_directory, idle) = crate::run::folder();
    finish(&cosine(0.), &idle, Start::New).unwrap();
    let mut heard = Heard::default();
    run(&longer(&idle, 3), &idle, Start::Resume, &mut heard, &AtomicBool::new(false)).unwrap();
    assert!(heard.warnings().iter().any(|warning| warning.contains("learning rate of 0")), "{:?}", heard.warnings());
}

/// A run of two epochs of a cosine, then two of another one.
fn two_cosines() -> TrainConfig {
    let second = Extension::new(2, ScheduleKind::Cosine, 5e-4);
    config(ScheduleKind::Cosine, 2).with(|c| {
        c.length.epochs = 4.into();
        c.extended = vec![second];
    })
}

#[test]
fn a_schedule_that_is_named_begins_with_the_first_new_epoch_and_the_settings_describe_the_whole_run() {
    let (_directory, extended) = folder();
    finish(&config(ScheduleKind::Cosine, 2), &extended, Start::New).unwrap();
    let longer = longer(&extended, 4).with(|c| c.extended = two_cosines().extended);
    finish(&longer, &extended, Start::Resume).unwrap();
    let rates = rates(&extended);
    assert_eq!(rates[12], 5e-4);
    // Half of a cosine of 12 steps is behind its seventh.
    assert!((rates[18] - 2.5e-4).abs() < 1e-12 && rates[23] < 1e-5, "{rates:?}");
    let (_directory, whole) = folder();
    finish(&two_cosines(), &whole, Start::New).unwrap();
    assert_eq!(result(&whole), result(&extended), "from the start");
    let (_directory, again) = folder();
    finish(&extended.config().unwrap(), &again, Start::New).unwrap();
    assert_eq!(result(&again), result(&extended), "from config.toml");
}

#[test]
fn an_extension_that_is_interrupted_goes_on_by_a_plain_resume_to_the_same_weights() {
    let (_directory, whole) = folder();
    finish(&two_cosines(), &whole, Start::New).unwrap();
    // Before the first epochs have ended, and after.
    for planned in [4, 11] {
        let (_directory, folder) = folder();
        let stop_after = |config: &TrainConfig, after, start| {
            let stop = AtomicBool::new(false);
            let outcome = run(config, &folder, start, &mut Stopper { after, stop: &stop }, &stop).unwrap();
            assert!(
                !stop.load(Ordering::Relaxed) || matches!(outcome, Outcome::Interrupted { .. } | Outcome::Finished(_))
            );
        };
        stop_after(&config(ScheduleKind::Cosine, 2), planned, Start::New);
        let longer = longer(&folder, 4).with(|c| c.extended = two_cosines().extended);
        stop_after(&longer, 15, Start::Resume);
        assert!(!folder.summary_path().exists(), "it has not ended");
        stop_after(&folder.config().unwrap(), 20, Start::Resume);
        finish(&folder.config().unwrap(), &folder, Start::Resume).unwrap();
        assert_eq!(result(&folder), result(&whole));
    }
}

#[test]
fn fewer_epochs_than_planned_are_refused() {
    let (_directory, folder) = folder();
    finish(&config(ScheduleKind::Constant, 3), &folder, Start::New).unwrap();
    let error = finish(&longer(&folder, 2), &folder, Start::Resume).unwrap_err().to_string();
    assert!(error.starts_with("epochs: expected at least 3") && error.ends_with("got 2"), "{error}");
    assert_eq!(folder.config().unwrap().epochs(), 3);
    assert!(folder.summary_path().exists());
}

#[test]
fn extensions_that_make_no_sense_are_refused() {
    let good = || two_cosines().extended[0].clone();
    for (field, extended) in [
        ("from", vec![good().with(|m| m.from = 0)]),
        ("from", vec![good().with(|m| m.from = 4)]),
        ("from", vec![good(), good()]),
        ("lr", vec![good().with(|m| m.lr = -1.)]),
        ("min_lr", vec![good().with(|m| m.min_lr = 1.)]),
        ("gamma", vec![good().with(|m| m.gamma = 0.)]),
        ("step_size", vec![good().with(|m| m.step_size = 0)]),
    ] {
        let error = two_cosines().with(|c| c.extended = extended).validate().unwrap_err().to_string();
        assert!(error.starts_with(&format!("extended: {field}: expected")), "{error}");
    }
    two_cosines().validate().unwrap();
}
