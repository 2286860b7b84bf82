//! Names and sentences as users give them: in the text itself, or one in every line of a file.

use std::fs;
use std::path::{Path, PathBuf};

use tallow_weights::expanded;

use crate::inference::{Error, Result};

/// The names that `given` has between its commas, or in the lines of the file that it is. `what` is what an error calls them.
///
/// # Errors
/// If the file cannot be read, holds no name, or if `given` looks like the path of a file that is not there.
pub fn names(what: &'static str, given: &str) -> Result<Vec<String>> {
    let path = expanded(given);
    if path.is_file() {
        let names = lines(&path)?;
        return match names.is_empty() {
            true => Err(Error::File { path, expected: "a name in every line".into(), got: "none".into() }),
            false => Ok(names),
        };
    }
    // Nobody has a single class of such a name.
    let ending = Path::new(given).extension().and_then(|ending| ending.to_str()).map(str::to_lowercase);
    let of_text =
        ending.is_some_and(|ending| ["txt", "csv", "tsv", "json", "names", "list"].contains(&ending.as_str()));
    if !given.contains(',') && (of_text || given.contains(['/', '\\'])) {
        let there = if path.is_dir() { "which is a folder" } else { "and no such file is there" };
        let expected = "names separated by commas, or a file with one in every line";
        return Err(Error::invalid(what, expected, format!("{given:?}, {there}")));
    }
    if given.split(',').all(|name| name.trim().is_empty()) {
        let expected = "names separated by commas, or a file with one in every line";
        return Err(Error::invalid(what, expected, "no name"));
    }
    let names: Vec<String> = given.split(',').map(|name| name.trim().to_owned()).collect();
    match names.iter().position(String::is_empty) {
        None => Ok(names),
        Some(at) => Err(Error::invalid(what, "a name between any two commas", format!("none in place {}", at + 1))),
    }
}

/// The lines of a text file that are not empty.
pub(super) fn lines(path: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(path).map_err(|source| Error::Io { path: PathBuf::from(path), source })?;
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_no_class() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("names.txt");
        fs::write(&file, "\u{feff}red fox\n\n grey wolf \n").unwrap();
        assert_eq!(names("classes", file.to_str().unwrap()).unwrap(), ["red fox", "grey wolf"]);
        assert_eq!(names("classes", "red fox, grey wolf").unwrap(), ["red fox", "grey wolf"]);
        assert_eq!(names("classes", "cats/dogs,n/a").unwrap(), ["cats/dogs", "n/a"]);
        for missing in ["names.TXT", "lists/names", folder.path().to_str().unwrap()] {
            let error = names("classes", missing).unwrap_err().to_string();
            assert!(error.starts_with("classes: expected names separated by commas, or a file"), "{error}");
            assert!(error.contains(missing), "{error}");
        }
        for empty in ["", " ", ",", " , "] {
            let error = names("classes", empty).unwrap_err().to_string();
            assert!(error.ends_with("got no name"), "{error}");
        }
        for empty in ["a,,b", "a, b,"] {
            let error = names("labels", empty).unwrap_err().to_string();
            assert!(error.contains("expected a name between any two commas, got none in place"), "{error}");
        }
        fs::write(&file, "\n\n").unwrap();
        assert!(names("labels", file.to_str().unwrap()).unwrap_err().to_string().contains("a name in every line"));
    }
}
