//! Downloads from the Hugging Face hub, into the cache that Hugging Face's own clients use.
//!
//! A file is in the cache only once it is complete and has the hash that the hub states for it. A broken connection is taken
//! up where it broke, up to four times; a hub that is silent for [`OpenOptions::timeout`] is an error. When the hub cannot be
//! reached, what the cache has stands in for it.

mod cache;
mod choice;
mod client;
mod error;
mod hash;
mod repo;
mod settings;

use std::{fs, path::PathBuf};

use self::{
    cache::{Cache, files_of, io_error},
    choice::{CARD, CONFIGS, NO_PARQUET, TOKENIZER_CONFIG, TOKENIZERS, WEIGHTS, dataset_files, model_files},
    client::{Client, Stated},
    error::Trouble,
    repo::{Kind, Repo, is_commit, is_safe_path},
    settings::Settings,
};
use crate::{Error, OpenOptions, Result};

/// Downloads a model: `config.json`, `preprocessor_config.json`, the weights and, if it reads texts, its tokenizer, as far as they are there
/// and not in the cache yet. Returns the folder of the snapshot.
///
/// `repo` is `OWNER/NAME`; no `revision` means `main`. Of several files with weights, `model.safetensors` is preferred, whole
/// or in parts, then `pytorch_model.bin`, then the only file that ends in `.safetensors`, `.gguf`, `.npz`, `.pth` or `.pt`.
///
/// # Errors
/// [`Error::Hub`] for anything about the network, access, the cache, or contents that are not what the hub states. It says
/// what to do.
pub fn download_model(repo: &str, revision: Option<&str>, options: &OpenOptions) -> Result<PathBuf> {
    let repo = Repo::new(Kind::Model, repo, revision)?;
    let settings = Settings::new(options);
    let cache = Cache::new(&settings.cache_dir, &repo);
    let snapshot = download(&repo, &settings, &cache, &model_files)?;
    Ok(snapshot.folder)
}

/// Files of a data set in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFiles {
    /// Where they are.
    pub folder: PathBuf,
    /// Their names in it, with `/` between folders.
    pub names: Vec<String>,
}

/// Chooses among the names of all files of a data set, which are given with the text of its card (`README.md`), if it has one.
/// May be asked several times.
pub type ChooseFiles<'a> = dyn Fn(&[String], Option<&str>) -> Result<Vec<String>> + Sync + 'a;

/// Downloads those files of a data set that `choose` wants.
///
/// Where a repository holds no Parquet and no `revision` is given, the hub's own conversion of it (`refs/convert/parquet`) is
/// used. Offline only what is in the cache can be chosen.
///
/// # Errors
/// As for [`download_model`]; also the errors of `choose`.
pub fn download_dataset(
    repo: &str,
    revision: Option<&str>,
    options: &OpenOptions,
    choose: &ChooseFiles,
) -> Result<DatasetFiles> {
    let settings = Settings::new(options);
    let attempt = |revision: Option<&str>| {
        let repo = Repo::new(Kind::Dataset, repo, revision)?;
        let cache = Cache::new(&settings.cache_dir, &repo);
        let snapshot =
            download(&repo, &settings, &cache, &|place, names, read| dataset_files(place, names, read, choose))?;
        let mut names = snapshot.files;
        names.retain(|name| name != CARD);
        Ok(DatasetFiles { folder: snapshot.folder, names })
    };
    match attempt(revision) {
        Err(Error::Hub { problem, .. }) if revision.is_none() && problem == NO_PARQUET => {
            attempt(Some("refs/convert/parquet"))
        }
        result => result,
    }
}

/// A snapshot in the cache, and those of its files that were asked for.
struct Snapshot {
    folder: PathBuf,
    files: Vec<String>,
}

/// Chooses among the names of files; the last argument reads one that is there already, where that is possible.
type Choose<'a> = dyn Fn(&str, &[String], &dyn Fn(&str) -> Result<Option<String>>) -> Result<Vec<String>> + Sync + 'a;

/// Brings the files that `choose` wants into the cache.
fn download(repo: &Repo, settings: &Settings, cache: &Cache, choose: &Choose) -> Result<Snapshot> {
    let cached = || -> Option<Result<Snapshot>> {
        let folder = cache.known_snapshot(&repo.revision)?;
        let names = files_of(&folder);
        let read = |name: &str| fs::read_to_string(folder.join(name)).map(Some).map_err(io_error(&folder.join(name)));
        Some(choose(&repo.to_string(), &names, &read).and_then(|files| {
            match files.iter().find(|file| !names.contains(file)) {
                Some(missing) => Err(Error::Hub {
                    place: repo.to_string(),
                    problem: format!("{missing} is not in the cache {}", folder.display()),
                    remedy: "download it while online".into(),
                }),
                None => Ok(Snapshot { folder: folder.clone(), files }),
            }
        }))
    };
    if settings.offline {
        return cached().unwrap_or_else(|| {
            Err(Error::Hub {
                place: repo.to_string(),
                problem: format!(
                    "not in the cache {}, and the network is not to be used",
                    settings.cache_dir.display()
                ),
                remedy: match repo.kind {
                    Kind::Model => {
                        "unset HF_HUB_OFFLINE, or use the bundled vit_small_patch14_dinov2.saliency or a local folder"
                    }
                    Kind::Dataset => "unset HF_HUB_OFFLINE, or use the bundled mnist or a local folder",
                }
                .into(),
            })
        });
    }
    // A commit never changes: what is complete needs no question.
    if is_commit(&repo.revision)
        && let Some(Ok(snapshot)) = cached()
    {
        return Ok(snapshot);
    }
    let client = Client::new(repo, settings, cache)?;
    let names = match client.list() {
        Ok(names) => Ok(names.into_iter().filter(|name| is_safe_path(name)).collect()),
        Err(trouble) if trouble.is_no_listing() => Err(trouble),
        Err(trouble) if trouble.is_absence() => {
            // The hub is away. What it gave out before still stands.
            let Some(Ok(snapshot)) = cached() else { return Err(client.error(trouble)) };
            if let Some(progress) = &settings.progress {
                progress.note(&format!("{repo}: the hub cannot be reached; using the cache"));
            }
            return Ok(snapshot);
        }
        Err(trouble) => return Err(client.error(trouble)),
    };
    get(repo, &client, cache, names, choose)
}

/// Fetches what `choose` wants of the files `names`.
fn get(
    repo: &Repo,
    client: &Client<'_>,
    cache: &Cache,
    names: std::result::Result<Vec<String>, Trouble>,
    choose: &Choose<'_>,
) -> Result<Snapshot> {
    let mut stated: Vec<Stated> = Vec::new();
    let names = match names {
        Ok(names) => names,
        Err(no_listing) => {
            // A mirror without lists: ask for what models usually have.
            let tokenizers = TOKENIZERS.iter().copied().flatten().chain([&TOKENIZER_CONFIG]);
            for name in CONFIGS.iter().chain(&WEIGHTS).chain(tokenizers) {
                stated.extend(client.state(name).map_err(|trouble| client.error(trouble))?);
            }
            if stated.is_empty() {
                return Err(client.error(no_listing));
            }
            stated.iter().map(|file| file.name.clone()).collect()
        }
    };
    let place = repo.to_string();
    let mut got: Vec<Stated> = Vec::new();
    // Once for a model in one file; a model in parts names them in a file that has to be fetched first.
    loop {
        let read = |name: &str| match got.iter().find(|file| file.name == name) {
            Some(file) => {
                let path = cache.snapshot(&file.commit).join(name);
                fs::read_to_string(&path).map(Some).map_err(io_error(&path))
            }
            None => Ok(None),
        };
        let wanted = choose(&place, &names, &read)?;
        let missing: Vec<&String> = wanted.iter().filter(|name| got.iter().all(|file| file.name != **name)).collect();
        if missing.is_empty() {
            let commit = got.first().map(|file| file.commit.clone()).unwrap_or_default();
            cache.remember(&repo.revision, &commit)?;
            return Ok(Snapshot { folder: cache.snapshot(&commit), files: wanted });
        }
        let mut fetched = Vec::new();
        for name in missing {
            let known = stated.iter().find(|file| file.name == *name).cloned();
            let file = match known {
                Some(file) => file,
                None => client.state(name).map_err(|trouble| client.error(trouble))?.ok_or_else(|| Error::Hub {
                    place: place.clone(),
                    problem: format!("{name} is missing"),
                    remedy: "the repository is incomplete, or it is changing right now: try again later".into(),
                })?,
            };
            if let Some(other) = got.iter().chain(&fetched).find(|other: &&Stated| other.commit != file.commit) {
                return Err(Error::Hub {
                    place: place.clone(),
                    problem: format!("it changed during the download, from {} to {}", other.commit, file.commit),
                    remedy: "try again".into(),
                });
            }
            client.fetch(&file)?;
            fetched.push(file);
        }
        got.extend(fetched);
    }
}
