//! The idx format of MNIST and its relatives, plain or compressed with gzip.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::dataset::Parts;
use super::{Augment, Error, Image, Result, Samples};

/// No data part of a file may be larger: EMNIST, the largest relative of MNIST, has 0.6 GB.
const MAX_BYTES: u64 = 1 << 30;

/// The images and labels of one part.
struct Idx {
    part: &'static str,
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    labels: Vec<u8>,
}

impl Samples for Idx {
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn label(&self, index: usize) -> u32 {
        u32::from(self.labels[index])
    }
    fn image(&self, index: usize) -> Result<Image> {
        let size = self.width * self.height;
        let pixels = self.pixels[index * size..(index + 1) * size].to_vec();
        Ok(Image { width: self.width, height: self.height, channels: 1, pixels })
    }
    fn name(&self, index: usize) -> String {
        format!("{}/{index}", self.part)
    }
    fn image_size(&self) -> Option<[usize; 3]> {
        Some([self.height, self.width, 1])
    }
}

/// MNIST: the copy inside the binary.
#[cfg(feature = "bundled")]
pub(super) fn mnist() -> Result<Parts> {
    macro_rules! bundled {
        ($file:literal) => {
            (
                concat!("bundled ", $file),
                include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist/", $file)).as_slice(),
            )
        };
    }
    let part =
        |part, images: (&str, &[u8]), labels: (&str, &[u8])| read_part(part, images.0, images.1, labels.0, labels.1);
    let train = part("train", bundled!("train-images-idx3-ubyte.gz"), bundled!("train-labels-idx1-ubyte.gz"))?;
    let test = part("test", bundled!("t10k-images-idx3-ubyte.gz"), bundled!("t10k-labels-idx1-ubyte.gz"))?;
    parts(train, Some(test), None)
}

/// MNIST: the copy in the source tree, if the program runs there.
#[cfg(not(feature = "bundled"))]
pub(super) fn mnist() -> Result<Parts> {
    let dir = Path::new("data/mnist");
    if !dir.is_dir() {
        let remedy = "build with the feature `bundled`, or download the four files and write idx:DIR";
        return Err(Error::unusable("mnist", "the four files in data/mnist", "no such folder", remedy));
    }
    open(dir)
}

/// Fashion-MNIST: ten kinds of clothes in MNIST's format, where Debian's package puts them.
pub(super) fn fashion_mnist() -> Result<Parts> {
    const PLACES: [&str; 2] = ["/usr/share/dataset-fashion-mnist", "data/fashion-mnist"];
    const CLASSES: [&str; 10] =
        ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];
    let Some(dir) = PLACES.iter().map(Path::new).find(|dir| dir.is_dir()) else {
        let expected = format!("its files in {}", PLACES.join(" or "));
        let remedy = "install Debian's package dataset-fashion-mnist, or download the four files and write idx:DIR";
        return Err(Error::unusable("fashion-mnist", expected, "no such folder", remedy));
    };
    let mut parts = read_dir(dir, Some(CLASSES.map(String::from).to_vec()))?;
    parts.augment = vec![Augment::Crop, Augment::Flip];
    Ok(parts)
}

/// The files in a folder, under their original names: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and, where there
/// is a test part, `t10k-…` or `test-…`; plain or with `.gz`, and with a name before them as EMNIST's
/// (`emnist-letters-train-images-idx3-ubyte.gz`). Of several such names in a folder one is chosen by `DIR/NAME`.
pub(super) fn open(path: &Path) -> Result<Parts> {
    read_dir(path, None)
}

fn read_dir(path: &Path, classes: Option<Vec<String>>) -> Result<Parts> {
    let (dir, wanted) = match path.is_dir() {
        true => (path, None),
        false => (path.parent().unwrap_or(path), path.file_name().and_then(|name| name.to_str())),
    };
    let listed = std::fs::read_dir(if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    let names: Vec<String> = match listed {
        Ok(entries) => entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect(),
        Err(_) => return Err(Error::invalid(path.display(), "a folder with idx files", "no such folder")),
    };
    let mut sets: Vec<&str> = names.iter().filter_map(|name| set_of(name)).collect();
    sets.sort_unstable();
    sets.dedup();
    let set = match (wanted, sets.as_slice()) {
        (Some(wanted), sets) if sets.contains(&wanted) => wanted,
        (Some(_), _) => return Err(Error::invalid(path.display(), "a folder with idx files", "no such folder")),
        (None, sets) if sets.contains(&"") || sets.is_empty() => "",
        (None, [only]) => only,
        (None, several) => {
            let remedy = format!("choose one: idx:{}", dir.join(several[0]).display());
            return Err(Error::unusable(dir.display(), "the idx files of one data set", several.join(", "), remedy));
        }
    };
    let train = read_files(dir, "train", &prefixed(set, "train"))?.ok_or_else(|| {
        let expected = "train-images-idx3-ubyte and train-labels-idx1-ubyte, plain or with .gz";
        Error::invalid(dir.display(), expected, "neither")
    })?;
    let test = match read_files(dir, "test", &prefixed(set, "t10k"))? {
        Some(test) => Some(test),
        None => read_files(dir, "test", &prefixed(set, "test"))?,
    };
    let mut parts = parts(train, test, classes)?;
    if set.starts_with("emnist") {
        parts.notes.push(
            "EMNIST's own files hold images with rows and columns exchanged: they are read as they are, as torchvision does".into(),
        );
    }
    Ok(parts)
}

/// What stands before the usual name of a file with training images: nothing, or `emnist-letters`.
fn set_of(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    let before =
        ["train-images-idx3-ubyte", "train-images.idx3-ubyte"].iter().find_map(|end| name.strip_suffix(end))?;
    if before.is_empty() { Some(before) } else { before.strip_suffix('-') }
}

fn prefixed(set: &str, part: &str) -> String {
    if set.is_empty() { part.into() } else { format!("{set}-{part}") }
}

/// One part, if there are files of it.
fn read_files(dir: &Path, part: &'static str, prefix: &str) -> Result<Option<Idx>> {
    let find = |kind: &str, number: u8| -> Option<PathBuf> {
        let names = [format!("{prefix}-{kind}-idx{number}-ubyte"), format!("{prefix}-{kind}.idx{number}-ubyte")];
        let files = names.iter().flat_map(|name| [dir.join(name), dir.join(format!("{name}.gz"))]);
        files.into_iter().find(|file| file.is_file())
    };
    let (images, labels) = match (find("images", 3), find("labels", 1)) {
        (Some(images), Some(labels)) => (images, labels),
        (None, None) => return Ok(None),
        (images, _) => {
            let got = if images.is_some() { "images without labels" } else { "labels without images" };
            return Err(Error::invalid(format!("{}: {prefix} files", dir.display()), "images and labels", got));
        }
    };
    let open = |path: &Path| File::open(path).map_err(|e| Error::io(path, e));
    let (images_file, labels_file) = (open(&images)?, open(&labels)?);
    let (images, labels) = (images.display().to_string(), labels.display().to_string());
    read_part(part, &images, images_file, &labels, labels_file).map(Some)
}

fn parts(mut train: Idx, mut test: Option<Idx>, classes: Option<Vec<String>>) -> Result<Parts> {
    let mut notes = Vec::new();
    let largest = |idx: &Idx| idx.labels.iter().copied().max().unwrap_or(0);
    let classes = match classes {
        Some(classes) => classes,
        None => {
            let found = distinct(&train);
            let first = *found.first().unwrap_or(&0);
            if first > 0 || usize::from(largest(&train)) >= found.len() {
                notes.push(format!(
                    "the labels are {} of the numbers from {first} to {}: each is a class, and no other number is one",
                    found.len(),
                    largest(&train)
                ));
            }
            for part in [Some(&mut train), test.as_mut()].into_iter().flatten() {
                number(part, &found)?;
            }
            found.iter().map(u8::to_string).collect()
        }
    };
    for part in [Some(&train), test.as_ref()].into_iter().flatten() {
        if usize::from(largest(part)) >= classes.len() {
            let expected = format!("labels below {}, the number of classes", classes.len());
            return Err(Error::invalid(format!("labels of the {} part", part.part), expected, largest(part)));
        }
    }
    let shape = [1, train.height, train.width];
    if let Some(test) = &test
        && (test.width, test.height) != (train.width, train.height)
    {
        let expected = format!("{}x{} pixels as in the training part", train.width, train.height);
        return Err(Error::invalid("images of the test part", expected, format!("{}x{}", test.width, test.height)));
    }
    Ok(Parts {
        classes,
        train: Arc::new(train),
        val: None,
        test: test.map(|test| Arc::new(test) as Arc<dyn Samples>),
        shape: Some(shape),
        notes,
        parts: Vec::new(),
        augment: vec![Augment::Crop],
        sorted: false,
    })
}

/// The labels that occur, in order.
fn distinct(idx: &Idx) -> Vec<u8> {
    let mut occurs = [false; 256];
    idx.labels.iter().for_each(|label| occurs[usize::from(*label)] = true);
    (0..=u8::MAX).filter(|label| occurs[usize::from(*label)]).collect()
}

/// Numbers a part's labels by their places among those of the training part: EMNIST's letters begin with 1, and there is no
/// class 0.
fn number(idx: &mut Idx, found: &[u8]) -> Result<()> {
    for label in &mut idx.labels {
        let place = found.binary_search(label).map_err(|_| {
            let shown = found.iter().take(12).map(u8::to_string).collect::<Vec<_>>().join(", ");
            let more = if found.len() > 12 { ", …" } else { "" };
            let expected = format!("one of the training part's {} labels ({shown}{more})", found.len());
            Error::invalid(format!("labels of the {} part", idx.part), expected, *label)
        })?;
        *label = place as u8;
    }
    Ok(())
}

fn read_part(
    part: &'static str,
    images_name: &str,
    images: impl Read,
    labels_name: &str,
    labels: impl Read,
) -> Result<Idx> {
    let (sizes, pixels) = read(images_name, images)?;
    let (label_sizes, labels) = read(labels_name, labels)?;
    let [count, height, width] = sizes[..] else {
        return Err(Error::invalid(
            images_name,
            "an idx file of images (3 dimensions)",
            format!("{} dimensions", sizes.len()),
        ));
    };
    if label_sizes.len() != 1 {
        let got = format!("{} dimensions", label_sizes.len());
        return Err(Error::invalid(labels_name, "an idx file of labels (1 dimension)", got));
    }
    if count != labels.len() {
        let expected = format!("{count} labels, as many as images in {images_name}");
        return Err(Error::invalid(labels_name, expected, labels.len()));
    }
    if count == 0 || height == 0 || width == 0 {
        return Err(Error::invalid(images_name, "at least one image of one pixel", format!("{sizes:?}")));
    }
    Ok(Idx { part, width, height, pixels, labels })
}

/// Reads an idx file of bytes: its dimensions and its data. Allocates what the file holds, never what it claims.
fn read(name: &str, file: impl Read) -> Result<(Vec<usize>, Vec<u8>)> {
    let mut file = file;
    let mut start = [0; 2];
    let got = fill(name, &mut file, &mut start)?;
    let whole = start[..got].chain(file);
    if start == [0x1f, 0x8b] { read_plain(name, MultiGzDecoder::new(whole)) } else { read_plain(name, whole) }
}

fn read_plain(name: &str, mut data: impl Read) -> Result<(Vec<usize>, Vec<u8>)> {
    let cut =
        |what: &str, got: usize| Error::unusable(name, what, format!("{got} bytes"), "the file was cut: get it again");
    let mut magic = [0; 4];
    let got = fill(name, &mut data, &mut magic)?;
    if got < 4 {
        return Err(cut("an idx header of 4 bytes and more", got));
    }
    let [0, 0, 8, dimensions @ 1..=3] = magic else {
        let expected = "an idx file of bytes, which begins with 00 00 08 01 or 00 00 08 03";
        return Err(Error::invalid(name, expected, magic.map(|byte| format!("{byte:02x}")).join(" ")));
    };
    let mut sizes = Vec::new();
    let mut claimed = 1_u64;
    for dimension in 0..usize::from(dimensions) {
        let mut size = [0; 4];
        let got = fill(name, &mut data, &mut size)?;
        if got < 4 {
            return Err(cut("the sizes of all dimensions", 4 + 4 * dimension + got));
        }
        let size = u32::from_be_bytes(size);
        claimed = claimed.saturating_mul(u64::from(size));
        sizes.push(size as usize);
    }
    if claimed > MAX_BYTES {
        let expected = format!("at most {MAX_BYTES} bytes of data");
        return Err(Error::invalid(name, expected, format!("a header that claims {sizes:?}")));
    }
    let mut bytes = Vec::new();
    data.take(claimed + 1).read_to_end(&mut bytes).map_err(|e| broken(name, e))?;
    if bytes.len() as u64 != claimed {
        let expected = format!("{claimed} bytes of data, as its header says ({sizes:?})");
        let got = if bytes.len() as u64 > claimed { "more".to_string() } else { format!("{} bytes", bytes.len()) };
        return Err(Error::unusable(name, expected, got, "the file is damaged: get it again"));
    }
    Ok((sizes, bytes))
}

/// Reads until the buffer is full or the file ends; how many bytes were read.
fn fill(name: &str, data: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match data.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(broken(name, e)),
        }
    }
    Ok(got)
}

fn broken(name: &str, error: std::io::Error) -> Error {
    Error::unusable(name, "whole idx data", error, "the file is damaged: get it again")
}
