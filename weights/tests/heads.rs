//! Whose class is which row of a head: by name where names are known, by number and said where they are not, and never from a
//! head that nobody trained.

#[path = "support/references.rs"]
mod references;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use tallow_models::{Architecture, MlpConfig, Mode, Model, Params, zoo};
use tallow_weights::account::Parameter;
use tallow_weights::save::{self, Quantisation};
use tallow_weights::{
    Account, Checkpoint, CheckpointConfig, Head, LoadOptions, OpenOptions, Result, Source, load, open,
};

use references::{reference, references};

/// The class names of the references.
const NAMES: [&str; 5] = ["ant", "bee", "cat", "dog", "elk"];

fn opened(path: &Path) -> Checkpoint {
    let source = if path.is_dir() { Source::Folder(path.into()) } else { Source::File(path.into()) };
    open(&source, &OpenOptions::default()).unwrap()
}

/// The reference `name` with its `config.json` changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> (tempfile::TempDir, Checkpoint) {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(references().join(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&path, config.to_string()).unwrap();
    let checkpoint = opened(folder.path());
    (folder, checkpoint)
}

/// The model of the checkpoint for these classes.
fn for_classes(
    checkpoint: &Checkpoint,
    labels: &[&str],
    head: Head,
    seed: u64,
) -> Result<(Architecture, Params, Account)> {
    let architecture = checkpoint.config().unwrap().architecture.clone().with_num_classes(labels.len());
    let labels = Some(labels.iter().map(|&label| label.to_owned()).collect());
    let params = Params::new(seed, DType::F32, &Device::Cpu);
    let account = load(
        checkpoint,
        &architecture,
        &LoadOptions::default().with(|c| {
            c.head = head;
            c.labels = labels;
        }),
        &params,
    )?;
    architecture.build(params.builder())?;
    Ok((architecture, params, account))
}

/// Logits of two images, image by image.
fn logits(architecture: &Architecture, params: &Params) -> Vec<Vec<f32>> {
    let [channels, height, width] = architecture.input_size();
    let count = 2 * channels * height * width;
    let images = Tensor::arange(0f32, count as f32, &Device::Cpu).unwrap();
    let images = (images / count as f64).unwrap().sin().unwrap().reshape((2, channels, height, width)).unwrap();
    let model = architecture.build(params.eval_builder()).unwrap();
    model.forward(&images, Mode::Eval).unwrap().to_vec2().unwrap()
}

/// The rows of a parameter.
fn rows(params: &Params, name: &str) -> Vec<Vec<f32>> {
    let tensor = params.get(name).unwrap().var.as_detached_tensor();
    let count = tensor.dim(0).unwrap();
    tensor.reshape((count, ())).unwrap().to_vec2().unwrap()
}

/// Checks that the model for the classes in another order says of each class what the checkpoint says of it.
fn check_order(checkpoint: &Checkpoint, head: Head) {
    check_order_noting(checkpoint, head, 0);
}

/// The same where the head alone gives so many notes.
fn check_order_noting(checkpoint: &Checkpoint, head: Head, notes: usize) {
    let (architecture, params, account) = for_classes(checkpoint, &NAMES, head, 0).unwrap();
    assert_eq!((account.adapted().count(), account.notes.len()), (0, notes), "{account}");
    let before = logits(&architecture, &params);
    let order = ["cat", "ant", "elk", "dog", "bee"];
    let (architecture, params, account) = for_classes(checkpoint, &order, head, 0).unwrap();
    let after = logits(&architecture, &params);
    for (before, after) in before.iter().zip(&after) {
        let expected: Vec<f32> = [2, 0, 4, 3, 1].map(|class| before[class]).into();
        assert!(expected.iter().zip(after).all(|(a, b)| (a - b).abs() <= 1e-6), "{expected:?} {after:?}");
    }
    assert_eq!(account.initialised().count(), 0);
    assert!(account.adapted().all(|(_, how)| how == "rows in the order of the data's classes"), "{account}");
    assert!(account.notes[notes].contains("cat, ant, elk, dog, bee (before: ant, bee, cat, dog, elk)"), "{account}");
}

#[test]
fn classes_in_another_order_keep_their_rows_whatever_the_head() {
    for name in ["timm", "hf_vit_classifier", "hf_dinov2_classifier", "hf_deit_teacher"] {
        let (_folder, checkpoint) = changed(name, |config| {
            // As a program may write them: in any order of the keys.
            if config.get("id2label").is_some() {
                config["id2label"] = json!({"3": "dog", "1": "bee", "0": "ant", "4": "elk", "2": "cat"});
            }
        });
        check_order(&checkpoint, Head::Auto);
        check_order(&checkpoint, Head::Keep);
    }
}

#[test]
fn the_heads_of_cnns_and_perceptrons_are_put_in_order_too() {
    let perceptron = MlpConfig::default().with(|c| {
        c.img_size = 4.into();
        c.hidden = vec![6];
        c.num_classes = 5;
    });
    for architecture in
        [Architecture::Mlp(perceptron), zoo::find("cnn_cifar10").unwrap().architecture.with_num_classes(5)]
    {
        let folder = tempfile::tempdir().unwrap();
        save::timm(folder.path(), &built(&architecture, 3), &described(architecture, &NAMES)).unwrap();
        check_order(&opened(folder.path()), Head::Auto);
    }
}

#[test]
fn a_name_that_only_one_side_has_gives_a_new_row_or_an_error() {
    let checkpoint = reference("timm");
    let classes = ["dog", "yak", "ant"];
    let (_, params, account) = for_classes(&checkpoint, &classes, Head::Auto, 3).unwrap();
    let (_, whole, _) = for_classes(&checkpoint, &NAMES, Head::Auto, 3).unwrap();
    let (_, new, _) = for_classes(&checkpoint, &classes, Head::New, 3).unwrap();
    for name in ["head.weight", "head.bias"] {
        let (got, theirs, drawn) = (rows(&params, name), rows(&whole, name), rows(&new, name));
        assert_eq!(got, [theirs[3].clone(), drawn[1].clone(), theirs[0].clone()], "{name}");
    }
    let (_, other_seed, _) = for_classes(&checkpoint, &classes, Head::Auto, 4).unwrap();
    let (first, second) = (rows(&params, "head.weight"), rows(&other_seed, "head.weight"));
    assert_eq!((&first[0], &first[2]), (&second[0], &second[2]));
    assert_ne!(first[1], second[1], "a new row follows from the seed");

    let note = "head: 2 of the data's 3 classes were kept, by name: dog, ant; 1 new: yak; the checkpoint's bee, cat, elk left out";
    assert_eq!(account.notes, [note]);
    assert_eq!(account.partly_initialised().map(|(name, _)| name).collect::<Vec<_>>(), ["head.weight", "head.bias"]);
    assert!(account.to_string().contains("new in part: head.weight, head.bias: the rows of yak"), "{account}");
    let back: Account = serde_json::from_value(serde_json::to_value(&account).unwrap()).unwrap();
    assert_eq!(back, account);

    let error = for_classes(&checkpoint, &classes, Head::Keep, 0).unwrap_err().to_string();
    for words in ["the data's 3 classes", "without yak", "ant, bee, cat, dog, elk"] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn classes_that_the_checkpoint_has_with_others_are_taken_out_of_it() {
    for head in [Head::Auto, Head::Keep] {
        let (_, params, account) = for_classes(&reference("timm"), &["elk", "bee"], head, 0).unwrap();
        let (_, whole, _) = for_classes(&reference("timm"), &NAMES, head, 0).unwrap();
        let (got, theirs) = (rows(&params, "head.weight"), rows(&whole, "head.weight"));
        assert_eq!(got, [theirs[4].clone(), theirs[1].clone()]);
        assert_eq!(account.partly_initialised().count() + account.initialised().count(), 0);
        assert!(account.notes[0].contains("2 of 5 classes were kept, by name: elk, bee"), "{account}");
    }
}

#[test]
fn without_a_common_name_the_head_is_new_or_an_error_even_where_the_number_agrees() {
    let others = ["u", "v", "w", "x", "y"];
    let (_, _, account) = for_classes(&reference("timm"), &others, Head::Auto, 0).unwrap();
    let new: Vec<_> = account.initialised().collect();
    assert_eq!(new.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["head.weight", "head.bias"]);
    assert!(new[0].1.contains("u, v, w, x, y") && new[0].1.contains("ant, bee"), "{account}");
    let error = for_classes(&reference("timm"), &others, Head::Keep, 0).unwrap_err().to_string();
    assert!(error.contains("u, v, w, x, y") && error.contains("ant, bee") && error.contains("new head"), "{error}");
    // A name is compared to the letter.
    let (_, _, account) = for_classes(&reference("timm"), &["Ant", "BEE"], Head::Auto, 0).unwrap();
    assert_eq!(account.initialised().count(), 2);
}

#[test]
fn classes_without_names_are_kept_by_number_and_that_is_said() {
    let unnamed = |config: &mut Value| drop(config.as_object_mut().unwrap().remove("label_names"));
    let (_folder, timm) = changed("timm", unnamed);
    let numbered = |config: &mut Value| {
        config["id2label"] = json!({"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2", "3": "LABEL_3", "4": "LABEL_4"});
    };
    let (_other, hugging_face) = changed("hf_vit_classifier", numbered);
    for checkpoint in [timm, hugging_face] {
        for head in [Head::Auto, Head::Keep] {
            let (architecture, params, account) =
                for_classes(&checkpoint, &["u", "v", "w", "x", "y"], head, 0).unwrap();
            assert_eq!(account.initialised().count(), 0);
            assert!(account.notes.iter().any(|note| note.contains("5 classes were kept by number")), "{account}");
            let own = Params::new(9, DType::F32, &Device::Cpu);
            let account = load(&checkpoint, &architecture, &LoadOptions::default(), &own).unwrap();
            architecture.build(own.builder()).unwrap();
            assert_eq!(logits(&architecture, &own), logits(&architecture, &params));
            assert_eq!(account.notes, [""; 0], "nothing was asked of its names");
        }
        let (_, _, account) = for_classes(&checkpoint, &["u", "v"], Head::Auto, 0).unwrap();
        assert_eq!(account.initialised().count(), 2, "another number of classes");
        assert!(for_classes(&checkpoint, &["u", "v"], Head::Keep, 0).is_err());
    }
}

#[test]
fn a_name_that_stands_twice_or_is_empty_tells_no_class() {
    let (_folder, checkpoint) =
        changed("timm", |config| config["label_names"] = json!(["ant", "cat", "cat", "", "elk"]));
    let (_, params, account) = for_classes(&checkpoint, &["elk", "cat", ""], Head::Auto, 0).unwrap();
    let (_, whole, _) = for_classes(&reference("timm"), &NAMES, Head::Auto, 0).unwrap();
    let (_, new, _) = for_classes(&checkpoint, &["elk", "cat", ""], Head::New, 0).unwrap();
    let (got, theirs, drawn) = (rows(&params, "head.weight"), rows(&whole, "head.weight"), rows(&new, "head.weight"));
    assert_eq!(got, [theirs[4].clone(), drawn[1].clone(), drawn[2].clone()]);
    assert!(account.notes[0].contains("more than one of its rows is called cat"), "{account}");
    let error = for_classes(&checkpoint, &["elk", "cat"], Head::Keep, 0).unwrap_err().to_string();
    assert!(error.contains("without cat") && error.contains("more than one"), "{error}");

    // Where none is left to go by, it goes by number, which is said.
    let (_folder, checkpoint) = changed("timm", |config| config["label_names"] = json!(["x", "x", "y", "y", ""]));
    let (_, _, account) = for_classes(&checkpoint, &NAMES, Head::Auto, 0).unwrap();
    assert!(account.notes[0].contains("by number") && account.notes[0].contains("empty or double"), "{account}");
}

#[test]
fn rows_go_into_a_model_that_is_built_already() {
    let architecture = reference("timm").config().unwrap().architecture.clone().with_num_classes(2);
    let params = Params::new(0, DType::F32, &Device::Cpu);
    architecture.build(params.builder()).unwrap();
    let before = rows(&params, "head.weight");
    let options = LoadOptions::default().with(|c| c.labels = Some(vec!["yak".into(), "bee".into()]));
    load(&reference("timm"), &architecture, &options, &params).unwrap();
    let (_, whole, _) = for_classes(&reference("timm"), &NAMES, Head::Auto, 0).unwrap();
    assert_eq!(rows(&params, "head.weight"), [before[0].clone(), rows(&whole, "head.weight")[1].clone()]);
}

#[test]
fn as_many_names_are_needed_as_there_are_classes() {
    let architecture = reference("timm").config().unwrap().architecture.clone();
    let options = LoadOptions::default().with(|c| c.labels = Some(vec!["ant".into()]));
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let error = load(&reference("timm"), &architecture, &options, &params).unwrap_err().to_string();
    assert!(error.contains("labels: expected a name for each of 5 classes, got 1 names"), "{error}");
}

#[test]
fn a_config_that_disagrees_with_the_head_gives_a_new_one_that_says_both_numbers_or_an_error() {
    let two = |config: &mut Value| config["id2label"] = json!({"0": "cat", "1": "dog"});
    let number = |config: &mut Value| {
        drop(config.as_object_mut().unwrap().remove("id2label"));
        config["num_labels"] = json!(2);
    };
    let timm = |config: &mut Value| {
        drop(config.as_object_mut().unwrap().remove("label_names"));
        for place in ["/num_classes", "/model_args/num_classes", "/pretrained_cfg/num_classes"] {
            *config.pointer_mut(place).unwrap() = json!(2);
        }
    };
    type Change = dyn Fn(&mut Value);
    let changes: [(&str, &Change); 5] = [
        ("hf_vit_classifier", &two),
        ("hf_vit_classifier", &number),
        ("hf_dinov2_classifier", &two),
        ("hf_deit_teacher", &two),
        ("timm", &timm),
    ];
    for (name, change) in changes {
        let (_folder, checkpoint) = changed(name, change);
        let architecture = &checkpoint.config().unwrap().architecture;
        let attempt = |architecture: &Architecture, head| {
            let params = Params::new(0, DType::F32, &Device::Cpu);
            load(&checkpoint, architecture, &LoadOptions::default().with(|c| c.head = head), &params)
        };
        let account = attempt(architecture, Head::Auto).unwrap();
        assert!(account.initialised().count() >= 2, "{name}: {account}");
        for (_, why) in account.initialised() {
            assert!(why.contains("says 2 classes") && why.contains("5 rows"), "{name}: {why}");
        }
        let error = attempt(architecture, Head::Keep).unwrap_err().to_string();
        assert!(error.contains("says 2 classes") && error.contains("5 rows"), "{name}: {error}");
        // Whoever asks for as many classes as there are rows gets them.
        let account = attempt(&architecture.clone().with_num_classes(5), Head::Keep).unwrap();
        assert_eq!(account.initialised().count(), 0, "{name}");
        // Classes of data do not say which of the two numbers is right.
        let (_, _, account) = for_classes(&checkpoint, &NAMES, Head::Auto, 0).unwrap();
        assert!(account.initialised().count() >= 2, "{name}: {account}");
    }
}

#[test]
fn names_that_are_not_as_many_as_the_classes_name_none_and_the_head_is_not_taken() {
    for names in [json!(["ant", "bee"]), json!(["ant", "bee", "cat", "dog", "elk", "yak"])] {
        let count = names.as_array().unwrap().len();
        let (_folder, checkpoint) = changed("timm", |config| config["label_names"] = names);
        let config = checkpoint.config().unwrap();
        assert_eq!(config.labels, None);
        let fault = config.head_fault.clone().unwrap();
        assert!(fault.contains("5 classes") && fault.contains(&format!("names {count}")), "{fault}");
        let params = Params::new(0, DType::F32, &Device::Cpu);
        let account = load(&checkpoint, &config.architecture, &LoadOptions::default(), &params).unwrap();
        assert_eq!(account.initialised().count(), 2);
        assert!(for_classes(&checkpoint, &NAMES, Head::Keep, 0).is_err());
    }
}

fn built(architecture: &Architecture, seed: u64) -> Params {
    let params = Params::new(seed, DType::F32, &Device::Cpu);
    architecture.build(params.builder()).unwrap();
    params
}

fn described(architecture: Architecture, labels: &[&str]) -> CheckpointConfig {
    reference("timm").config().unwrap().clone().with(|made| {
        made.architecture = architecture.clone();
        made.name = None;
        made.labels = Some(labels.iter().map(|&label| label.to_owned()).collect());
        made.preprocessing = reference("timm")
            .config()
            .unwrap()
            .preprocessing
            .clone()
            .with(|c| c.input_size = architecture.input_size());
    })
}

#[test]
fn a_head_that_nobody_trained_says_so_in_what_is_saved_and_is_not_taken_from_there() {
    let architecture = reference("timm").config().unwrap().architecture.clone();
    let params = built(&architecture, 1);
    let config = described(architecture.clone(), &NAMES)
        .with(|c| c.head_fault = Some("a head for 5 classes; the checkpoint has none".into()));
    let folder = tempfile::tempdir().unwrap();
    save::timm(folder.path(), &params, &config).unwrap();
    let file = folder.path().join("model.gguf");
    save::gguf(&file, &params, &config, Quantisation::F32).unwrap();
    let text = std::fs::read_to_string(folder.path().join("config.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["tallow"]["head"], "untrained");
    for path in [folder.path(), &file] {
        let checkpoint = opened(path);
        let read = checkpoint.config().unwrap();
        let fault = read.head_fault.clone().unwrap();
        assert!(fault.contains("never trained (a head for 5 classes; the checkpoint has none)"), "{fault}");
        assert_eq!((&read.architecture, &read.labels), (&config.architecture, &config.labels));
        let (_, _, account) = for_classes(&checkpoint, &NAMES, Head::Auto, 0).unwrap();
        assert_eq!(account.initialised().count(), 2);
        assert!(account.to_string().contains("never trained"), "{account}");
        let error = for_classes(&checkpoint, &NAMES, Head::Keep, 0).unwrap_err().to_string();
        assert!(error.contains("never trained"), "{error}");
    }
    // A trained one is not marked, nor is a model without one.
    let trained = save::config_json(&config.clone().with(|c| c.head_fault = None)).unwrap();
    assert_eq!(trained.pointer("/tallow/head"), None);
    let headless = config.with(|c| {
        c.architecture = architecture.with_num_classes(0);
        c.labels = None;
    });
    assert_eq!(save::config_json(&headless).unwrap().pointer("/tallow/head"), None);
}

#[test]
fn a_row_that_is_new_is_a_fate_of_its_own_in_the_account() {
    let (_, _, account) = for_classes(&reference("timm"), &["ant", "yak"], Head::Auto, 0).unwrap();
    let fate = account.parameters.iter().find(|parameter| parameter.name == "head.bias").map(|p| &p.fate);
    let Some(Parameter::PartlyFilled { from, why }) = fate else { panic!("{fate:?}") };
    assert_eq!((from.as_slice(), why.contains("yak")), (&["head.bias".to_string()][..], true));
}

/// Logits of the checkpoint as it describes itself.
fn own_logits(checkpoint: &Checkpoint) -> (Vec<Vec<f32>>, Account) {
    let architecture = &checkpoint.config().unwrap().architecture;
    let params = Params::new(0, DType::F32, &Device::Cpu);
    let account = load(checkpoint, architecture, &LoadOptions::default(), &params).unwrap();
    architecture.build(params.builder()).unwrap();
    (logits(architecture, &params), account)
}

#[test]
fn a_classifier_is_found_where_a_hugging_face_config_names_no_class_that_has_one() {
    for name in ["hf_vit_classifier", "hf_dinov2_classifier", "hf_deit_teacher", "hf_deit_classifier"] {
        let whole = opened(&references().join(name));
        let (expected, _) = own_logits(&whole);
        for architectures in [Value::Null, json!([]), json!(["ViTModel"])] {
            let (_folder, checkpoint) = changed(name, |config| config["architectures"] = architectures.clone());
            assert_eq!(checkpoint.config(), whole.config(), "{name} {architectures}");
            let (logits, account) = own_logits(&checkpoint);
            assert_eq!(logits, expected, "{name} {architectures}");
            assert!(account.notes.iter().any(|note| note.contains("a classifier of 5 rows")), "{name}: {account}");
        }
        // How many classes there are is the weights' where the config does not say it, and its fault where it says another.
        let unsaid = |more: Value| {
            changed(name, move |config| {
                config.as_object_mut().unwrap().remove("architectures");
                config["id2label"] = more;
            })
        };
        let (_folder, checkpoint) = changed(name, |config| {
            for field in ["architectures", "id2label", "label2id"] {
                config.as_object_mut().unwrap().remove(field);
            }
        });
        assert_eq!(own_logits(&checkpoint).0, expected, "{name}");
        assert_eq!(checkpoint.config().unwrap().labels, None, "{name}");
        let (_folder, checkpoint) = unsaid(Value::Null);
        assert_eq!(own_logits(&checkpoint).0, expected, "{name}");
        assert_eq!(checkpoint.config().unwrap().labels, whole.config().unwrap().labels, "by label2id: {name}");
        let (_folder, checkpoint) = unsaid(json!({"0": "cat", "1": "dog"}));
        let (_, account) = own_logits(&checkpoint);
        assert!(account.initialised().all(|(_, why)| why.contains("5 rows")), "{name}: {account}");
        assert!(account.initialised().count() >= 2, "{name}: {account}");
    }
    // Weights without a classifier have none, whatever their config leaves out.
    let (_folder, checkpoint) = changed("hf_dinov2", |config| config["architectures"] = Value::Null);
    assert_eq!(checkpoint.config().unwrap().architecture.num_classes(), 0);
}

#[test]
fn a_classifier_without_a_bias_is_one_whose_bias_is_zero() {
    let folder = tempfile::tempdir().unwrap();
    let timm = references().join("timm");
    std::fs::copy(timm.join("config.json"), folder.path().join("config.json")).unwrap();
    let mut tensors = candle_core::safetensors::load(timm.join("model.safetensors"), &Device::Cpu).unwrap();
    let bias = tensors.remove("head.bias").unwrap().to_vec1::<f32>().unwrap();
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    let (whole, _) = own_logits(&opened(&timm));
    let (without, account) = own_logits(&opened(folder.path()));
    assert_eq!(account.initialised().count(), 0, "{account}");
    assert!(account.notes.iter().any(|note| note.contains("no bias")), "{account}");
    for (whole, without) in whole.iter().zip(&without) {
        for ((whole, without), bias) in whole.iter().zip(without).zip(&bias) {
            assert!((whole - bias - without).abs() <= 1e-5, "{whole} - {bias} and {without}");
        }
    }
    // The rows are put in order all the same.
    check_order_noting(&opened(folder.path()), Head::Auto, 1);
}
