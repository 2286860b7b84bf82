//! Names of files and folders: made of names of runs, models and data sets, and those that flags give for what is written.

use std::path::Path;

use crate::error::{Result, usage};

/// Checks before any work that the file which `flag` names can come into being: nothing is there, or a file.
///
/// # Errors
/// If something else is.
pub fn check_written(flag: &str, path: &Path) -> Result {
    match std::fs::metadata(path) {
        Ok(there) if there.is_file() => Ok(()),
        Ok(there) => {
            let got = if there.is_dir() { "a folder" } else { "a device, a pipe or a socket" };
            Err(usage(format!("{flag} {}: expected a file, got {got}", path.display())))
        }
        // What it may be is told where it is written.
        Err(_) => Ok(()),
    }
}

/// What a text is called as a file: letters, digits, dots, dashes and underscores.
pub fn file_name(text: &str) -> String {
    let kept: String =
        text.chars().map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' }).collect();
    kept.trim_matches(['-', '.']).to_string()
}
