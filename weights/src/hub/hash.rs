//! The hashes that a hub states for its files: SHA-256 for large ones, git's SHA-1 of a blob for those that git itself holds.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A stated hash, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256(String),
    Sha1(String),
}

impl Hash {
    /// Tells the kind by the length; `None` for what is not a hash.
    pub(super) fn parse(etag: &str) -> Option<Self> {
        if !etag.bytes().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
        let text = etag.to_ascii_lowercase();
        match text.len() {
            64 => Some(Self::Sha256(text)),
            40 => Some(Self::Sha1(text)),
            _ => None,
        }
    }

    /// `None` if the contents of `file` have this hash, else the hash that they have.
    ///
    /// For SHA-1 that of the contents alone is right too: it is what some mirrors state (Artifactory does).
    pub(super) fn mismatch(&self, file: &Path) -> io::Result<Option<Self>> {
        let got = match self {
            Self::Sha256(_) => Self::Sha256(hex(digest::<Sha256>(file, "")?)),
            Self::Sha1(_) => {
                let size = file.metadata()?.len();
                let blob = Self::Sha1(hex(digest::<Sha1>(file, &format!("blob {size}\0"))?));
                if blob != *self && Self::Sha1(hex(digest::<Sha1>(file, "")?)) == *self {
                    return Ok(None);
                }
                blob
            }
        };
        Ok(if got == *self { None } else { Some(got) })
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(text) => write!(f, "SHA-256 {text}"),
            Self::Sha1(text) => write!(f, "git SHA-1 {text}"),
        }
    }
}

fn digest<D: Digest>(file: &Path, prefix: &str) -> io::Result<impl AsRef<[u8]>> {
    let mut digest = D::new_with_prefix(prefix);
    let mut file = File::open(file)?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize()),
            n => digest.update(&buffer[..n]),
        }
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_sha256sum_and_git_hash_object() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("hello");
        std::fs::write(&file, "hello\n")?;
        for right in [
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "f572d396fae9206628714fb2ce00f72e94f2258f",
        ] {
            let hash = Hash::parse(right).ok_or("not a hash")?;
            assert_eq!(hash.mismatch(&file)?, None, "{right}");
            let wrong = Hash::parse(&right.replace('5', "6")).ok_or("not a hash")?;
            assert!(wrong.mismatch(&file)?.is_some(), "{right}");
        }
        for no_hash in ["", "abc", "zz013625030ba8dba906f756967f9e9ca394464a", "5d41402abc4b2a76b9719d911017c592"] {
            assert_eq!(Hash::parse(no_hash), None);
        }
        Ok(())
    }
}
