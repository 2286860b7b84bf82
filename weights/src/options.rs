//! How a checkpoint is opened: with or without the network, from which hub, into which cache, and who is told of progress.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use tallow_models::vit::Act;

/// Who is told how a download goes. Called from the thread that downloads; the methods should return quickly.
pub trait Progress: Send + Sync {
    /// The download of `file` begins; `total` is its size in bytes, where the hub states it.
    fn begin(&self, file: &str, total: Option<u64>);
    /// `done` bytes of `file` have arrived. Goes back to 0 when a download has to start over.
    fn advance(&self, file: &str, done: u64);
    /// `file` is complete, its hash is right, and it is in the cache.
    fn end(&self, file: &str);
    /// Something that the user should know although the download goes on, as one line.
    fn note(&self, message: &str);
}

/// Options of opening a checkpoint or a data set. The default takes everything from the environment, as Hugging Face's own
/// clients do, and what a file holds as `docs/checkpoints.md` says.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Never use the network: what is not in the cache is an error. `HF_HUB_OFFLINE=1` means the same.
    pub offline: bool,
    /// The hub; `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: Option<String>,
    /// The cache; `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub cache_dir: Option<PathBuf>,
    /// The access token; `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `HF_HOME/token`. An empty one means none.
    pub token: Option<String>,
    /// How long the hub may be silent before that is an error; 20 seconds. Connecting may take half of it.
    pub timeout: Option<Duration>,
    /// Who is told how downloads go.
    pub progress: Option<Arc<dyn Progress>>,
    /// Which network of a file with several is meant, by its path: `state_dict_ema`, `teacher.backbone`; `.` is the file itself.
    pub checkpoint_key: Option<String>,
    /// The architecture of weights that say nothing of it, or something else: a name of the zoo, with the weights' tag or without.
    pub arch: Option<String>,
    /// The attention heads of weights without a config, which shapes do not tell.
    pub num_heads: Option<usize>,
    /// The activation of weights without a config, which shapes do not tell either.
    pub act: Option<Act>,
}

impl OpenOptions {
    /// The same after `change`, in one expression: `OpenOptions::default().with(|c| c.offline = true)`.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions")
            .field("offline", &self.offline)
            .field("endpoint", &self.endpoint)
            .field("cache_dir", &self.cache_dir)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("timeout", &self.timeout)
            .field("progress", &self.progress.is_some())
            .field("checkpoint_key", &self.checkpoint_key)
            .field("arch", &self.arch)
            .field("num_heads", &self.num_heads)
            .field("act", &self.act)
            .finish()
    }
}
