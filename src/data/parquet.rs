//! Data sets in Parquet, as the Hugging Face hub has them: a column with encoded images, a column with labels.
//!
//! From the hub (`hf:OWNER/NAME`) or from this machine (`parquet:PATH`, a file or a folder). Images are decoded when they are
//! asked for; until then they stay encoded, in memory if the data set is small, else in the file.

mod columns;
mod pages;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use parquet::data_type::ByteArray;
use tallow_weights::{
    OpenOptions, expanded,
    hub::{Split, download_dataset, split_files},
};

use self::{
    columns::{Columns, Labels},
    pages::Table,
};
use super::{Augment, Digest, Error, Image, Result, Samples, dataset::Parts, decode, files};

/// Encoded images of up to so many bytes are kept in memory.
const IN_MEMORY: u64 = 1 << 30;

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

/// Opens `OWNER/NAME[@REVISION][?…]` on the hub; downloads it if it is not in the cache.
pub(super) fn open_hub(spec: &str, options: &OpenOptions) -> Result<Parts> {
    let (name, choice) = Choice::split(spec)?;
    let (repo, revision) = match name.split_once('@') {
        Some((repo, revision)) => (repo, Some(revision)),
        None => (name, None),
    };
    let splits = download_dataset(repo, revision, choice.config.as_deref(), options)?;
    open(&format!("hf:{spec}"), &splits, &choice)
}

/// Opens `PATH[?…]`, a Parquet file or a folder of them, which are sorted into parts by their names as on the hub. It is called
/// `name`.
pub(super) fn open_local(name: &str, place: &str) -> Result<Parts> {
    let (path, choice) = Choice::split(place)?;
    let path = expanded(path);
    let path = path.as_path();
    let splits = if path.is_file() {
        vec![Split { name: "train", files: vec![path.to_path_buf()] }]
    } else {
        let mut names = Vec::new();
        list(path, "", &mut names)?;
        if !names.iter().any(|name| name.ends_with(".parquet")) {
            return Err(Error::invalid(path.display(), "a folder with files that end in .parquet", "none of them"));
        }
        let splits = split_files(&path.display().to_string(), &names, choice.config.as_deref())?;
        let full = |files: Vec<String>| files.iter().map(|file| path.join(file)).collect();
        splits.into_iter().map(|(name, files)| Split { name, files: full(files) }).collect()
    };
    open(name, &splits, &choice)
}

/// All files under `folder`, with `/` between the parts of their names.
fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if files::is_clutter(name.as_ref()) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), &format!("{prefix}{name}/"), names)?;
        } else {
            names.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// Reads the labels of all parts and settles the classes. A part without labels (some test parts have none) is left out.
fn open(spec: &str, splits: &[Split], choice: &Choice) -> Result<Parts> {
    let mut notes = Vec::new();
    let mut parts = Vec::new();
    for split in splits {
        let part = Part::read(spec, split, choice)?;
        if part.labels.is_unlabelled() {
            notes.push(format!("{spec}: the {} part has no labels and is left out", split.name));
        } else {
            parts.push(part);
        }
    }
    let classes = classes(spec, &parts)?;
    let mut take = |name: &str| {
        let at = parts.iter().position(|part| part.name == name)?;
        Some(parts.remove(at).into_samples(&classes).map(|samples| Arc::new(samples) as Arc<dyn Samples>))
    };
    let [train, validation, test] = [take("train"), take("validation"), take("test")];
    let Some(train) = train else {
        return Err(Error::unusable(spec, "a part for training", "none", "name its files train-*.parquet"));
    };
    // A lone validation part is what results are reported on, as is usual for ImageNet.
    let (validation, test) = match (validation, test) {
        (validation, None) => (None, validation),
        both => both,
    };
    Ok(Parts {
        classes: classes.names,
        train: train?,
        val: validation.transpose()?,
        test: test.transpose()?,
        shape: None,
        notes,
        augment: vec![Augment::ResizedCrop, Augment::Flip],
        sorted: true,
    })
}

/// What labels mean.
struct Classes {
    names: Vec<String>,
    /// The values in the file by class, where they are not the classes' numbers themselves.
    values: Option<Vec<String>>,
}

/// The classes that the files name, else the distinct values of all labels, sorted.
fn classes(spec: &str, parts: &[Part]) -> Result<Classes> {
    let named = parts.iter().find_map(|part| part.columns.classes.clone());
    let classes = match named {
        Some(names) if parts.iter().all(|part| part.labels.is_numeric()) => Classes { names, values: None },
        _ => {
            let numeric = parts.iter().all(|part| part.labels.is_numeric());
            let distinct: BTreeSet<String> = parts.iter().flat_map(|part| part.labels.distinct()).collect();
            let mut values: Vec<String> = distinct.into_iter().collect();
            if numeric {
                values.sort_by_key(|value| value.parse::<i64>().unwrap_or_default());
            }
            Classes { names: values.clone(), values: Some(values) }
        }
    };
    if classes.names.len() < 2 {
        let remedy = "choose another column by appending ?label=COLUMN";
        return Err(Error::unusable(spec, "at least two classes", classes.names.len(), remedy));
    }
    Ok(classes)
}

/// A part of a data set while its classes are not known yet.
struct Part {
    name: &'static str,
    spec: String,
    tables: Vec<Table>,
    columns: Columns,
    labels: Labels,
}

impl Part {
    fn read(spec: &str, split: &Split, choice: &Choice) -> Result<Self> {
        let mut tables = Vec::new();
        let mut labels = Labels::default();
        let mut columns: Option<Columns> = None;
        for file in &split.files {
            let mut table = Table::open(file)?;
            // The first file decides on the columns, by name; the others have to have them too.
            let found = match &columns {
                None => Columns::choose(&table, choice.image.as_deref(), choice.label.as_deref())?,
                Some(first) => Columns::choose(&table, Some(&first.image_name), Some(&first.label_name))?,
            };
            table.set_images(found.image);
            table.read_labels(&found, &mut labels)?;
            tables.push(table);
            columns.get_or_insert(found);
        }
        let columns = columns.ok_or_else(|| Error::invalid(spec, "Parquet files", "none"))?;
        Ok(Self { name: split.name, spec: spec.to_string(), tables, columns, labels })
    }

    fn into_samples(self, classes: &Classes) -> Result<Encoded> {
        let labels = self.labels.numbers(classes.values.as_deref(), classes.names.len());
        let labels = labels.map_err(|(row, got)| {
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
        Ok(Encoded { name: format!("{}: {}", self.spec, self.name), tables: self.tables, groups, labels, keep })
    }
}

/// Encoded images in Parquet files.
struct Encoded {
    name: String,
    tables: Vec<Table>,
    groups: Vec<Group>,
    labels: Vec<u32>,
    /// Whether images stay in memory once they were read.
    keep: bool,
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
}

impl Samples for Encoded {
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }
    fn image(&self, index: usize) -> Result<Image> {
        decode(self.bytes(index)?.data(), &self.name(index))
    }
    fn image_with_alpha(&self, index: usize) -> Result<Image> {
        Ok(decode::decode_bytes(self.bytes(index)?.data(), &self.name(index), true)?.image)
    }
    fn look(&self, index: usize, alpha: bool) -> Result<Option<&'static str>> {
        Ok(decode::decode_bytes(self.bytes(index)?.data(), &self.name(index), alpha)?.odd)
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
            let part = Part::read("here", &Split { name: "train", files }, &Choice::default())?;
            let classes = classes("here", std::slice::from_ref(&part))?;
            let mut samples = part.into_samples(&classes)?;
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
