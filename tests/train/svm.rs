//! Support vector machines against scikit-learn's, and what their runs leave behind.

use std::sync::atomic::AtomicBool;

use serde_json::Value;
use tallow::data::{self, DataOptions};
use tallow::train::study::svm::{self, Svm};
use tallow::train::{Outcome, RunEvaluation, Start, TrainConfig, evaluate_run};

use crate::run::folder;
use crate::{Heard, finish, numbers};

fn config(data: &str, set: &[(&str, String)]) -> TrainConfig {
    TrainConfig::default().with(|c| {
        c.model.model = "svm".into();
        c.data.data = data.into();
        c.model.set = set.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
    })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

#[test]
fn decisions_and_predictions_are_those_of_scikit_learn() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/references/svm/svm.json");
    let reference: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (train, test) = (reference["train"].as_u64().unwrap() as usize, reference["test"].as_u64().unwrap() as usize);
    for case in reference["cases"].as_array().unwrap() {
        let config = config("mnist", &[("c", text(&case["c"])), ("gamma", text(&case["gamma"]))]).with(|c| {
            c.data.limit = Some(train);
            c.data.test_limit = Some(test);
        });
        let (_directory, folder) = folder();
        let summary = finish(&config, &folder, Start::New).unwrap();
        let predicted = numbers(&case["predicted"]);
        let ours = folder.predictions().unwrap().predicted;
        let same = ours.iter().zip(&predicted).filter(|(ours, theirs)| f64::from(**ours) == **theirs).count();
        assert!(same + 1 >= test, "{same} of {test} predictions are the same");
        assert!((summary.test_accuracy - case["accuracy"].as_f64().unwrap()).abs() <= 1. / test as f64 + 1e-9);
        let trained = folder.metrics().unwrap().epochs[0].train_accuracy;
        assert!((trained - case["train_accuracy"].as_f64().unwrap()).abs() <= 1. / train as f64 + 1e-9, "{trained}");

        let model = Svm::read(folder.root()).unwrap();
        let gamma = case["gamma_value"].as_f64().unwrap();
        assert!((model.gamma / gamma - 1.).abs() < 1e-5, "gamma {} and {gamma}", model.gamma);
        let support = case["support_vectors"].as_u64().unwrap() as f64;
        assert!((model.num_support_vectors() as f64 - support).abs() <= 3., "{}", model.num_support_vectors());
        let dataset = data::open("mnist", &DataOptions::default().with(|o| o.test_limit = Some(5))).unwrap();
        let (indices, values) = model.batches(&dataset.test).unwrap().next().unwrap().unwrap();
        assert_eq!(indices, [0, 1, 2, 3, 4]);
        for (x, theirs) in values.chunks(784).zip(case["decision"].as_array().unwrap()) {
            for (ours, theirs) in model.decisions(x).into_iter().zip(numbers(theirs)) {
                // Both solve to a tolerance, ours of 1e-3 as libsvm's default.
                assert!((ours - theirs).abs() < 3e-3, "{ours} and {theirs}");
            }
        }
    }
}

#[test]
fn a_run_leaves_what_others_leave_and_is_measured_again_from_its_model() {
    let (_directory, folder) = folder();
    let summary = finish(&config("circles", &[]), &folder, Start::New).unwrap();
    assert!(summary.test_accuracy > 0.93, "{}", summary.test_accuracy);
    assert_eq!(folder.summary().unwrap().test_accuracy, summary.test_accuracy);
    assert_eq!((summary.model.as_str(), summary.train_samples, summary.test_samples), ("svm", 200, 200));
    assert!(summary.test_loss.is_nan(), "there are no probabilities");
    let epochs = folder.metrics().unwrap().epochs;
    assert_eq!((epochs.len(), epochs[0].test_accuracy), (1, summary.test_accuracy));
    let used = folder.config().unwrap();
    assert_eq!((used.model.model.as_str(), used.data.data.as_str()), ("svm", "circles"));
    assert!(!std::fs::read_to_string(folder.config_path()).unwrap().contains("lr ="), "what means nothing is not told");
    let predictions = folder.predictions().unwrap();
    assert!(predictions.confidence.iter().all(|&share| share == 1.), "two classes have one duel");

    let again = evaluate_run(&folder, &RunEvaluation::default(), &mut Heard::default()).unwrap().evaluation;
    assert_eq!((again.accuracy, &again.predicted), (summary.test_accuracy, &predictions.predicted));
    let options = RunEvaluation::default().with(|o| o.data = Some("mnist".into()));
    let error = evaluate_run(&folder, &options, &mut Heard::default()).unwrap_err().to_string();
    assert!(error.contains("the model's 2 classes"), "{error}");
}

#[test]
fn a_class_without_samples_is_never_predicted() {
    // The first digits are 5, 0, 4, 1, 9.
    let config = config("mnist", &[]).with(|c| {
        c.data.limit = Some(5);
        c.data.test_limit = Some(50);
    });
    let (_directory, folder) = folder();
    finish(&config, &folder, Start::New).unwrap();
    let predictions = folder.predictions().unwrap();
    assert!(predictions.predicted.iter().all(|class| [0, 1, 4, 5, 9].contains(class)), "{:?}", predictions.predicted);
    assert!(predictions.confidence.iter().all(|share| (0.25..=1.).contains(share)), "shares of four duels");
}

#[test]
fn the_same_run_gives_the_same_files() {
    let config = config("mnist", &[]).with(|c| {
        c.data.limit = Some(120);
        c.data.test_limit = Some(30);
    });
    let files = || {
        let (_directory, folder) = folder();
        finish(&config, &folder, Start::New).unwrap();
        ["svm.safetensors", "svm.json", "predictions.json"].map(|name| std::fs::read(folder.root().join(name)).unwrap())
    };
    assert!(files() == files());
}

#[test]
fn a_stopped_run_keeps_no_result_and_a_resume_makes_it_whole() {
    let config = config("mnist", &[]).with(|c| {
        c.data.limit = Some(60);
        c.data.test_limit = Some(20);
    });
    let (_directory, folder) = folder();
    let start = |start, stop| {
        svm::run(&config, &Default::default(), &folder, start, &mut Heard::default(), &AtomicBool::new(stop))
    };
    assert_eq!(start(Start::New, true).unwrap(), Outcome::Interrupted { step: 0 });
    assert!(!folder.summary_path().exists());
    assert!(matches!(start(Start::Resume, false).unwrap(), Outcome::Finished(_)));
    let other = config.clone().with(|c| c.data.limit = Some(61));
    let error = finish(&other, &folder, Start::Resume).unwrap_err().to_string();
    assert!(error.contains("limit (60 against 61)"), "{error}");
}

#[test]
fn settings_that_mean_nothing_or_make_no_sense_are_refused_by_name() {
    type Change = fn(&mut TrainConfig);
    let changes: [(&str, Change); 12] = [
        ("lr", |c| c.optimizer.lr = 0.5),
        ("epochs", |c| c.length.epochs = 7.into()),
        ("val_fraction", |c| c.data.val_fraction = 0.1),
        ("weights", |c| c.model.weights = Some("pretrained".into())),
        ("augment", |c| c.data.augment = "flip".into()),
        ("device", |c| c.compute.device = "cuda".into()),
        ("c", |c| drop(c.model.set.insert("c".into(), "0".into()))),
        ("c", |c| drop(c.model.set.insert("c".into(), "many".into()))),
        ("gamma", |c| drop(c.model.set.insert("gamma".into(), "-1".into()))),
        ("gamma", |c| drop(c.model.set.insert("gamma".into(), "inf".into()))),
        ("img_size", |c| drop(c.model.set.insert("img_size".into(), "0".into()))),
        ("set", |c| drop(c.model.set.insert("depth".into(), "3".into()))),
    ];
    for (field, change) in changes {
        let mut config = config("circles", &[]);
        change(&mut config);
        let (_directory, folder) = folder();
        let error = finish(&config, &folder, Start::New).expect_err(field).to_string();
        assert!(error.starts_with(&format!("{field}: expected ")), "{error}");
        assert!(!folder.root().exists(), "{field}: nothing is left behind");
    }
}

#[test]
fn damaged_files_of_a_model_are_told_by_name() {
    let (_directory, folder) = folder();
    finish(&config("circles", &[]), &folder, Start::New).unwrap();
    let measure = || evaluate_run(&folder, &RunEvaluation::default(), &mut Heard::default());
    let file = |name: &str| folder.root().join(name);
    let (tensors, about) =
        (std::fs::read(file("svm.safetensors")).unwrap(), std::fs::read_to_string(file("svm.json")).unwrap());
    for wrong in ["", "{}", &about.replace("rbf", "poly"), &about.replace("\"inside\"", "\"inside\", \"x\"")] {
        std::fs::write(file("svm.json"), wrong).unwrap();
        let error = measure().unwrap_err().to_string();
        assert!(error.contains("svm.json") || error.contains("svm.safetensors"), "{error}");
    }
    std::fs::write(file("svm.json"), &about).unwrap();
    for wrong in [&b""[..], &tensors[..tensors.len() / 2], &[255; 64]] {
        std::fs::write(file("svm.safetensors"), wrong).unwrap();
        let error = measure().unwrap_err().to_string();
        assert!(error.contains("svm.safetensors: expected"), "{error}");
    }
}
