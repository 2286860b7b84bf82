//! Training without labels: what a run leaves, that it can be interrupted anywhere, on which data it works, and what is refused.

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use tallow::Pretrained;
use tallow::train::config::Method;
use tallow::train::study::knn::Results;
use tallow::train::{Event, Outcome, RunFolder, Start, TrainConfig, run};

use crate::run::{folder, weights};
use crate::{Heard, Stopper, finish, small};

/// 2 epochs of 6 steps.
fn config(method: Method) -> TrainConfig {
    small().with(|c| {
        c.pretraining.method = Some(method);
        c.data.augment = "auto".into();
        c.pretraining.knn_limit = Some(60);
        c.pretraining.out_dim = Some(32);
        c.pretraining.local_crops = Some(2);
    })
}

const METHODS: [Method; 2] = [Method::Mae, Method::Dino];

fn set(config: &mut TrainConfig, key: &str, value: &str) {
    config.model.set.insert(key.into(), value.into());
}

#[test]
fn a_run_leaves_an_encoder_that_opens_as_any_model_and_that_fine_tuning_takes() {
    for method in METHODS {
        let (_directory, folder) = folder();
        let mut heard = Heard::default();
        let mut asked = config(method);
        let pool = if method == Method::Dino { "avg" } else { "token" };
        set(&mut asked, "global_pool", pool);
        let outcome = run(&asked, &folder, Start::New, &mut heard, &AtomicBool::new(false)).unwrap();
        let Outcome::Finished(summary) = outcome else { panic!("{outcome:?}") };
        assert_eq!(summary.method, Some(method));
        assert!((0. ..=1.).contains(&summary.test_accuracy) && folder.predictions().unwrap().labels.len() == 40);
        assert_eq!(summary.test_loss.is_nan(), method == Method::Dino);
        let pictures = heard.0.iter().filter(|event| matches!(event, Event::Pictures(_))).count();
        assert_eq!(pictures, if method == Method::Mae { 2 } else { 0 });
        let names: Vec<String> = weights(&folder.best_path()).into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().all(|name| !name.starts_with("mae_") && !name.starts_with("dino_")), "{names:?}");
        let pretrained = Pretrained::from_pretrained(folder.root().display().to_string()).unwrap();
        assert_eq!(pretrained.config().architecture.num_classes(), 0);
        assert_eq!(weights(&folder.last_path()) == weights(&folder.best_path()), method == Method::Mae, "a teacher");

        let tuned = RunFolder::new(folder.root().with_file_name("tuned"));
        let from = small().with(|c| c.model.weights = Some(folder.root().display().to_string()));
        finish(&from.with(|c| c.length.epochs = 1.into()), &tuned, Start::New).unwrap();
        let account = fs::read_to_string(tuned.load_path()).unwrap();
        assert!(account.contains("blocks.1.mlp.fc2.weight"));
        assert_eq!(account.contains("global_pool avg, as the weights were trained without labels"), pool == "avg");
        assert_eq!(weights(&tuned.best_path()).iter().any(|(name, _)| name == "fc_norm.weight"), pool == "avg");

        let neighbours = RunFolder::new(folder.root().with_file_name("knn"));
        let asked = TrainConfig::new(&folder.root().display().to_string(), "mnist").with(|c| {
            c.pretraining.method = Some(Method::Knn);
            c.pretraining.k = Some(vec![3, 20]);
            c.model.weights = Some("pretrained".into());
            (c.data.limit, c.data.test_limit) = (Some(90), Some(40));
        });
        let summary = finish(&asked, &neighbours, Start::New).unwrap();
        let results = Results::read(&neighbours).unwrap().results;
        assert_eq!(results.iter().map(|at| at.k).collect::<Vec<_>>(), [3, 20]);
        assert_eq!(results[1].top1, summary.test_accuracy);
    }
}

#[test]
fn an_interrupted_run_ends_where_an_uninterrupted_one_ends() {
    for method in METHODS {
        let config = config(method).with(|c| c.length.accumulate = 1);
        let result = |folder: &RunFolder| {
            let losses: Vec<f64> = folder.metrics().unwrap().steps.iter().map(|step| step.loss).collect();
            let accuracy = folder.summary().unwrap().test_accuracy;
            (weights(&folder.best_path()), weights(&folder.last_path()), losses, accuracy)
        };
        let (_directory, whole) = folder();
        finish(&config, &whole, Start::New).unwrap();
        for after in [0, 4, 5, 8] {
            let (_directory, folder) = folder();
            let stop = AtomicBool::new(false);
            let outcome = run(&config, &folder, Start::New, &mut Stopper { after, stop: &stop }, &stop).unwrap();
            assert!(matches!(outcome, Outcome::Interrupted { .. }));
            finish(&config, &folder, Start::Resume).unwrap();
            assert!(result(&folder) == result(&whole), "{method:?} after step {after}");
        }
    }
}

#[test]
fn a_run_that_takes_long_says_how_long_before_its_first_step() {
    for method in METHODS {
        let config = config(method).with(|c| c.length.epochs = 100_000.into());
        let (_directory, folder) = folder();
        let (stop, mut heard) = (AtomicBool::new(true), Heard::default());
        run(&config, &folder, Start::New, &mut heard, &stop).unwrap();
        let told = heard.0.iter().find_map(|event| match event {
            Event::Estimate(estimate) => Some(estimate),
            _ => None,
        });
        let told = told.unwrap_or_else(|| panic!("{method:?}: {:?}", heard.0));
        assert_eq!(told.epochs, 100_000);
        assert!(told.seconds_per_epoch > 0. && told.seconds > 99_000. * told.seconds_per_epoch, "{told:?}");
    }
}

/// Images in four sizes.
fn image(path: &Path, seed: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (width, height) = (20 + seed % 4 * 7, 30);
    image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 9 + seed * 31) as u8, (y * 8) as u8, seed as u8]))
        .save(path)
        .unwrap();
}

#[test]
fn a_folder_without_classes_is_data_at_any_depth_and_nothing_is_said_of_labels() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..12 {
        let place = ["", "a", "a/b/c"][number % 3];
        image(&directory.path().join("photos").join(place).join(format!("{number}.png")), number as u32);
    }
    for method in METHODS {
        let folder = RunFolder::new(directory.path().join(method.name()));
        let mut config = config(method).with(|c| {
            c.data.data = format!("folder:{}", directory.path().join("photos").display());
            (c.data.limit, c.data.test_limit) = (None, None);
            c.length.batch_size = 4.into();
        });
        set(&mut config, "in_chans", "3");
        let summary = finish(&config, &folder, Start::New).unwrap();
        assert!(summary.test_accuracy.is_nan() && !folder.predictions_path().exists());
        assert_eq!(summary.train_samples + summary.test_samples, 12);
        assert_eq!(folder.summary().unwrap().train_samples, summary.train_samples, "it can be read again");
        assert!(folder.metrics().unwrap().epochs.iter().all(|epoch| epoch.test_accuracy.is_nan()));
    }
    // Folders beside which there are images are no classes.
    for number in 0..12 {
        let place = ["", "a", "b"][number % 3];
        image(&directory.path().join("mixed").join(place).join(format!("{number}.png")), number as u32);
    }
    let mut mixed = config(Method::Mae).with(|c| {
        c.data.data = format!("folder:{}", directory.path().join("mixed").display());
        (c.data.limit, c.data.test_limit) = (None, None);
    });
    set(&mut mixed, "in_chans", "3");
    let summary = finish(&mixed, &RunFolder::new(directory.path().join("mixed-run")), Start::New).unwrap();
    assert!(summary.test_accuracy.is_nan() && summary.train_samples + summary.test_samples == 12);
    // With classes, they are classes.
    for (number, class) in ["cat", "dog", "cat", "dog", "cat", "dog"].iter().enumerate() {
        image(&directory.path().join("pets").join(class).join(format!("{number}.png")), number as u32);
    }
    let folder = RunFolder::new(directory.path().join("pets-run"));
    let mut config = config(Method::Mae).with(|c| {
        c.data.data = format!("folder:{}", directory.path().join("pets").display());
        (c.data.limit, c.data.test_limit) = (None, None);
    });
    set(&mut config, "in_chans", "3");
    assert_eq!(finish(&config, &folder, Start::New).unwrap().classes, ["cat", "dog"]);
}

#[test]
fn what_cannot_be_trained_is_refused_before_anything_is_written() {
    let refused = |config: &TrainConfig| {
        let (_directory, folder) = folder();
        let error = finish(config, &folder, Start::New).unwrap_err().to_string();
        assert!(!folder.root().exists(), "{error}");
        assert!(!error.contains('\n'), "{error}");
        error
    };
    let with = |method, change: &dyn Fn(&mut TrainConfig)| {
        let mut config = config(method);
        change(&mut config);
        refused(&config)
    };
    for ratio in [0., 1., 1.5, 0.99] {
        let error = with(Method::Mae, &|c| c.pretraining.mask_ratio = Some(ratio));
        assert!(error.contains("mask_ratio"), "{error}");
    }
    let error = with(Method::Dino, &|c| c.pretraining.local_crops_size = Some(3));
    assert!(error.contains("local_crops_size") && error.contains("smaller than a patch"), "{error}");
    let error = with(Method::Dino, &|c| c.pretraining.local_crops_size = Some(9));
    assert!(error.contains("multiple of the patches' 7 pixels"), "{error}");
    for method in METHODS {
        let error = with(method, &|c| {
            c.model.model = "cnn_cifar10".into();
            c.model.set = [("in_chans".to_string(), "1".to_string())].into();
        });
        assert!(error.contains("patches") && error.contains("cnn"), "{error}");
        let error = with(method, &|c| c.data.limit = Some(1));
        assert!(error.contains("at least two") && error.contains("single"), "{error}");
        let error = with(method, &|c| c.data.mixup = 0.5);
        assert!(error.contains("mixup"), "{error}");
        let error = with(method, &|c| set(c, "num_classes", "10"));
        assert!(error.contains("num_classes") && error.contains("no head"), "{error}");
    }
    let error = with(Method::Dino, &|c| c.data.augment = "crop,flip".into());
    assert!(error.contains("augment") && error.contains("solarize"), "{error}");
    let error = with(Method::Mae, &|c| c.pretraining.decoder_heads = Some(7));
    assert!(error.contains("decoder_heads"), "{error}");
    let error = with(Method::Dino, &|c| c.pretraining.global_crops = Some(1));
    assert!(error.contains("global_crops"), "{error}");
    let one = tempfile::tempdir().unwrap();
    image(&one.path().join("only.png"), 1);
    let error = with(Method::Mae, &|c| c.data.data = format!("folder:{}", one.path().display()));
    assert!(error.contains("image") || error.contains("sample"), "{error}");
}
