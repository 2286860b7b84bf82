//! Which columns hold the images and the labels, and what the labels are.

use std::collections::BTreeSet;

use parquet::basic::Type as Physical;

use super::pages::Table;
use crate::data::{Error, Result};

/// Names that image columns have, the best first.
const IMAGES: [&str; 3] = ["image", "img", "picture"];
/// Names that label columns have, the best first. Of CIFAR-100's two the fine one.
const LABELS: [&str; 7] = ["label", "labels", "fine_label", "class", "target", "category", "digit"];

/// The two columns that matter.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) image_name: String,
    pub(super) label_name: String,
    /// The leaf of the schema with the encoded images.
    pub(super) image: usize,
    /// The leaf of the schema with the labels.
    pub(super) label: usize,
    /// The labels' names, where the file says them.
    pub(super) classes: Option<Vec<String>>,
}

impl Columns {
    /// The columns of the given names, else those that the file declares as image and class label, else those that are named
    /// like it.
    pub(super) fn choose(table: &Table, image: Option<&str>, label: Option<&str>) -> Result<Self> {
        let columns = table.columns();
        let features = Features::of(table);
        let images: Vec<&Column> = columns.iter().filter(|c| c.is_image()).collect();
        let labels: Vec<&Column> = columns.iter().filter(|c| c.is_label()).collect();
        let image = pick(table, "image", image, &IMAGES, &images, &|c| features.is(&c.name, "Image"))?;
        let is_declared = |c: &Column| features.is(&c.name, "ClassLabel");
        // Floats are labels only where nothing else is.
        let usual: Vec<&Column> = labels.iter().copied().filter(|c| !c.is_float()).collect();
        let label = pick(table, "label", label, &LABELS, &usual, &is_declared)
            .or_else(|_| pick(table, "label", label, &LABELS, &labels, &is_declared))?;
        Ok(Self {
            image_name: image.name.clone(),
            label_name: label.name.clone(),
            image: image.leaf,
            label: label.leaf,
            classes: features.classes(&label.name),
        })
    }

    /// Whether `table` has columns of these names.
    pub(super) fn has(table: &Table, names: &Self) -> bool {
        let columns = table.columns();
        [&names.image_name, &names.label_name].into_iter().all(|name| columns.iter().any(|c| c.name == *name))
    }

    /// Whether `table` has images, but no column that could be its labels: neither the one asked for, nor one that is declared
    /// or called so.
    pub(super) fn lacks_labels(table: &Table, asked: Option<&str>) -> bool {
        let (columns, features) = (table.columns(), Features::of(table));
        let is_label = |c: &Column| LABELS.contains(&c.name.as_str()) || features.is(&c.name, "ClassLabel");
        let has_label = columns.iter().any(|c| asked.map_or_else(|| is_label(c), |asked| c.name == asked));
        columns.iter().any(Column::is_image) && !has_label
    }
}

/// A column of plain values: a leaf of the schema that does not repeat.
#[derive(Debug, Clone)]
pub(super) struct Column {
    /// The name at the top level of the schema.
    pub(super) name: String,
    /// What is below the name: nothing, or a field of a struct.
    pub(super) field: Option<String>,
    pub(super) leaf: usize,
    pub(super) physical: Physical,
}

impl Column {
    /// A struct with `bytes`, as `datasets` writes images, or the bytes themselves.
    fn is_image(&self) -> bool {
        self.physical == Physical::BYTE_ARRAY && self.field.as_deref().is_none_or(|field| field == "bytes")
    }

    fn is_label(&self) -> bool {
        let numeric = matches!(self.physical, Physical::INT32 | Physical::INT64 | Physical::BOOLEAN);
        self.field.is_none() && (numeric || self.is_float() || self.physical == Physical::BYTE_ARRAY)
    }

    fn is_float(&self) -> bool {
        matches!(self.physical, Physical::FLOAT | Physical::DOUBLE)
    }
}

/// Chooses one of `fit`: the one that was asked for, else among the declared ones, else by name.
fn pick<'a>(
    table: &Table,
    what: &str,
    asked: Option<&str>,
    usual: &[&str],
    fit: &[&'a Column],
    is_declared: &dyn Fn(&Column) -> bool,
) -> Result<&'a Column> {
    let declared: Vec<&Column> = fit.iter().copied().filter(|c| is_declared(c)).collect();
    let named =
        |columns: &[&'a Column]| usual.iter().find_map(|name| columns.iter().copied().find(|c| c.name == *name));
    let only = |columns: &[&'a Column]| if let [one] = columns { Some(*one) } else { None };
    let found = match asked {
        Some(asked) => fit.iter().copied().find(|c| c.name == asked),
        None => named(&declared).or_else(|| only(&declared)).or_else(|| named(fit)).or_else(|| {
            // A binary column could be anything; one with a field `bytes` can only be an image.
            let structs: Vec<&Column> = fit.iter().copied().filter(|c| c.field.is_some()).collect();
            only(&structs)
        }),
    };
    found.ok_or_else(|| {
        let asked = asked.map_or(String::new(), |name| format!(" {name:?}"));
        let columns = table.columns();
        let names: BTreeSet<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let got = names.into_iter().collect::<Vec<_>>().join(", ");
        let remedy = format!("choose a column by appending ?{what}=COLUMN");
        Error::unusable(
            table.name(),
            format!("a column{asked} with one {what} a row"),
            format!("the columns {got}"),
            remedy,
        )
    })
}

/// What `datasets` notes about columns in a file's metadata.
struct Features(serde_json::Value);

impl Features {
    fn of(table: &Table) -> Self {
        let text = table.note("huggingface").unwrap_or_default();
        let mut all: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        Self(all["info"]["features"].take())
    }

    fn is(&self, column: &str, kind: &str) -> bool {
        self.0[column]["_type"] == kind
    }

    fn classes(&self, column: &str) -> Option<Vec<String>> {
        let names = self.0[column]["names"].as_array().filter(|_| self.is(column, "ClassLabel"))?;
        names.iter().map(|name| name.as_str().map(str::to_string)).collect()
    }
}

/// The values of a label column, in order, over all files of a part.
#[derive(Debug, Default)]
pub(super) struct Labels {
    pub(super) values: Vec<Label>,
    /// Where each file's values begin, and the names that the file declares for its numbers.
    pub(super) files: Vec<(usize, Option<Vec<String>>)>,
}

/// A label as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Label {
    Missing,
    Number(i64),
    Text(Box<str>),
}

impl Labels {
    /// What is read from now on comes from a file that declares these names.
    pub(super) fn begin_file(&mut self, classes: Option<&[String]>) {
        self.files.push((self.values.len(), classes.map(<[String]>::to_vec)));
    }

    /// Whether no row has a label. -1 stands for none where test labels are secret.
    pub(super) fn is_unlabelled(&self) -> bool {
        !self.values.is_empty() && self.values.iter().all(|label| matches!(label, Label::Missing | Label::Number(-1)))
    }

    /// The files' names for numbers, with their values.
    pub(super) fn by_file(&self) -> impl Iterator<Item = (Option<&[String]>, &[Label])> {
        let ends = self.files.iter().skip(1).map(|(start, _)| *start).chain([self.values.len()]);
        self.files.iter().zip(ends).map(|((start, classes), end)| (classes.as_deref(), &self.values[*start..end]))
    }
}
