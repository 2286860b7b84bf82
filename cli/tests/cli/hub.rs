//! Models and data sets from a hub, which a server on this machine stands in for.

#[path = "../../../weights/tests/support/hub_server.rs"]
mod hub_server;

use std::fs;
use std::path::Path;

use hub_server::{Files, HubServer};

use crate::sandbox::{Ended, Sandbox};

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
