//! The cache on disk, laid out as Hugging Face's clients lay it out, so that they share it:
//!
//! `KIND--OWNER--NAME/blobs/HASH` has the contents, `snapshots/COMMIT/PATH` points there, `refs/REVISION` names the commit.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::repo::{Kind, Repo, is_commit, is_safe_path};
use crate::{Error, Result};

/// The part of the cache that belongs to one repository.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    root: PathBuf,
    folder: String,
}

impl Cache {
    pub(super) fn new(root: &Path, repo: &Repo) -> Self {
        let kind = match repo.kind {
            Kind::Model => hf_hub::RepoType::Model,
            Kind::Dataset => hf_hub::RepoType::Dataset,
        };
        Self { root: root.to_path_buf(), folder: hf_hub::Repo::new(repo.id.clone(), kind).folder_name() }
    }

    pub(super) fn blob(&self, hash: &str) -> PathBuf {
        self.root.join(&self.folder).join("blobs").join(hash)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join(&self.folder).join("snapshots").join(commit)
    }

    /// The snapshot that `revision` meant when it was last downloaded, if it is there.
    pub(super) fn known_snapshot(&self, revision: &str) -> Option<PathBuf> {
        let commit = if is_commit(revision) {
            revision.to_string()
        } else {
            let text = fs::read_to_string(self.root.join(&self.folder).join("refs").join(revision)).ok()?;
            text.trim().to_string()
        };
        if !is_commit(&commit) {
            return None;
        }
        Some(self.snapshot(&commit)).filter(|path| path.is_dir())
    }

    /// Makes `snapshots/COMMIT/PATH` lead to the blob: a relative link, or a copy where links are not to be had.
    pub(super) fn point(&self, commit: &str, path: &str, hash: &str) -> Result<()> {
        let pointer = self.snapshot(commit).join(path);
        let blob = self.blob(hash);
        make_parent(&pointer)?;
        let depth = path.split('/').count() + 1;
        let target = Path::new(&"../".repeat(depth)).join("blobs").join(hash);
        let temporary = sibling(&pointer);
        match fs::remove_file(&temporary) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::Io { path: temporary, source });
            }
            _ => {}
        }
        link(&target, &blob, &temporary).map_err(io_error(&temporary))?;
        fs::rename(&temporary, &pointer).map_err(io_error(&pointer))
    }

    /// Records that `revision` means `commit`.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<()> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.root.join(&self.folder).join("refs").join(revision);
        make_parent(&path)?;
        let temporary = sibling(&path);
        fs::write(&temporary, commit).map_err(io_error(&temporary))?;
        fs::rename(&temporary, &path).map_err(io_error(&path))
    }

    /// Waits until nobody else, of this or another process, downloads the same blob. Held until dropped.
    ///
    /// Gives up when the other one makes no progress for `patience`. A file system without locks does without.
    pub(super) fn lock(&self, hash: &str, partial: &Path, patience: Duration) -> Result<File> {
        let path = self.root.join(".locks").join(&self.folder).join(format!("{hash}.lock"));
        make_parent(&path)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error(&path))?;
        let size = || fs::metadata(partial).map_or(0, |m| m.len());
        let (mut seen, mut since) = (size(), Instant::now());
        loop {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {}
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(file),
            }
            let now = size();
            if now != seen {
                (seen, since) = (now, Instant::now());
            } else if since.elapsed() > patience {
                return Err(Error::Hub {
                    place: path.display().to_string(),
                    problem: "another process holds this lock and downloads nothing".into(),
                    remedy: "end it and try again".into(),
                });
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The files of a snapshot, as paths relative to it, sorted. What cannot be read, or leads nowhere, is not there.
pub(super) fn files_of(snapshot: &Path) -> Vec<String> {
    fn visit(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<String>) {
        const DEEPEST: usize = 16;
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = format!("{prefix}{name}");
            match fs::metadata(entry.path()) {
                Ok(kind) if kind.is_dir() && depth < DEEPEST => {
                    visit(&entry.path(), &format!("{path}/"), depth + 1, found);
                }
                Ok(kind) if kind.is_file() && is_safe_path(&path) => found.push(path),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    visit(snapshot, "", 0, &mut found);
    found.sort();
    found
}

pub(super) fn make_parent(path: &Path) -> Result<()> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(io_error(parent)),
        None => Ok(()),
    }
}

/// The error for a file of the cache that cannot be read or written.
pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let place = path.display().to_string();
    move |source| Error::Hub {
        place,
        problem: source.to_string(),
        remedy: "the cache needs a folder that can be written and space: free some, or set HF_HOME to another folder"
            .into(),
    }
}

/// A name beside `path` that no other process uses.
fn sibling(path: &Path) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.{:?}", std::process::id(), thread::current().id()))
}

#[cfg(unix)]
fn link(target: &Path, _blob: &Path, pointer: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, pointer)
}

#[cfg(not(unix))]
fn link(_target: &Path, blob: &Path, pointer: &Path) -> io::Result<()> {
    fs::hard_link(blob, pointer).or_else(|_| fs::copy(blob, pointer).map(|_| ()))
}
