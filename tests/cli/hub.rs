//! Models and data sets from a hub, which a server on this machine stands in for.

#[path = "../../weights/tests/support/hub_server.rs"]
mod hub_server;

use std::fs;
use std::path::Path;

use hub_server::{Files, HubServer};

use crate::sandbox::{Ended, Sandbox};

/// A hub with a data set of images of two classes.
fn hub() -> HubServer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/parquet/named/data");
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
