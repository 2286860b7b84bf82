//! One run from training to the use of its weights.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use crate::sandbox::{Sandbox, lines};

const TRAIN: &str = "train mlp_mnist --data mnist --limit 400 --test-limit 100 --epochs 2 --batch-size 40 --out runs/a";

#[test]
fn a_run_is_trained_measured_used_and_exported() {
    let tallow = Sandbox::new();
    let summary = tallow.json(TRAIN);
    for file in ["config.toml", "metrics.jsonl", "summary.json", "predictions.json", "report.html"] {
        assert!(tallow.path("runs/a").join(file).is_file(), "{file}");
    }
    assert_eq!(lines(&tallow.path("runs/a/metrics.jsonl")), 2 * 10 + 2, "a line a step and a line an epoch");
    assert_eq!((&summary["steps"], &summary["test_samples"]), (&20.into(), &100.into()));

    let measured = tallow.json("eval runs/a");
    assert_eq!(measured["accuracy"], summary["test_accuracy"]);
    let other = tallow.json("eval runs/a --data mnist --limit 50");
    assert_eq!(other["samples"], 50);

    tallow.digit(0, "digits/seven.png");
    tallow.digit(1, "digits/more/two.png");
    let predicted = tallow.json("predict runs/a digits --topk 3");
    let predictions = predicted["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 2, "folders are searched with those inside of them");
    let top = predictions[0]["top"].as_array().unwrap();
    assert_eq!(top.len(), 3);
    assert!(top[0]["probability"].as_f64() >= top[1]["probability"].as_f64());

    tallow.ok("export runs/a --format timm --out exported");
    tallow.ok("export runs/a --format gguf --quantisation f32 --out exported.gguf");
    for exported in ["exported", "exported.gguf"] {
        let again = tallow.json(&format!("predict {exported} digits --topk 3"));
        assert_eq!(again["predictions"], predicted["predictions"], "{exported} predicts what the run predicts");
    }

    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| std::fs::metadata(tallow.path(name)).unwrap().permissions().mode();
        assert_eq!(mode("exported/model.safetensors"), mode("exported/config.json"), "others may read the weights");
    }

    tallow.ok("compare runs/a --out compared");
    assert!(!tallow.path("runs/a/figures/filters.svg").exists(), "an MLP has no filters");
    assert!(tallow.path("compared/report.html").is_file());
}

#[test]
fn a_run_in_bfloat16_learns_as_one_in_float32() {
    let tallow = Sandbox::new();
    let train = "train vit_mnist --data mnist --limit 320 --test-limit 50 --epochs 1 --batch-size 16 --augment none";
    let loss = |dtype: &str| {
        tallow.ok(&format!("{train} --dtype {dtype} --out runs/{dtype}"));
        let metrics = std::fs::read_to_string(tallow.path(&format!("runs/{dtype}/metrics.jsonl"))).unwrap();
        let last: serde_json::Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
        last["train_loss"].as_f64().unwrap()
    };
    let (float32, bfloat16) = (loss("f32"), loss("bf16"));
    let measured = tallow.json("eval runs/bf16")["loss"].as_f64().unwrap();
    let summary = String::from_utf8(tallow.read("runs/bf16/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["test_loss"].as_f64(), Some(measured), "a run is measured again in its own precision");
    assert!((float32 / bfloat16 - 1.).abs() < 0.02, "{float32} and {bfloat16}");
}

#[test]
fn eight_bit_integers_predict_nearly_what_float32_does() {
    let tallow = Sandbox::new();
    if tallow.json("doctor")["matmul_int8"].is_null() {
        eprintln!("skipped: this CPU has no dot products of integers");
        return;
    }
    let model = "vit_small_patch14_dinov2.saliency --img-size 56 --data mnist --limit 20";
    let features = |dtype: &str| {
        tallow.ok(&format!("embed {model} --dtype {dtype} --out {dtype}.safetensors"));
        tensors(&tallow, &format!("{dtype}.safetensors"))["features"].to_vec2::<f32>().unwrap()
    };
    let (float32, integers) = (features("f32"), features("int8"));
    for (one, other) in float32.iter().zip(&integers) {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let cosine = dot(one, other) / (dot(one, one) * dot(other, other)).sqrt();
        assert!((0.99..0.999_999_9).contains(&cosine), "{cosine}: close, and not the same");
    }

    tallow.ok("train vit_mnist --data mnist --limit 320 --test-limit 50 --epochs 1 --batch-size 16 --augment none --out runs/a");
    let loss = |dtype: &str| tallow.json(&format!("eval runs/a --dtype {dtype}"))["loss"].as_f64().unwrap();
    let (float32, integers) = (loss("f32"), loss("int8"));
    assert!(float32 != integers && (float32 / integers - 1.).abs() < 0.02, "{float32} and {integers}");
}

#[test]
fn embedded_features_are_those_of_the_samples_in_order_with_their_labels() {
    let tallow = Sandbox::new();
    tallow.ok("embed vit_small_patch14_dinov2.saliency --img-size 28 --data mnist --limit 5 --batch-size 2 --out all.safetensors");
    let all = tensors(&tallow, "all.safetensors");
    assert_eq!(all["features"].dims(), [5, 384]);
    let labels = all["labels"].to_vec1::<i64>().unwrap();
    assert_eq!(labels, [7, 2, 1, 0, 4], "the first test digits");

    tallow.digit(2, "one.png");
    let said = tallow
        .json("embed vit_small_patch14_dinov2.saliency one.png --img-size 28 --features tokens --out one.safetensors");
    assert_eq!(said["shape"], serde_json::json!([1, 5, 384]), "four patches and the class token");
    let tokens = tensors(&tallow, "one.safetensors");
    assert!(!tokens.contains_key("labels"));
    let class = tokens["features"].get(0).unwrap().get(0).unwrap().to_vec1::<f32>().unwrap();
    let pooled = all["features"].get(2).unwrap().to_vec1::<f32>().unwrap();
    for (a, b) in class.iter().zip(&pooled) {
        assert!((a - b).abs() < 1e-4, "the pooled feature of this model is its class token: {a} and {b}");
    }
}

#[test]
fn the_same_seed_gives_the_same_weights_and_another_one_others() {
    let tallow = Sandbox::new();
    let train = |seed: u64, out: &str| {
        tallow.ok(&format!(
            "train mlp_mnist --data mnist --limit 100 --test-limit 20 --epochs 1 --batch-size 20 --seed {seed} --out {out}"
        ));
        tallow.read(&format!("{out}/checkpoints/last/model.safetensors"))
    };
    let first = train(1, "a");
    assert_eq!(first, train(1, "b"));
    assert_ne!(first, train(2, "c"));
}

#[test]
fn a_run_without_out_gets_a_folder_of_its_own() {
    let tallow = Sandbox::new();
    for number in [1, 2] {
        tallow.ok("train mlp_mnist --data mnist --limit 20 --test-limit 10 --epochs 1 --batch-size 20");
        assert!(tallow.path(&format!("runs/mlp_mnist-mnist-{number}/summary.json")).is_file());
    }
}

#[test]
fn quiet_says_nothing_but_the_result() {
    let tallow = Sandbox::new();
    let ended = tallow.ok("train mlp_mnist --data mnist --limit 20 --test-limit 10 --epochs 1 --batch-size 20 -q");
    assert_eq!(ended.stderr, "");
    assert!(ended.stdout.starts_with("test accuracy"), "{}", ended.stdout);
}

fn tensors(tallow: &Sandbox, name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(tallow.path(name), &Device::Cpu).expect("safetensors")
}
