//! Ctrl-C: the first asks a run to stop after the current step, the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use super::error::Result;
use super::output::stderr_line;

/// Exit status of a process that SIGINT ended, as shells give it.
const KILLED: i32 = 130;

static STOP: AtomicBool = AtomicBool::new(false);

/// A flag that Ctrl-C (or SIGTERM) sets from now on.
pub fn stop_flag() -> Result<&'static AtomicBool> {
    ctrlc::try_set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(KILLED);
        }
        stderr_line("stopping after this step, with a checkpoint; once more to stop at once");
    })
    .context("cannot listen to Ctrl-C")?;
    Ok(&STOP)
}
