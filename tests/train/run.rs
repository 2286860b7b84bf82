//! What a run leaves behind, what it promises, and how it fails.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor};
use tallow::data::whitening::fit;
use tallow::data::{Dataset, Image, Samples};
use tallow::train::config::{BatchSize, Normalize, OptimizerKind, ScheduleKind};
use tallow::train::{
    Error, Event, Listener, Outcome, RunEvaluation, RunFolder, Setup, Start, TrainConfig, evaluate_run, run,
};
use tallow::weights::{CheckpointConfig, Preprocessing, Resizing, Transparency, Whitening, save};
use tallow_models::{Params, zoo};

use crate::{Heard, finish, small};

/// A folder that is gone after the test.
pub fn folder() -> (tempfile::TempDir, RunFolder) {
    let directory = tempfile::tempdir().unwrap();
    let folder = RunFolder::new(directory.path().join("run"));
    (directory, folder)
}

/// The weights of a checkpoint, by name, as bits.
pub fn weights(checkpoint: &Path) -> Vec<(String, Vec<u32>)> {
    let tensors = candle_core::safetensors::load(checkpoint.join("model.safetensors"), &Device::Cpu).unwrap();
    let bits =
        |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
    let mut weights: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), bits(tensor))).collect();
    weights.sort();
    weights
}

#[test]
fn a_run_leaves_its_settings_curves_result_predictions_and_weights() {
    let (_directory, folder) = folder();
    let summary = finish(&small(), &folder, Start::New).unwrap();

    let used = folder.config().unwrap();
    assert_eq!(
        (used.data.augment.as_str(), used.compute.device.as_str(), used.schedule.warmup_steps),
        ("crop", "cpu", Some(1))
    );
    let resolved = used.resolved.as_ref().unwrap();
    assert_eq!((resolved.train_samples, resolved.test_samples, resolved.steps_per_epoch), (90, 40, 6));
    assert_eq!(used.differences(&used), [""; 0]);

    let metrics = folder.metrics().unwrap();
    assert_eq!(
        metrics.steps.iter().map(|s| (s.epoch, s.step)).collect::<Vec<_>>(),
        (0..12).map(|s| (s / 6, s)).collect::<Vec<_>>()
    );
    assert_eq!(metrics.epochs.len(), 2);
    let first = &metrics.epochs[0];
    // 90 samples in batches of 16, the last of 10: the mean over samples, not over batches.
    let sum: f64 = metrics.steps[..6].iter().zip([16., 16., 16., 16., 16., 10.]).map(|(step, n)| step.loss * n).sum();
    assert!((first.train_loss - sum / 90.).abs() < 1e-9);
    assert!((first.train_accuracy * 90.).fract().abs() < 1e-9);

    assert_eq!(folder.summary().unwrap(), summary);
    assert_eq!((summary.epochs, summary.steps, summary.train_samples, summary.test_samples), (2, 12, 90, 40));
    assert_eq!((summary.best_epoch, summary.chosen_by.as_str()), (1, "last"));
    assert_eq!(summary.test_accuracy, metrics.epochs[1].test_accuracy);
    assert_eq!((summary.name.as_str(), summary.classes.len()), ("run", 10));

    let predictions = folder.predictions().unwrap();
    let correct = predictions.labels.iter().zip(&predictions.predicted).filter(|(l, p)| l == p).count();
    assert_eq!(correct as f64 / 40., summary.test_accuracy);
    let confusion = predictions.confusion(10);
    assert_eq!((0..10).map(|class| confusion[class][class]).sum::<usize>(), correct);
    assert_eq!(confusion.iter().flatten().sum::<usize>(), 40);
    assert_eq!(predictions.mistakes.len(), 16.min(40 - correct));
    assert!(predictions.mistakes.windows(2).all(|pair| pair[0].confidence >= pair[1].confidence));
    assert!(predictions.mistakes.iter().all(|m| m.picture.starts_with("iVBOR") && m.label != m.predicted));

    assert_eq!(weights(&folder.best_path()), weights(&folder.last_path()));
    for name in ["optimizer.safetensors", "state.toml", "config.json"] {
        assert!(folder.last_path().join(name).exists(), "{name}");
    }
}

#[test]
fn gradient_checkpointing_changes_no_bit_of_the_weights() {
    let vit = small().with(|c| c.length.epochs = 1.into());
    let weights = [false, true].map(|grad_checkpointing| {
        let (_directory, folder) = folder();
        finish(&vit.clone().with(|c| c.compute.grad_checkpointing = grad_checkpointing), &folder, Start::New).unwrap();
        weights(&folder.last_path())
    });
    assert!(weights[0] == weights[1]);
}

#[test]
fn a_line_of_metrics_has_the_documented_keys_in_order() {
    let (_directory, folder) = folder();
    finish(&small().with(|c| c.length.epochs = 1.into()), &folder, Start::New).unwrap();
    let text = fs::read_to_string(folder.metrics_path()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let keys = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert!(lines[0].starts_with("{\"kind\":\"step\",\"epoch\":0,\"step\":0,\"loss\":"), "{}", lines[0]);
    assert_eq!(keys(lines[0]), "kind epoch step loss lr grad_norm images_per_second");
    assert!(lines[6].starts_with("{\"kind\":\"epoch\",\"epoch\":0,\"train_loss\":"), "{}", lines[6]);
    assert_eq!(
        keys(lines[6]),
        "kind epoch train_loss train_accuracy test_loss test_accuracy test_top5 seconds images_per_second"
    );
}

#[test]
fn the_same_seed_gives_the_same_weights_to_the_last_bit_and_another_does_not() {
    let run = |seed| {
        let (directory, folder) = folder();
        finish(
            &small().with(|c| {
                c.length.epochs = 1.into();
                c.compute.seed = seed;
            }),
            &folder,
            Start::New,
        )
        .unwrap();
        (weights(&folder.last_path()), directory)
    };
    let (first, again, other) = (run(7).0, run(7).0, run(8).0);
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn batches_that_are_accumulated_give_the_steps_of_one_large_batch() {
    let steps = |batch_size: usize, accumulate| {
        let (_directory, folder) = folder();
        let mut config = small().with(|c| {
            c.length.batch_size = batch_size.into();
            c.length.accumulate = accumulate;
            c.length.epochs = 1.into();
        });
        // What is dropped is drawn for a batch, so that it cannot agree.
        config.model.set.insert("drop_path_rate".into(), "0".into());
        finish(&config, &folder, Start::New).unwrap();
        folder.metrics().unwrap().steps
    };
    // 90 samples: 32 + 32 + 26, and the 26 as 12 + 12 + 2.
    let (whole, parts) = (steps(36, 1), steps(12, 3));
    assert_eq!((whole.len(), parts.len()), (3, 3));
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a.loss - b.loss).abs() < 1e-4 && (a.grad_norm - b.grad_norm).abs() < 1e-3, "{a:?} against {b:?}");
    }
}

#[test]
fn an_automatic_batch_size_takes_all_of_few_samples_and_leaves_the_model_alone() {
    let (_directory, folder_of_auto) = folder();
    let mut config = small().with(|c| {
        c.model.model = "cnn_cifar10".into();
        c.length.epochs = 1.into();
    });
    let set = [("batch_norm", "true"), ("in_chans", "1"), ("img_size", "28")];
    config.model.set = set.map(|(key, value)| (key.to_string(), value.to_string())).into();
    let auto = config.clone().with(|c| c.length.batch_size = BatchSize::Auto);
    finish(&auto, &folder_of_auto, Start::New).unwrap();
    let settled = folder_of_auto.config().unwrap();
    assert_eq!((settled.batch_size(), settled.resolved.unwrap().train_samples), (90, 90));
    // Trial steps in training mode move no running statistics.
    let (_directory, by_number) = folder();
    finish(&config.with(|c| c.length.batch_size = 90.into()), &by_number, Start::New).unwrap();
    assert!(weights(&folder_of_auto.last_path()) == weights(&by_number.last_path()));
    finish(&auto, &folder_of_auto, Start::Resume).unwrap();
}

#[test]
fn the_best_epoch_is_chosen_on_the_validation_split_and_its_accuracy_is_reported() {
    let (_directory, folder) = folder();
    let config = small().with(|c| {
        c.data.val_fraction = 0.3;
        c.length.epochs = 4.into();
        c.optimizer.lr = 3e-3;
    });
    let summary = finish(&config, &folder, Start::New).unwrap();
    let epochs = folder.metrics().unwrap().epochs;
    let (mut best, mut accuracy, mut loss) = (0, -1., f64::INFINITY);
    for epoch in &epochs {
        let (a, l) = (epoch.val_accuracy.unwrap(), epoch.val_loss.unwrap());
        if a > accuracy || (a == accuracy && l < loss) {
            (best, accuracy, loss) = (epoch.epoch, a, l);
        }
    }
    assert_eq!((summary.best_epoch, summary.chosen_by.as_str()), (best, "val_accuracy"));
    assert_eq!(summary.test_accuracy, epochs[best].test_accuracy);
    assert_eq!(summary.final_test_accuracy, epochs[3].test_accuracy);
    assert_eq!(summary.train_samples + folder.config().unwrap().resolved.unwrap().val_samples, 90);
}

#[test]
fn the_chosen_checkpoint_measured_again_gives_the_reported_result() {
    let (_directory, folder) = folder();
    let summary = finish(
        &small().with(|c| {
            c.data.val_fraction = 0.2;
            c.length.epochs = 3.into();
        }),
        &folder,
        Start::New,
    )
    .unwrap();
    let measured = evaluate_run(&folder, &RunEvaluation::default(), &mut Heard::default()).unwrap();
    assert_eq!(measured.evaluation.accuracy, summary.test_accuracy);
    assert!((measured.evaluation.loss - summary.test_loss).abs() < 1e-9);
    assert_eq!(measured.evaluation.predicted, folder.predictions().unwrap().predicted);
    let options = RunEvaluation::default().with(|o| {
        o.data = Some("mnist".into());
        o.limit = Some(10);
    });
    let measured = evaluate_run(&folder, &options, &mut Heard::default()).unwrap();
    assert_eq!(measured.evaluation.labels, folder.predictions().unwrap().labels[..10]);
}

#[test]
fn whitening_is_fitted_to_the_training_part_alone_and_kept_for_whoever_uses_the_run() {
    let mut config = small().with(|c| {
        c.data.normalize = Normalize::Zca;
        c.data.val_fraction = 0.2;
    });
    config.model.set.extend([("img_size".to_string(), "14".to_string()), ("patch_size".to_string(), "7".to_string())]);
    let (_directory, folder) = folder();
    let summary = finish(&config, &folder, Start::New).unwrap();

    let setup = Setup::new(&config).unwrap();
    let (samples, preprocessing) = (&setup.dataset.train, &setup.checkpoint.preprocessing);
    assert!(samples.len() < 90, "a share is set apart");
    assert_eq!((samples.len(), preprocessing.std.as_slice()), (summary.train_samples, &[1.][..]));
    let expected = fit(&**samples, preprocessing, 0.01, &|| false).unwrap().unwrap();
    for path in [folder.best_path(), folder.last_path()] {
        assert!(Whitening::read(&path).unwrap() == expected, "{}", path.display());
    }

    // Measured again, and trained further with the checkpoint's own.
    let measured = evaluate_run(&folder, &RunEvaluation::default(), &mut Heard::default()).unwrap();
    assert_eq!(measured.evaluation.accuracy, summary.test_accuracy);
    assert_eq!(measured.evaluation.predicted, folder.predictions().unwrap().predicted);
    let weights = Some(folder.root().display().to_string());
    let further = config.clone().with(|c| {
        c.model.weights = weights;
        c.data.normalize = Normalize::Auto;
    });
    assert!(Setup::new(&further).unwrap().checkpoint.whitening == Some(expected));

    // A checkpoint that lost it is not used without.
    fs::remove_file(folder.best_path().join(Whitening::FILE)).unwrap();
    let error = evaluate_run(&folder, &RunEvaluation::default(), &mut Heard::default()).unwrap_err().to_string();
    assert!(error.contains(Whitening::FILE) && error.contains("missing") && !error.contains('\n'), "{error}");
}

#[test]
fn with_averaged_weights_these_are_measured_and_kept_as_the_best_and_the_last_are_the_weights_themselves() {
    let (_directory, folder) = folder();
    let set = [("in_chans", "1"), ("img_size", "8"), ("batch_norm", "true")];
    let config = small().with(|c| {
        c.model.model = "cnn_cifar10".into();
        c.regularization.ema = Some(0.9);
        c.model.set = set.map(|(key, value)| (key.to_string(), value.to_string())).into();
    });
    let summary = finish(&config, &folder, Start::New).unwrap();
    let (best, last) = (weights(&folder.best_path()), weights(&folder.last_path()));
    for ((name, best), (_, last)) in best.iter().zip(&last) {
        assert_eq!(best == last, name.contains("running_"), "{name}");
    }
    let averages = folder.last_path().join("ema.safetensors");
    let tensors = candle_core::safetensors::load(averages, &Device::Cpu).unwrap();
    assert_eq!(tensors.len(), best.len());
    for (name, bits) in &best {
        let values: Vec<f32> = tensors[name].flatten_all().unwrap().to_vec1().unwrap();
        assert!(values.iter().map(|value| value.to_bits()).eq(bits.iter().copied()), "{name}");
    }
    let measured = evaluate_run(&folder, &RunEvaluation::default(), &mut Heard::default()).unwrap();
    assert_eq!(measured.evaluation.accuracy, summary.test_accuracy);
    assert_eq!(measured.evaluation.accuracy, folder.metrics().unwrap().epochs[1].test_accuracy);

    // The same run without averages takes the same steps.
    let (_other, plain) = self::folder();
    finish(&config.with(|c| c.regularization.ema = None), &plain, Start::New).unwrap();
    assert!(weights(&plain.last_path()) == last);
}

#[test]
fn mixed_batches_train_on_other_images_and_labels_that_seed_and_epoch_decide() {
    let losses = |mixup: f64, cutmix: f64, seed: u64| -> Vec<f64> {
        let (_directory, folder) = folder();
        let config = small().with(|c| {
            c.data.mixup = mixup;
            c.data.cutmix = cutmix;
            c.compute.seed = seed;
            c.data.augment = "none".into();
        });
        finish(&config, &folder, Start::New).unwrap();
        folder.metrics().unwrap().steps.iter().map(|step| step.loss).collect()
    };
    let plain = losses(0., 0., 7);
    for (mixup, cutmix) in [(1., 0.), (0., 1.), (1., 1.)] {
        let mixed = losses(mixup, cutmix, 7);
        assert_eq!(mixed, losses(mixup, cutmix, 7));
        assert!(mixed != plain && mixed != losses(mixup, cutmix, 8), "mixup {mixup}, cutmix {cutmix}");
        assert!(mixed.iter().all(|loss| loss.is_finite()));
    }
}

#[test]
fn what_is_frozen_stays_and_the_rest_moves() {
    let (_directory, whole) = folder();
    finish(&small().with(|c| c.length.epochs = 1.into()), &whole, Start::New).unwrap();
    let (_other, frozen) = folder();
    let from = whole.root().display().to_string();
    let config = small().with(|c| {
        c.length.epochs = 1.into();
        c.model.weights = Some(from);
        c.model.freeze = Some("backbone".into());
    });
    let summary = finish(&config, &frozen, Start::New).unwrap();
    assert_eq!(summary.trainable_parameters, 16 * 10 + 10);
    for ((name, before), (_, after)) in weights(&whole.best_path()).iter().zip(&weights(&frozen.best_path())) {
        assert_eq!(before == after, !name.starts_with("head."), "{name}");
    }
    assert!(frozen.load_path().exists());
}

#[test]
fn a_frozen_batch_norm_keeps_its_weights_while_its_running_statistics_move_on() {
    let set = [("in_chans", "1"), ("img_size", "8"), ("batch_norm", "true")];
    let config = small().with(|c| {
        c.model.model = "cnn_cifar10".into();
        c.length.epochs = 1.into();
        c.model.set = set.map(|(key, value)| (key.to_string(), value.to_string())).into();
    });
    let (_directory, whole) = folder();
    finish(&config, &whole, Start::New).unwrap();
    let (_other, frozen) = folder();
    let from = Some(whole.root().display().to_string());
    finish(
        &config.with(|c| {
            c.model.weights = from;
            c.model.freeze = Some("backbone".into());
        }),
        &frozen,
        Start::New,
    )
    .unwrap();
    for ((name, before), (_, after)) in weights(&whole.best_path()).iter().zip(&weights(&frozen.best_path())) {
        assert_eq!(before != after, name.starts_with("fc5.") || name.contains("running_"), "{name}");
    }
}

#[test]
fn a_folder_with_something_in_it_is_refused() {
    let (_directory, folder) = folder();
    fs::create_dir_all(folder.root()).unwrap();
    fs::write(folder.root().join("notes.txt"), "mine").unwrap();
    for start in [Start::New, Start::Resume] {
        let error = finish(&small(), &folder, start).unwrap_err();
        assert!(matches!(error, Error::NotEmpty { .. }), "{error}");
    }
    assert_eq!(fs::read_dir(folder.root()).unwrap().count(), 1);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_with_its_path() {
    let (directory, _) = folder();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = finish(&small(), &RunFolder::new(file.join("run")), Start::New).unwrap_err().to_string();
    assert!(error.contains("file/run") || error.contains("file"), "{error}");
}

/// A run whose learning rate lets it diverge within a few steps.
fn diverging() -> TrainConfig {
    small().with(|c| {
        c.optimizer.optimizer = OptimizerKind::Sgd;
        c.optimizer.lr = 1e18;
        c.regularization.clip_grad = 0.;
        c.schedule.warmup_steps = Some(0);
        c.schedule.schedule = ScheduleKind::Constant;
    })
}

#[test]
fn a_learning_rate_that_diverges_ends_with_step_rate_and_remedy_and_the_last_checkpoint_stands() {
    let (_directory, folder) = folder();
    let config = diverging().with(|c| c.compute.checkpoint_every = Some(1));
    let error = finish(&config, &folder, Start::New).unwrap_err();
    assert!(matches!(error, Error::Diverged { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("step ") && text.contains("1e18") && text.contains("`lr`"), "{text}");
    let stands = format!("the last checkpoint stands ({})", folder.last_path().display());
    assert!(text.contains(&stands), "{text}");
    assert!(folder.last_path().join("state.toml").exists());
    assert!(!folder.summary_path().exists());
    for step in folder.metrics().unwrap().steps {
        assert!(step.loss.is_finite() && step.grad_norm.is_finite(), "{step:?}");
    }
}

#[test]
fn a_run_that_diverges_before_its_first_checkpoint_claims_none() {
    let (_directory, folder) = folder();
    let text = finish(&diverging(), &folder, Start::New).unwrap_err().to_string();
    assert!(text.contains("no checkpoint had been written yet") && !text.contains("stands"), "{text}");
    assert!(!folder.last_path().exists());
}

#[test]
fn a_warm_up_that_the_run_does_not_outlast_is_warned_of() {
    let warned = |warmup_steps| {
        let (_directory, folder) = folder();
        let config = small().with(|c| {
            c.length.epochs = 1.into();
            c.schedule.warmup_steps = Some(warmup_steps);
        });
        let mut heard = Heard::default();
        run(&config, &folder, Start::New, &mut heard, &AtomicBool::new(false)).unwrap();
        let about = |warning: &&&str| warning.contains("the warm-up of");
        heard.warnings().iter().find(about).map(|warning| warning.to_string())
    };
    // Six steps: the rate of step s is lr (s + 1) / (w + 1), and so 6 / 1001 of 1e-3 at the end.
    let warning = warned(1000).unwrap();
    assert!(warning.contains("1000 steps") && warning.contains("after 6") && warning.contains("5.994e-6"), "{warning}");
    assert!(warned(6).is_some());
    assert_eq!(warned(5), None);
}

/// Starts the same run a second time while it goes on.
struct Intruder {
    config: TrainConfig,
    folder: RunFolder,
    error: Option<String>,
}

impl Listener for Intruder {
    fn on(&mut self, event: &Event) {
        if matches!(event, Event::Step(step) if step.step == 3) {
            let outcome =
                run(&self.config, &self.folder, Start::Resume, &mut Heard::default(), &AtomicBool::new(false));
            self.error = outcome.err().map(|error| error.to_string());
        }
    }
}

#[test]
fn a_second_process_is_kept_out_of_the_folder() {
    let (_directory, folder) = folder();
    let config = small().with(|c| c.length.epochs = 1.into());
    let mut intruder = Intruder { config: config.clone(), folder: folder.clone(), error: None };
    let outcome = run(&config, &folder, Start::New, &mut intruder, &AtomicBool::new(false)).unwrap();
    assert!(matches!(outcome, Outcome::Finished(_)));
    assert!(intruder.error.unwrap().contains("another process"));
    assert_eq!(folder.metrics().unwrap().steps.len(), 6);
}

#[test]
fn patches_of_a_third_of_the_image_are_warned_of() {
    let (_directory, folder) = folder();
    let mut config = small().with(|c| {
        c.length.epochs = 1.into();
        c.data.limit = Some(20);
    });
    config.model.set.insert("patch_size".into(), "14".into());
    let mut heard = Heard::default();
    run(&config, &folder, Start::New, &mut heard, &AtomicBool::new(false)).unwrap();
    assert!(heard.warnings().iter().any(|warning| warning.contains("14×14")), "{:?}", heard.warnings());
}

#[test]
fn a_pretrained_vit_under_adam_at_a_high_rate_is_warned_of() {
    let (_directory, whole) = folder();
    finish(&small().with(|c| c.length.epochs = 1.into()), &whole, Start::New).unwrap();
    let (_other, tuned) = folder();
    let from = whole.root().display().to_string();
    let config = small().with(|c| {
        c.length.epochs = 1.into();
        c.optimizer.lr = 5e-3;
        c.model.weights = Some(from);
    });
    let mut heard = Heard::default();
    run(&config, &tuned, Start::New, &mut heard, &AtomicBool::new(false)).unwrap();
    assert!(heard.warnings().iter().any(|warning| warning.contains("5e-3")), "{:?}", heard.warnings());
}

#[test]
fn a_fine_tuned_folder_keeps_the_name_and_what_comes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["deit_tiny_distilled_patch16_224", "vit_base_patch16_clip_quickgelu_224"] {
        let mut architecture = zoo::find(name).unwrap().architecture;
        for (key, value) in [("embed_dim", "16"), ("depth", "1"), ("num_heads", "2"), ("img_size", "32")] {
            architecture.set(key, value).unwrap();
        }
        let params = Params::new(0, DType::F32, &Device::Cpu);
        architecture.build(params.builder()).unwrap();
        let said = CheckpointConfig::new(
            architecture.clone(),
            Preprocessing::new(architecture.input_size(), vec![0.5; 3], vec![0.5; 3]),
        )
        .with(|c| c.name = Some(name.into()));
        let path = folder.path().join(name);
        save::timm(&path, &params, &said).unwrap();
        let model = path.display().to_string();
        let config = small().with(|c| {
            c.model.model = model;
            c.model.weights = Some("pretrained".into());
            c.model.set = Default::default();
        });
        let setup = Setup::new(&config).unwrap();
        assert_eq!(setup.checkpoint.name.as_deref(), Some(name));
        assert_eq!(setup.checkpoint.architecture, architecture.with_num_classes(10));
        save::check_timm(&setup.checkpoint).unwrap();
        assert_eq!(save::config_json(&setup.checkpoint).unwrap()["architecture"], name);
    }
}

/// Stripes that stand or lie, by label.
struct Stripes(usize);

impl Samples for Stripes {
    fn len(&self) -> usize {
        self.0
    }

    fn label(&self, index: usize) -> u32 {
        (index % 2) as u32
    }

    fn image(&self, index: usize) -> tallow::data::Result<Image> {
        let level = |at: usize| if (at + index) % 8 < 4 { 230 } else { 20 };
        let pixels = (0..28 * 28).map(|at| level(if index.is_multiple_of(2) { at % 28 } else { at / 28 })).collect();
        Ok(Image { width: 28, height: 28, channels: 1, pixels })
    }

    fn name(&self, index: usize) -> String {
        format!("stripes/{index}")
    }
}

#[test]
fn a_program_trains_on_samples_of_its_own_with_a_model_of_its_own() {
    let mut architecture = zoo::find("vit_mnist").unwrap().architecture.with_num_classes(2);
    small().model.set.iter().for_each(|(key, value)| architecture.set(key, value).unwrap());
    let preprocessing = Preprocessing::new([1, 28, 28], vec![0.5], vec![0.5]);
    let classes = vec!["standing".to_string(), "lying".to_string()];
    let dataset = Dataset::new("stripes", classes.clone(), Arc::new(Stripes(64)), Arc::new(Stripes(30)));
    let params = Params::new(7, DType::F32, &Device::Cpu);
    let config = small().with(|c| {
        c.model.model = "a model of its own".into();
        c.data.data = "stripes".into();
        c.length.epochs = 30.into();
        c.optimizer.lr = 1e-2;
    });
    let setup = Setup::of_parts(config, CheckpointConfig::new(architecture, preprocessing), params, dataset);
    let (_directory, folder) = folder();
    let outcome =
        tallow::train::fit(setup, &folder, Start::New, &mut Heard::default(), &AtomicBool::new(false)).unwrap();
    let Outcome::Finished(summary) = outcome else { panic!("{outcome:?}") };
    assert_eq!((summary.classes, summary.train_samples, summary.test_samples), (classes, 64, 30));
    assert!(summary.test_accuracy > 0.9, "{}", summary.test_accuracy);
}

#[test]
fn a_run_makes_the_input_of_images_as_its_checkpoint_does_and_older_ones_go_on_as_they_did() {
    let (directory, folder) = folder();
    let model = directory.path().join("model");
    let architecture = zoo::find("vit_mnist").unwrap().architecture;
    let params = Params::new(0, DType::F32, &Device::Cpu);
    architecture.build(params.builder()).unwrap();
    let stated = Preprocessing::new(architecture.input_size(), vec![0.5], vec![0.5])
        .with(|c| (c.crop_floor, c.resizing, c.transparency) = (true, Resizing::Torchvision, Transparency::OnWhite));
    save::timm(&model, &params, &CheckpointConfig::new(architecture, stated.clone())).unwrap();
    let config = small().with(|c| {
        c.model.model = model.display().to_string();
        c.model.set.clear();
        c.model.weights = Some("pretrained".into());
    });
    finish(&config, &folder, Start::New).unwrap();
    let of_run = || {
        let text = fs::read_to_string(folder.best_path().join("config.json")).unwrap();
        CheckpointConfig::parse(&text, None, "config.json").unwrap().preprocessing
    };
    assert_eq!(of_run(), stated);

    // A version before wrote nothing of this.
    let text = fs::read_to_string(folder.config_path()).unwrap();
    let new = ["crop_floor = true", "resizing = \"torchvision\"", "transparency = \"on_white\""];
    let older: Vec<&str> = text.lines().filter(|line| !new.contains(line)).collect();
    assert_eq!(text.lines().count() - older.len(), 3, "{text}");
    fs::write(folder.config_path(), older.join("\n")).unwrap();
    let longer = folder.config().unwrap().with(|c| c.length.epochs = 3.into());
    finish(&longer, &folder, Start::Resume).unwrap();
    let last = fs::read_to_string(folder.last_path().join("config.json")).unwrap();
    assert!(CheckpointConfig::parse(&last, None, "config.json").unwrap().preprocessing.is_timms(), "{last}");
}
