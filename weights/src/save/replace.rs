//! Replacing a file so that nobody ever sees half of it.

use std::fs::{self, File};
use std::path::Path;

use crate::{Error, Result};

/// Lets `write` write a file under a temporary name beside `path`, syncs it to the disk, and renames it to `path`. If
/// anything fails, the old file stands and the temporary one is removed. A device, a pipe or a socket is not replaced: whoever
/// writes to `/dev/null` does not mean to have a file there for everybody.
///
/// # Errors
/// What `write` gives, or [`Error::Io`] for syncing and renaming, and where there is something that is no file.
pub fn replace<E: From<Error>>(
    path: &Path,
    write: impl FnOnce(&Path) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        let fault = "expected a file or nothing, got a device, a pipe or a socket";
        return Err(Error::io(path)(std::io::Error::other(fault)).into());
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("file");
    // Hidden, and always the same: what a killed process left behind is overwritten by the next.
    let temporary = path.with_file_name(format!(".{name}.partial"));
    // What safetensors writes is for its owner alone; the result is to have the permissions of any new file.
    let permissions = File::create(&temporary).and_then(|file| file.metadata()).map_err(Error::io(path))?.permissions();
    let written = write(&temporary).and_then(|()| {
        fs::set_permissions(&temporary, permissions).map_err(Error::io(&temporary))?;
        File::open(&temporary).and_then(|file| file.sync_all()).map_err(Error::io(&temporary))?;
        Ok(fs::rename(&temporary, path).map_err(Error::io(path))?)
    });
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    Ok(sync_folder(path)?)
}

/// Writes a text file as a whole, by [`replace`].
///
/// # Errors
/// [`Error::Io`].
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_bytes(path, text.as_bytes())
}

/// Writes a file as a whole, by [`replace`].
///
/// # Errors
/// [`Error::Io`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |temporary| fs::write(temporary, bytes).map_err(Error::io(path)))
}

/// Makes the new name last through a power failure.
#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(folder))
}

/// Folders cannot be opened as files here.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> Result<()> {
    Ok(())
}
