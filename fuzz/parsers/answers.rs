//! What a parser is given, and what must come of it.

use std::cell::OnceCell;
use std::fmt::Display;
use std::path::Path;

use tempfile::TempDir;

/// An answer; fails if there is an error of more than one line.
pub fn one_line<T, E: Display>(result: Result<T, E>) -> Option<T> {
    let message = |error: E| error.to_string();
    result.map_err(message).inspect_err(|message| assert!(!message.contains(['\n', '\r']), "{message}")).ok()
}

/// Runs in a temporary folder, which is used again by the next call of this thread. It lies in memory where the system has a place
/// for that: many small files are written.
pub fn in_folder<T>(run: impl FnOnce(&Path) -> T) -> T {
    thread_local!(static FOLDER: OnceCell<TempDir> = const { OnceCell::new() });
    let made = || tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder");
    FOLDER.with(|folder| run(folder.get_or_init(made).path()))
}
