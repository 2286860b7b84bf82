//! Which part of a data set is which: what commands say of it, and what they measure.

use serde_json::Value;

use crate::sandbox::Sandbox;

/// Writes 15 digits in each of these folders.
fn digits(tallow: &Sandbox, folders: &str) {
    for (at, folder) in folders.split(' ').enumerate() {
        for number in 0..15 {
            tallow.digit(15 * at + number, &format!("{folder}/{number:03}.png"));
        }
    }
}

const TRAIN: &str = "train mlp_mnist --epochs 1 --batch-size 16";

#[test]
fn new_photos_are_measured_and_embedded_all_of_them() {
    let tallow = Sandbox::new();
    digits(&tallow, "old/train/a old/train/b old/test/a old/test/b new/a new/b some/b");
    tallow.ok(&format!("{TRAIN} --data folder:old --out run"));
    assert_eq!(tallow.json("eval run --data folder:new")["samples"], 30);
    assert_eq!(tallow.json("eval run --data folder:new --split train")["samples"], 30);
    assert_eq!(tallow.json("eval run --data folder:new --limit 10")["samples"], 10);
    assert_eq!(tallow.json("embed run --data folder:new --out new.safetensors")["images"], 30);
    // A test part is a test part, and the run's own data keeps its split.
    assert_eq!(tallow.json("eval run --data folder:old")["samples"], 30);
    assert_eq!(tallow.json("embed run --data folder:old --split test --out old.safetensors")["images"], 30);
    assert_eq!(tallow.json("eval run --data folder:some")["samples"], 15, "some of the classes");
    let ended = tallow.run("eval run --data folder:old/train/a");
    assert_eq!(ended.code, Some(1), "no classes: {ended:?}");
}

#[test]
fn a_run_on_flat_photos_is_measured_on_what_was_held_out_also_by_name() {
    let tallow = Sandbox::new();
    digits(&tallow, "flat/a flat/b");
    let held_out = tallow.json(&format!("{TRAIN} --data folder:flat --out run"))["test_samples"].clone();
    assert!(held_out.as_u64().is_some_and(|count| (2..12).contains(&count)), "about a fifth of 30: {held_out}");
    for same in ["", " --data folder:flat", " --data folder:./flat", " --data folder:flat/"] {
        let measured = tallow.json(&format!("eval run{same}"));
        assert_eq!(measured["samples"], held_out, "eval run{same}: not those it was trained on");
    }
}

#[test]
fn data_says_which_folder_became_which_part_and_why() {
    let tallow = Sandbox::new();
    digits(&tallow, "d/seg_train/a d/seg_train/b d/seg_test/a d/seg_test/b d/noise/a d/noise/b d/seg_pred");
    let facts = tallow.json("data folder:d");
    let parts: Vec<(&str, &str, Option<u64>)> = facts["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| (part["name"].as_str().unwrap(), part["role"].as_str().unwrap(), part["samples"].as_u64()))
        .collect();
    assert_eq!(
        parts,
        [
            ("seg_train", "train", Some(30)),
            ("seg_test", "test", Some(30)),
            ("noise", "left out", Some(30)),
            ("seg_pred", "left out", Some(15))
        ]
    );
    assert!(
        facts["parts"].as_array().unwrap().iter().all(|part| part["why"].is_string() && part["source"].is_string())
    );
    let said = tallow.ok("data folder:d");
    assert!(said.stdout.contains("\nseg_test: test (seg_test, 30 samples): its name says test"), "{}", said.stdout);
    assert!(said.stderr.contains("noise is not used; --train-split NAME or --test-split NAME"), "{}", said.stderr);
    let facts = tallow.json("data folder:d --train-split seg_train,noise --test-split seg_test");
    assert_eq!((&facts["train"], &facts["test"]), (&60.into(), &30.into()));
    let ended = tallow.run("data folder:d --test-split nothing");
    assert!(ended.stderr.contains("expected one of noise, seg_test, seg_train"), "{}", ended.stderr);
}

#[test]
fn a_run_and_a_recipe_remember_the_parts_that_were_chosen() {
    let tallow = Sandbox::new();
    digits(&tallow, "d/train/a d/train/b d/test/a d/test/b d/hard/a");
    digits(&tallow, "d/hard/b");
    let summary = tallow.json(&format!("{TRAIN} --data folder:d --test-split hard --out run"));
    assert_eq!(summary["test_samples"], 30);
    let config = String::from_utf8(tallow.read("run/config.toml")).unwrap();
    assert!(config.contains("test_split = \"hard\""), "{config}");
    assert_eq!(tallow.json("eval run")["accuracy"], summary["test_accuracy"]);
    for line in
        ["eval run --data folder:d --test-split train,test", "eval run --train-split hard --test-split train,test"]
    {
        assert_eq!(tallow.json(line)["samples"], 60, "{line}");
    }
    tallow.write(
        "r.toml",
        "[shared]\ncommand = \"train\"\nmodel = \"mlp_mnist\"\ndata = \"folder:d\"\nepochs = 1\ntest_split = \"hard\"\n[[run]]\nname = \"a\"\n\
         [[run]]\nname = \"b\"\ntrain_split = \"train,test\"\n",
    );
    tallow.ok("run r.toml --out runs");
    let samples = |run: &str| -> Value {
        serde_json::from_slice::<Value>(&tallow.read(&format!("runs/{run}/summary.json"))).unwrap()["train_samples"]
            .clone()
    };
    assert_eq!((samples("a"), samples("b")), (30.into(), 60.into()));
}
