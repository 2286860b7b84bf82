//! Names of files and folders: made of names of runs, models and data sets, and those that flags give for what is written.

use std::path::Path;

use crate::error::{Result, usage};

/// Checks before any work that the file which `flag` names can come into being: nothing is there, or a file; and that its name ends in
/// `ending`, if it has one: what other programs make of a file follows from that.
///
/// # Errors
/// If not.
pub fn check_written(flag: &str, path: &Path, ending: &str) -> Result {
    if let Some(other) = path.extension()
        && !other.eq_ignore_ascii_case(ending)
        && KINDS.iter().any(|kind| other.eq_ignore_ascii_case(kind))
    {
        let other = other.display();
        return Err(usage(format!("{flag} {}: expected a name that ends in .{ending}, got .{other}", path.display())));
    }
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

/// Endings that say which format a file has; what else follows the last dot of a name may be a part of it.
const KINDS: [&str; 26] = [
    "png",
    "jpg",
    "jpeg",
    "webp",
    "gif",
    "bmp",
    "tif",
    "tiff",
    "svg",
    "pdf",
    "avif",
    "html",
    "json",
    "jsonl",
    "csv",
    "txt",
    "parquet",
    "safetensors",
    "npz",
    "npy",
    "gguf",
    "pt",
    "pth",
    "bin",
    "onnx",
    "zip",
];

/// What a text is called as a file: letters, digits, dots, dashes and underscores.
pub fn file_name(text: &str) -> String {
    let kept: String =
        text.chars().map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' }).collect();
    kept.trim_matches(['-', '.']).to_string()
}
