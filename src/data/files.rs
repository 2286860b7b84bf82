//! Which files are images: the one place that lists folders of images, by the endings of names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, Result};

/// Endings of the files that are images, in lower case; files may have them in any case.
pub const ENDINGS: [&str; 14] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "tif", "tiff", "pnm", "pbm", "pgm", "ppm"];

/// Endings of images (and of films, which people keep beside them) that this build does not read.
const UNREAD: [&str; 26] = [
    "avif", "heic", "heif", "ico", "svg", "jp2", "jpx", "j2k", "jxl", "psd", "tga", "exr", "hdr", "qoi", "dds", "raw",
    "dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "raf", "mp4", "mov",
];

/// What cameras call their sensor's values: files that begin as TIFF files do, with a small preview as their first image.
const RAW: [&str; 6] = ["dng", "cr2", "nef", "arw", "orf", "rw2"];

/// What systems and programs leave in folders, in lower case, hidden names apart.
const CLUTTER: [&str; 8] = [
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "lost+found",
    "system volume information",
    "thumbs.db",
    "desktop.ini",
];

/// The files of a folder and of the folders in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Files whose names say that they are images, sorted.
    pub images: Vec<PathBuf>,
    /// All other files, sorted; what nobody meant ([`is_clutter`]) is not among them.
    pub others: Vec<PathBuf>,
}

impl Listing {
    /// Of `folder`, at any depth. A folder that is a link is not followed, so that there is an end.
    ///
    /// # Errors
    /// If a folder cannot be read.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut listing = Self::default();
        listing.walk(folder)?;
        listing.images.sort();
        listing.others.sort();
        Ok(listing)
    }

    fn walk(&mut self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
            let entry = entry.map_err(|e| Error::io(folder, e))?;
            let path = entry.path();
            if is_clutter(&entry.file_name()) {
                continue;
            }
            if entry.file_type().map_err(|e| Error::io(&path, e))?.is_dir() {
                self.walk(&path)?;
                continue;
            }
            // A pipe or a link to a folder; of a link to nowhere the decoder will tell.
            let special = fs::metadata(&path).is_ok_and(|target| !target.is_file());
            if is_image(&path) && !special { self.images.push(path) } else { self.others.push(path) }
        }
        Ok(())
    }

    /// What is left out, in words: "12 .avif files, which this build does not read; 2 files that are no images: a.txt and 1
    /// more". None where nothing is.
    pub fn left_out(&self) -> Option<String> {
        left_out(&self.others)
    }
}

/// Whether a file or folder of this name is there without anybody having meant it: hidden ones (`._photo.jpg`, `.DS_Store`,
/// `.ipynb_checkpoints`), and what archives, network drives and Windows add.
pub fn is_clutter(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || CLUTTER.contains(&name.to_lowercase().as_str())
}

/// Whether the ending of a file's name says that it is an image that this build reads.
pub fn is_image(path: &Path) -> bool {
    ENDINGS.contains(&ending(path).as_str())
}

/// Whether the ending of a file's name says that it holds the values of a camera's sensor.
pub(super) fn is_raw(name: &str) -> bool {
    RAW.contains(&ending(Path::new(name)).as_str())
}

/// [`Listing::left_out`] of any files.
pub(super) fn left_out(files: &[PathBuf]) -> Option<String> {
    let mut unread = BTreeMap::<String, usize>::new();
    let mut foreign = Vec::new();
    for file in files {
        let ending = ending(file);
        if UNREAD.contains(&ending.as_str()) { *unread.entry(ending).or_default() += 1 } else { foreign.push(file) }
    }
    let files = |count: usize| if count == 1 { "file" } else { "files" };
    let mut parts: Vec<String> =
        unread.into_iter().map(|(ending, count)| format!("{count} .{ending} {}, {UNREADABLE}", files(count))).collect();
    if let Some(first) = foreign.first() {
        let named = first.file_name().unwrap_or_default().to_string_lossy();
        let more = format!(" and {} more", foreign.len() - 1);
        parts.push(match foreign.len() {
            1 => format!("1 file that is no image: {named}"),
            count => format!("{count} files that are no images: {named}{more}"),
        });
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// What is said of images of a known kind that cannot be decoded.
pub(super) const UNREADABLE: &str = "which this build does not read";

fn ending(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_told_by_their_ending_in_any_case_and_clutter_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "b.JPG",
            "a.jfif",
            "c/d.JpE",
            "c/e.TIFF",
            "f.pgm",
            "._b.jpg",
            ".DS_Store",
            ".ipynb_checkpoints/a.png",
            "__MACOSX/._b.jpg",
            "__MACOSX/x.jpg",
            "@eaDir/b.jpg",
            "Thumbs.db",
            "desktop.ini",
            "x.avif",
            "y.AVIF",
            "z.heic",
            "notes.txt",
            "more.csv",
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let listing = Listing::of(dir.path()).unwrap();
        let names: Vec<_> = listing.images.iter().map(|path| path.strip_prefix(dir.path()).unwrap()).collect();
        assert_eq!(names, ["a.jfif", "b.JPG", "c/d.JpE", "c/e.TIFF", "f.pgm"].map(Path::new));
        assert_eq!(
            listing.left_out().unwrap(),
            "2 .avif files, which this build does not read; 1 .heic file, which this build does not read; \
             2 files that are no images: more.csv and 1 more"
        );
        assert_eq!(Listing::default().left_out(), None);
    }
}
