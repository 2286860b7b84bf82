//! Requests to the hub: the list of a repository's files, what the hub states about a file, and the file itself, verified.
//!
//! hf-hub does the talking. What it leaves open is done here: it asks for a file's hash without a timeout and does not tell
//! it, checks no hash, and starts a broken download again from zero.

use std::{
    fs::{self, File},
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use futures::StreamExt;
use hf_hub::{HFClient, HFRepository, RepoType};
use reqwest::{Url, header};

use super::{
    cache::{Cache, io_error, make_parent},
    error::Trouble,
    hash::Hash,
    repo::{Kind, Repo, is_commit},
    settings::Settings,
};
use crate::{Error, Result};

/// Attempts at one request or file. Pauses between them grow from a quarter of a second.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// A connection to the hub on behalf of one repository.
pub(super) struct Client<'a> {
    repo: &'a Repo,
    settings: &'a Settings,
    cache: &'a Cache,
    hub: HFClient,
    /// Stops at redirects: the answer that redirects to the storage is the one that states the hash.
    heads: reqwest::Client,
}

/// What the hub states about a file.
#[derive(Debug, Clone)]
pub(super) struct Stated {
    pub(super) name: String,
    pub(super) commit: String,
    /// What the blob is called in the cache: the hash, or what a mirror has instead.
    pub(super) etag: String,
    hash: Option<Hash>,
    size: Option<u64>,
}

impl<'a> Client<'a> {
    pub(super) fn new(repo: &'a Repo, settings: &'a Settings, cache: &'a Cache) -> Result<Self> {
        let setup = |why: String| Error::Hub {
            place: settings.endpoint.clone(),
            problem: format!("cannot set up a connection: {why}"),
            remedy: "check HF_ENDPOINT and the system's certificates".into(),
        };
        let url = Url::parse(&settings.endpoint).map_err(|e| setup(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(setup("expected an address that begins with http:// or https://".into()));
        }
        let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        let builder = || {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("tallow/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(settings.timeout / 2)
                .read_timeout(settings.timeout);
            if loopback { builder.no_proxy() } else { builder }
        };
        let heads = builder().redirect(reqwest::redirect::Policy::none()).build().map_err(|e| setup(e.to_string()))?;
        let follows = builder().build().map_err(|e| setup(e.to_string()))?;
        let mut hub = HFClient::builder()
            .client(follows)
            .endpoint(settings.endpoint.clone())
            .cache_dir(settings.cache_dir.clone())
            .retry_max_attempts(0);
        if let Some(token) = &settings.token {
            hub = hub.token(token.clone());
        }
        let hub = hub.build().map_err(|e| setup(e.to_string()))?;
        Ok(Self { repo, settings, cache, hub, heads })
    }

    /// The names of all files of the repository.
    pub(super) async fn list(&self) -> std::result::Result<Vec<String>, Trouble> {
        let (owner, name) = hf_hub::split_id(&self.repo.id);
        let revision = self.repo.revision.as_str();
        let files = self
            .retry(async || {
                Ok(match self.repo.kind {
                    Kind::Model => self.hub.model(owner, name).info().revision(revision).send().await?.siblings,
                    Kind::Dataset => self.hub.dataset(owner, name).info().revision(revision).send().await?.siblings,
                })
            })
            .await?;
        let files = files.ok_or_else(|| Trouble::Malformed("no list of files".into()))?;
        Ok(files.into_iter().map(|file| file.rfilename).collect())
    }

    /// What the hub states about the file `name`, or `None` if there is no such file.
    pub(super) async fn state(&self, name: &str) -> std::result::Result<Option<Stated>, Trouble> {
        match self.retry(async || self.head(name).await).await {
            Err(Trouble::Status { status: 404, code, .. }) if code != "RepoNotFound" && code != "RevisionNotFound" => {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    async fn head(&self, name: &str) -> std::result::Result<Stated, Trouble> {
        const REDIRECTS: usize = 5;
        let malformed = |what: &str| Trouble::Malformed(format!("{what} for {name}"));
        let mut url = self.url_of(name).ok_or_else(|| malformed("no usable address"))?;
        for _ in 0..=REDIRECTS {
            let mut request = self.heads.head(url.clone());
            if let Some(token) = &self.settings.token {
                request = request.bearer_auth(token);
            }
            let answer = request.send().await?;
            let text = |key: &str| answer.headers().get(key).and_then(|value| value.to_str().ok());
            let status = answer.status();
            if status.is_client_error() || status.is_server_error() {
                return Err(Trouble::Status {
                    status: status.as_u16(),
                    code: text("x-error-code").unwrap_or_default().into(),
                    message: text("x-error-message").unwrap_or_default().chars().take(200).collect(),
                    retry_after: text("retry-after").and_then(|s| s.parse().ok()).map(Duration::from_secs),
                });
            }
            // A renamed repository, or one in other capitals, redirects within the hub; storage is another host.
            if status.is_redirection()
                && let Some(target) = text(header::LOCATION.as_str()).and_then(|to| url.join(to).ok())
                && target.origin() == url.origin()
                && text("x-linked-etag").is_none()
            {
                url = target;
                continue;
            }
            let etag = text("x-linked-etag").or(text("etag")).ok_or_else(|| malformed("no ETag"))?;
            let etag = etag.trim_start_matches("W/").trim_matches('"').to_string();
            if etag.is_empty() || etag.len() > 128 || !etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return Err(malformed("an ETag that cannot be a file's name"));
            }
            let commit = text("x-repo-commit").filter(|commit| is_commit(commit));
            let commit = commit.ok_or_else(|| malformed("no X-Repo-Commit"))?.to_string();
            let length = if status.is_success() { text("content-length") } else { None };
            let size = text("x-linked-size").or(length).and_then(|s| s.parse().ok());
            return Ok(Stated { name: name.into(), commit, hash: Hash::parse(&etag), etag, size });
        }
        Err(malformed("too many redirects"))
    }

    fn url_of(&self, name: &str) -> Option<Url> {
        let mut url = Url::parse(&self.settings.endpoint).ok()?;
        url.path_segments_mut()
            .ok()?
            .pop_if_empty()
            .extend(self.repo.kind.url_prefix().split_terminator('/'))
            .extend(self.repo.id.split('/'))
            .extend(["resolve", self.repo.revision.as_str()])
            .extend(name.split('/'));
        Some(url)
    }

    /// Brings a file into the cache, unless it is there. It gets its name in the cache once it is complete and verified.
    pub(super) async fn fetch(&self, file: &Stated) -> Result<PathBuf> {
        let blob = self.cache.blob(&file.etag);
        let partial = blob.with_file_name(format!("{}.incomplete", file.etag));
        make_parent(&blob)?;
        let lock = self.cache.lock(&file.etag, &partial, 3 * self.settings.timeout)?;
        let is_there = fs::metadata(&blob).is_ok_and(|m| m.is_file() && file.size.is_none_or(|size| size == m.len()));
        if !is_there {
            let result = self.download(file, &partial).await;
            if let Err(error) = result {
                // Nothing to lose: the error that is reported is the one that matters.
                let _ = fs::remove_file(&partial);
                return Err(error);
            }
            fs::rename(&partial, &blob).map_err(io_error(&blob))?;
        }
        drop(lock);
        self.cache.point(&file.commit, &file.name, &file.etag)?;
        Ok(blob)
    }

    /// Downloads to `partial` and checks the hash. A connection that breaks off is taken up where it broke.
    async fn download(&self, file: &Stated, partial: &Path) -> Result<()> {
        let progress = self.settings.progress.as_deref();
        if let Some(progress) = progress {
            progress.begin(&file.name, file.size);
        }
        let mut sink = Sink { out: File::create(partial).map_err(io_error(partial))?, done: 0 };
        let mut failures = 0;
        loop {
            let before = sink.done;
            let result = self.receive(file, partial, &mut sink).await?;
            match result {
                Ok(()) => break,
                // A timeout after some progress is a connection that died; without progress it is a hub that is down.
                Err(trouble)
                    if failures + 1 < ATTEMPTS
                        && (trouble.is_passing() || matches!(trouble, Trouble::Silent) && sink.done > before) =>
                {
                    tokio::time::sleep(PAUSE * 2u32.pow(failures)).await;
                    failures += 1;
                }
                Err(trouble) => return Err(self.error(trouble)),
            }
        }
        sink.out.sync_all().map_err(io_error(partial))?;
        match &file.hash {
            Some(hash) => {
                if let Some(got) = hash.mismatch(partial).map_err(io_error(partial))? {
                    return Err(Error::Hub {
                        place: format!("{}: {}", self.repo, file.name),
                        problem: format!("wrong contents: expected {hash}, got {got}"),
                        remedy: format!(
                            "the download was deleted; try again, and if it stays so, {} serves a changed file",
                            self.settings.endpoint
                        ),
                    });
                }
            }
            None => {
                if let Some(progress) = progress {
                    progress.note(&format!("{}: the hub states no hash, only the size was checked", file.name));
                }
            }
        }
        if let Some(progress) = progress {
            progress.end(&file.name);
        }
        Ok(())
    }

    /// Receives what is still missing of a file.
    async fn receive(
        &self,
        file: &Stated,
        partial: &Path,
        sink: &mut Sink,
    ) -> Result<std::result::Result<(), Trouble>> {
        let (owner, name) = hf_hub::split_id(&self.repo.id);
        match self.repo.kind {
            Kind::Model => self.receive_from(self.hub.model(owner, name), file, partial, sink).await,
            Kind::Dataset => self.receive_from(self.hub.dataset(owner, name), file, partial, sink).await,
        }
    }

    async fn receive_from<T: RepoType>(
        &self,
        repo: HFRepository<T>,
        file: &Stated,
        partial: &Path,
        sink: &mut Sink,
    ) -> Result<std::result::Result<(), Trouble>> {
        let progress = |done| {
            if let Some(progress) = self.settings.progress.as_deref() {
                progress.advance(&file.name, done);
            }
        };
        let rest = file.size.filter(|size| sink.done > 0 && sink.done < *size).map(|size| sink.done..size);
        if rest.is_none() && sink.done > 0 {
            sink.restart().map_err(io_error(partial))?;
            progress(0);
        }
        let resumed = rest.is_some();
        let request = repo.download_file_stream().filename(&file.name).revision(&self.repo.revision).maybe_range(rest);
        let (_, mut stream) = match request.send().await {
            Ok(opened) => opened,
            Err(error) => return Ok(Err(error.into())),
        };
        while let Some(chunk) = stream.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Ok(Err(error.into())),
            };
            sink.take(&chunk).map_err(io_error(partial))?;
            if file.size.is_some_and(|size| sink.done > size) {
                sink.restart().map_err(io_error(partial))?;
                // Some servers answer a request for the rest with the whole.
                let what = if resumed { "the whole file instead of its rest" } else { "more than it announced" };
                return Ok(Err(Trouble::Cut(format!("it sent {what} for {}", file.name))));
            }
            progress(sink.done);
        }
        Ok(match file.size {
            Some(size) if sink.done < size => {
                Err(Trouble::Cut(format!("{} of {size} bytes of {} arrived", sink.done, file.name)))
            }
            _ => Ok(()),
        })
    }

    async fn retry<T>(
        &self,
        mut request: impl AsyncFnMut() -> std::result::Result<T, Trouble>,
    ) -> std::result::Result<T, Trouble> {
        let mut failures = 0;
        loop {
            match request().await {
                Err(trouble) if trouble.is_passing() && failures + 1 < ATTEMPTS => {
                    tokio::time::sleep(PAUSE * 2u32.pow(failures)).await;
                    failures += 1;
                }
                result => return result,
            }
        }
    }

    /// The error for the user.
    pub(super) fn error(&self, trouble: Trouble) -> Error {
        trouble.into_error(self.repo, &self.settings.endpoint, self.settings.token.is_some(), self.settings.timeout)
    }
}

/// Where a download goes, and how much of it there is.
struct Sink {
    out: File,
    done: u64,
}

impl Sink {
    fn take(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.out.write_all(chunk)?;
        self.done += chunk.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.done = 0;
        self.out.set_len(0)?;
        self.out.rewind()
    }
}

/// Runs `work` to its end. On a thread of its own, so that a caller inside of an async runtime is served as well.
pub(super) fn block_on<T: Send>(work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| Error::Hub {
                place: "network".into(),
                problem: format!("cannot be set up: {e}"),
                remedy: "close some programs and try again".into(),
            })?;
            runtime.block_on(work())
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
