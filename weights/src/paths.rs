//! Paths as people write them.

use std::path::{Path, PathBuf};

/// `~` and what begins with `~/` are in the home folder, as in a shell, which does not see them in `folder:~/photos` or in
/// `--out=~/run`. Any other path stays as it is, and so does this one where nobody knows the home folder.
pub fn expanded(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) if rest.as_os_str().is_empty() => home,
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_is_the_home_folder_at_the_beginning_alone() {
        let home = std::env::home_dir().expect("a home folder");
        assert_eq!(expanded("~"), home);
        assert_eq!(expanded("~/a/b"), home.join("a/b"));
        for other in ["a/~", "~other/a", "./~", "a", ""] {
            assert_eq!(expanded(other), Path::new(other));
        }
    }
}
