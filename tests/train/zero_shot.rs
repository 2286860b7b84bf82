//! Fine-tuning from a head that was made of words, and what lies between the two, beside PyTorch and the zero-shot model itself.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use flate2::read::GzDecoder;
use serde_json::Value;
use tallow::train::config::{Head, Normalize, OptimizerKind, ScheduleKind};
use tallow::train::interpolate::Interpolate;
use tallow::train::{Outcome, RunEvaluation, RunFolder, Start, Summary, TrainConfig, evaluate_run, zero_shot};
use tallow_weights::OpenOptions;
use tempfile::TempDir;

use crate::{Heard, finish, numbers};

fn references() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/text")
}

fn unzipped(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The CLIP of the references, with its tokenizer.
fn clip() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["open_clip_model.safetensors", "open_clip_config.json"] {
        fs::write(folder.path().join(name), unzipped(&references().join(format!("open_clip/{name}.gz")))).unwrap();
    }
    let pairs = "bpe_simple_vocab_16e6.txt.gz";
    fs::copy(references().join("open_clip").join(pairs), folder.path().join(pairs)).unwrap();
    folder
}

/// What makes a run plain: no shuffling, warm-up, schedule, clipping or augmentation.
fn plain(model: &TempDir) -> TrainConfig {
    TrainConfig::new(model.path().to_str().unwrap(), "mnist").with(|c| {
        c.model.weights = Some("pretrained".into());
        c.model.head = Head::ZeroShot;
        c.model.templates = Some("simple".into());
        c.data.limit = Some(320);
        c.data.test_limit = Some(100);
        c.length.epochs = 1.into();
        c.length.batch_size = tallow::train::config::BatchSize::Of(16);
        c.data.normalize = Normalize::None;
        c.data.augment = "none".into();
        c.data.shuffle = false;
        c.optimizer.optimizer = OptimizerKind::Adamw;
        c.optimizer.lr = 1e-3;
        c.optimizer.weight_decay = 0.05;
        c.schedule.schedule = ScheduleKind::Constant;
        c.schedule.warmup_steps = Some(0);
        c.regularization.clip_grad = 0.;
        c.compute.device = "cpu".into();
    })
}

fn measured(config: &TrainConfig, folder: &RunFolder) -> Summary {
    let stop = AtomicBool::new(false);
    match zero_shot::run(config, &OpenOptions::default(), folder, &mut Heard::default(), &stop).unwrap() {
        Outcome::Finished(summary) => summary,
        other => panic!("{other:?}"),
    }
}

#[test]
fn twenty_steps_from_a_zero_shot_head_follow_pytorch() {
    let (model, directory) = (clip(), tempfile::tempdir().unwrap());
    let folder = RunFolder::new(directory.path().join("run"));
    finish(&plain(&model), &folder, Start::New).unwrap();
    let reference: Value = serde_json::from_slice(&unzipped(&references().join("reference.json.gz"))).unwrap();
    let reference = &reference["twenty_steps"];
    let (losses, norms) = (numbers(&reference["loss"]), numbers(&reference["grad_norm"]));
    let steps = folder.metrics().unwrap().steps;
    assert_eq!((steps.len(), losses.len(), norms.len()), (20, 20, 20));
    for (step, (loss, norm)) in steps.iter().zip(losses.into_iter().zip(norms)) {
        let at = format!("step {}", step.step);
        assert!((step.loss - loss).abs() < 2e-4, "{at}: loss {} where PyTorch has {loss}", step.loss);
        assert!(
            (step.grad_norm - norm).abs() < 1e-3 * norm.max(1.),
            "{at}: norm {} where PyTorch has {norm}",
            step.grad_norm
        );
    }
}

#[test]
fn fine_tuning_begins_where_the_zero_shot_run_ends_and_between_the_two_lie_both() {
    let (model, directory) = (clip(), tempfile::tempdir().unwrap());
    let config = plain(&model).with(|c| c.data.val_fraction = 0.25);
    let words = RunFolder::new(directory.path().join("words"));
    let zero = measured(&config, &words);
    assert_eq!((zero.epochs, zero.steps, zero.trainable_parameters), (0, 0, 0));
    // Its folder is that of a run: measured again it gives the same.
    let again = evaluate_run(&words, &RunEvaluation::default(), &mut Heard::default()).unwrap();
    assert_eq!(again.evaluation.accuracy, zero.test_accuracy);

    // A learning rate that moves nothing: what is measured after it is where it began.
    let still = RunFolder::new(directory.path().join("still"));
    let begun = finish(&config.clone().with(|c| c.optimizer.lr = 1e-30), &still, Start::New).unwrap();
    assert_eq!((begun.test_accuracy, begun.test_loss), (zero.test_accuracy, zero.test_loss));
    assert_eq!(begun.test_set, zero.test_set);

    let tuned = RunFolder::new(directory.path().join("tuned"));
    let after = finish(&config.with(|c| c.optimizer.lr = 3e-3), &tuned, Start::New).unwrap();
    // By the model that the head was made by, and by the run that measured it: the same base.
    for base in [model.path(), words.root()] {
        let between = Interpolate::new(base.to_str().unwrap(), vec![0., 0.5, 1.]);
        let between = between.run(&tuned, &mut Heard::default()).unwrap();
        let ends = [between.points.first().unwrap(), between.points.last().unwrap()];
        assert_eq!(ends.map(|point| point.test_accuracy), [zero.test_accuracy, after.test_accuracy]);
        assert!((ends[1].test_loss - after.test_loss).abs() < 1e-6);
        let (best, why) = between.chosen.expect("the validation part chooses");
        assert_eq!(why, "val_accuracy");
        let of = |at: usize| between.points[at].val_accuracy.unwrap();
        assert!((0..3).all(|at| of(at) <= of(best)));
        let out = directory.path().join(format!("between-{}", base.file_name().unwrap().to_str().unwrap()));
        between.write(&out).unwrap();
        assert!(out.join("model.safetensors").is_file() && out.join("config.json").is_file());
    }
    let message =
        Interpolate::new("vit_mnist", vec![0.5]).run(&tuned, &mut Heard::default()).expect_err("another model");
    assert!(!message.to_string().is_empty());
}

#[test]
fn classes_are_called_as_asked_and_what_makes_no_sense_is_refused_before_the_folder_is_made() {
    let (model, directory) = (clip(), tempfile::tempdir().unwrap());
    let folder = RunFolder::new(directory.path().join("run"));
    let refused = |config: TrainConfig| {
        let stop = AtomicBool::new(false);
        let error = zero_shot::run(&config, &OpenOptions::default(), &folder, &mut Heard::default(), &stop)
            .expect_err("an error");
        assert!(!folder.root().exists());
        error.to_string()
    };
    let message = refused(plain(&model).with(|c| c.model.classes = Some("zero,one".into())));
    assert!(
        message.starts_with("classes: expected 10 names, one for each class of mnist, got 2: zero, one"),
        "{message}"
    );
    let message = refused(plain(&model).with(|c| c.model.classes = Some("a,b,c,d,e,f,g,h,i,A".into())));
    assert!(message.contains("names that differ"), "{message}");
    let message = refused(plain(&model).with(|c| c.model.templates = Some("openai-8".into())));
    assert!(message.starts_with("templates: expected openai-80"), "{message}");
    let digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"].join(",");
    let summary = measured(&plain(&model).with(|c| c.model.classes = Some(digits)), &folder);
    assert_eq!(summary.classes.len(), 10);
}
