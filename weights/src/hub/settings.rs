//! Where the hub, the cache and the token are: what the caller said, else what the environment says, by the variables that
//! Hugging Face's own clients read.

use std::{env, ffi::OsString, fs, path::PathBuf, sync::Arc, time::Duration};

use crate::{OpenOptions, Progress};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Settled options.
pub(super) struct Settings {
    pub(super) offline: bool,
    pub(super) endpoint: String,
    pub(super) cache_dir: PathBuf,
    pub(super) token: Option<String>,
    pub(super) timeout: Duration,
    pub(super) progress: Option<Arc<dyn Progress>>,
}

impl Settings {
    pub(super) fn new(options: &OpenOptions) -> Self {
        let endpoint = options.endpoint.clone().or_else(|| variable("HF_ENDPOINT")?.into_string().ok());
        let endpoint = endpoint.unwrap_or_else(|| "https://huggingface.co".into());
        Self {
            offline: options.offline || is_true("HF_HUB_OFFLINE"),
            endpoint: endpoint.trim().trim_end_matches('/').to_string(),
            cache_dir: options
                .cache_dir
                .clone()
                .or_else(|| Some(variable("HF_HUB_CACHE")?.into()))
                .unwrap_or_else(|| home().join("hub")),
            token: options.token.clone().or_else(token),
            timeout: options.timeout.unwrap_or(TIMEOUT),
            progress: options.progress.clone(),
        }
    }
}

fn token() -> Option<String> {
    if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return None;
    }
    let from_file = |path: PathBuf| fs::read_to_string(path).ok();
    variable("HF_TOKEN")
        .and_then(|token| token.into_string().ok())
        .or_else(|| from_file(variable("HF_TOKEN_PATH")?.into()))
        .or_else(|| from_file(home().join("token")))
        .map(|token| token.trim().to_string())
        .filter(|token| !token.is_empty())
}

/// The folder of Hugging Face's clients: `HF_HOME`, else `huggingface` among the user's caches. Where not even a home is
/// known, it is a folder of where the program runs.
fn home() -> PathBuf {
    let caches = || Some(PathBuf::from(variable("XDG_CACHE_HOME")?)).or_else(|| Some(env::home_dir()?.join(".cache")));
    let own = variable("HF_HOME").map(PathBuf::from);
    own.unwrap_or_else(|| caches().unwrap_or_else(|| ".cache".into()).join("huggingface"))
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn is_true(name: &str) -> bool {
    variable(name).is_some_and(|value| {
        ["1", "true", "yes", "on"].iter().any(|yes| value.to_string_lossy().trim().eq_ignore_ascii_case(yes))
    })
}
