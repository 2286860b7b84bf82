//! Zip archives with bounds: what is read is at most what was asked for, and bombs are refused when the archive is opened.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use zip::ZipArchive;

use crate::{Error, Result};

/// How many times its own size an archive may unpack to. Weights hardly compress; zeros compress a thousandfold, and a freshly
/// initialised head is all zeros.
const MAX_EXPANSION: u128 = 100;
/// Archives that unpack to less than this are never called bombs.
const ALWAYS_ALLOWED: u128 = 64 << 20;

/// An opened zip archive.
pub(super) struct Archive {
    pub(super) origin: String,
    entries: Vec<Entry>,
    zip: Mutex<ZipArchive<BufReader<File>>>,
}

/// A file in the archive.
pub(super) struct Entry {
    pub(super) name: String,
    /// Bytes after unpacking, as the archive's directory says.
    pub(super) size: u64,
}

impl Archive {
    /// Reads the directory of an archive.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let origin = path.display().to_string();
        let damaged = |e: zip::result::ZipError| Error::format(&origin, "a whole zip archive", e);
        let file = File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        if zip.has_overlapping_files().map_err(damaged)? {
            return Err(Error::format(&origin, "entries that lie apart", "entries that overlap"));
        }
        let mut entries = Vec::with_capacity(zip.len());
        for index in 0..zip.len() {
            let entry = zip.by_index_data(index).map_err(damaged)?;
            entries.push(Entry { name: entry.name().map_err(damaged)?.into_owned(), size: entry.size() });
        }
        if zip.has_duplicate_names() {
            return Err(Error::format(&origin, "an archive whose names are unique", "a name that comes twice"));
        }
        let total: u128 = entries.iter().map(|entry| u128::from(entry.size)).sum();
        if total > ALWAYS_ALLOWED && total > MAX_EXPANSION * u128::from(length) {
            return Err(Error::format(
                &origin,
                format!("an archive that unpacks to at most {MAX_EXPANSION} times its {length} bytes"),
                format!("one that claims {total} bytes"),
            ));
        }
        Ok(Self { origin, entries, zip: Mutex::new(zip) })
    }

    /// The files in the archive, in its order.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The names of the files, in the archive's order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// The position of the file called `name`.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }

    /// At most `length` bytes of a file from `offset` on; fewer where the file ends. Memory grows with what is there.
    pub(super) fn read(&self, index: usize, offset: u64, length: u64) -> Result<Vec<u8>> {
        let name = &self.entries[index].name;
        let damaged = |e: &dyn std::fmt::Display| Error::format(&self.origin, format!("a whole entry {name}"), e);
        // Reading always starts anew: a thread that panicked left nothing half done.
        let mut zip = self.zip.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = zip.by_index(index).map_err(|e| damaged(&e))?;
        let skipped = std::io::copy(&mut file.by_ref().take(offset), &mut std::io::sink()).map_err(|e| damaged(&e))?;
        let mut bytes = Vec::new();
        if skipped == offset {
            file.take(length).read_to_end(&mut bytes).map_err(|e| damaged(&e))?;
        }
        Ok(bytes)
    }

    /// A whole file of the archive, which must not be larger than `limit` bytes.
    pub(super) fn read_small(&self, index: usize, limit: u64) -> Result<Vec<u8>> {
        let Entry { name, size } = &self.entries[index];
        let too_large = |got: u64| {
            Error::format(&self.origin, format!("an entry {name} of at most {limit} bytes"), format!("{got} bytes"))
        };
        if *size > limit {
            return Err(too_large(*size));
        }
        let bytes = self.read(index, 0, limit + 1)?;
        if bytes.len() as u64 > limit { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
    }
}
