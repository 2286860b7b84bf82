//! Data sets in Parquet, as the Hugging Face hub has them: a column with encoded images, a column with labels.
//!
//! From the hub (`hf:OWNER/NAME`) or from this machine (`parquet:PATH`, a file or a folder). Images are decoded when they are
//! asked for; until then they stay encoded, in memory if the data set is small, else in the file.

mod columns;
mod labels;
mod pages;
mod thrift;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use parquet::data_type::ByteArray;
use tallow_weights::{OpenOptions, expanded, hub::download_dataset};

use self::{
    columns::{Columns, Labels},
    labels::Classes,
    pages::Table,
};
use super::parts::{self, FilePart, Part, Role, Sorted, Wishes};
use super::{
    Alpha, Augment, Digest, Error, Exif, Image, Look, Result, Samples,
    dataset::Parts,
    decode::{self, Decoding},
    files,
};

/// Encoded images of up to so many bytes are kept in memory.
const IN_MEMORY: u64 = 1 << 30;

/// Links to folders are followed that lie in so many folders.
const MAX_LINK_DEPTH: usize = 3;

/// What follows the name of a data set: `NAME?config=…&image=…&label=…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Choice {
    /// Which data set, where there are several.
    config: Option<String>,
    /// The column with the images.
    image: Option<String>,
    /// The column with the labels.
    label: Option<String>,
}

impl Choice {
    /// Takes `?…` off the end of `spec`.
    fn split(spec: &str) -> Result<(&str, Self)> {
        let mut choice = Self::default();
        let Some((name, query)) = spec.split_once('?') else { return Ok((spec, choice)) };
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match key {
                "config" => &mut choice.config,
                "image" => &mut choice.image,
                "label" => &mut choice.label,
                _ => {
                    return Err(Error::invalid(
                        spec,
                        "?config=NAME, ?image=COLUMN or ?label=COLUMN",
                        format!("{pair:?}"),
                    ));
                }
            };
            *place = Some(value.to_string());
        }
        Ok((name, choice))
    }
}

/// Opens `OWNER/NAME[@REVISION][?…]` on the hub; downloads what is used of it and not in the cache.
pub(super) fn open_hub(spec: &str, options: &OpenOptions, wishes: Wishes, exif: Exif) -> Result<Parts> {
    let (name, choice) = Choice::split(spec)?;
    let (repo, revision) = match name.split_once('@') {
        Some((repo, revision)) => (repo, Some(revision)),
        None => (name, None),
    };
    let place = format!("hf:{spec}");
    // What the last question was answered with: the files that were left out are told of, but not downloaded.
    let sorted: Mutex<Option<Result<Sorted>>> = Mutex::new(None);
    let keep = |result| *sorted.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    let files = download_dataset(repo, revision, options, &|names, card| match parts::sort(
        &place,
        names,
        card,
        choice.config.as_deref(),
        wishes,
    ) {
        Ok(found) => {
            let used = found.parts.iter().filter(|part| part.role != Role::LeftOut);
            let used = used.flat_map(|part| part.files.clone()).collect();
            keep(Ok(found));
            Ok(used)
        }
        Err(error) => {
            let problem = error.to_string();
            keep(Err(error));
            let remedy = "choose other files".to_string();
            Err(tallow_weights::Error::Hub { place: place.clone(), problem, remedy })
        }
    });
    let sorted = sorted.into_inner().unwrap_or_else(PoisonError::into_inner);
    match (files, sorted) {
        (_, Some(Err(error))) => Err(error),
        (Ok(files), Some(Ok(sorted))) => open(&place, &files.folder, sorted, &choice, wishes, exif),
        (Ok(_), None) => Err(Error::invalid(place, "files to choose from", "none")),
        (Err(error), _) => Err(error.into()),
    }
}

/// Opens `PATH[?…]`, a Parquet file or a folder of them, which are sorted into parts by their names, and by the card beside
/// them, as on the hub. It is called `name`.
pub(super) fn open_local(name: &str, place: &str, wishes: Wishes, exif: Exif) -> Result<Parts> {
    let (path, choice) = Choice::split(place)?;
    let path = expanded(path);
    let path = path.as_path();
    if path.is_file() {
        return single(name, path, &choice, wishes, exif);
    }
    let mut names = Vec::new();
    list(path, "", &mut names)?;
    if !names.iter().any(|name| name.to_ascii_lowercase().ends_with(".parquet")) {
        return Err(Error::invalid(path.display(), "a folder with files that end in .parquet", "none of them"));
    }
    let card = path.join("README.md");
    let card = if card.is_file() {
        let bytes = fs::read(&card).map_err(|e| Error::io(&card, e))?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    } else {
        None
    };
    let sorted = parts::sort(name, &names, card.as_deref(), choice.config.as_deref(), wishes)?;
    open(name, path, sorted, &choice, wishes, exif)
}

/// A file that is named by itself is the whole data, whatever it is called.
fn single(place: &str, path: &Path, choice: &Choice, wishes: Wishes, exif: Exif) -> Result<Parts> {
    if let Some(wish) = wishes.test.or(wishes.train.filter(|train| *train != "train")) {
        let expected = "a folder of files to choose parts from, or the one part train";
        return Err(Error::invalid(format!("{place}: `train_split`, `test_split`"), expected, format!("{wish:?}")));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let part = FilePart {
        name: "train".into(),
        role: Role::Train,
        source: name.clone(),
        why: "the file itself was named, so it is the whole data".into(),
        files: vec![name],
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let notes = vec![format!("{place}: the file is taken for the whole data; name its folder to have parts")];
    open(place, folder, Sorted { parts: vec![part], notes }, choice, wishes, exif)
}

/// All files under `folder`, with `/` between the parts of their names. A link to a folder is followed, but not one to a folder
/// that it lies in.
fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if files::is_clutter(name.as_ref()) {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            let target = || Some((fs::canonicalize(&path).ok()?, fs::canonicalize(folder).ok()?));
            let leads_back = || target().is_none_or(|(target, folder)| folder.starts_with(target));
            if !is_link || (prefix.split('/').count() <= MAX_LINK_DEPTH && !leads_back()) {
                list(&path, &format!("{prefix}{name}/"), names)?;
            }
        } else {
            names.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// Reads the labels of all parts and settles the classes. A part without labels (some test parts have none) is left out.
fn open(place: &str, folder: &Path, sorted: Sorted, choice: &Choice, wishes: Wishes, exif: Exif) -> Result<Parts> {
    let mut sorted = sorted;
    let mut read = Vec::new();
    for role in [Role::Train, Role::Val, Role::Test] {
        let like = read.first().map(|part: &Rows| part.columns.clone());
        if let Some(part) = Rows::read(place, folder, role, &mut sorted, choice, like.as_ref())? {
            read.push(part);
        }
    }
    let Sorted { parts: mut files, mut notes } = sorted;
    // A lone validation part is what results are reported on; also where the test part turned out to have no labels.
    if read.iter().all(|part| part.role != Role::Test) {
        for part in read.iter_mut().filter(|part| part.role == Role::Val) {
            part.role = Role::Test;
            files.iter_mut().filter(|file| file.role == Role::Val).for_each(|file| {
                file.role = Role::Test;
                file.why = format!("{}; there is no test part with labels, so results are reported on it", file.why);
            });
        }
    }
    let of_labels: Vec<(&str, &Labels)> = read.iter().map(|part| (part.name.as_str(), &part.labels)).collect();
    let (classes, more) = Classes::of(place, &of_labels)?;
    notes.extend(more);
    let facts = facts(&files, &read, folder);
    let mut take = |role: Role| {
        let at = read.iter().position(|part| part.role == role)?;
        Some(read.remove(at).into_samples(&classes, exif).map(|samples| Arc::new(samples) as Arc<dyn Samples>))
    };
    let [train, val, test] = [take(Role::Train), take(Role::Val), take(Role::Test)];
    let (val, test) = (val.transpose()?, test.transpose()?);
    let train = match (train.transpose()?, &test) {
        (Some(train), _) => train,
        (None, Some(_)) if wishes.whole => super::samples::nothing(),
        (None, _) => {
            let remedy = "name its files train-*.parquet, or choose a part with `train_split = NAME`";
            return Err(Error::unusable(place, "a part with labels for training", "none", remedy));
        }
    };
    Ok(Parts {
        classes: classes.names,
        train,
        val,
        test,
        shape: None,
        notes,
        parts: facts,
        augment: vec![Augment::ResizedCrop, Augment::Flip],
        sorted: true,
    })
}

/// What became of every part, with the rows of those that can be read here.
fn facts(files: &[FilePart], read: &[Rows], folder: &Path) -> Vec<Part> {
    let rows = |file: &str| {
        let path = folder.join(file);
        let known = read.iter().flat_map(|part| &part.tables).find(|table| table.path() == path);
        match known {
            Some(table) => Some(table.rows().iter().sum()),
            None => Table::open(&path).ok().and_then(|table| table.claimed_rows()),
        }
    };
    let fact = |part: &FilePart| Part {
        name: part.name.clone(),
        role: part.role,
        source: part.source.clone(),
        why: part.why.clone(),
        samples: part.files.iter().map(|file| rows(file)).sum(),
    };
    files.iter().map(fact).collect()
}

/// The rows of a part while its classes are not known yet.
struct Rows {
    role: Role,
    /// What samples and messages call it.
    name: String,
    spec: String,
    tables: Vec<Table>,
    columns: Columns,
    labels: Labels,
}

impl Rows {
    /// The part of a role, if there is one and it has labels; `like` are the columns of the training part, which the others
    /// have to have too, by name.
    fn read(
        spec: &str,
        folder: &Path,
        role: Role,
        sorted: &mut Sorted,
        choice: &Choice,
        like: Option<&Columns>,
    ) -> Result<Option<Self>> {
        let of_role = || sorted.parts.iter().filter(|part| part.role == role);
        let Some(first) = of_role().next() else { return Ok(None) };
        let name = called(first);
        let files: Vec<PathBuf> = of_role().flat_map(|part| &part.files).map(|file| folder.join(file)).collect();
        let without = match Self::of_files(spec, role, &name, &files, choice, like)? {
            Some(part) if !part.labels.is_unlabelled() => return Ok(Some(part)),
            Some(_) => "has no labels",
            None => "has no column of labels",
        };
        sorted.notes.push(format!("{spec}: the {name} part {without} and is left out"));
        for part in sorted.parts.iter_mut().filter(|part| part.role == role) {
            part.role = Role::LeftOut;
            part.why = format!("{}, but it {without}", part.why);
        }
        Ok(None)
    }

    /// None where a part that is not for training has no column of labels.
    fn of_files(
        spec: &str,
        role: Role,
        name: &str,
        files: &[PathBuf],
        choice: &Choice,
        like: Option<&Columns>,
    ) -> Result<Option<Self>> {
        let mut tables = Vec::new();
        let mut labels = Labels::default();
        let mut columns: Option<Columns> = None;
        for file in files {
            let mut table = Table::open(file)?;
            // The first file decides on the columns, by name; the others have to have them too.
            let (image, label) = (choice.image.as_deref(), choice.label.as_deref());
            let found = match (&columns, like) {
                (Some(first), _) => Columns::choose(&table, Some(&first.image_name), Some(&first.label_name)),
                (None, Some(like)) if Columns::has(&table, like) => {
                    Columns::choose(&table, Some(&like.image_name), Some(&like.label_name))
                }
                (None, _) => Columns::choose(&table, image, label),
            };
            let found = match found {
                Err(_) if role != Role::Train && columns.is_none() && Columns::lacks_labels(&table, label) => {
                    return Ok(None);
                }
                found => found?,
            };
            table.set_images(found.image);
            labels.begin_file(found.classes.as_deref());
            table.read_labels(&found, &mut labels)?;
            tables.push(table);
            columns.get_or_insert(found);
        }
        let columns = columns.ok_or_else(|| Error::invalid(spec, "Parquet files", "none"))?;
        Ok(Some(Self { role, name: name.into(), spec: spec.into(), tables, columns, labels }))
    }

    fn into_samples(self, classes: &Classes, exif: Exif) -> Result<Encoded> {
        let labels = classes.numbers(&self.labels).map_err(|(row, got)| {
            let expected = format!("a label of the {} classes", classes.names.len());
            Error::unusable(
                format!("{}: {} row {row}", self.spec, self.name),
                expected,
                got,
                "remove or repair that row",
            )
        })?;
        let mut groups = Vec::new();
        let mut start = 0;
        for (table, content) in self.tables.iter().enumerate() {
            for (group, rows) in content.rows().iter().enumerate() {
                groups.push(Group { table, group, start, images: Mutex::default() });
                start += rows;
            }
        }
        let keep = self.tables.iter().map(Table::image_bytes).sum::<u64>() <= IN_MEMORY;
        let unlabelled = (0..labels.len()).filter(|&row| labels[row].is_none()).collect();
        let labels = labels.into_iter().map(Option::unwrap_or_default).collect();
        let name = format!("{}: {}", self.spec, self.name);
        Ok(Encoded { name, tables: self.tables, groups, labels, unlabelled, keep, exif })
    }
}

/// What samples and messages call a part: the usual word where its name has one, else its name.
fn called(part: &FilePart) -> String {
    match parts::word(&part.name).map(|word| word.role) {
        Some(Role::Train) => "train".into(),
        Some(Role::Val) => "validation".into(),
        Some(Role::Test) => "test".into(),
        _ if part.role == Role::Train => "train".into(),
        _ => part.name.clone(),
    }
}

/// Encoded images in Parquet files.
struct Encoded {
    name: String,
    tables: Vec<Table>,
    groups: Vec<Group>,
    labels: Vec<u32>,
    /// Rows without a label, which are as bad as rows without an image: asking for their image is an error.
    unlabelled: BTreeSet<usize>,
    /// Whether images stay in memory once they were read.
    keep: bool,
    exif: Exif,
}

/// A row group: some successive rows, stored together.
struct Group {
    table: usize,
    group: usize,
    /// Its first row, counted over all files.
    start: usize,
    /// None where a row has no image.
    images: Mutex<Option<Arc<Vec<Option<ByteArray>>>>>,
}

impl Encoded {
    fn bytes(&self, index: usize) -> Result<ByteArray> {
        if self.unlabelled.contains(&index) {
            let remedy = "remove that row, or give it a label";
            return Err(Error::unusable(self.name(index), "a label", "none", remedy));
        }
        let at = self.groups.partition_point(|group| group.start <= index) - 1;
        let group = &self.groups[at];
        let table = &self.tables[group.table];
        let row = index - group.start;
        let missing = || {
            let remedy = "images have to be inside of the file: write it with embedded images, or remove that row";
            Error::unusable(self.name(index), "an image", "none", remedy)
        };
        if !self.keep {
            return table.images(group.group, row, 1)?.pop().flatten().ok_or_else(missing);
        }
        let images = {
            let mut images = group.images.lock().unwrap_or_else(PoisonError::into_inner);
            match &*images {
                Some(images) => Arc::clone(images),
                None => {
                    let all = table.images(group.group, 0, table.rows()[group.group])?;
                    Arc::clone(images.insert(Arc::new(all)))
                }
            }
        };
        images.get(row).cloned().flatten().ok_or_else(missing)
    }

    fn decoded(&self, index: usize, alpha: Alpha) -> Result<decode::Decoded> {
        decode::decode_bytes(self.bytes(index)?.data(), &self.name(index), Decoding { alpha, exif: self.exif })
    }
}

impl Samples for Encoded {
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }
    fn image(&self, index: usize) -> Result<Image> {
        Ok(self.decoded(index, Alpha::Dropped)?.image)
    }
    fn image_as(&self, index: usize, alpha: Alpha) -> Result<Image> {
        Ok(self.decoded(index, alpha)?.image)
    }
    fn look(&self, index: usize, alpha: Alpha) -> Result<Look> {
        Ok(self.decoded(index, alpha)?.look)
    }
    fn name(&self, index: usize) -> String {
        format!("{} row {index}", self.name)
    }
    fn digest(&self, index: usize) -> Result<Digest> {
        Ok(Digest::of(self.bytes(index)?.data()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_the_same_from_memory_and_from_the_file() -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references/parquet");
        let named = folder.join("named/data");
        let several = vec![named.join("train-00000-of-00002.parquet"), named.join("train-00001-of-00002.parquet")];
        for files in [several, vec![folder.join("plain.parquet")]] {
            let part = Rows::of_files("here", Role::Train, "train", &files, &Choice::default(), None)?;
            let part = part.ok_or_else(|| Error::invalid("here", "labels", "none"))?;
            let (classes, _) = Classes::of("here", &[("train", &part.labels)])?;
            let mut samples = part.into_samples(&classes, Exif::default())?;
            assert!(samples.keep);
            let kept: Vec<ByteArray> = (0..samples.len()).map(|index| samples.bytes(index)).collect::<Result<_>>()?;
            samples.keep = false;
            // Backwards, so that no reader can go on where the last one stopped.
            for index in (0..samples.len()).rev() {
                assert_eq!(samples.bytes(index)?.data(), kept[index].data(), "image {index}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_choice_is_read_off_the_end_of_the_name() -> Result<()> {
        let (name, choice) = Choice::split("uoft-cs/cifar100@main?label=coarse_label&config=x")?;
        assert_eq!(name, "uoft-cs/cifar100@main");
        assert_eq!(choice, Choice { config: Some("x".into()), image: None, label: Some("coarse_label".into()) });
        assert!(Choice::split("a/b?colour=red").is_err());
        Ok(())
    }
}
