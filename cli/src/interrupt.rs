//! Ctrl-C: the first asks a run to stop after the current step, the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::error::Result;
use crate::output::stderr_line;

/// Exit status of a process that SIGINT ended, as shells give it.
const KILLED: i32 = 130;

static STOP: AtomicBool = AtomicBool::new(false);

/// A flag that Ctrl-C (SIGTERM and SIGHUP too) sets from now on. A signal that whoever started the process wants ignored, as
/// shells do for what runs in the background and `nohup` does for SIGHUP, stays ignored.
pub fn stop_flag() -> Result<&'static AtomicBool> {
    let ignored = ignored_signals();
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(KILLED);
        }
        stderr_line("stopping after this step, with a checkpoint; once more to stop at once");
    })
    .context("cannot listen to Ctrl-C")?;
    ignored.into_iter().for_each(ignore);
    Ok(&STOP)
}

/// Those signals that are ignored now.
#[cfg(unix)]
fn ignored_signals() -> Vec<i32> {
    let ignored = |&signal: &i32| {
        let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: asks for the action of a signal that exists, and changes nothing; all zeros is a valid action.
        let action = unsafe {
            libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
            action.assume_init()
        };
        action.sa_sigaction == libc::SIG_IGN
    };
    [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].into_iter().filter(ignored).collect()
}

#[cfg(unix)]
fn ignore(signal: i32) {
    // SAFETY: a signal that exists, and an action that runs none of this program's code.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

#[cfg(not(unix))]
fn ignored_signals() -> Vec<i32> {
    vec![]
}

#[cfg(not(unix))]
fn ignore(_: i32) {}
