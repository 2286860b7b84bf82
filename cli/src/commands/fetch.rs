//! `tallow fetch`: models and data sets into the cache.

use serde::Serialize;
use tallow_weights::{Source, expanded};

use crate::error::Result;
use crate::flags::FetchArgs;
use crate::output::thousands;
use crate::session::Session;
use tallow::data::{self, DataOptions};

#[derive(Serialize)]
struct Fetched {
    what: String,
    kind: &'static str,
    /// Tensors of a model, training and test samples of a data set.
    contents: String,
}

pub fn run(args: &FetchArgs, session: &Session) -> Result {
    let fetched: Vec<Fetched> = args.what.iter().map(|what| fetch(what, session)).collect::<Result<_>>()?;
    session.result(&serde_json::json!({ "fetched": fetched }), || {
        fetched.iter().map(|f| format!("{}: {} ({})", f.what, f.kind, f.contents)).collect::<Vec<_>>().join("\n")
    })
}

/// Opening something is what downloads it; doing so also shows that it can be read.
fn fetch(what: &str, session: &Session) -> Result<Fetched> {
    let names = ["mnist", "fashion-mnist", "cifar10", "circles"];
    if names.contains(&what)
        || ["hf:", "idx:", "cifar:", "folder:", "parquet:"].iter().any(|kind| what.starts_with(kind))
    {
        let dataset = data::open_with(what, &DataOptions::default(), &session.open_options())?;
        let [train, test] = [dataset.train.len(), dataset.test.len()].map(thousands);
        let contents = format!("{train} training and {test} test samples of {} classes", dataset.classes.len());
        return Ok(Fetched { what: what.into(), kind: "data set", contents });
    }
    let checkpoint = tallow_weights::open(&source(what)?, &session.open_options())?;
    let contents = format!("{} tensors from {}", checkpoint.tensors().len(), checkpoint.origin());
    Ok(Fetched { what: what.into(), kind: "model", contents })
}

/// What is to be fetched is elsewhere: OWNER/REPO is a repository on the hub here, if there is no such path.
fn source(what: &str) -> Result<Source> {
    let parts: Vec<&str> = what.split('/').collect();
    match parts.as_slice() {
        [owner, repo]
            if !owner.is_empty() && !repo.is_empty() && !owner.starts_with('.') && !expanded(what).exists() =>
        {
            Ok(Source::parse(&format!("hf-hub:{what}"))?)
        }
        _ => Ok(Source::parse(what)?),
    }
}
