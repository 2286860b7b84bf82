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
        let label = pick(table, "label", label, &LABELS, &labels, &|c| features.is(&c.name, "ClassLabel"))?;
        Ok(Self {
            image_name: image.name.clone(),
            label_name: label.name.clone(),
            image: image.leaf,
            label: label.leaf,
            classes: features.classes(&label.name),
        })
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
        self.field.is_none() && (numeric || self.physical == Physical::BYTE_ARRAY)
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

/// The values of a label column, in order.
#[derive(Debug, Default)]
pub(super) struct Labels {
    pub(super) values: Vec<Label>,
}

/// A label as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Label {
    Missing,
    Number(i64),
    Text(Box<str>),
}

impl Labels {
    /// Whether no row has a label. -1 stands for none where test labels are secret.
    pub(super) fn is_unlabelled(&self) -> bool {
        !self.values.is_empty() && self.values.iter().all(|label| matches!(label, Label::Missing | Label::Number(-1)))
    }

    pub(super) fn is_numeric(&self) -> bool {
        self.values.iter().all(|label| !matches!(label, Label::Text(_)))
    }

    /// The distinct values as text.
    pub(super) fn distinct(&self) -> BTreeSet<String> {
        let mut numbers = BTreeSet::new();
        let mut texts = BTreeSet::new();
        for label in &self.values {
            match label {
                Label::Missing => {}
                Label::Number(number) => drop(numbers.insert(*number)),
                Label::Text(text) => drop(texts.insert(text.as_ref())),
            }
        }
        numbers.iter().map(i64::to_string).chain(texts.iter().map(|text| (*text).to_string())).collect()
    }

    /// The number of each row's class: its value, or the place of its value among `values`. The error is the first row
    /// without a class, and what is there.
    pub(super) fn numbers(
        &self,
        values: Option<&[String]>,
        classes: usize,
    ) -> std::result::Result<Vec<u32>, (usize, String)> {
        let places: std::collections::HashMap<&str, u32> =
            values.into_iter().flatten().map(String::as_str).zip(0..).collect();
        let number = |label: &Label| match (label, values) {
            (Label::Missing, _) => None,
            (Label::Number(number), None) => u32::try_from(*number).ok().filter(|n| (*n as usize) < classes),
            (Label::Number(number), Some(_)) => places.get(number.to_string().as_str()).copied(),
            (Label::Text(text), _) => places.get(text.as_ref()).copied(),
        };
        let all = self.values.iter().enumerate().map(|(row, label)| {
            number(label).ok_or_else(|| match label {
                Label::Missing => (row, "none".to_string()),
                Label::Number(number) => (row, number.to_string()),
                Label::Text(text) => (row, format!("{text:?}")),
            })
        });
        all.collect()
    }
}
