//! Whose class is which row of a head, as a user meets it: folders whose classes are in another order than a checkpoint's, and
//! heads that nobody trained.

use std::collections::HashMap;
use std::process::Stdio;

use candle_core::{Device, Tensor};
use serde_json::{Value, json};

use crate::bad_input::refused;
use crate::sandbox::{Ended, Sandbox};

/// Writes a data set of 8 training and 4 test images a class: `name=third`, where the image is bright in this third of its
/// height.
fn bars(tallow: &Sandbox, folder: &str, classes: &[(&str, usize)]) {
    for &(name, third) in classes {
        for (part, count) in [("train", 8), ("test", 4)] {
            for number in 0..count {
                let path = tallow.path(&format!("{folder}/{part}/{name}/{number}.png"));
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                let bright = |row: usize| if row / 10 == third { 250 - number as u8 } else { 10 + number as u8 };
                let pixels: Vec<u8> = (0..28 * 28).map(|at| bright(at / 28)).collect();
                image::save_buffer(path, &pixels, 28, 28, image::ColorType::L8).expect("a file");
            }
        }
    }
}

const ABC: [(&str, usize); 3] = [("a", 0), ("b", 1), ("c", 2)];

/// Trains on a, b and c until all of the test images are right, into `run`.
fn trained(tallow: &Sandbox) {
    bars(tallow, "abc", &ABC);
    let line = "train mlp_mnist --data folder:abc --epochs 6 --batch-size 8 --augment none --out run";
    assert_eq!(tallow.json(line)["test_accuracy"], 1.);
}

/// The checkpoint `from` with its classes, and the rows of its head, in this order, as `to`.
fn permuted(tallow: &Sandbox, from: &str, to: &str, order: [&str; 3]) {
    let mut config: Value = serde_json::from_slice(&tallow.read(&format!("{from}/config.json"))).expect("JSON");
    let old: Vec<String> = serde_json::from_value(config["label_names"].clone()).expect("names");
    let rows: Vec<u32> = order.map(|name| old.iter().position(|other| other == name).expect("a class") as u32).into();
    let rows = Tensor::new(rows, &Device::Cpu).expect("rows");
    let path = tallow.path(&format!("{from}/model.safetensors"));
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).expect("weights");
    let tensors: HashMap<String, Tensor> = tensors
        .into_iter()
        .map(|(name, tensor)| match tensor.dims()[0] {
            3 => (name, tensor.index_select(&rows, 0).expect("three rows")),
            _ => (name, tensor),
        })
        .collect();
    config["label_names"] = json!(order);
    tallow.write(&format!("{to}/config.json"), config.to_string());
    candle_core::safetensors::save(&tensors, tallow.path(&format!("{to}/model.safetensors"))).expect("a file");
}

/// The test accuracy after an epoch in which nothing is learned, and what was said.
fn untouched(tallow: &Sandbox, line: &str, out: &str) -> (f64, String) {
    let line = format!(
        "{line} --epochs 1 --lr 1e-12 --weight-decay 0 --warmup-steps 0 --batch-size 8 --augment none --seed 5 --out {out} --json"
    );
    let ended = tallow.ok(&line);
    let summary: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    (summary["test_accuracy"].as_f64().expect("a number"), ended.stderr)
}

#[test]
fn classes_in_another_order_than_the_data_s_keep_their_accuracy() {
    let tallow = Sandbox::new();
    trained(&tallow);
    permuted(&tallow, "run/checkpoints/best", "cab", ["c", "a", "b"]);
    for head in ["auto", "keep"] {
        let line = format!("train mlp_mnist --weights cab --data folder:abc --head {head}");
        let (accuracy, said) = untouched(&tallow, &line, head);
        assert_eq!(accuracy, 1., "{said}");
        assert!(
            said.contains("rows were put in the order of the data's classes, by name: a, b, c (before: c, a, b)"),
            "{said}"
        );
    }
    // A run whose checkpoint has its classes in that order is measured as it was.
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(tallow.path("cab").join(file), tallow.path("run/checkpoints/best").join(file)).expect("a copy");
    }
    let ended = tallow.ok("eval run --json");
    assert_eq!(serde_json::from_str::<Value>(&ended.stdout).expect("JSON")["accuracy"], 1.);
    assert!(ended.stderr.contains("by their names: \"a\", \"b\", \"c\" in the data, \"c\", \"a\", \"b\" in the model"));
}

#[test]
fn other_classes_than_the_checkpoint_s_get_new_rows_and_keep_refuses_them() {
    let tallow = Sandbox::new();
    trained(&tallow);
    bars(&tallow, "xyz", &[("x", 0), ("y", 1), ("z", 2)]);
    bars(&tallow, "cxa", &[("a", 0), ("c", 2), ("x", 1)]);
    let (_, said) = untouched(&tallow, "train mlp_mnist --weights run --data folder:xyz", "new");
    assert!(said.contains("a head for x, y, z; the checkpoint's is for other classes (a, b, c)"), "{said}");
    let (accuracy, said) = untouched(&tallow, "train mlp_mnist --weights run --data folder:cxa", "part");
    assert!(said.contains("2 of the data's 3 classes were kept, by name: a, c; 1 new: x"), "{said}");
    assert!(accuracy >= 2. / 3. - 1e-9, "a and c are known: {accuracy}");
    let (again, _) = untouched(&tallow, "train mlp_mnist --weights run --data folder:cxa", "again");
    assert_eq!(accuracy, again);
    for file in ["model.safetensors", "config.json"] {
        let [first, second] = ["part", "again"].map(|run| tallow.read(&format!("{run}/checkpoints/last/{file}")));
        assert!(first == second, "{file}: the new rows follow from the seed");
    }
    for (data, what) in [("xyz", "no name is common"), ("cxa", "without x (it has a, b, c)")] {
        let line = format!("train mlp_mnist --weights run --data folder:{data} --head keep --out kept");
        let message = refused(&tallow, &line, 1);
        assert!(message.contains(what), "{message}");
        assert!(!tallow.path("kept").exists());
    }
}

#[test]
fn a_run_is_measured_on_some_of_its_classes_in_any_order_and_not_on_others() {
    let tallow = Sandbox::new();
    trained(&tallow);
    bars(&tallow, "bc", &ABC[1..]);
    bars(&tallow, "bcx", &[("b", 1), ("c", 2), ("x", 0)]);
    let ended = tallow.ok("eval run --data folder:bc --json");
    let measured: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!((&measured["accuracy"], &measured["samples"]), (&json!(1.), &json!(8)));
    assert!(ended.stderr.contains("by their names"), "{}", ended.stderr);
    assert_eq!(measured["top5"], json!(1.), "whoever reads JSON finds every field");
    let text = tallow.ok("eval run --data folder:bc").stdout;
    assert!(
        text.contains("accuracy") && !text.contains("top 5"),
        "of three classes the label is always among five: {text}"
    );
    let message = refused(&tallow, "eval run --data folder:bcx", 1);
    assert!(message.contains("got \"x\" in 4 of the samples"), "{message}");
    // Of two classes of one name neither is meant.
    let path = "run/checkpoints/best/config.json";
    let mut config: Value = serde_json::from_slice(&tallow.read(path)).expect("JSON");
    config["label_names"] = json!(["b", "b", "c"]);
    std::fs::remove_file(tallow.path(path)).expect("a file");
    tallow.write(path, config.to_string());
    let message = refused(&tallow, "eval run --data folder:bc", 1);
    assert!(message.contains("got \"b\" in 4 of the samples; a name that is empty or stands twice"), "{message}");
}

#[test]
fn a_head_that_nobody_trained_answers_nothing_and_is_marked_in_what_is_exported() {
    let tallow = Sandbox::new();
    trained(&tallow);
    tallow.digit(0, "digit.png");
    // Weights without the head that their config speaks of.
    let mut config: Value = serde_json::from_slice(&tallow.read("run/checkpoints/best/config.json")).expect("JSON");
    config["label_names"] = json!(["a", "b", "c"]);
    let path = tallow.path("run/checkpoints/best/model.safetensors");
    let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).expect("weights");
    tensors.retain(|_, tensor| tensor.dims()[0] != 3);
    tallow.write("headless/config.json", config.to_string());
    candle_core::safetensors::save(&tensors, tallow.path("headless/model.safetensors")).expect("a file");

    let why = "a head for 3 classes; the checkpoint has none";
    for line in [
        "predict headless digit.png",
        "embed headless digit.png --features logits --out f.safetensors",
        "export headless --out out",
    ] {
        let message = refused(&tallow, line, 1);
        assert!(message.contains(why), "tallow {line}: {message}");
    }
    assert!(!tallow.path("f.safetensors").exists() && !tallow.path("out").exists());
    // Its features do not pass through the head.
    tallow.ok("embed headless digit.png --out f.safetensors");

    for line in [
        "predict run digit.png --num-classes 7",
        "embed run digit.png --features logits --out g.safetensors --num-classes 7",
        "predict run digit.png --set num_classes=7",
    ] {
        let message = refused(&tallow, line, 2);
        assert!(message.contains("a head for 7 classes; the checkpoint's is for 3"), "tallow {line}: {message}");
    }

    tallow.ok("export headless --out bare --num-classes 0");
    assert!(refused(&tallow, "predict bare digit.png", 2).contains("classification head"));
    for (line, out) in [
        ("export headless --out marked --num-classes 3", "marked"),
        ("export run --out wider --num-classes 7", "wider"),
        ("export run --format gguf --out wider.gguf --num-classes 7", "wider.gguf"),
    ] {
        let ended = tallow.ok(line);
        assert!(ended.stderr.contains("marked as untrained"), "{}", ended.stderr);
        for line in [
            format!("predict {out} digit.png"),
            format!("embed {out} digit.png --features logits --out g.safetensors"),
            format!("export {out} --out again"),
        ] {
            let message = refused(&tallow, &line, 1);
            assert!(message.contains("drawn at random and never trained"), "tallow {line}: {message}");
        }
        tallow.ok(&format!("embed {out} digit.png --out g.safetensors"));
        std::fs::remove_file(tallow.path("g.safetensors")).expect("features");
    }
    let config: Value = serde_json::from_slice(&tallow.read("marked/config.json")).expect("JSON");
    assert_eq!(config["tallow"]["head"], "untrained");
    // Training draws a new one, which is trained then.
    tallow.ok("train mlp_mnist --weights marked --data folder:abc --epochs 1 --batch-size 8 --out tuned");
    tallow.ok("predict tuned digit.png");
}

#[test]
fn logits_are_written_with_labels_in_the_order_of_their_columns() {
    let tallow = Sandbox::new();
    trained(&tallow);
    permuted(&tallow, "run/checkpoints/best", "cab", ["c", "a", "b"]);
    bars(&tallow, "cb", &[("c", 2), ("b", 1)]);
    bars(&tallow, "abz", &[("a", 0), ("b", 1), ("z", 2)]);
    for (model, data, order) in
        [("run", "abc", ["a", "b", "c"]), ("cab", "abc", ["c", "a", "b"]), ("run", "cb", ["a", "b", "c"])]
    {
        tallow.ok(&format!("embed {model} --data folder:{data} --features logits --out f.safetensors"));
        let bytes = tallow.read("f.safetensors");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
        let about = &header["__metadata__"];
        for key in ["classes", "logits"] {
            assert_eq!(about[key], json!(order).to_string(), "{model} {data}: {key}");
        }
        let tensors = candle_core::safetensors::load(tallow.path("f.safetensors"), &Device::Cpu).expect("a file");
        let columns = tensors["features"].argmax(1).expect("logits").to_vec1::<u32>().expect("numbers");
        let labels = tensors["labels"].to_vec1::<i64>().expect("labels");
        assert!(columns.iter().map(|&column| i64::from(column)).eq(labels.iter().copied()), "{columns:?} {labels:?}");
    }
    // A class that the model does not know has no column: the labels are the data's, and that is said.
    let said = tallow.ok("embed run --data folder:abz --features logits --out f.safetensors").stderr;
    assert!(said.contains("\"z\"") && said.contains("the data's numbers"), "{said}");
}

#[test]
fn a_head_that_the_config_does_not_count_is_named_with_the_way_to_take_it() {
    let tallow = Sandbox::new();
    trained(&tallow);
    tallow.digit(0, "digit.png");
    let mut config: Value = serde_json::from_slice(&tallow.read("run/checkpoints/best/config.json")).expect("JSON");
    config.as_object_mut().expect("an object").remove("label_names");
    config["num_classes"] = json!(0);
    config["tallow"]["architecture"]["num_classes"] = json!(0);
    config["pretrained_cfg"]["num_classes"] = json!(0);
    tallow.write("zero/config.json", config.to_string());
    tallow.write("zero/model.safetensors", tallow.read("run/checkpoints/best/model.safetensors"));
    let message = refused(&tallow, "predict zero digit.png", 2);
    assert!(message.contains("0 classes and its head has 3 rows") && message.contains("--num-classes 3"), "{message}");
    tallow.ok("predict zero digit.png --num-classes 3");
}

#[test]
fn attention_is_seen_without_a_head_that_was_trained() {
    let tallow = Sandbox::new();
    tallow.digit(0, "digit.png");
    let model = "vit_small_patch14_dinov2.saliency --img-size 28";
    let line = format!("predict {model} digit.png --num-classes 3 --attention seen --json");
    let ended = tallow.ok(&line);
    let value: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(value["predictions"][0]["top"], json!([]), "it names no class");
    assert!(ended.stderr.contains("no classes are named"), "{}", ended.stderr);
    assert!(tallow.path("seen/digit.svg").is_file());
}

#[test]
fn runs_that_start_at_once_without_out_get_folders_of_their_own() {
    let tallow = Sandbox::new();
    let line = "train mlp_mnist --data mnist --limit 40 --test-limit 10 --epochs 1 --batch-size 20 --json";
    let start = || tallow.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("tallow starts");
    let runs: Vec<_> = (0..4).map(|_| start()).collect();
    for run in runs {
        let ended = Ended::from(run.wait_with_output().expect("a child"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    for number in 1..=4 {
        let folder = format!("runs/mlp_mnist-mnist-{number}");
        assert!(tallow.path(&folder).join("summary.json").is_file(), "{folder}");
    }
    assert!(!tallow.path("runs/mlp_mnist-mnist-5").exists());
    // A run that comes to nothing leaves no folder.
    refused(&tallow, "train mlp_mnist --data folder:nowhere", 1);
    assert_eq!(std::fs::read_dir(tallow.path("runs")).expect("a folder").count(), 4);
}
