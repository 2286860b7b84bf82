//! Downloads from a hub on this machine, faults included: what ends up in the cache, what the user is told, how long it takes.

#[path = "support/hub_server.rs"]
mod hub_server;

use std::{
    error::Error,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use hub_server::{Fault, Files, HubServer, git_sha1, sha256};
use tallow_weights::{
    OpenOptions, Progress,
    hub::{DatasetFiles, download_dataset, download_model},
};
use tempfile::TempDir;

type Outcome = Result<(), Box<dyn Error>>;

const MODEL: &str = "acme/tiny-vit";

/// A server with one model, and a cache of its own.
struct Setup {
    server: HubServer,
    cache: TempDir,
    commit: String,
}

impl Setup {
    fn new() -> Result<Self, Box<dyn Error>> {
        let server = HubServer::start()?;
        let commit = server.model(MODEL, model_files());
        Ok(Self { server, cache: TempDir::new()?, commit })
    }

    fn options(&self) -> OpenOptions {
        OpenOptions::default().with(|c| {
            c.endpoint = Some(self.server.url());
            c.cache_dir = Some(self.cache.path().to_path_buf());
            c.token = Some("hf_test".into());
            c.timeout = Some(Duration::from_secs(10));
        })
    }

    fn download(&self) -> Result<PathBuf, tallow_weights::Error> {
        download_model(MODEL, None, &self.options())
    }

    /// The message of a download that is expected to fail.
    fn failure(&self) -> Result<String, String> {
        match self.download() {
            Ok(folder) => Err(format!("expected an error, got {}", folder.display())),
            Err(error) => Ok(error.to_string()),
        }
    }

    /// The files with contents in the cache; locks and links are not.
    fn blobs(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        visit(self.cache.path(), &mut found);
        found.retain(|path| path.components().any(|part| part.as_os_str() == "blobs"));
        found
    }
}

fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => visit(&entry.path(), found),
            _ => found.push(entry.path()),
        }
    }
}

fn weights() -> Vec<u8> {
    (0..400_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn model_files() -> Files {
    Files::from([
        ("config.json".into(), br#"{"architecture": "vit_tiny_patch16_224"}"#.to_vec()),
        ("model.safetensors".into(), weights()),
        ("pytorch_model.bin".into(), vec![1; 5000]),
        ("README.md".into(), b"# Tiny".to_vec()),
    ])
}

/// Fails unless `message` is one line that holds all of `parts`.
fn assert_says(message: &str, parts: &[&str]) {
    assert_eq!(message.lines().count(), 1, "{message}");
    for part in parts {
        assert!(message.contains(part), "expected {part:?} in {message:?}");
    }
}

#[test]
fn a_model_lands_in_the_cache_as_hugging_face_lays_it_out() -> Outcome {
    let setup = Setup::new()?;
    let folder = setup.download()?;
    let root = setup.cache.path().join("models--acme--tiny-vit");
    assert_eq!(folder, root.join("snapshots").join(&setup.commit));
    assert_eq!(fs::read_to_string(root.join("refs/main"))?, setup.commit);
    assert_eq!(fs::read(folder.join("model.safetensors"))?, weights());
    assert_eq!(fs::read(root.join("blobs").join(sha256(&weights())))?, weights());
    let config = &model_files()["config.json"];
    assert_eq!(&fs::read(root.join("blobs").join(git_sha1(config)))?, config);
    // What is not needed is not downloaded.
    assert!(!folder.join("pytorch_model.bin").exists() && !folder.join("README.md").exists());
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(folder.join("model.safetensors"))?,
        Path::new("../../blobs").join(sha256(&weights())),
        "a link that survives moving the cache"
    );
    Ok(())
}

#[test]
fn what_is_in_the_cache_is_not_downloaded_again() -> Outcome {
    let setup = Setup::new()?;
    let first = setup.download()?;
    setup.server.take_requests();
    assert_eq!(setup.download()?, first);
    let requests = setup.server.take_requests();
    let downloads = requests.iter().filter(|r| r.method == "GET" && !r.path.starts_with("/api/")).count();
    assert_eq!(downloads, 0, "{requests:?}");
    // A commit never changes, so there is nothing to ask.
    assert_eq!(download_model(MODEL, Some(&setup.commit), &setup.options())?, first);
    assert!(setup.server.take_requests().is_empty());
    Ok(())
}

#[test]
fn a_new_commit_is_noticed_and_shares_what_did_not_change() -> Outcome {
    let setup = Setup::new()?;
    setup.download()?;
    let mut files = model_files();
    files.insert("config.json".into(), b"{}".to_vec());
    let commit = setup.server.model(MODEL, files);
    setup.server.take_requests();
    let folder = setup.download()?;
    assert!(folder.ends_with(&commit));
    assert_eq!(fs::read(folder.join("config.json"))?, b"{}");
    assert!(setup.server.take_requests().iter().all(|r| r.method == "HEAD" || !r.path.contains("model.safetensors")));
    Ok(())
}

#[test]
fn offline_uses_the_cache_and_nothing_else() -> Outcome {
    let setup = Setup::new()?;
    let offline = setup.options().with(|c| c.offline = true);
    let error = download_model(MODEL, None, &offline).expect_err("nothing is there yet").to_string();
    assert_says(&error, &["hf-hub:acme/tiny-vit", "not in the cache", "vit_small_patch14_dinov2.saliency"]);
    assert!(setup.server.take_requests().is_empty());
    let folder = setup.download()?;
    setup.server.take_requests();
    assert_eq!(download_model(MODEL, None, &offline)?, folder);
    assert_eq!(download_model(MODEL, Some(&setup.commit), &offline)?, folder);
    assert!(setup.server.take_requests().is_empty());
    Ok(())
}

#[test]
fn every_refusal_says_what_to_do() -> Outcome {
    let setup = Setup::new()?;
    let missing = download_model("acme/no-such", None, &setup.options()).expect_err("no such model").to_string();
    assert_says(&missing, &["hf-hub:acme/no-such", "not found (HTTP 404", "spelling", "tallow list"]);
    let revision = download_model(MODEL, Some("v9"), &setup.options()).expect_err("no such revision").to_string();
    assert_says(&revision, &["no such revision", "\"v9\""]);
    let cases: [(u16, &str, &[&str]); 6] = [
        (401, "X-Error-Code: GatedRepo", &["access needs a token", "HF_TOKEN", "licence", MODEL]),
        (403, "X-Error-Code: GatedRepo", &["access is not granted", "licence", MODEL]),
        (401, "X-Error-Code: RepoNotFound", &["not found", "spelling", "private"]),
        (404, "X-Error-Code: RepoNotFound", &["not found", "spelling"]),
        (429, "Retry-After: 7", &["too many requests", "wait 7 s"]),
        (500, "", &["HTTP 500", "try again later", "vit_small_patch14_dinov2.saliency"]),
    ];
    thread::scope(|scope| {
        let mut running = Vec::new();
        for place in ["/api/", "/config.json", "/storage/"] {
            for (status, headers, parts) in cases {
                running.push(scope.spawn(move || -> Result<(), String> {
                    let setup = Setup::new().map_err(|e| e.to_string())?;
                    setup.server.fail("GET", place, 9, Fault::Status(status, headers));
                    setup.server.fail("HEAD", place, 9, Fault::Status(status, headers));
                    let message = setup.failure().map_err(|e| format!("{place} {status}: {e}"))?;
                    assert_says(&message, &["hf-hub:acme/tiny-vit", &status.to_string()]);
                    // The storage knows nothing of repositories; what its refusals mean is another matter.
                    if place != "/storage/" {
                        assert_says(&message, parts);
                    }
                    assert!(!setup.blobs().iter().any(|path| path.ends_with(sha256(&weights()))), "{place} {status}");
                    Ok(())
                }));
            }
        }
        running.into_iter().try_for_each(|case| case.join().unwrap_or_else(|_| Err("a case failed".into())))
    })?;
    Ok(())
}

#[test]
fn protected_models_need_the_right_token() -> Outcome {
    let setup = Setup::new()?;
    setup.server.protect("models/acme/tiny-vit", "hf_right");
    assert_says(&setup.failure()?, &["HTTP 403", "licence"]);
    let folder = download_model(MODEL, None, &setup.options().with(|c| c.token = Some("hf_right".into())))?;
    assert_eq!(fs::read(folder.join("model.safetensors"))?, weights());
    Ok(())
}

#[test]
fn the_token_is_for_the_hub_alone() -> Outcome {
    let setup = Setup::new()?;
    setup.download()?;
    let requests = setup.server.take_requests();
    let (storage, hub): (Vec<_>, Vec<_>) = requests.iter().partition(|r| r.path.starts_with("/storage/"));
    assert!(!storage.is_empty() && storage.iter().all(|r| !r.headers.contains_key("authorization")));
    assert!(hub.iter().all(|r| r.headers.get("authorization").is_some_and(|value| value == "Bearer hf_test")));
    Ok(())
}

#[test]
fn a_passing_failure_is_tried_again() -> Outcome {
    for (method, place) in [("GET", "/api/"), ("HEAD", "/config.json"), ("GET", "/config.json"), ("GET", "/storage/")] {
        let setup = Setup::new()?;
        setup.server.fail(method, place, 1, Fault::Status(503, ""));
        let folder = setup.download().map_err(|e| format!("{method} {place}: {e}"))?;
        assert_eq!(fs::read(folder.join("model.safetensors"))?, weights());
    }
    Ok(())
}

#[test]
fn a_broken_download_goes_on_where_it_broke() -> Outcome {
    let setup = Setup::new()?;
    setup.server.fail("GET", "/storage/", 1, Fault::CutAfter(150_000));
    let folder = setup.download()?;
    assert_eq!(fs::read(folder.join("model.safetensors"))?, weights());
    let requests = setup.server.take_requests();
    let ranges: Vec<_> = requests.iter().filter_map(|r| r.headers.get("range")).collect();
    assert!(!ranges.is_empty() && ranges.iter().all(|range| *range == "bytes=150000-399999"), "{ranges:?}");
    Ok(())
}

#[test]
fn a_server_that_ignores_ranges_is_asked_for_the_whole() -> Outcome {
    let setup = Setup::new()?;
    setup.server.fail("GET", "/storage/", 1, Fault::CutAfter(150_000));
    setup.server.fail("GET", "/storage/", 1, Fault::IgnoreRange);
    let folder = setup.download()?;
    assert_eq!(fs::read(folder.join("model.safetensors"))?, weights());
    Ok(())
}

#[test]
fn a_connection_that_keeps_breaking_is_an_error_and_leaves_nothing_behind() -> Outcome {
    let setup = Setup::new()?;
    setup.server.fail("GET", "/storage/", 99, Fault::CutAfter(1000));
    let message = setup.failure()?;
    assert_says(&message, &["hf-hub:acme/tiny-vit", "broke off", "try again"]);
    let config = git_sha1(&model_files()["config.json"]);
    assert!(setup.blobs().iter().all(|path| path.ends_with(&config)), "{:?}", setup.blobs());
    assert!(!setup.cache.path().join("models--acme--tiny-vit/refs/main").exists());
    Ok(())
}

#[test]
fn contents_that_do_not_have_the_stated_hash_never_reach_the_cache() -> Outcome {
    let other = "\"00000000000000000000000000000000000000000000000000000000000000aa\"";
    let faults = [
        ("GET", "/storage/", Fault::WrongByte, "SHA-256"),
        ("HEAD", "/model.safetensors", Fault::Header("X-Linked-Etag", other), "SHA-256"),
        ("GET", "/config.json", Fault::WrongByte, "SHA-1"),
    ];
    for (method, place, fault, kind) in faults {
        let setup = Setup::new()?;
        setup.server.fail(method, place, 1, fault);
        let message = setup.failure()?;
        assert_says(&message, &["wrong contents", "expected", "got", kind, "deleted", "try again"]);
        let kept = setup.blobs();
        let right = [git_sha1(&model_files()["config.json"]), sha256(&weights())];
        for path in kept {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(right.iter().any(|hash| hash == name), "{}", path.display());
        }
        assert!(!setup.cache.path().join("models--acme--tiny-vit/refs/main").exists());
        // The fault was the server's, and it is over.
        assert_eq!(fs::read(setup.download()?.join("model.safetensors"))?, weights());
    }
    Ok(())
}

#[test]
fn a_size_that_is_a_lie_is_an_error() -> Outcome {
    for size in ["399999", "400001", "99999999999999"] {
        let setup = Setup::new()?;
        setup.server.fail("HEAD", "/model.safetensors", 9, Fault::Header("X-Linked-Size", size));
        setup.failure().map_err(|e| format!("{size}: {e}"))?;
        assert!(setup.blobs().iter().all(|path| !path.ends_with(sha256(&weights()))), "{size}");
    }
    Ok(())
}

#[test]
fn a_damaged_file_in_the_cache_is_replaced() -> Outcome {
    let setup = Setup::new()?;
    let folder = setup.download()?;
    let blob = fs::canonicalize(folder.join("model.safetensors"))?;
    fs::write(&blob, &weights()[..1000])?;
    assert_eq!(fs::read(setup.download()?.join("model.safetensors"))?, weights());
    Ok(())
}

#[test]
fn silence_is_an_error_within_the_timeout() -> Outcome {
    let faults = [
        ("GET", "/api/", Fault::Stall),
        ("HEAD", "/config.json", Fault::Stall),
        ("GET", "/config.json", Fault::Stall),
        ("GET", "/storage/", Fault::StallAfter(0)),
        ("GET", "/storage/", Fault::StallAfter(1000)),
    ];
    thread::scope(|scope| {
        let cases: Vec<_> = faults
            .into_iter()
            .map(|(method, place, fault)| {
                scope.spawn(move || -> Result<(), String> {
                    let setup = Setup::new().map_err(|e| e.to_string())?;
                    setup.server.fail(method, place, 9, fault);
                    let options = setup.options().with(|c| c.timeout = Some(Duration::from_millis(400)));
                    let error = download_model(MODEL, None, &options).err().ok_or("no error")?.to_string();
                    assert_says(&error, &["no answer", "0.4 s", "try again later"]);
                    let silent = setup.server.take_requests();
                    let asked = silent.iter().filter(|r| r.method == method && r.path.contains(place)).count();
                    assert!((1..=4).contains(&asked), "{method} {place}: asked {asked} times");
                    Ok(())
                })
            })
            .collect();
        cases.into_iter().try_for_each(|case| case.join().unwrap_or_else(|_| Err("a case failed".into())))
    })?;
    Ok(())
}

/// An address where nobody listens.
fn nowhere() -> Result<String, Box<dyn Error>> {
    Ok(format!("http://{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?))
}

#[test]
fn without_a_network_the_error_comes_at_once_and_names_the_bundled_model() -> Outcome {
    let setup = Setup::new()?;
    let options = {
        let mut made = setup.options();
        made.endpoint = Some(nowhere()?);
        made
    };
    let message = download_model(MODEL, None, &options).expect_err("nobody is there").to_string();
    assert_says(
        &message,
        &[
            "hf-hub:acme/tiny-vit",
            "cannot reach http://127.0.0.1",
            "vit_small_patch14_dinov2.saliency",
            "HF_HUB_OFFLINE=1",
        ],
    );
    for endpoint in ["not a url", "ftp://example.org", "http://"] {
        let options = setup.options().with(|c| c.endpoint = Some(endpoint.into()));
        let message = download_model(MODEL, None, &options).expect_err(endpoint).to_string();
        assert_says(&message, &["HF_ENDPOINT"]);
    }
    Ok(())
}

#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    fn push(&self, line: String) {
        if let Ok(mut lines) = self.0.lock() {
            lines.push(line);
        }
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().map(|lines| lines.clone()).unwrap_or_default()
    }
}

impl Progress for Recorder {
    fn begin(&self, file: &str, total: Option<u64>) {
        self.push(format!("begin {file} {total:?}"));
    }
    fn advance(&self, file: &str, done: u64) {
        self.push(format!("advance {file} {done}"));
    }
    fn end(&self, file: &str) {
        self.push(format!("end {file}"));
    }
    fn note(&self, message: &str) {
        self.push(format!("note {message}"));
    }
}

#[test]
fn progress_goes_from_nothing_to_the_whole_file() -> Outcome {
    let setup = Setup::new()?;
    let recorder = Arc::new(Recorder::default());
    let options = setup.options().with(|c| c.progress = Some(recorder.clone()));
    download_model(MODEL, None, &options)?;
    let lines = recorder.lines();
    assert!(lines.contains(&"begin model.safetensors Some(400000)".to_string()), "{lines:?}");
    assert!(lines.ends_with(&["advance model.safetensors 400000".into(), "end model.safetensors".into()]), "{lines:?}");
    let done: Vec<u64> =
        lines.iter().filter_map(|line| line.strip_prefix("advance model.safetensors ")?.parse().ok()).collect();
    assert!(done.is_sorted());
    Ok(())
}

#[test]
fn when_the_hub_is_away_the_cache_stands_in_and_says_so() -> Outcome {
    let setup = Setup::new()?;
    let folder = setup.download()?;
    let recorder = Arc::new(Recorder::default());
    let away = {
        let mut made = setup.options();
        made.endpoint = Some(nowhere()?);
        made.progress = Some(recorder.clone());
        made
    };
    assert_eq!(download_model(MODEL, None, &away)?, folder);
    assert!(recorder.lines().iter().any(|line| line.contains("using the cache")), "{:?}", recorder.lines());
    Ok(())
}

#[test]
fn names_from_the_hub_cannot_lead_out_of_the_cache() -> Outcome {
    let outside = tempfile::tempdir()?;
    let absolute = outside.path().join("escaped.safetensors");
    let files = Files::from([
        ("../../../../escaped.safetensors".into(), weights()),
        (absolute.display().to_string(), weights()),
        ("..\\escaped.safetensors".into(), weights()),
    ]);
    let setup = Setup::new()?;
    setup.server.model("acme/evil", files);
    let message = download_model("acme/evil", None, &setup.options()).expect_err("no usable name").to_string();
    assert_says(&message, &["holds no weights"]);
    let index = r#"{"weight_map": {"w": "../../../../escaped.safetensors"}}"#;
    setup.server.model("acme/evil2", Files::from([("model.safetensors.index.json".into(), index.into())]));
    assert!(download_model("acme/evil2", None, &setup.options()).is_err());

    for (header, value) in [
        ("X-Repo-Commit", "../../../escaped"),
        ("X-Linked-Etag", "\"../../../escaped\""),
        ("X-Linked-Etag", "\"\""),
        ("X-Linked-Etag", "\"..\""),
    ] {
        let setup = Setup::new()?;
        setup.server.fail("HEAD", "/model.safetensors", 9, Fault::Header(header, value));
        setup.failure().map_err(|e| format!("{header}: {value}: {e}"))?;
    }
    let mut all = Vec::new();
    visit(setup.cache.path(), &mut all);
    visit(outside.path(), &mut all);
    assert!(all.iter().all(|path| !path.to_string_lossy().contains("escaped")), "{all:?}");
    for id in ["../evil", "acme/../evil", "acme/evil/x", "", "acme/a b"] {
        assert!(download_model(id, None, &setup.options()).is_err(), "{id:?}");
    }
    Ok(())
}

#[test]
fn answers_that_are_not_a_hubs_are_errors() -> Outcome {
    let faults = [
        ("HEAD", "/model.safetensors", Fault::WithoutHeader("X-Repo-Commit")),
        ("HEAD", "/config.json", Fault::WithoutHeader("ETag")),
        ("HEAD", "/config.json", Fault::Status(302, "Location: /acme/tiny-vit/resolve/main/config.json")),
    ];
    for (method, place, fault) in faults {
        let setup = Setup::new()?;
        setup.server.fail(method, place, 99, fault);
        assert_says(&setup.failure()?, &["answered with", "HF_ENDPOINT"]);
    }
    Ok(())
}

#[test]
fn a_mirror_without_lists_still_serves_models() -> Outcome {
    let setup = Setup::new()?;
    setup.server.fail("GET", "/api/", 99, Fault::Status(404, ""));
    assert_eq!(fs::read(setup.download()?.join("model.safetensors"))?, weights());
    let setup = Setup::new()?;
    setup.server.fail("GET", "/api/", 99, Fault::Body("<html>Welcome</html>".into()));
    assert_eq!(fs::read(setup.download()?.join("model.safetensors"))?, weights());
    Ok(())
}

#[test]
fn weights_in_parts_are_downloaded_together() -> Outcome {
    let index =
        r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let setup = Setup::new()?;
    setup.server.model(
        "acme/parts",
        Files::from([
            ("model.safetensors.index.json".into(), index.into()),
            ("model-1.safetensors".into(), vec![1; 3000]),
            ("model-2.safetensors".into(), vec![2; 3000]),
            ("model-3.safetensors".into(), vec![3; 3000]),
        ]),
    );
    let folder = download_model("acme/parts", None, &setup.options())?;
    assert_eq!(fs::read(folder.join("model-2.safetensors"))?, vec![2; 3000]);
    assert!(folder.join("model-1.safetensors").exists() && !folder.join("model-3.safetensors").exists());
    let offline = setup.options().with(|c| c.offline = true);
    assert_eq!(download_model("acme/parts", None, &offline)?, folder);
    fs::remove_file(folder.join("model-2.safetensors"))?;
    assert!(download_model("acme/parts", None, &offline).is_err(), "half a model is no model");
    Ok(())
}

#[test]
fn a_cache_that_cannot_be_written_is_an_error_with_a_way_out() -> Outcome {
    let setup = Setup::new()?;
    let file = setup.cache.path().join("file");
    fs::write(&file, "")?;
    let options = setup.options().with(|c| c.cache_dir = Some(file));
    let message = download_model(MODEL, None, &options).expect_err("a file is no folder").to_string();
    assert_says(&message, &["file", "HF_HOME"]);
    Ok(())
}

#[test]
fn two_at_once_download_once() -> Outcome {
    let setup = Setup::new()?;
    thread::scope(|scope| {
        let both = [scope.spawn(|| setup.failure()), scope.spawn(|| setup.failure())];
        for one in both {
            assert!(one.join().is_ok_and(|result| result.is_err()), "expected no failure");
        }
    });
    let requests = setup.server.take_requests();
    assert_eq!(requests.iter().filter(|r| r.method == "GET" && r.path.starts_with("/storage/")).count(), 1);
    assert_eq!(setup.blobs().len(), 2);
    Ok(())
}

/// All Parquet files but those for testing, unless the card asks for them.
fn choose(names: &[String], card: Option<&str>) -> tallow_weights::Result<Vec<String>> {
    let all = card.is_some_and(|card| card.contains("all"));
    let wanted = names.iter().filter(|name| name.ends_with(".parquet") && (all || !name.contains("test")));
    Ok(wanted.cloned().collect())
}

fn dataset(repo: &str, options: &OpenOptions) -> tallow_weights::Result<DatasetFiles> {
    download_dataset(repo, None, options, &choose)
}

#[test]
fn of_a_data_set_only_the_chosen_files_are_downloaded() -> Outcome {
    let setup = Setup::new()?;
    let files = |names: &[&str]| {
        names.iter().map(|name| ((*name).to_string(), name.repeat(100).into_bytes())).collect::<Files>()
    };
    let names =
        ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"];
    setup.server.dataset("acme/digits", "main", files(&names));
    let found = dataset("acme/digits", &setup.options())?;
    assert_eq!(found.names, names[..2]);
    assert_eq!(fs::read_to_string(found.folder.join(names[1]))?, names[1].repeat(100));
    assert!(!found.folder.join(names[2]).exists());
    assert!(setup.cache.path().join("datasets--acme--digits/refs/main").exists());
    let offline = setup.options().with(|c| c.offline = true);
    assert_eq!(dataset("acme/digits", &offline)?, found);
    // The card has a say.
    let mut with_card = files(&names);
    with_card.insert("README.md".into(), b"all".to_vec());
    setup.server.dataset("acme/digits", "main", with_card);
    let mut found = dataset("acme/digits", &setup.options())?;
    assert!(found.folder.join(names[2]).exists() && found.folder.join("README.md").exists());
    assert_eq!(found.names.len(), 3);
    let mut again = dataset("acme/digits", &offline)?;
    found.names.sort();
    again.names.sort();
    assert_eq!(again, found);
    Ok(())
}

#[test]
fn a_data_set_without_parquet_is_taken_from_the_hubs_conversion() -> Outcome {
    let setup = Setup::new()?;
    setup.server.dataset("acme/old", "main", Files::from([("script.py".into(), b"print()".to_vec())]));
    let message = dataset("acme/old", &setup.options()).expect_err("no conversion").to_string();
    assert_says(&message, &["hf:acme/old"]);
    let converted = Files::from([("default/train/0000.parquet".into(), vec![7; 2000])]);
    setup.server.dataset("acme/old", "refs/convert/parquet", converted);
    let found = dataset("acme/old", &setup.options())?;
    assert_eq!(fs::read(found.folder.join(&found.names[0]))?, vec![7; 2000]);
    assert!(setup.cache.path().join("datasets--acme--old/refs/refs/convert/parquet").exists());
    Ok(())
}
