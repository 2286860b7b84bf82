//! Requests to the hub: the list of a repository's files, what the hub states about a file, and the file itself, verified.
//!
//! `ureq` does the talking, one request at a time on the caller's thread: it needs no runtime, works inside of anybody's, and
//! is compiled in a tenth of the time of an asynchronous client.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    ops::Range,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::Deserialize;
use ureq::http::{HeaderMap, StatusCode, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::WithoutBody;
use ureq::{Agent, Body, RequestBuilder};

use super::{
    cache::{Cache, io_error, make_parent},
    error::Trouble,
    hash::Hash,
    repo::{Repo, encoded, is_commit},
    settings::Settings,
};
use crate::{Error, Result};

/// Attempts at one request or file. Pauses between them grow from a quarter of a second.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// The longest list of files that is read, in bytes.
const LONGEST_LIST: u64 = 64 << 20;

/// Bytes that are read from a connection at once.
const CHUNK: usize = 1 << 16;

/// A connection to the hub on behalf of one repository.
pub(super) struct Client<'a> {
    repo: &'a Repo,
    settings: &'a Settings,
    cache: &'a Cache,
    /// Stops at redirects: the answer that redirects to the storage is the one that states the hash, and the storage is not to
    /// know the token.
    agent: Agent,
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

/// What the hub tells about a repository, as far as it is read.
#[derive(Deserialize)]
struct Info {
    siblings: Vec<Sibling>,
}

/// A file of a repository.
#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl<'a> Client<'a> {
    pub(super) fn new(repo: &'a Repo, settings: &'a Settings, cache: &'a Cache) -> Result<Self> {
        let setup = |why: &str| Error::Hub {
            place: settings.endpoint.clone(),
            problem: format!("cannot set up a connection: {why}"),
            remedy: "check HF_ENDPOINT".into(),
        };
        let endpoint: Uri = settings.endpoint.parse().map_err(|_| setup("this is not an address"))?;
        let host = endpoint.host().filter(|host| !host.is_empty());
        let Some(host) = host.filter(|_| matches!(endpoint.scheme_str(), Some("http" | "https"))) else {
            return Err(setup("expected an address that begins with http:// or https://"));
        };
        let loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        let config = Agent::config_builder()
            .user_agent(concat!("tallow/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_resolve(Some(settings.timeout / 2))
            .timeout_connect(Some(settings.timeout / 2))
            .timeout_recv_response(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout))
            .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build());
        let config = if loopback { config.proxy(None) } else { config };
        Ok(Self { repo, settings, cache, agent: config.build().into() })
    }

    /// The names of all files of the repository.
    pub(super) fn list(&self) -> std::result::Result<Vec<String>, Trouble> {
        let address = format!(
            "{}/api/{}/{}/revision/{}",
            self.settings.endpoint,
            self.repo.kind.plural(),
            self.repo.id,
            encoded(&self.repo.revision)
        );
        let info: Info = self.retry(|| {
            let (_, body) = self.get(&address, None)?;
            let text = body.into_with_config().limit(LONGEST_LIST).read_to_vec()?;
            serde_json::from_slice(&text)
                .map_err(|why| Trouble::Malformed(format!("something other than the expected list of files ({why})")))
        })?;
        Ok(info.siblings.into_iter().map(|file| file.rfilename).collect())
    }

    /// Asks for `address`, or for the bytes `range` of it, going where it redirects to; an error status is an error.
    fn get(&self, address: &str, range: Option<Range<u64>>) -> std::result::Result<(StatusCode, Body), Trouble> {
        const REDIRECTS: usize = 10;
        let mut address = address.to_string();
        for _ in 0..=REDIRECTS {
            let mut request = self.authorized(self.agent.get(&address), &address);
            if let Some(range) = &range {
                request = request.header(header::RANGE, format!("bytes={}-{}", range.start, range.end - 1));
            }
            let answer = request.call()?;
            refused(answer.status(), answer.headers())?;
            match text(answer.headers(), "location").filter(|_| answer.status().is_redirection()) {
                None => return Ok((answer.status(), answer.into_body())),
                // Storage is another host.
                Some(to) => address = within(&address, to).unwrap_or_else(|| to.to_string()),
            }
        }
        Err(Trouble::Malformed("too many redirects".into()))
    }

    /// The request with the token, if it goes to the hub: no other host is to know it.
    fn authorized(&self, request: RequestBuilder<WithoutBody>, address: &str) -> RequestBuilder<WithoutBody> {
        match &self.settings.token {
            Some(token) if within(&self.settings.endpoint, address).is_some() => {
                request.header(header::AUTHORIZATION, format!("Bearer {token}"))
            }
            _ => request,
        }
    }

    /// What the hub states about the file `name`, or `None` if there is no such file.
    pub(super) fn state(&self, name: &str) -> std::result::Result<Option<Stated>, Trouble> {
        match self.retry(|| self.head(name)) {
            Err(Trouble::Status { status: 404, code, .. }) if code != "RepoNotFound" && code != "RevisionNotFound" => {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn head(&self, name: &str) -> std::result::Result<Stated, Trouble> {
        const REDIRECTS: usize = 5;
        let malformed = |what: &str| Trouble::Malformed(format!("{what} for {name}"));
        let mut address = self.address_of(name);
        for _ in 0..=REDIRECTS {
            let answer = self.authorized(self.agent.head(&address), &address).call()?;
            let (status, headers) = (answer.status(), answer.headers());
            refused(status, headers)?;
            // A renamed repository, or one in other capitals, redirects within the hub; storage is another host.
            if status.is_redirection()
                && let Some(target) = text(headers, "location").and_then(|to| within(&address, to))
                && text(headers, "x-linked-etag").is_none()
            {
                address = target;
                continue;
            }
            let etag = text(headers, "x-linked-etag").or(text(headers, "etag")).ok_or_else(|| malformed("no ETag"))?;
            let etag = etag.trim_start_matches("W/").trim_matches('"').to_string();
            if etag.is_empty() || etag.len() > 128 || !etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return Err(malformed("an ETag that cannot be a file's name"));
            }
            let commit = text(headers, "x-repo-commit").filter(|commit| is_commit(commit));
            let commit = commit.ok_or_else(|| malformed("no X-Repo-Commit"))?.to_string();
            let length = if status.is_success() { text(headers, "content-length") } else { None };
            let size = text(headers, "x-linked-size").or(length).and_then(|s| s.parse().ok());
            return Ok(Stated { name: name.into(), commit, hash: Hash::parse(&etag), etag, size });
        }
        Err(malformed("too many redirects"))
    }

    fn address_of(&self, name: &str) -> String {
        let Self { repo, settings, .. } = self;
        let path: Vec<String> = name.split('/').map(encoded).collect();
        let prefix = repo.kind.url_prefix();
        let (endpoint, id, revision) = (&settings.endpoint, &repo.id, encoded(&repo.revision));
        format!("{endpoint}/{prefix}{id}/resolve/{revision}/{}", path.join("/"))
    }

    /// Brings a file into the cache, unless it is there. It gets its name in the cache once it is complete and verified.
    pub(super) fn fetch(&self, file: &Stated) -> Result<PathBuf> {
        let blob = self.cache.blob(&file.etag);
        let partial = blob.with_file_name(format!("{}.incomplete", file.etag));
        make_parent(&blob)?;
        let lock = self.cache.lock(&file.etag, &partial, 3 * self.settings.timeout)?;
        let is_there = fs::metadata(&blob).is_ok_and(|m| m.is_file() && file.size.is_none_or(|size| size == m.len()));
        if !is_there {
            let result = self.download(file, &partial);
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
    fn download(&self, file: &Stated, partial: &Path) -> Result<()> {
        let progress = self.settings.progress.as_deref();
        if let Some(progress) = progress {
            progress.begin(&file.name, file.size);
        }
        let mut sink = Sink { out: File::create(partial).map_err(io_error(partial))?, done: 0 };
        let mut failures = 0;
        loop {
            let before = sink.done;
            let result = self.receive(file, partial, &mut sink)?;
            match result {
                Ok(()) => break,
                // A timeout after some progress is a connection that died; without progress it is a hub that is down.
                Err(trouble)
                    if failures + 1 < ATTEMPTS
                        && (trouble.is_passing() || matches!(trouble, Trouble::Silent) && sink.done > before) =>
                {
                    thread::sleep(PAUSE * 2u32.pow(failures));
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

    /// Receives what is still missing of a file. The outer error is the disk's, the inner one the connection's.
    fn receive(&self, file: &Stated, partial: &Path, sink: &mut Sink) -> Result<std::result::Result<(), Trouble>> {
        let progress = |done| {
            if let Some(progress) = self.settings.progress.as_deref() {
                progress.advance(&file.name, done);
            }
        };
        let rest = file.size.filter(|&size| sink.done > 0 && sink.done < size).map(|size| sink.done..size);
        let (status, body) = match self.get(&self.address_of(&file.name), rest) {
            Ok(opened) => opened,
            Err(trouble) => return Ok(Err(trouble)),
        };
        // Some servers answer a request for the rest with the whole.
        if sink.done > 0 && status != StatusCode::PARTIAL_CONTENT {
            sink.restart().map_err(io_error(partial))?;
            progress(0);
        }
        let mut body = body.into_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(ureq::Error::from(error).into())),
            };
            sink.take(&chunk[..count]).map_err(io_error(partial))?;
            if file.size.is_some_and(|size| sink.done > size) {
                sink.restart().map_err(io_error(partial))?;
                return Ok(Err(Trouble::Cut(format!("it sent more than it announced for {}", file.name))));
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

    fn retry<T>(
        &self,
        mut request: impl FnMut() -> std::result::Result<T, Trouble>,
    ) -> std::result::Result<T, Trouble> {
        let mut failures = 0;
        loop {
            match request() {
                Err(trouble) if trouble.is_passing() && failures + 1 < ATTEMPTS => {
                    thread::sleep(PAUSE * 2u32.pow(failures));
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

/// A header as text.
fn text<'a>(headers: &'a HeaderMap, key: &str) -> Option<&'a str> {
    headers.get(key).and_then(|value| value.to_str().ok())
}

/// An answer with an error status as an error.
fn refused(status: StatusCode, headers: &HeaderMap) -> std::result::Result<(), Trouble> {
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(());
    }
    Err(Trouble::Status {
        status: status.as_u16(),
        code: text(headers, "x-error-code").unwrap_or_default().into(),
        message: text(headers, "x-error-message").unwrap_or_default().chars().take(200).collect(),
        retry_after: text(headers, "retry-after").and_then(|s| s.parse().ok()).map(Duration::from_secs),
    })
}

/// Where `location` leads from `address`, if that is on the same host.
fn within(address: &str, location: &str) -> Option<String> {
    let here: Uri = address.parse().ok()?;
    let host = format!("{}://{}", here.scheme_str()?, here.authority()?);
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{host}{location}"));
    }
    let there: Uri = location.parse().ok()?;
    (there.scheme() == here.scheme() && there.authority() == here.authority()).then(|| location.to_string())
}
