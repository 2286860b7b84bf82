//! Which label is which: the classes of a data set, and the class of every row.
//!
//! The training part says what the classes are. A part that names them in another order is mapped by the names; one whose
//! labels are of another kind (text where training has numbers) is an error, since nothing says how they correspond.

use std::collections::{BTreeSet, HashMap};

use super::columns::{Label, Labels};
use crate::data::{Error, Result};

/// What labels mean.
#[derive(Debug)]
pub(super) struct Classes {
    pub(super) names: Vec<String>,
    form: Form,
}

/// How the training part writes its labels.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    /// Numbers of classes that a file names.
    Named,
    /// Text.
    Text,
    /// Numbers that nothing names: the values, in order.
    Numbers(Vec<i64>),
}

impl Classes {
    /// The classes of parts, the one for training first (name and labels), and what is worth a note.
    pub(super) fn of(place: &str, parts: &[(&str, &Labels)]) -> Result<(Self, Vec<String>)> {
        let [(first, training), others @ ..] = parts else {
            let remedy = "name its files train-*.parquet, or choose a part with `train_split = NAME`";
            return Err(Error::unusable(place, "a part with labels", "none", remedy));
        };
        let kind = Kind::of(training);
        if let (Some(numbers), Some(text)) = (&kind.number, &kind.text) {
            return Err(other_kind(place, first, &format!("numbers ({numbers})"), first, &format!("text ({text:?})")));
        }
        let mut notes = Vec::new();
        let classes = if kind.declared.is_some() || (kind.number.is_some() && kind.text.is_none()) {
            Self::of_numbers(training, others)
        } else {
            let names: BTreeSet<String> = texts(training).map(str::to_string).collect();
            Self { names: names.into_iter().collect(), form: Form::Text }
        };
        if classes.names.len() < 2 {
            let remedy = "choose another column by appending ?label=COLUMN";
            return Err(Error::unusable(place, "at least two classes", classes.names.len(), remedy));
        }
        if classes.form == Form::Named && kind.declared.is_none() && kind.number.is_some() {
            notes.push(format!(
                "{place}: the {first} part does not name its classes; its numbers are read as another part names them"
            ));
        }
        if matches!(&classes.form, Form::Numbers(values) if values.contains(&-1) && values.contains(&0) && values.len() > 2)
        {
            notes.push(format!(
                "{place}: the label -1 is taken for a class; where it means that there is none, remove those rows"
            ));
        }
        for (name, labels) in others {
            classes.compare(place, first, name, labels, &mut notes)?;
        }
        Ok((classes, notes))
    }

    fn of_numbers(training: &Labels, others: &[(&str, &Labels)]) -> Self {
        let declared = |labels: &Labels| labels.files.iter().find_map(|(_, classes)| classes.clone());
        if let Some(mut names) = declared(training) {
            // Files of the training part that name further classes.
            for (_, more) in &training.files {
                let more = more.iter().flatten().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>();
                names.extend(more);
            }
            return Self { names, form: Form::Named };
        }
        if let Some(names) = others.iter().find_map(|(_, labels)| declared(labels)) {
            return Self { names, form: Form::Named };
        }
        let numbers =
            training.values.iter().filter_map(|label| if let Label::Number(n) = label { Some(*n) } else { None });
        let values: Vec<i64> = numbers.collect::<BTreeSet<_>>().into_iter().collect();
        Self { names: values.iter().map(i64::to_string).collect(), form: Form::Numbers(values) }
    }

    /// Refuses labels of another kind than training's, and notes names in another order.
    fn compare(&self, place: &str, first: &str, name: &str, labels: &Labels, notes: &mut Vec<String>) -> Result<()> {
        let kind = Kind::of(labels);
        match (&self.form, &kind) {
            (Form::Numbers(_), Kind { text: Some(text), .. }) => {
                return Err(other_kind(place, first, "numbers", name, &format!("text ({text:?})")));
            }
            (Form::Text, Kind { number: Some(number), .. }) => {
                return Err(other_kind(place, first, "text", name, &format!("numbers ({number})")));
            }
            (Form::Named, Kind { declared: Some(names), .. }) if *names != self.names.as_slice() => {
                notes.push(format!("{place}: the {name} part names its classes otherwise; they are mapped by name"));
            }
            (Form::Named, Kind { number: Some(_), .. }) => {
                notes.push(format!(
                    "{place}: the {name} part does not name its classes; its numbers are read as training's"
                ));
            }
            _ => {}
        }
        Ok(())
    }

    /// The number of each row's class, none where the row has no label. The error is the first row with a label that is no class,
    /// and what is there.
    pub(super) fn numbers(&self, labels: &Labels) -> std::result::Result<Vec<Option<u32>>, (usize, String)> {
        let places: HashMap<&str, u32> = self.names.iter().map(String::as_str).zip(0..).collect();
        let values: HashMap<i64, u32> = match &self.form {
            Form::Numbers(values) => values.iter().copied().zip(0..).collect(),
            _ => (0..).zip(0..self.names.len() as u32).collect(),
        };
        let mut all = Vec::with_capacity(labels.values.len());
        for (declared, of_file) in labels.by_file() {
            for label in of_file {
                let class = match (label, declared) {
                    (Label::Missing, _) => {
                        all.push(None);
                        continue;
                    }
                    (Label::Text(text), _) => places.get(text.as_ref()).copied(),
                    // Not by name, of which there may be two alike.
                    (Label::Number(number), Some(names)) if names == self.names => values.get(number).copied(),
                    (Label::Number(number), Some(names)) => usize::try_from(*number)
                        .ok()
                        .and_then(|number| names.get(number))
                        .and_then(|name| places.get(name.as_str()).copied()),
                    (Label::Number(number), None) => values.get(number).copied(),
                };
                let class = class.ok_or_else(|| {
                    let name = |number: &i64| declared.and_then(|names| names.get(usize::try_from(*number).ok()?));
                    let got = match label {
                        Label::Missing => "none".to_string(),
                        Label::Number(number) => match name(number) {
                            Some(name) => format!("{number}, which its file calls {name:?}"),
                            None => number.to_string(),
                        },
                        Label::Text(text) => format!("{text:?}"),
                    };
                    (all.len(), got)
                })?;
                all.push(Some(class));
            }
        }
        Ok(all)
    }
}

/// What kinds of labels a part has.
#[derive(Debug, Default)]
struct Kind<'a> {
    /// The names that its first file with numbers declares.
    declared: Option<&'a [String]>,
    /// A number that no file names.
    number: Option<i64>,
    text: Option<&'a str>,
}

impl<'a> Kind<'a> {
    fn of(labels: &'a Labels) -> Self {
        let mut kind = Self::default();
        for (declared, values) in labels.by_file() {
            let is_number = |label: &&Label| matches!(label, Label::Number(_));
            match (values.iter().find(is_number), declared) {
                (Some(_), Some(names)) => drop(kind.declared.get_or_insert(names)),
                (Some(Label::Number(number)), None) => drop(kind.number.get_or_insert(*number)),
                _ => {}
            }
        }
        kind.text = texts(labels).next();
        kind
    }
}

fn texts(labels: &Labels) -> impl Iterator<Item = &str> {
    labels.values.iter().filter_map(|label| if let Label::Text(text) = label { Some(text.as_ref()) } else { None })
}

fn other_kind(place: &str, first: &str, expected: &str, name: &str, got: &str) -> Error {
    let remedy = "nothing says which is which: choose another column by appending ?label=COLUMN, or write both alike";
    Error::unusable(
        format!("{place}: labels of the {name} part"),
        format!("{expected}, as in the {first} part"),
        got,
        remedy,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: Option<&[&str]>, numbers: &[i64]) -> Labels {
        let mut labels = Labels::default();
        let names: Option<Vec<String>> = names.map(|names| names.iter().map(|name| (*name).into()).collect());
        labels.begin_file(names.as_deref());
        labels.values.extend(numbers.iter().map(|number| Label::Number(*number)));
        labels
    }

    #[test]
    fn numbers_of_two_classes_with_one_name_stay_two_classes() -> Result<()> {
        let training = labels(Some(&["crane", "dog", "crane"]), &[0, 1, 2, 0]);
        let (classes, _) = Classes::of("here", &[("train", &training)])?;
        assert_eq!(classes.numbers(&training), Ok([0, 1, 2, 0].map(Some).to_vec()));
        Ok(())
    }

    #[test]
    fn what_numbers_mean_is_told_where_nothing_says_it() -> Result<()> {
        let (named, plain) = (labels(Some(&["cat", "dog"]), &[0, 1]), labels(None, &[1, 0]));
        let told = |parts: &[(&str, &Labels)]| Classes::of("here", parts).map(|(_, notes)| notes.join("\n"));
        assert!(told(&[("train", &plain), ("test", &named)])?.contains("the train part does not name its classes"));
        assert_eq!(told(&[("train", &named), ("test", &named)])?, "");
        assert!(told(&[("train", &labels(None, &[-1, 0, 1, 1]))])?.contains("the label -1 is taken for a class"));
        assert_eq!(told(&[("train", &labels(None, &[-1, 1, 1]))])?, "", "two classes, as some write them");
        Ok(())
    }
}
