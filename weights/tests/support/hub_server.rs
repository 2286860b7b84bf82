//! A server on this machine that speaks the Hugging Face hub's protocol, as far as downloads go, and misbehaves on request.
//!
//! Small files are served by the hub itself with git's SHA-1 as their ETag; large ones redirect to a storage server at another
//! port, with their SHA-256 in `X-Linked-Etag`, as on the real hub. Test code includes this file with `#[path]`.
#![allow(dead_code, reason = "each user of this file needs another part of it")]

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Contents by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The server. It serves until the process ends.
pub struct HubServer {
    hub: u16,
    state: Arc<Mutex<State>>,
}

/// How the server misbehaves.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers with this status, and these header lines.
    Status(u16, &'static str),
    /// Sends so many bytes of the body, then closes the connection.
    CutAfter(usize),
    /// Sends so many bytes of the body, then nothing, for as long as the client waits.
    StallAfter(usize),
    /// Sends nothing at all, for as long as the client waits.
    Stall,
    /// Inverts the last byte of the body.
    WrongByte,
    /// Serves the whole file, whatever range was asked for.
    IgnoreRange,
    /// Adds or replaces a header.
    Header(&'static str, &'static str),
    /// Leaves a header out.
    WithoutHeader(&'static str),
    /// Answers with this body.
    Body(String),
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The path with its query, without the host. Storage paths begin with `/storage/`.
    pub path: String,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
}

struct Planned {
    method: &'static str,
    path: String,
    times: usize,
    fault: Fault,
}

#[derive(Default)]
struct State {
    /// By `models/OWNER/NAME` or `datasets/OWNER/NAME`, then by revision.
    repos: BTreeMap<String, BTreeMap<String, Revision>>,
    /// The token that a repository asks for.
    tokens: BTreeMap<String, String>,
    storage: u16,
    faults: Vec<Planned>,
    requests: Vec<Request>,
}

struct Revision {
    commit: String,
    files: Files,
}

impl HubServer {
    /// Starts a server without repositories at a free port.
    pub fn start() -> io::Result<Self> {
        let hub = TcpListener::bind(("127.0.0.1", 0))?;
        let storage = TcpListener::bind(("127.0.0.1", 0))?;
        let state = State { storage: storage.local_addr()?.port(), ..State::default() };
        let server = Self { hub: hub.local_addr()?.port(), state: Arc::new(Mutex::new(state)) };
        for listener in [hub, storage] {
            let state = Arc::clone(&server.state);
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    // A client that goes away is not the server's problem.
                    thread::spawn(move || serve(&stream, &state));
                }
            });
        }
        Ok(server)
    }

    /// What `HF_ENDPOINT` is to be.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.hub)
    }

    /// Adds a model's files at `main`, and returns the commit.
    pub fn model(&self, id: &str, files: Files) -> String {
        self.add(&format!("models/{id}"), "main", files)
    }

    /// Adds a data set's files at a revision, and returns the commit.
    pub fn dataset(&self, id: &str, revision: &str, files: Files) -> String {
        self.add(&format!("datasets/{id}"), revision, files)
    }

    /// Adds all folders `FOLDER/OWNER/NAME` as models and `FOLDER/datasets/OWNER/NAME` as data sets. Returns what was found.
    pub fn folder(&self, folder: &Path) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for (kind, folder) in [("models", folder.to_path_buf()), ("datasets", folder.join("datasets"))] {
            for owner in subfolders(&folder)? {
                if kind == "models" && owner == "datasets" {
                    continue;
                }
                for name in subfolders(&folder.join(&owner))? {
                    let mut files = Files::new();
                    read_all(&folder.join(&owner).join(&name), "", &mut files)?;
                    let id = format!("{kind}/{owner}/{name}");
                    self.add(&id, "main", files);
                    found.push(id);
                }
            }
        }
        Ok(found)
    }

    /// Makes a repository (`models/OWNER/NAME`) ask for a token.
    pub fn protect(&self, repo: &str, token: &str) {
        lock(&self.state).tokens.insert(repo.into(), token.into());
    }

    /// Misbehaves the next `times` times that `method` is asked of a path that contains `path`.
    pub fn fail(&self, method: &'static str, path: &str, times: usize, fault: Fault) {
        lock(&self.state).faults.push(Planned { method, path: path.into(), times, fault });
    }

    /// All requests since the last call.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.state).requests)
    }

    fn add(&self, repo: &str, revision: &str, files: Files) -> String {
        let mut content = format!("{repo}@{revision}\n");
        for (name, bytes) in &files {
            content += &format!("{name} {}\n", git_sha1(bytes));
        }
        let commit = git_sha1(content.as_bytes());
        let revisions = &mut lock(&self.state).repos;
        let revisions = revisions.entry(repo.into()).or_default();
        revisions.insert(revision.into(), Revision { commit: commit.clone(), files });
        commit
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::digest(bytes))
}

/// git's name for a blob.
pub fn git_sha1(bytes: &[u8]) -> String {
    hex(Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn subfolders(folder: &Path) -> io::Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

fn read_all(folder: &Path, prefix: &str, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if entry.path().is_dir() {
            read_all(&entry.path(), &format!("{prefix}{name}/"), files)?;
        } else {
            files.insert(format!("{prefix}{name}"), fs::read(entry.path())?);
        }
    }
    Ok(())
}

/// What is to be sent.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Self {
        let headers = headers.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())).collect();
        Self { status, headers, body }
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({ "error": message }).to_string().into_bytes();
        Self::new(status, &[("X-Error-Code", code), ("X-Error-Message", message)], body)
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let request = read_request(stream)?;
    let (fault, answer) = {
        let mut state = lock(state);
        state.requests.push(request.clone());
        let planned = state.faults.iter_mut().find(|planned| {
            planned.times > 0 && planned.method == request.method && request.path.contains(&planned.path)
        });
        let fault = planned.map(|planned| {
            planned.times -= 1;
            planned.fault.clone()
        });
        (fault, answer(&request, &state))
    };
    send(stream, &request, answer, fault)
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    const LONGEST: u64 = 1 << 16;
    let mut lines = BufReader::new(stream).take(LONGEST).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_string(), decoded(words.next()?));
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line.ok()?;
        let Some((key, value)) = line.split_once(':') else { break };
        headers.insert(key.trim().to_ascii_lowercase(), value.trim().to_string());
    }
    Some(Request { method, path, headers })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits: Vec<u8> = rest.by_ref().take(2).collect();
            let value = std::str::from_utf8(&digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
            bytes.push(value.unwrap_or(b'?'));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn answer(request: &Request, state: &State) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default();
    if let Some(hash) = path.strip_prefix("/storage/") {
        let mut files = state.repos.values().flat_map(BTreeMap::values).flat_map(|revision| revision.files.values());
        return match files.find(|bytes| sha256(bytes) == hash) {
            Some(bytes) => Answer::new(200, &[("ETag", "\"the-storage-has-other-tags\"")], bytes.clone()),
            None => Answer::error(404, "EntryNotFound", "no such object"),
        };
    }
    let api = path.strip_prefix("/api/");
    let kind = if path.trim_start_matches("/api").starts_with("/datasets/") { "datasets" } else { "models" };
    let rest = api.unwrap_or(path).trim_start_matches('/');
    let rest = rest.strip_prefix(kind).unwrap_or(rest).trim_start_matches('/');
    let mut parts = rest.splitn(4, '/');
    let id = [parts.next(), parts.next()].map(Option::unwrap_or_default).join("/");
    let action = parts.next().unwrap_or("revision");
    let rest = parts.next().unwrap_or("main");

    let repo = format!("{kind}/{id}");
    let given = request.headers.get("authorization").and_then(|text| text.strip_prefix("Bearer "));
    match state.tokens.get(&repo) {
        Some(token) if given != Some(token) => {
            return match given {
                None => Answer::error(401, "GatedRepo", "Access to this repository is restricted"),
                Some(_) => Answer::error(403, "GatedRepo", "You are not in the authorized list"),
            };
        }
        _ => {}
    }
    let Some(revisions) = state.repos.get(&repo) else {
        return Answer::error(404, "RepoNotFound", "Repository not found");
    };
    // A revision may hold slashes, which were sent encoded; the longest one that exists is meant.
    let found = revisions.iter().flat_map(|(name, revision)| [(name, revision), (&revision.commit, revision)]);
    let found = found.filter(|(name, _)| rest == *name || rest.starts_with(&format!("{name}/")));
    let Some((name, revision)) = found.max_by_key(|(name, _)| name.len()) else {
        return Answer::error(404, "RevisionNotFound", "Invalid rev id");
    };
    let rest = rest[name.len()..].trim_start_matches('/');
    match (api.is_some(), action) {
        (true, "revision") => info(&id, revision),
        (true, "tree") => tree(revision),
        (false, "resolve") => resolve(state, revision, rest),
        _ => Answer::error(404, "", "Not found"),
    }
}

fn info(id: &str, revision: &Revision) -> Answer {
    let siblings: Vec<_> = revision.files.keys().map(|name| json!({ "rfilename": name })).collect();
    let body = json!({
        "_id": "0123456789abcdef01234567", "id": id, "modelId": id, "author": id.split('/').next(), "sha": revision.commit,
        "private": false, "gated": false, "disabled": false, "downloads": 0, "likes": 0, "tags": [],
        "createdAt": "2026-01-01T00:00:00.000Z", "lastModified": "2026-01-01T00:00:00.000Z", "siblings": siblings,
    });
    Answer::new(200, &[("Content-Type", "application/json")], body.to_string().into_bytes())
}

fn tree(revision: &Revision) -> Answer {
    let entries = revision.files.iter().map(|(name, bytes)| {
        let mut entry = json!({ "type": "file", "oid": git_sha1(bytes), "size": bytes.len(), "path": name });
        if is_large(bytes) {
            entry["lfs"] = json!({ "oid": sha256(bytes), "size": bytes.len(), "pointerSize": 134 });
        }
        entry
    });
    let entries: Vec<_> = entries.collect();
    Answer::new(200, &[("Content-Type", "application/json")], json!(entries).to_string().into_bytes())
}

fn resolve(state: &State, revision: &Revision, name: &str) -> Answer {
    let commit = revision.commit.as_str();
    let Some(bytes) = revision.files.get(name) else {
        let mut answer = Answer::error(404, "EntryNotFound", "Entry not found");
        answer.headers.push(("X-Repo-Commit".into(), commit.into()));
        return answer;
    };
    if !is_large(bytes) {
        let etag = format!("\"{}\"", git_sha1(bytes));
        return Answer::new(200, &[("ETag", &etag), ("X-Repo-Commit", commit)], bytes.clone());
    }
    let hash = sha256(bytes);
    Answer::new(
        302,
        &[
            ("Location", &format!("http://127.0.0.1:{}/storage/{hash}", state.storage)),
            ("X-Repo-Commit", commit),
            ("X-Linked-Etag", &format!("\"{hash}\"")),
            ("X-Linked-Size", &bytes.len().to_string()),
        ],
        Vec::new(),
    )
}

/// Whether a file lies in the storage instead of in git.
fn is_large(bytes: &[u8]) -> bool {
    bytes.len() > 1000
}

fn send(mut stream: &TcpStream, request: &Request, mut answer: Answer, fault: Option<Fault>) -> Option<()> {
    match &fault {
        Some(Fault::Stall) => return stall(stream),
        Some(Fault::Status(status, lines)) => {
            let headers = lines.lines().filter_map(|line| line.split_once(": "));
            answer = Answer::error(*status, "", "as the test wants it");
            answer.headers.clear();
            answer.headers.extend(headers.map(|(key, value)| (key.to_string(), value.to_string())));
        }
        Some(Fault::Body(body)) => answer.body = body.clone().into_bytes(),
        Some(Fault::WrongByte) => {
            if let Some(byte) = answer.body.last_mut() {
                *byte = !*byte;
            }
        }
        Some(Fault::Header(key, value)) => {
            answer.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(key));
            answer.headers.push(((*key).into(), (*value).into()));
        }
        Some(Fault::WithoutHeader(key)) => answer.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(key)),
        _ => {}
    }
    if answer.status == 200
        && !matches!(fault, Some(Fault::IgnoreRange))
        && let Some(range) = request.headers.get("range").and_then(|range| range.strip_prefix("bytes="))
    {
        let (from, to) = range.split_once('-')?;
        let size = answer.body.len();
        let from: usize = from.parse().ok()?;
        let to = to.parse().map_or(size, |to: usize| (to + 1).min(size));
        if from >= to {
            answer = Answer::error(416, "", "range not satisfiable");
        } else {
            answer.status = 206;
            answer.headers.push(("Content-Range".into(), format!("bytes {from}-{}/{size}", to - 1)));
            answer.body = answer.body[from..to].to_vec();
        }
    }
    let mut head =
        format!("HTTP/1.1 {} -\r\nConnection: close\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (key, value) in &answer.headers {
        head += &format!("{key}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
    if request.method == "HEAD" {
        return Some(());
    }
    match fault {
        Some(Fault::CutAfter(n)) => stream.write_all(answer.body.get(..n).unwrap_or(&answer.body)).ok(),
        Some(Fault::StallAfter(n)) => {
            stream.write_all(answer.body.get(..n).unwrap_or(&answer.body)).ok()?;
            stall(stream)
        }
        _ => stream.write_all(&answer.body).ok(),
    }
}

/// Waits until the client gives up.
fn stall(mut stream: &TcpStream) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    stream.read(&mut [0]).ok().map(|_| ())
}
