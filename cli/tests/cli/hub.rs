//! Models and data sets from a hub, which a server on this machine stands in for.

#[path = "../../../weights/tests/support/hub_server.rs"]
mod hub_server;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use candle_core::Device;
use hub_server::{Files, HubServer};
use serde_json::json;

use crate::sandbox::{Ended, Sandbox};
use crate::words::reference;

/// A hub with a data set of images of two classes.
fn hub() -> HubServer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/references/parquet/named/data");
    let files = fs::read_dir(folder).expect("a folder").map(|entry| {
        let entry = entry.expect("a file");
        (format!("data/{}", entry.file_name().display()), fs::read(entry.path()).expect("a file"))
    });
    let server = HubServer::start().expect("a port");
    server.dataset("acme/named", "main", files.collect::<Files>());
    server
}

#[test]
fn every_command_that_takes_data_tells_what_it_downloads() {
    let (tallow, hub) = (Sandbox::new(), hub());
    let run = |line: &str, cache: &str| -> Ended {
        let mut command = tallow.command(line);
        command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", hub.url()).env("HF_HOME", tallow.path(cache));
        let ended = Ended::from(command.output().expect("tallow starts"));
        assert_eq!(ended.code, Some(0), "tallow {line}: {ended:?}");
        ended
    };
    let train = "train mlp_mnist --data hf:acme/named --epochs 1 --batch-size 2";
    for (cache, line) in [
        ("a", format!("{train} --out run")),
        ("b", "eval run".into()),
        ("c", "eval run --data hf:acme/named --split train".into()),
        ("d", "embed run --data hf:acme/named --out features.safetensors".into()),
        ("e", "finetune run --data hf:acme/named --epochs 1 --batch-size 2 --out tuned".into()),
        ("f", "fetch hf:acme/named".into()),
    ] {
        let ended = run(&line, cache);
        let told = ended.stderr.lines().filter(|line| line.starts_with("downloading data/train-")).count();
        assert_eq!(told, 2, "tallow {line}: {}", ended.stderr);
        let again = run(&format!("{line} -q").replace(" --out ", " --out again-"), cache);
        assert_eq!(again.stderr, "", "tallow {line} -q");
    }
}

#[test]
fn of_a_data_set_with_many_splits_only_those_that_are_used_are_downloaded() {
    let references = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/references/parquet");
    let name = |split: &str| format!("data/{split}-00000-of-00001.parquet");
    // What is no file of images shows that it is not read; what is the same twice would be downloaded once.
    let mut files: Files = [
        ("contrast", "named/data/train-00000-of-00002"),
        ("pixelate", "floats/train"),
        ("test", "mapped/train"),
        ("train", "mapped/test"),
        ("unsupervised", "no_images"),
    ]
    .map(|(split, file)| (name(split), fs::read(references.join(format!("{file}.parquet"))).expect("a file")))
    .into();
    let server = HubServer::start().expect("a port");
    server.dataset("acme/many", "main", files.clone());
    files.insert("README.md".into(), format!("---\nconfigs:\n- config_name: x\n  data_files:\n  - split: train\n    path: {}\n  - split: test\n    path: data/pix*\n---\n", name("contrast")).into_bytes());
    server.dataset("acme/card", "main", files);
    let tallow = Sandbox::new();
    for (line, used, samples, left_out) in [
        ("data hf:acme/many", "test train", [3, 5], 3),
        ("data hf:acme/many --test-split pixelate", "pixelate train", [3, 3], 3),
        ("data hf:acme/card", "contrast pixelate", [3, 3], 0),
    ] {
        let mut command = tallow.command(&format!("{line} --json"));
        let cache = tallow.path(&used.replace(' ', "-"));
        command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", server.url()).env("HF_HOME", cache);
        let ended = Ended::from(command.output().expect("tallow starts"));
        assert_eq!(ended.code, Some(0), "tallow {line}: {ended:?}");
        let downloaded = ended.stderr.lines().filter_map(|line| line.strip_prefix("downloading data/"));
        let mut downloaded: Vec<&str> = downloaded.filter_map(|rest| rest.split('-').next()).collect();
        downloaded.sort_unstable();
        assert_eq!(downloaded.join(" "), used, "tallow {line}: {}", ended.stderr);
        let facts: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
        assert_eq!([&facts["train"], &facts["test"]], samples, "tallow {line}");
        let parts = facts["parts"].as_array().expect("a list");
        let left: Vec<_> = parts.iter().filter(|part| part["role"] == "left out").collect();
        assert_eq!(left.len(), left_out, "{parts:?}");
        assert!(left.iter().all(|part| part["samples"].is_null()), "not downloaded, not counted: {parts:?}");
    }
}

/// The files of a CLIP as a repository of transformers' has them: weights in two parts, those of other frameworks, and a tokenizer.
fn repository() -> Files {
    let mut files: Files = reference("clip").into_iter().collect();
    let weights = files.remove("model.safetensors").expect("weights");
    let tensors = candle_core::safetensors::load_buffer(&weights, &Device::Cpu).expect("tensors");
    let mut parts = [HashMap::new(), HashMap::new()];
    for (name, tensor) in tensors {
        parts[usize::from(name.as_str() < "u")].insert(name, tensor);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut map = serde_json::Map::new();
    for (at, part) in parts.iter().enumerate() {
        assert!(!part.is_empty());
        let name = format!("model-0000{}-of-00002.safetensors", at + 1);
        map.extend(part.keys().map(|tensor: &String| (tensor.clone(), name.clone().into())));
        candle_core::safetensors::save(part, folder.path().join(&name)).expect("written");
        files.insert(name.clone(), fs::read(folder.path().join(&name)).expect("a file"));
    }
    files.insert("model.safetensors.index.json".into(), json!({ "weight_map": map }).to_string().into_bytes());
    for other in ["tf_model.h5", "flax_model.msgpack", "pytorch_model.bin", "README.md", "onnx/model.onnx"] {
        files.insert(other.into(), b"not to be downloaded".into());
    }
    files
}

#[test]
fn of_a_clip_on_the_hub_only_what_is_needed_is_fetched_and_then_it_works_without_a_network() {
    let (tallow, server) = (Sandbox::new(), HubServer::start().expect("a port"));
    server.model("acme/clip", repository());
    let run = |line: &str, offline: bool| -> serde_json::Value {
        let mut command = tallow.command(&format!("{line} --json"));
        command.env("HF_ENDPOINT", server.url()).env("HF_HOME", tallow.path("cache"));
        if !offline {
            command.env_remove("HF_HUB_OFFLINE");
        }
        let ended = Ended::from(command.output().expect("tallow starts"));
        assert_eq!(ended.code, Some(0), "tallow {line}: {ended:?}");
        serde_json::from_str(&ended.stdout).expect("JSON")
    };
    let fetched = run("fetch acme/clip", false);
    assert_eq!(fetched["fetched"][0]["kind"], "model", "{fetched}");
    let snapshots = fs::read_dir(tallow.path("cache/hub/models--acme--clip/snapshots")).expect("a folder");
    let snapshot = snapshots.map(|entry| entry.expect("one commit").path()).next().expect("one commit");
    let names = fs::read_dir(snapshot).expect("a folder").map(|entry| entry.expect("a file").file_name());
    let names: BTreeSet<String> = names.map(|name| name.into_string().expect("text")).collect();
    let needed = ["config.json", "merges.txt", "model.safetensors.index.json", "vocab.json"].map(str::to_owned);
    let parts = [1, 2].map(|part| format!("model-0000{part}-of-00002.safetensors"));
    assert_eq!(names, needed.into_iter().chain(parts).collect());
    server.take_requests();
    let model = "hf-hub:acme/clip";
    tallow.digit(0, "seven.png");
    assert_eq!(run(&format!("embed {model} --text cat"), true)["shape"], json!([1, 12]));
    let labels = &run(&format!("predict {model} seven.png --labels cat,dog"), true)["predictions"][0]["top"];
    assert_eq!(labels.as_array().map(Vec::len), Some(2), "{labels}");
    let measured = run(&format!("zeroshot {model} --data mnist --limit 20 --templates simple --out words"), true);
    assert_eq!(measured["samples"], 20);
    assert!(server.take_requests().is_empty(), "all of it was in the cache");
}
