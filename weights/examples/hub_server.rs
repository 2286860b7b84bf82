//! Serves a folder as a Hugging Face hub, to try downloads without one:
//!
//! ```text
//! cargo run --release -p tallow-weights --features hub --example hub_server -- FOLDER
//! HF_ENDPOINT=http://127.0.0.1:PORT HF_HOME=$(mktemp -d) tallow fetch hf-hub:OWNER/NAME
//! ```
//!
//! `FOLDER/OWNER/NAME/*` are models, `FOLDER/datasets/OWNER/NAME/*` data sets.

#[path = "../tests/support/hub_server.rs"]
mod hub_server;

use std::{error::Error, path::PathBuf, thread};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: hub_server FOLDER")?;
    let server = hub_server::HubServer::start()?;
    for repo in server.folder(&folder)? {
        println!("{repo}");
    }
    println!("HF_ENDPOINT={}", server.url());
    loop {
        thread::park();
    }
}
