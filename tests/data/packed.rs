//! References that are packed, many small files into one, as each would take a block of the disk.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

fn archive(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/references/data/{name}.zip"))
}

/// The folder of the build that holds the files of `references/data/NAME.zip`; it is made when it is first asked for.
pub fn unpacked(name: &str) -> PathBuf {
    let mut hash = DefaultHasher::new();
    fs::read(archive(name)).unwrap().hash(&mut hash);
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = place.join(format!("{name}-{:016x}", hash.finish()));
    if !folder.is_dir() {
        // Tests run side by side: a folder appears whole or not at all, and the first one stays.
        let made = tempfile::tempdir_in(place).unwrap();
        zip::ZipArchive::new(File::open(archive(name)).unwrap()).unwrap().extract(made.path().join(name)).unwrap();
        if let Err(error) = fs::rename(made.path().join(name), &folder) {
            assert!(folder.is_dir(), "{}: {error}", folder.display());
        }
    }
    folder
}
